"""What a signature covers, and when it is fresh: the two schemes of signed requests, read and never trusted.

Over gRPC the signed text is `canonical`; over REST it is what was sent (Binance's scheme). Both become a `Claim`: a
statement that somebody made, with all that is needed to find out whether it is true.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.order_gateway.identity.key import KeyKind

VERSION = "CLEARBOOK1"
API_KEY = "x-api-key"
TIMESTAMP_KEY = "x-timestamp"
RECV_WINDOW_KEY = "x-recv-window"
NONCE_KEY = "x-nonce"
SIGNATURE_KEY = "x-signature-bin"

RECV_WINDOW_MS_DEFAULT = 5_000
RECV_WINDOW_MS_MAX = 60_000
AHEAD_MS_MAX = 1_000
"""How far a caller's clock may be ahead of ours; exclusive."""
NONCE_CHARS_MAX = 64
MADE_ID_HEX_DIGITS = 32

_TIMESTAMP = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_RECV_WINDOW = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_NONCE = re.compile(rf"[!-~]{{1,{NONCE_CHARS_MAX}}}", re.ASCII)
_KEY_ID = re.compile(r"[!-~]{1,64}", re.ASCII)
_HEX_SIGNATURE = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_SIGNATURE_KINDS = {64: KeyKind.ED25519, 32: KeyKind.HMAC_SHA256}
"""By length in bytes."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A signed request, not yet believed.

    Attributes:
        kind: of the signature, told by its length.
        payload: the bytes that are signed.
        once: what may not come a second time from this key, while it is fresh.
    """

    key_id: str
    kind: KeyKind
    payload: bytes
    signature: bytes
    timestamp_ms: int
    recv_window_ms: int
    once: bytes

    @property
    def fresh_through_ms(self) -> int:
        """The last moment at which it is fresh."""
        return self.timestamp_ms + self.recv_window_ms

    def made_id(self) -> str:
        """An id for what the request asks for: the same for the same request of the same key."""
        digest = hashlib.sha256(self.key_id.encode() + b"\n" + self.payload).hexdigest()
        return f"sig-{digest[:MADE_ID_HEX_DIGITS]}"


def is_fresh(timestamp_ms: int, recv_window_ms: int, now_ms: int) -> bool:
    """The timestamp rule: less than a second ahead of us, and at most the window behind."""
    return timestamp_ms < now_ms + AHEAD_MS_MAX and now_ms - timestamp_ms <= recv_window_ms


def canonical(method: str, audience: str, timestamp: str, recv_window: str, nonce: str, request: bytes) -> bytes:
    """The text that a gRPC request's signature covers.

    Args:
        method: full name, as in "/clearbook.v1.OrderService/PlaceOrder".
        audience: the exchange that is meant.
        timestamp: milliseconds since the epoch, in decimal.
        recv_window: milliseconds, in decimal.
        nonce: never used before by this key within the window.
        request: the serialized message, exactly as it is sent.
    """
    digest = hashlib.sha256(request).hexdigest()
    return f"{VERSION}\n{method}\n{audience}\n{timestamp}\n{recv_window}\n{nonce}\n{digest}".encode()


def grpc_claim(
    metadata: Mapping[str, str], signature: bytes, method: str, request: bytes, audience: str
) -> Claim | None:
    """What a gRPC call claims; None where it is not put as it must be."""
    key_id, nonce = metadata.get(API_KEY, ""), metadata.get(NONCE_KEY, "")
    timestamp = metadata.get(TIMESTAMP_KEY, "")
    recv_window = metadata.get(RECV_WINDOW_KEY, str(RECV_WINDOW_MS_DEFAULT))
    kind = _SIGNATURE_KINDS.get(len(signature))
    if kind is None or not _KEY_ID.fullmatch(key_id) or not _NONCE.fullmatch(nonce):
        return None
    times = _times(timestamp, recv_window)
    if times is None:
        return None
    payload = canonical(method, audience, timestamp, recv_window, nonce, request)
    return Claim(key_id, kind, payload, signature, *times, once=b"nonce " + nonce.encode())


def rest_claim(key_id: str, payload: bytes, query_bytes: int, signature: str) -> Claim | None:
    """What a request of the REST scheme claims; None where it is not put as it must be.

    Args:
        key_id: the header X-MBX-APIKEY.
        payload: the query without its signature, then the body, exactly as sent. A JSON body is not looked into.
        query_bytes: how many of them are the query.
        signature: hexadecimal (HMAC-SHA256) or base64 (Ed25519).
    """
    query, body = payload[:query_bytes], payload[query_bytes:]
    found: dict[bytes, list[bytes]] = {}
    for parameter in query.split(b"&") + ([] if body.lstrip().startswith(b"{") else body.split(b"&")):
        name, _, value = parameter.partition(b"=")
        found.setdefault(name, []).append(value)
    timestamps, windows = found.get(b"timestamp", []), found.get(b"recvWindow", [])
    if len(timestamps) != 1 or len(windows) > 1 or b"signature" in found:
        return None
    recv_window = _ascii(windows[0]) if windows else str(RECV_WINDOW_MS_DEFAULT)
    times = _times(_ascii(timestamps[0]), recv_window)
    raw = _signature(signature)
    kind = _SIGNATURE_KINDS.get(len(raw))
    if times is None or kind is None or not _KEY_ID.fullmatch(key_id):
        return None
    return Claim(key_id, kind, payload, raw, *times, once=b"payload " + hashlib.sha256(payload).digest())


def _ascii(value: bytes) -> str:
    return value.decode("ascii", "replace")


def _times(timestamp: str, recv_window: str) -> tuple[int, int] | None:
    """Both in milliseconds; None unless they are canonical decimals within their limits."""
    if not _TIMESTAMP.fullmatch(timestamp) or not _RECV_WINDOW.fullmatch(recv_window):
        return None
    if int(recv_window) > RECV_WINDOW_MS_MAX:
        return None
    return int(timestamp), int(recv_window)


def _signature(text: str) -> bytes:
    """Its bytes; none where it is neither hexadecimal nor base64."""
    if _HEX_SIGNATURE.fullmatch(text):
        return bytes.fromhex(text)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
