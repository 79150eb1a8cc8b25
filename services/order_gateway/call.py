"""One call as it came in, over gRPC or through the shim: all that identity is decided from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

ANSWER_SECONDS_MAX = 10.0
"""How long an outcome is waited for; after that the same request may ask again."""

Metadata = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """What surrounds a request.

    Attributes:
        method: full name, as in "/clearbook.v1.OrderService/PlaceOrder".
        metadata: with the caller's credentials.
        request: the request's bytes as they were received.
        peer: the caller's address, an IP; "" where it has none.
        seconds: how long to wait for an outcome. (A client that gives up before that cancels its call by itself.)
    """

    method: str
    metadata: Metadata = field(default_factory=dict)
    request: bytes = b""
    peer: str = ""
    seconds: float = ANSWER_SECONDS_MAX
