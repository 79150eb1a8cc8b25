"""Keeps our quotes in one market: those that the outside's book asks for while it may be believed, and else none.

Three things take the quotes away when nobody is left to do it: the Trade stream's end (cancel_on_disconnect), the
book's own clock (CancelAfter), and the next start, which begins by canceling what is open.
"""

import asyncio
import time
from typing import Final

import grpc

from clearbook.client import Client
from services.mirror import trade_wire as wire
from services.mirror.follower import Follower, Standing
from services.mirror.moves import Moves, moves
from services.mirror.ours import ours
from services.mirror.quotes import Grid, Terms, wanted
from services.runtime import log, metrics
from services.runtime.run import Closing
from services.runtime.streams import describe, reconnecting
from services.units import Market

ROUND_SECONDS: Final = 0.2
"""From one look at the outside's book to the next."""
LOOK_SECONDS: Final = 0.2
"""How long news are waited for, before the clock is asked whether the book is still to be believed."""
ANSWER_SECONDS_MAX: Final = 5.0
LEAVE_SECONDS_MAX: Final = 5.0
SWITCH_SECONDS: Final = 10
"""The book cancels what we have open unless it hears of us within so many seconds."""
SWITCH_PART: Final = 3
"""It hears of us after one part in so many of that time."""
REFUSED_SECONDS: Final = 1.0
"""After a refusal nothing new is placed for so long; moves and cancels go on."""
LOST: Final = (grpc.RpcError, OSError, TimeoutError)

logger = log.get("quoter")

_open = metrics.gauge("mirror_quotes", "Quotes that were wanted when the market was last looked at.", ["market"])
_refused = metrics.counter("mirror_refused", "What of the quotes was not taken, by reason.", ["market", "reason"])


class Ended(OSError):
    """The Trade stream has ended without an error."""


class Quoter:
    """One market's quotes."""

    def __init__(self, client: Client, market: str, terms: Terms, follower: Follower, news: asyncio.Event) -> None:
        """Nothing is quoted yet.

        Args:
            client: of the account that quotes.
            market: ours.
            terms: how much of the outside is quoted.
            follower: of the outside's book.
            news: set when that has changed.
        """
        self._client, self._name, self._follower, self._news = client, market, follower, news
        self._terms = terms
        self._requests = 0
        self._quoting = False
        self._armed_at = self._place_at = 0.0

    async def run(self, closing: Closing) -> None:
        """Quotes until `closing`, then takes the quotes away. Raises StartError: we have no such market."""
        try:
            await reconnecting(closing, f"quotes in {self._name}", self._session, retry_on=LOST)
        finally:
            await self._leave()

    async def _session(self) -> None:
        """Quotes until the stream breaks."""
        market, grid = await ours(self._client, self._name)
        stream = self._client.trade()
        self._armed_at = 0.0
        try:
            await self._withdraw(stream, market)  # what one that was killed has left
            while True:
                await self._round(stream, market, grid)
                await asyncio.sleep(ROUND_SECONDS)
                await self._something()
        finally:
            stream.cancel()
            _open.labels(self._name).set(0)

    async def _something(self) -> None:
        """Waits for news, or until it is time to ask the clock."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    async def _round(self, stream: wire.Stream, market: Market, grid: Grid) -> None:
        """Makes our quotes what they should be now."""
        standing = self._follower.standing(time.monotonic_ns())
        if standing is not Standing.LIVE:
            if self._quoting:
                logger.warning("no quotes", market=self._name, why=standing.value)
                await self._withdraw(stream, market)
            return
        await self._arm()
        resting = wire.resting_from(await self._client.open_orders(self._name), market)
        standing = self._follower.standing(time.monotonic_ns())
        if standing is not Standing.LIVE:
            return  # it was lost meanwhile: the next round withdraws
        goal = wanted(self._follower.book.depth, grid, self._terms)
        todo = moves(goal, resting)
        clock = asyncio.get_running_loop().time
        if clock() < self._place_at:
            todo.places.clear()
        if not self._quoting:
            logger.info("quoting", market=self._name, quotes=len(goal))
        self._quoting = True
        _open.labels(self._name).set(len(goal))
        if not todo:
            return
        refused = await self._do(stream, market, todo)
        if refused.stuck:  # where it is it may be a gift: better none
            await self._do(stream, market, Moves(cancels=refused.stuck))
        if refused.reasons:
            self._place_at = clock() + REFUSED_SECONDS

    async def _do(self, stream: wire.Stream, market: Market, todo: Moves) -> wire.Refused:
        answer = await self._ask(stream, wire.request_of(todo, market, self._next()))
        refused = wire.refused_in(answer, todo)
        for reason, count in refused.reasons.items():
            _refused.labels(self._name, reason).inc(count)
        if refused.reasons:
            logger.info("refused", market=self._name, reasons=dict(refused.reasons))
        return refused

    async def _withdraw(self, stream: wire.Stream, market: Market) -> None:
        """Cancels all that we have open in the market. Raises Ended if that was refused: the stream's end does it."""
        answer = await self._ask(stream, wire.withdrawal_of(market, self._next()))
        if reason := wire.withdrawal_refused(answer):
            raise Ended(f"not canceled: {reason}")
        self._quoting = False
        _open.labels(self._name).set(0)

    async def _ask(self, stream: wire.Stream, request: wire.Request) -> wire.Answer:
        """One request and its answer: one is on its way at a time. Raises Ended, and what gRPC raises."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await stream.write(request)
                answer = wire.answer_in(await stream.read())
        except asyncio.InvalidStateError:  # it ended since the last request: so grpcio says that on writing
            answer = None
        if answer is None:
            raise Ended("the stream has ended")
        return answer

    def _next(self) -> int:
        self._requests += 1
        return self._requests

    async def _arm(self) -> None:
        """Tells the book that we are here."""
        clock = asyncio.get_running_loop().time
        if clock() - self._armed_at > SWITCH_SECONDS / SWITCH_PART or not self._armed_at:
            await self._client.cancel_after(SWITCH_SECONDS, self._name)
            self._armed_at = clock()

    async def _leave(self) -> None:
        """The last thing: nothing of ours stays, and no switch. What cannot be said now, CancelAfter does."""
        try:
            async with asyncio.timeout(LEAVE_SECONDS_MAX):
                await self._client.cancel_all(self._name)
                await self._client.cancel_after(0, self._name)
        except LOST as error:
            logger.warning("the quotes are left to CancelAfter", market=self._name, why=describe(error))
