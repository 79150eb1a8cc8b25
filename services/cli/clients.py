"""The public gRPC services as the command line uses them: calls in bounded number, made again while that helps."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Self

import grpc
from clearbook.v1 import account_service_pb2_grpc as accounts_grpc
from clearbook.v1 import admin_service_pb2_grpc as admin_grpc
from clearbook.v1 import book_service_pb2 as book
from clearbook.v1 import book_service_pb2_grpc as book_grpc
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

Metadata = tuple[tuple[str, str], ...]


def user(name: str) -> Metadata:
    """Open mode's way to say who one is."""
    return ((USER_KEY, name),)


ADMIN: Final = user("admin")


class CallFailed(Exception):
    """A call that was refused, or that nobody answered in time. `reason` is the refusal's, None without an answer."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        """Says why not."""
        self.reason = rpc.rejected_from(error)
        name = self.reason.name if self.reason else error.code().name
        super().__init__(f"{name}: {error.details()}")


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
                    failed = CallFailed(error)
                    away = error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
                if backoff.failures and failed.reason is Reason.ORDER_ENDED:
                    return None
                delay = backoff.next_seconds()
                if not (away or failed.reason in wait_for) or asyncio.get_running_loop().time() + delay > deadline:
                    raise failed
                await asyncio.sleep(delay)
