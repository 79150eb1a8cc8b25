"""Tells our exchange what a market's price is outside, while the outside's book may be believed."""

import asyncio
import time
from typing import Final

import grpc

from clearbook.client import Client
from services.mirror.follower import Follower, Standing
from services.mirror.ours import ours
from services.mirror.telling import Telling, middle_ticks
from services.runtime import metrics
from services.runtime.run import Closing
from services.runtime.streams import reconnecting

LOOK_SECONDS: Final = 0.25
"""From one look at the outside's book to the next."""
ANSWER_SECONDS_MAX: Final = 5.0
"""A price that takes longer to tell is given up: there is a newer one."""
LOST: Final = (grpc.RpcError, OSError, TimeoutError)

_told = metrics.counter("mirror_references", "Reference prices that our exchange has taken.", ["market"])


class Teller:
    """One market's reference price."""

    def __init__(self, client: Client, market: str, source: str, follower: Follower) -> None:
        """Nothing is told yet.

        Args:
            client: of an account that may set reference prices.
            market: ours.
            source: where it is that, for the record.
            follower: of the outside's book.
        """
        self._client, self._name, self._source, self._follower = client, market, source, follower

    async def run(self, closing: Closing) -> None:
        """Tells until `closing`; what was refused or lost is told anew. Raises StartError: we have no such market."""
        await reconnecting(closing, f"reference price of {self._name}", self._session, retry_on=LOST)

    async def _session(self) -> None:
        """Tells until one is not taken."""
        market, grid = await ours(self._client, self._name)
        telling = Telling()
        while True:
            now_ns = time.monotonic_ns()
            heard_ns = self._follower.heard_ns
            if heard_ns is not None and self._follower.standing(now_ns) is Standing.LIVE:
                ticks = middle_ticks(self._follower.book.depth, grid)
                if ticks is not None and telling.due(ticks, heard_ns, now_ns):
                    telling.told(ticks, heard_ns, now_ns)
                    await self._tell(market.format_price(ticks), time.time_ns() - (now_ns - heard_ns))
            await asyncio.sleep(LOOK_SECONDS)

    async def _tell(self, price: str, observed_ns: int) -> None:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            await self._client.set_reference_price(self._name, price, self._source, observed_ns=observed_ns)
        _told.labels(self._name).inc()
