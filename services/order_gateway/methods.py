"""Every RPC that the gateway serves is one row: its name, who may call it, and what it does.

A handler is called with who was admitted, so a method that forgets to ask who is calling cannot be written.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from services.errors import Rejected
from services.order_gateway.identity.scopes import Scope
from services.order_gateway.identity.who import Caller
from services.order_gateway.limits import ONE_REQUEST, Weight
from services.order_gateway.outcomes import Promise


class Access(Enum):
    """Who may call a method; the handler's first argument."""

    PUBLIC = "public"
    """Everybody. The handler is given None."""
    ANYBODY = "anybody"
    """Everybody, and a credential counts if one is shown. The handler is given a Visitor."""
    READ = "read"
    """An account's owner. The handler is given a Caller, as for the next two."""
    TRADE = "trade"
    WITHDRAW = "withdraw"
    ADMIN = "admin"
    """An operator. The handler is given an Identity, as for the next one."""
    REFERENCE_PRICE = "reference price"
    """Whoever may say what prices are elsewhere."""

    @property
    def scope(self) -> Scope:
        """What a credential needs for it; not for the first two."""
        return SCOPES[self]

    @property
    def of_account(self) -> bool:
        """Whether the handler acts for an account."""
        return self in {Access.READ, Access.TRADE, Access.WITHDRAW}


SCOPES = {access: Scope[access.name] for access in Access if access.name in Scope.__members__}
"""What a credential needs, by access."""

Handler = Callable[[Any, Any, float], Awaitable[Any]]
"""(who was admitted, request, seconds to wait for an outcome) → response."""
StreamHandler = Callable[[Any, Any, float], AsyncIterator[Any]]
Count = Callable[[Weight], None]
"""Counts more for whoever was admitted. Raises Rejected: RATE_LIMITED, TOO_LARGE; NOT_TAKEN while nothing is served."""
Write = Callable[[Any], Awaitable[None]]
"""Writes a response. Raises Rejected: LAGGED."""
TalkHandler = Callable[[Any, AsyncIterator[Any], Count, Write], Awaitable[None]]
"""(who was admitted, requests, …) → returns when the requests have ended and all are answered."""


class Together(NamedTuple):
    """How a unary method takes several calls of one account in one step: that is what makes them cheap.

    Attributes:
        begin: (account, (who, request) of each) → what each will become, or why not, in the same order.
        answer: what one became → response.
    """

    begin: Callable[[int, Sequence[tuple[Caller, Any]]], "Sequence[Promise[Any] | Rejected]"]
    answer: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC.

    Attributes:
        service: full name, as in "clearbook.v1.OrderService".
        rpc: as in "PlaceOrder".
        access: who may call it.
        request: the message's class.
        handler: for a unary method.
        streams: for a method that answers with a stream.
        talks: for a method whose requests are a stream too.
        together: for a unary method of an account that is asked for often.
        reads: an operator's method that changes nothing, and so is not written to the audit log.
        weight: what a request counts for; None: one request.
    """

    service: str
    rpc: str
    access: Access
    request: Any
    handler: Handler | None = None
    streams: StreamHandler | None = None
    talks: TalkHandler | None = None
    together: Together | None = None
    reads: bool = False
    weight: Callable[[Any], Weight] | None = None

    @property
    def name(self) -> str:
        """Full name, as in "/clearbook.v1.OrderService/PlaceOrder"."""
        return f"/{self.service}/{self.rpc}"

    def weight_of(self, request: Any) -> Weight:
        """What a request counts for."""
        return ONE_REQUEST if self.weight is None else self.weight(request)

    @property
    def audited(self) -> bool:
        """Whether it is written to the audit log."""
        return self.access is Access.ADMIN and not self.reads
