"""The public gRPC services as the command line uses them: calls in bounded number, made again while that helps."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Self

import grpc
from clearbook.v1 import account_service_pb2_grpc as accounts_grpc
from clearbook.v1 import admin_service_pb2_grpc as admin_grpc
from clearbook.v1 import book_service_pb2 as book
from clearbook.v1 import book_service_pb2_grpc as book_grpc
from clearbook.v1 import order_service_pb2 as orders
from clearbook.v1 import order_service_pb2_grpc as orders_grpc

from services.errors import Reason
from services.runtime import rpc
from services.runtime.config import Tls
from services.runtime.metadata import USER_KEY
from services.runtime.streams import Backoff

CALLS_MAX: Final = 64
"""Calls under way at once."""
CALL_SECONDS_MAX: Final = 20.0
RETRY_SECONDS_MAX: Final = 60.0
GREETING_SECONDS_MAX: Final = 5.0
"""For the first call of all: who does not answer it is not up."""
ORDERS_PER_CALL: Final = 500

Metadata = tuple[tuple[str, str], ...]


def user(name: str) -> Metadata:
    """Open mode's way to say who one is."""
    return ((USER_KEY, name),)


ADMIN: Final = user("admin")


class CallFailed(Exception):
    """A call that was refused, or that nobody answered in time. `reason` is the refusal's, None without an answer."""

    def __init__(self, reason: Reason | None, code: grpc.StatusCode, details: str | None) -> None:
        """Says why not."""
        self.reason, self.code = reason, code
        super().__init__(f"{reason.name if reason else code.name}: {details}")

    @property
    def away(self) -> bool:
        """Whether the same may be asked again: nobody was there, or nobody knows what came of it."""
        return self.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


class Clients:
    """One stub for each public service."""

    def __init__(self, gateway: grpc.aio.Channel, publisher: grpc.aio.Channel) -> None:
        """The channels stay the caller's."""
        self.orders = orders_grpc.OrderServiceStub(gateway)
        self.accounts = accounts_grpc.AccountServiceStub(gateway)
        self.admin = admin_grpc.AdminServiceStub(gateway)
        self.book = book_grpc.BookServiceStub(publisher)
        self._slots = asyncio.Semaphore(CALLS_MAX)

    @classmethod
    @asynccontextmanager
    async def to(cls, gateway: str, publisher: str, tls: Tls | None = None) -> AsyncIterator[Self]:
        """Clients of the two addresses, "host:port". `tls`: whom to believe; plain text without."""
        async with AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(rpc.connect(address, tls)) for address in (gateway, publisher)]
            yield cls(*channels)

    async def markets(self) -> dict[str, book.Market]:
        """All markets by name; the way to find out whether the exchange is up. Raises CallFailed."""
        request = book.ListMarketsRequest()
        listed = await self.call(self.book.ListMarkets, request, seconds_max=GREETING_SECONDS_MAX)
        return {entry.market: entry for entry in listed.markets}

    async def call(
        self,
        method: Any,
        request: Any,
        who: Metadata = (),
        wait_for: tuple[Reason, ...] = (),
        seconds_max: float = RETRY_SECONDS_MAX,
    ) -> Any:
        """A unary call that may safely be made twice.

        While the service is away, or refuses with one of `wait_for`, it is made again within `seconds_max`. A cancel
        that had been taken although its answer was lost returns None. Raises CallFailed.
        """
        backoff = Backoff()
        deadline = asyncio.get_running_loop().time() + seconds_max
        async with self._slots:
            while True:
                try:
                    return await method(request, metadata=who, timeout=CALL_SECONDS_MAX)
                except grpc.aio.AioRpcError as error:
                    failed = CallFailed(rpc.rejected_from(error), error.code(), error.details())
                if backoff.failures and failed.reason is Reason.ORDER_ENDED:
                    return None
                delay = backoff.next_seconds()
                if (
                    not (failed.away or failed.reason in wait_for)
                    or asyncio.get_running_loop().time() + delay > deadline
                ):
                    raise failed
                await asyncio.sleep(delay)

    async def place(self, wanted: Sequence[orders.PlaceOrderRequest], who: Metadata) -> list[orders.PlaceOrderResponse]:
        """Places orders that do not depend on each other, and that have ids; their answers, in order.

        Raises:
            CallFailed: one was refused; of the others nothing is said.
        """
        outcomes = await self._several(self.orders.PlaceOrders, orders.PlaceOrdersRequest, wanted, who)
        return [outcome.placed for outcome in outcomes]

    async def cancel(self, wanted: Sequence[orders.CancelOrderRequest], who: Metadata) -> None:
        """Cancels orders; that one has ended already is fine. Raises CallFailed."""
        await self._several(self.orders.CancelOrders, orders.CancelOrdersRequest, wanted, who, Reason.ORDER_ENDED)

    async def _several(
        self, method: Any, kind: Any, wanted: Sequence[Any], who: Metadata, fine: Reason | None = None
    ) -> list[Any]:
        """The outcomes of each, in as few calls as they fit into; refusals but those for a `fine` reason are raised."""
        pages = [wanted[start : start + ORDERS_PER_CALL] for start in range(0, len(wanted), ORDERS_PER_CALL)]
        found = await asyncio.gather(*(self._page(method, kind, page, who, fine) for page in pages))
        return [outcome for outcomes in found for outcome in outcomes]

    async def _page(
        self, method: Any, kind: Any, wanted: Sequence[Any], who: Metadata, fine: Reason | None
    ) -> list[Any]:
        backoff, clock = Backoff(), asyncio.get_running_loop().time
        deadline = clock() + RETRY_SECONDS_MAX
        found: dict[int, Any] = {}
        while left := [place for place in range(len(wanted)) if place not in found]:
            answer = await self.call(method, kind(orders=[wanted[place] for place in left]), who)
            for place, outcome in zip(left, answer.outcomes, strict=True):
                failed = _refused(outcome)
                if failed is None or failed.reason is fine:
                    found[place] = outcome
                elif not (failed.away or failed.reason is Reason.OVERLOADED) or clock() > deadline:
                    raise failed
            if len(found) < len(wanted):
                await asyncio.sleep(backoff.next_seconds())
        return list(map(found.__getitem__, range(len(wanted))))


def _refused(outcome: Any) -> CallFailed | None:
    """The refusal in one outcome of several."""
    if not outcome.HasField("refusal"):
        return None
    refusal = outcome.refusal
    reason = Reason.__members__.get(refusal.reason)
    return CallFailed(reason, _CODES[refusal.code], refusal.message)


_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
