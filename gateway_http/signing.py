"""Finds the signature in a request of Binance's scheme, and the bytes that it covers. Nothing of it is checked here.

The scheme: header X-MBX-APIKEY; `timestamp`, `recvWindow` and `signature` in the query or in a form; signed are the
query and then the body, exactly as sent, without the parameter `signature`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from gateway_http.errors import JSON
from gateway_http.json_proto import read_as
from services.errors import Reason, Rejected

KEY_HEADER: Final = b"x-mbx-apikey"
KEY_CHARS_MAX: Final = 128
SIGNATURE_CHARS_MAX: Final = 512
FORM: Final = "application/x-www-form-urlencoded"
PARAMETERS_MAX: Final = 100

_SIGNATURE: Final = b"signature"
_JSON_SPACE: Final = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A signature as the caller gave it; fields as in the proto's Signed."""

    key_id: str
    payload: bytes
    signature: str
    query_bytes: int


def is_form(content_type: str, body: bytes) -> bool:
    """Whether a body is parameters; else it is JSON.

    Raises:
        Rejected: UNSUPPORTED_MEDIA_TYPE unless it is said which of the two. A page of somebody else's can send JSON
            without being asked for leave if it need not say so; and curl calls all that it sends a form.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == FORM and not body.lstrip(_JSON_SPACE).startswith(b"{"):
        return True
    if kind != JSON:
        raise Rejected(Reason.UNSUPPORTED_MEDIA_TYPE, f"send JSON with the header content-type: {JSON}")
    return False


def parameters(text: bytes) -> list[tuple[bytes, bytes]]:
    """The parameters of a query or a form: name as it is meant, and the whole `name=value` as it was sent.

    Raises Rejected(MALFORMED_REQUEST) for a name that is there twice, and for one that hides what it is.
    """
    if not text:
        return []
    parts = text.split(b"&")
    if len(parts) > PARAMETERS_MAX:
        raise Rejected(Reason.MALFORMED_REQUEST, f"more than {PARAMETERS_MAX} parameters")
    found: dict[bytes, bytes] = {}
    for part in parts:
        name = part.partition(b"=")[0]
        if unquote_to_bytes(name.replace(b"+", b" ")) != name:
            raise Rejected(Reason.MALFORMED_REQUEST, "the name of a parameter is encoded")
        if name in found:
            raise Rejected(Reason.MALFORMED_REQUEST, "a parameter is there twice", _printable(name))
        found[name] = part
    return list(found.items())


def signed_request(
    headers: Iterable[tuple[bytes, bytes]], query: bytes, body: bytes, *, form: bool
) -> SignedRequest | None:
    """The signature of a request; None where it shows neither a key nor a signature.

    Half of it counts as a signature too: order_gateway refuses it like any other that is wrong.

    Args:
        headers: all of them, names in lower case.
        query: of the URL, as sent.
        body: as sent.
        form: the body is parameters.

    Raises:
        Rejected: MALFORMED_REQUEST for what may be read in two ways: a parameter, header or signature that is there
            twice, a name that is encoded, a bearer token beside the signature.
    """
    headers = list(headers)
    keys = [value for name, value in headers if name == KEY_HEADER]
    in_query, in_form = parameters(query), parameters(body) if form else []
    names = [name for name, _ in in_query + in_form]
    if not keys and _SIGNATURE not in names:
        return None
    if len(keys) > 1:
        raise Rejected(Reason.MALFORMED_REQUEST, "the header X-MBX-APIKEY is there twice")
    if len(set(names)) != len(names):
        raise Rejected(Reason.MALFORMED_REQUEST, "a parameter is in the query and in the form")
    if any(name == b"authorization" for name, _ in headers):
        raise Rejected(Reason.MALFORMED_REQUEST, "two credentials: a signature and the header authorization")
    signature = next((part.partition(b"=")[2] for name, part in in_query + in_form if name == _SIGNATURE), b"")
    signed_query = _without_signature(in_query) if query else b""
    signed_body = _without_signature(in_form) if form else body
    return SignedRequest(
        key_id=_text(keys[0] if keys else b"", KEY_CHARS_MAX),
        payload=signed_query + signed_body,
        signature=_text(unquote_to_bytes(signature), SIGNATURE_CHARS_MAX),
        query_bytes=len(signed_query),
    )


def _without_signature(found: list[tuple[bytes, bytes]]) -> bytes:
    return b"&".join(part for name, part in found if name != _SIGNATURE)


def _text(value: bytes, chars_max: int) -> str:
    """What is no printable ASCII, or too long, is the key or the signature of nobody."""
    text = value.decode("latin-1")
    return text if len(text) <= chars_max and text.isascii() and text.isprintable() else ""


def _printable(name: bytes) -> str:
    return name[:32].decode("latin-1") if name.isalnum() else ""


def logon(params: Mapping[str, msgspec.Raw]) -> SignedRequest:
    """A session.logon of Binance's WebSocket scheme: signed are the parameters, sorted by name, joined as in a query.

    Numbers count as they were written. Raises Rejected(INVALID_FIELD) for what is neither text nor a whole number.
    """
    return signed_texts({name: _parameter(name, raw) for name, raw in params.items()})


def signed_texts(texts: Mapping[str, str]) -> SignedRequest:
    """The signature among parameters of a WebSocket: signed are the others, sorted by name, joined as in a query."""
    covered = "&".join(f"{name}={texts[name]}" for name in sorted(texts) if name != "signature").encode()
    return SignedRequest(
        key_id=_text(texts.get("apiKey", "").encode(), KEY_CHARS_MAX),
        payload=covered,
        signature=_text(texts.get("signature", "").encode(), SIGNATURE_CHARS_MAX),
        query_bytes=len(covered),
    )


def _parameter(name: str, raw: msgspec.Raw) -> str:
    text = bytes(raw)
    if text.startswith(b'"'):
        found = read_as(str, text)
        if found is None:
            raise Rejected(Reason.INVALID_FIELD, f"{name[:32]} cannot be read", name[:32])
        return found
    if not text.isdigit():
        raise Rejected(Reason.INVALID_FIELD, f"{name[:32]} is neither text nor a whole number", name[:32])
    return text.decode()
