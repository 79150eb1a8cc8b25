"""What signatures cover and when they are fresh: tables of edges, and properties of the signed text."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearbook.credentials import signing_payload
from services.errors import Reason, Rejected
from services.order_gateway.identity.key import KeyKind
from services.order_gateway.identity.replays import Replays
from services.order_gateway.identity.signing import Claim, canonical, grpc_claim, is_fresh, rest_claim

NOW = 1_790_000_000_000


@pytest.mark.parametrize(
    ("behind_ms", "recv_window_ms", "fresh"),
    [
        (0, 5_000, True),
        (4_999, 5_000, True),
        (5_000, 5_000, True),
        (5_001, 5_000, False),
        (-1, 5_000, True),
        (-999, 5_000, True),
        (-1_000, 5_000, False),
        (-1_001, 5_000, False),
        (1, 1, True),
        (2, 1, False),
        (60_000, 60_000, True),
        (60_001, 60_000, False),
    ],
)
def test_the_timestamp_rule_at_its_edges(behind_ms: int, recv_window_ms: int, fresh: bool) -> None:
    assert is_fresh(NOW - behind_ms, recv_window_ms, NOW) is fresh


GOOD = {"x-api-key": "k1", "x-timestamp": str(NOW), "x-recv-window": "5000", "x-nonce": "n-1"}
METHOD = "/clearbook.v1.OrderService/PlaceOrder"


def claim(changed: dict[str, str | None] | None = None, signature: bytes = b"s" * 64) -> Claim | None:
    metadata = {key: value for key, value in {**GOOD, **(changed or {})}.items() if value is not None}
    return grpc_claim(metadata, signature, METHOD, b"request", "clearbook")


class TestGrpc:
    def test_the_text_that_is_signed(self) -> None:
        digest = hashlib.sha256(b"request").hexdigest()
        found = claim()
        assert found is not None
        assert found.payload.decode() == f"CLEARBOOK1\n{METHOD}\nclearbook\n{NOW}\n5000\nn-1\n{digest}"
        assert (found.kind, found.timestamp_ms, found.recv_window_ms) == (KeyKind.ED25519, NOW, 5_000)

    def test_without_a_window_it_is_five_seconds(self) -> None:
        assert claim({"x-recv-window": None}) == claim()

    def test_the_length_of_a_signature_tells_its_kind(self) -> None:
        found = claim(signature=b"s" * 32)
        assert found is not None
        assert found.kind is KeyKind.HMAC_SHA256

    @pytest.mark.parametrize("length", [0, 1, 31, 33, 63, 65, 128])
    def test_other_lengths_are_of_none(self, length: int) -> None:
        assert claim(signature=b"s" * length) is None

    @pytest.mark.parametrize(
        "changed",
        [
            {"x-api-key": None}, {"x-api-key": ""}, {"x-api-key": "k" * 65}, {"x-api-key": "a b"},
            {"x-timestamp": None}, {"x-timestamp": ""}, {"x-timestamp": "-1"}, {"x-timestamp": "1.5"},
            {"x-timestamp": "1e12"}, {"x-timestamp": f"0{NOW}"}, {"x-timestamp": f"+{NOW}"}, {"x-timestamp": f"{NOW} "},
            {"x-timestamp": "9" * 17}, {"x-timestamp": "１２３"}, {"x-timestamp": f"{NOW}\n"},
            {"x-recv-window": ""}, {"x-recv-window": "0"}, {"x-recv-window": "-1"}, {"x-recv-window": "60001"},
            {"x-recv-window": "05000"}, {"x-recv-window": "999999"}, {"x-recv-window": "5000.0"},
            {"x-nonce": None}, {"x-nonce": ""}, {"x-nonce": "n" * 65}, {"x-nonce": "a b"}, {"x-nonce": "a\nb"},
            {"x-nonce": "é"}, {"x-nonce": "a\x7f"},
        ],
    )  # fmt: skip
    def test_what_is_not_put_as_it_must_be(self, changed: dict[str, str | None]) -> None:
        assert claim(changed) is None

    @pytest.mark.parametrize("changed", [{"x-recv-window": "1"}, {"x-recv-window": "60000"}, {"x-nonce": "~" * 64}])
    def test_the_limits_themselves_are_good(self, changed: dict[str, str | None]) -> None:
        assert claim(changed) is not None


def rest(query: bytes, signature: str = "ab" * 32, body: bytes = b"") -> Claim | None:
    return rest_claim("k1", query + body, len(query), signature)


class TestRest:
    @pytest.mark.parametrize(
        ("query", "body", "window"),
        [
            (b"timestamp=%d" % NOW, b"", 5_000),
            (b"symbol=BTC-USD&timestamp=%d&recvWindow=60000" % NOW, b"", 60_000),
            (b"recvWindow=1&timestamp=%d" % NOW, b'{"order_id": "x&timestamp=5&recvWindow=9"}', 1),
            (b"recvWindow=1&timestamp=%d" % NOW, b' {"order_id": "&timestamp=5&"}', 1),
            (b"side=BUY", b"timestamp=%d&recvWindow=7" % NOW, 7),  # side by side, without a separator
            (b"", b"timestamp=%d" % NOW, 5_000),
            (b"{=1&myTimestamp=4&xtimestamp=5&timestamp=%d" % NOW, b"", 5_000),
        ],
    )
    def test_what_it_says_of_time(self, query: bytes, body: bytes, window: int) -> None:
        found = rest(query, body=body)
        assert found is not None
        assert (found.timestamp_ms, found.recv_window_ms, found.payload) == (NOW, window, query + body)

    @pytest.mark.parametrize(
        "payload",
        [
            b"", b"symbol=BTC-USD", b"timestamp=", b"timestamp=x", b"timestamp=-5", b"time%73tamp=5",
            b"timestamp=%d&timestamp=%d" % (NOW, NOW), b"timestamp=%d&timestamp=5" % NOW,
            b"timestamp=%d&recvWindow=0" % NOW, b"timestamp=%d&recvWindow=60001" % NOW,
            b"timestamp=%d&recvWindow=5&recvWindow=5" % NOW, b"timestamp=%d&recvWindow=" % NOW,
            b"timestamp=%d&signature=aa" % NOW, b"timestamp=%d&timestamp=" % NOW, b"timestamp=\xff",
        ],
    )  # fmt: skip
    def test_what_is_not_put_as_it_must_be(self, payload: bytes) -> None:
        assert rest(payload) is None

    def test_a_json_body_says_nothing_of_time(self) -> None:
        assert rest(b"", body=b'{"a": "&timestamp=5&"}') is None
        assert rest(b"timestamp=5", body=b"timestamp=5") is None

    @pytest.mark.parametrize(
        ("signature", "kind"),
        [
            ("ab" * 32, KeyKind.HMAC_SHA256),
            ("AB" * 32, KeyKind.HMAC_SHA256),
            (base64.b64encode(b"s" * 64).decode(), KeyKind.ED25519),
            (base64.b64encode(b"s" * 32).decode(), KeyKind.HMAC_SHA256),
            ("", None),
            ("ab" * 31, None),
            ("zz" * 32, None),
            (base64.b64encode(b"s" * 64).decode().rstrip("="), None),
            (base64.b64encode(b"s" * 64).decode() + "\n", None),
            ("é" * 64, None),
        ],
    )
    def test_signatures(self, signature: str, kind: KeyKind | None) -> None:
        found = rest(b"timestamp=%d" % NOW, signature)
        assert (found.kind if found is not None else None) is kind

    def test_one_payload_is_one_request_whatever_its_signature_looks_like(self) -> None:
        one, other = rest(b"timestamp=5", "ab" * 32), rest(b"timestamp=5", "AB" * 32)
        assert one is not None
        assert other is not None
        assert (one.once, one.made_id()) == (other.once, other.made_id())


Parts = tuple[str, str, str, str, str, bytes]
PARTS = st.tuples(
    st.sampled_from([METHOD, METHOD.lower(), "/clearbook.v1.OrderService/CancelOrder"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12),
    st.integers(1, 10**15).map(str),
    st.integers(1, 60_000).map(str),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12),
    st.binary(max_size=40),
)


@given(PARTS, PARTS)
def test_different_requests_have_different_texts(one: Parts, other: Parts) -> None:
    assert (canonical(*one) == canonical(*other)) == (one == other)


@given(PARTS)
def test_the_client_signs_what_the_gateway_reads(parts: Parts) -> None:
    assert canonical(*parts) == signing_payload(*parts)


@given(st.binary(min_size=1, max_size=40), st.integers(0, 400), st.integers(1, 255))
def test_no_byte_of_a_request_can_be_changed(request: bytes, place: int, flip: int) -> None:
    place %= len(request)
    changed = request[:place] + bytes([request[place] ^ flip]) + request[place + 1 :]
    head = (METHOD, "clearbook", "1", "2", "n")
    assert canonical(*head, changed) != canonical(*head, request)


@given(st.text(max_size=200), st.binary(max_size=200), st.text(max_size=100))
def test_nothing_that_is_sent_makes_it_fail(key_id: str, payload: bytes, signature: str) -> None:
    rest_claim(key_id, payload, len(payload) // 2, signature)
    grpc_claim({"x-api-key": key_id, "x-timestamp": key_id, "x-nonce": signature}, payload, METHOD, payload, "a")


class TestReplays:
    def test_once_and_never_again_until_it_could_not_be_fresh(self) -> None:
        seen = Replays()
        assert seen.first("k", b"n", NOW + 10, NOW)
        assert not seen.first("k", b"n", NOW + 10, NOW)
        assert not seen.first("k", b"n", NOW + 10, NOW + 10), "its last moment"
        assert seen.first("other", b"n", NOW + 10, NOW), "each key has its own"
        assert seen.first("k", b"m", NOW + 10, NOW)

    def test_it_forgets_what_cannot_come_back(self) -> None:
        seen = Replays()
        for number in range(1_000):
            assert seen.first("k", b"%d" % number, NOW + number, NOW + number)
        assert len(seen) == 1

    def test_a_clock_set_back_gives_no_second_life(self) -> None:
        seen = Replays()
        assert seen.first("k", b"n", NOW + 10, NOW)
        assert seen.first("k", b"later", NOW + 100, NOW + 11), "n is forgotten"
        assert not seen.first("k", b"n", NOW + 10, NOW)

    def test_a_key_that_sends_too_much_is_told(self) -> None:
        seen = Replays(per_key_max=3)
        for number in range(3):
            assert seen.first("k", b"%d" % number, NOW + 10, NOW)
        with pytest.raises(Rejected) as caught:
            seen.first("k", b"3", NOW + 10, NOW)
        assert caught.value.reason is Reason.OVERLOADED
        assert seen.first("other", b"3", NOW + 10, NOW), "others are not its concern"
        assert not seen.first("k", b"0", NOW + 10, NOW)
        assert seen.first("k", b"3", NOW + 30, NOW + 11)
