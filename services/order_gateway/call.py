"""One call as it came in, over gRPC or through the shim: all that identity is decided from."""

from collections.abc import Mapping

from msgspec import Struct, field

from services.order_gateway.identity.who import Identity

ANSWER_SECONDS_MAX = 10.0
"""How long an outcome is waited for; after that the same request may ask again."""

Metadata = Mapping[str, str]


class Signed(Struct, frozen=True):
    """A signature of the REST scheme, as the caller gave it.

    Attributes:
        key_id: the key that is said to have signed.
        payload: the signed bytes as they were sent: the query without its signature, then the body.
        signature: hexadecimal or base64.
        query_bytes: how many of payload's bytes are the query; the rest is the body, a form or JSON.
    """

    key_id: str
    payload: bytes
    signature: str
    query_bytes: int


class Call(Struct, frozen=True):
    """What surrounds a request.

    Attributes:
        method: full name, as in "/clearbook.v1.OrderService/PlaceOrder".
        metadata: with the caller's credentials.
        request: the request's bytes as they were received.
        signature: over gRPC, what `x-signature-bin` held.
        signed: over REST, a signed request.
        peer: the caller's address, an IP; "" where it has none.
        session: who opened the session that a forwarded call names: no other credential is looked at.
        trailer: filled on the way: what the caller is told beside the answer, whatever that is.
        seconds: how long to wait for an outcome. (A client that gives up before that cancels its call by itself.)
    """

    method: str
    metadata: Metadata = field(default_factory=dict)
    request: bytes = b""
    signature: bytes = b""
    signed: Signed | None = None
    peer: str = ""
    session: Identity | None = None
    trailer: dict[str, str] = field(default_factory=dict)
    seconds: float = ANSWER_SECONDS_MAX
