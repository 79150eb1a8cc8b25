"""An outside market that tests move, and an exchange of ours with one market for what works beside it."""

# ruff: noqa: ARG002 (gRPC's methods take a context)

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
from clearbook.v1 import book_service_pb2 as book
from clearbook.v1 import book_service_pb2_grpc as book_grpc

from clearbook.client import Client
from services.mirror.follower import Follower, Patience
from services.mirror.messages import Change, Snapshot, units
from services.runtime.run import Closing

SECONDS_MAX = 10.0
FOREVER = Patience(10**15, 10**15, 10**15)
MARKET = "BTC-USD"


class Markets(book_grpc.BookServiceServicer):
    """Of an exchange with one."""

    async def ListMarkets(self, request: Any, context: Any) -> book.ListMarketsResponse:
        market = book.Market(market=MARKET, base_asset="BTC", quote_asset="USD", tick_size="0.01", lot_size="0.01")
        return book.ListMarketsResponse(markets=[market])


class Outside:
    """A followed book, and the news of it."""

    def __init__(self) -> None:
        self.follower, self.news = Follower(FOREVER), asyncio.Event()
        self._update = 1

    def show(self, bid: str, ask: str) -> None:
        """Begins anew with one level a side."""
        self.lose()
        self._update += 1
        self.follower.message(Change("X", 0, self._update, self._update, [], []), time.monotonic_ns())
        levels = [[(units(price), units("1"))] for price in (bid, ask)]
        self.follower.snapshot(Snapshot(self._update, *levels), time.monotonic_ns())
        self.news.set()

    def lose(self) -> None:
        self.follower.disconnected()
        self.news.set()


@asynccontextmanager
async def working(
    exchange: Markets,
    add: Callable[[Any, grpc.aio.Server], None],
    work: Callable[[Client, Closing], Coroutine[Any, Any, None]],
) -> AsyncIterator[None]:
    """Work of the mirror's beside the exchange, until the block ends.

    Args:
        exchange: ours, whose other service `add` adds.
        add: the generated function.
        work: what the mirror does.
    """
    closing, server = Closing(), grpc.aio.server()
    add(exchange, server)
    book_grpc.add_BookServiceServicer_to_server(exchange, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with Client(address, address, user="m") as client:
            running = asyncio.create_task(work(client, closing))
            try:
                yield
            finally:
                closing.set()
                async with asyncio.timeout(SECONDS_MAX):
                    await running
    finally:
        await server.stop(0)
