"""Which bytes a signature covers: a table of requests, byte for byte."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_http.signing import SignedRequest, is_form, logon, signed_request
from services.errors import Reason, Rejected

KEY = [(b"x-mbx-apikey", b"k1")]
JSON = b'{"order_id": "1",\n "price": 1.50}'


def found(query: bytes, body: bytes = b"", *, form: bool = False, headers: Any = KEY) -> SignedRequest | None:
    return signed_request(headers, query, body, form=form)


@pytest.mark.parametrize(
    ("query", "body", "form", "payload", "signature", "query_bytes"),
    [
        (b"timestamp=1&signature=ab", b"", False, b"timestamp=1", "ab", 11),
        (b"timestamp=1&signature=ab", JSON, False, b"timestamp=1" + JSON, "ab", 11),
        (b"recvWindow=2&timestamp=1&signature=ab", b"", False, b"recvWindow=2&timestamp=1", "ab", 24),
        # wherever it stands
        (b"signature=ab&timestamp=1", b"", False, b"timestamp=1", "ab", 11),
        (b"a=2&signature=ab&timestamp=1", b"", False, b"a=2&timestamp=1", "ab", 15),
        # in a form, or in the query of one
        (b"", b"a=2&timestamp=1&signature=ab", True, b"a=2&timestamp=1", "ab", 0),
        (b"a=2", b"timestamp=1&signature=ab", True, b"a=2timestamp=1", "ab", 3),
        (b"timestamp=1&signature=ab", b"a=2", True, b"timestamp=1a=2", "ab", 11),
        # as sent: order, case, encoding, emptiness
        (b"b=%7e+x&a=%2F&timestamp=01&signature=ab", b"", False, b"b=%7e+x&a=%2F&timestamp=01", "ab", 26),
        (b"a=&b&timestamp=1&signature=ab", b"", False, b"a=&b&timestamp=1", "ab", 16),
        (b"timestamp=1&&signature=ab", b"", False, b"timestamp=1&", "ab", 12),
        (b"timestamp=1=2&signature=ab", b"", False, b"timestamp=1=2", "ab", 13),
        (b"Timestamp=1&timestamp=2&signature=ab", b"", False, b"Timestamp=1&timestamp=2", "ab", 23),
        (b"Signature=no&timestamp=1&signature=ab", b"", False, b"Signature=no&timestamp=1", "ab", 24),
        # base64 as it may be sent
        (b"timestamp=1&signature=a%2Fb%2B%3D%3D", b"", False, b"timestamp=1", "a/b+==", 11),
        (b"timestamp=1&signature=a/b+==", b"", False, b"timestamp=1", "a/b+==", 11),
        # a body that is no form is not looked into
        (
            b"timestamp=1&signature=ab",
            b"signature=x&timestamp=9",
            False,
            b"timestamp=1signature=x&timestamp=9",
            "ab",
            11,
        ),
        # half of a signature is a signature, and a wrong one
        (b"timestamp=1", b"", False, b"timestamp=1", "", 11),
        (b"timestamp=1&signature=", b"", False, b"timestamp=1", "", 11),
        (b"timestamp=1&signature", b"", False, b"timestamp=1", "", 11),
        (b"signature=ab", b"", False, b"", "ab", 0),
        (b"", b"", False, b"", "", 0),
        (b"timestamp=1&signature=%ff", b"", False, b"timestamp=1", "", 11),
        (b"timestamp=1&signature=" + b"a" * 513, b"", False, b"timestamp=1", "", 11),
    ],
)
def test_the_payload_is_what_was_sent(
    query: bytes, body: bytes, form: bool, payload: bytes, signature: str, query_bytes: int
) -> None:
    assert found(query, body, form=form) == SignedRequest("k1", payload, signature, query_bytes)


@pytest.mark.parametrize(
    ("query", "body", "headers"),
    [
        (b"signature=ab&timestamp=1&signature=cd", b"", KEY),
        (b"signature=ab&signature=ab", b"", KEY),
        (b"timestamp=1&timestamp=1&signature=ab", b"", KEY),
        (b"a=1&a=2&timestamp=1&signature=ab", b"", KEY),
        (b"timestamp=1&signature=ab", b"signature=ab", KEY),
        (b"timestamp=1&signature=ab", b"timestamp=1", KEY),
        (b"timestamp=1", b"a=1&a=2&signature=ab", KEY),
        (b"%73ignature=ab&timestamp=1", b"", KEY),
        (b"signature=ab&%74imestamp=1", b"", KEY),
        (b"signature=ab&time+stamp=1", b"", KEY),
        (b"&&signature=ab", b"", KEY),
        (b"&".join(b"p%d=1" % n for n in range(101)), b"", KEY),
        (b"timestamp=1&signature=ab", b"", KEY + KEY),
        (b"timestamp=1&signature=ab", b"", [*KEY, (b"authorization", b"Bearer t")]),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(query: bytes, body: bytes, headers: Any) -> None:
    with pytest.raises(Rejected) as caught:
        found(query, body, form=True, headers=headers)
    assert caught.value.reason is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize("key", [b"", b"\xff", b"k\n", b"k" * 129])
def test_a_key_that_no_one_can_have_is_nobodys(key: bytes) -> None:
    signed = found(b"timestamp=1&signature=ab", headers=[(b"x-mbx-apikey", key)])
    assert signed is not None
    assert signed.key_id == ""


def test_without_key_and_signature_nothing_is_signed() -> None:
    assert found(b"timestamp=1&recvWindow=5", JSON, headers=[(b"authorization", b"Bearer t")]) is None
    assert found(b"timestamp=1&signature=ab", headers=[]) == SignedRequest("", b"timestamp=1", "ab", 11)


@given(
    st.lists(st.tuples(st.from_regex(r"[a-zA-Z]{1,6}", fullmatch=True), st.binary(max_size=8)), max_size=8),
    st.integers(0, 8),
    st.binary(max_size=40),
)
def test_putting_the_signature_in_and_taking_it_out_gives_the_same_bytes(
    given_parameters: list[tuple[str, bytes]], place: int, body: bytes
) -> None:
    unique = {name: value.replace(b"&", b"%26") for name, value in given_parameters if name != "signature"}
    parts = [name.encode() + b"=" + value for name, value in unique.items()]
    with_it = [*parts[:place], b"signature=ab", *parts[place:]]
    signed = found(b"&".join(with_it), body)
    assert signed is not None
    query = b"&".join(parts)
    assert (signed.payload, signed.query_bytes, signed.signature) == (query + body, len(query), "ab")


@pytest.mark.parametrize(
    ("content_type", "body", "form"),
    [
        ("application/x-www-form-urlencoded", b"a=1", True),
        ("Application/X-WWW-Form-Urlencoded; charset=utf-8", b"a=1", True),
        ("application/x-www-form-urlencoded", b"", True),
        ("application/json", b"a=1", False),
        ("Application/JSON; charset=utf-8", b"{}", False),
        # what a page of anybody's may send without asking, and what curl says unless told otherwise
        ("application/x-www-form-urlencoded", b' \n{"a": 1}', None),
        ("text/plain", b"{}", None),
        ("multipart/form-data", b"{}", None),
        ("", b"{}", None),
        ("application/jsonp", b"{}", None),
    ],
)
def test_a_body_says_what_it_is(content_type: str, body: bytes, form: bool | None) -> None:
    if form is None:
        with pytest.raises(Rejected) as caught:
            is_form(content_type, body)
        assert caught.value.reason is Reason.UNSUPPORTED_MEDIA_TYPE
    else:
        assert is_form(content_type, body) is form


def params(text: str) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(text, type=dict[str, msgspec.Raw])


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ('{"apiKey": "k1", "timestamp": 12, "signature": "ab"}', b"apiKey=k1&timestamp=12"),
        (
            '{"timestamp":12,"signature":"ab","recvWindow":5000,"apiKey":"k1"}',
            b"apiKey=k1&recvWindow=5000&timestamp=12",
        ),
        ('{"timestamp":"012","signature":"ab","apiKey":"k1"}', b"apiKey=k1&timestamp=012"),
        ('{"apiKey":"k1","b":"\\u00e9&","B":"","signature":"ab"}', "B=&apiKey=k1&b=é&".encode()),
    ],
)
def test_what_a_logon_signs(text: str, payload: bytes) -> None:
    assert logon(params(text)) == SignedRequest("k1", payload, "ab", len(payload))


@pytest.mark.parametrize("value", ["1.0", "-1", "true", "null", "[]", "{}", "1e3"])
def test_what_a_logon_cannot_sign(value: str) -> None:
    with pytest.raises(Rejected) as caught:
        logon(params(f'{{"apiKey":"k1","timestamp":{value},"signature":"ab"}}'))
    assert (caught.value.reason, caught.value.field) == (Reason.INVALID_FIELD, "timestamp")
