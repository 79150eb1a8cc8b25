"""The markets as they are now, followed by StreamMarkets from when they are first asked for."""

import asyncio
from typing import Final

from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import book_service_pb2_grpc as services

from gateway_http.binance.symbols import Symbols
from services.errors import Reason, Rejected
from services.runtime.run import Closing
from services.runtime.streams import reconnecting

MARKETS_SECONDS_MAX: Final = 5.0
RECONNECT_SECONDS_MAX: Final = 1.0


class Markets:
    """All markets, by symbol."""

    def __init__(self, stub: "services.BookServiceAsyncStub", closing: Closing) -> None:
        """`stub` of BookService."""
        self._stub, self._closing = stub, closing
        self._known: dict[str, book_pb.Market] = {}
        self._symbols = Symbols(())
        self._live = asyncio.Event()
        self._followed = False

    async def symbols(self) -> Symbols:
        """The markets by symbol. Raises Rejected(UNAVAILABLE) if they cannot be had within the limit."""
        if not self._followed:
            self._followed = True
            keep = reconnecting(self._closing, "markets", self._follow, delay_seconds_max=RECONNECT_SECONDS_MAX)
            self._closing.spawn(keep, "binance markets")
        if not self._live.is_set():
            try:
                async with asyncio.timeout(MARKETS_SECONDS_MAX):
                    await self._live.wait()
            except TimeoutError:
                raise Rejected(Reason.UNAVAILABLE, "market data is not available now; try again") from None
        return self._symbols

    async def _follow(self) -> None:
        call = self._stub.StreamMarkets(book_pb.StreamMarketsRequest())
        try:
            async for message in call:
                if message.markets:
                    self._known |= {market.market: market for market in message.markets}
                    self._symbols = Symbols(self._known.values())
                self._live.set()
        finally:
            self._live.clear()
            call.cancel()
