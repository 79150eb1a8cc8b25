"""The mirror follows a server that misbehaves: afterwards its book is the server's, or it says that it has none.

Once with what Binance sent one day in 2021, once with what is made up, which is there everywhere.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from services.mirror.feed import STREAMS, Feed
from services.mirror.follower import Follower, Patience, Standing
from services.mirror.messages import units
from services.runtime.run import Closing
from tests import binance_server
from tests.binance_server import SYMBOL, BinanceServer, Event
from tests.suite import until

SECONDS_MAX = 10.0
SILENT_SECONDS = 0.3
PATIENCE = Patience(int(SILENT_SECONDS * 10**9), 200 * 10**6, 60 * 10**9)


class Followed:
    """A server, what it has still to send, and who follows it."""

    def __init__(self, server: BinanceServer, events: Iterator[Event], follower: Follower) -> None:
        self.server, self.follower = server, follower
        self._events = events

    def next(self, count: int = 1) -> list[Event]:
        return list(itertools.islice(self._events, count))

    async def play(self, count: int = 1) -> None:
        await self.server.play(*self.next(count))

    def standing(self) -> Standing:
        return self.follower.standing(time.monotonic_ns())

    def same(self) -> bool:
        """Whether the mirrored book is the server's."""
        server, depth = self.server, self.follower.book.depth
        return self.follower.book.update == server.update and all(
            dict(depth.all(buys)) == {units(price): units(quantity) for price, quantity in side.items()}
            for buys, side in ((True, server.sides["b"]), (False, server.sides["a"]))
        )

    async def in_step(self) -> None:
        """Waits until it is live, and the server's book; goes on playing, so that it hears of it."""
        await self.server.opened()

        async def live() -> bool:
            await self.play()
            for _ in range(10):
                if self.same() and self.standing() is Standing.LIVE:
                    return True
                await asyncio.sleep(0.01)
            return False

        await until(live, SECONDS_MAX, f"in step: {self.standing()}")

    async def stands(self, *expected: Standing) -> None:
        async def does() -> bool:
            return self.standing() in expected

        await until(does, SECONDS_MAX, f"{expected}")


@asynccontextmanager
async def following(recorded: bool) -> AsyncIterator[Followed]:
    if recorded:
        snapshot, all_events = binance_server.recorded()
        # The recording's quotes come with real updates, so they are taken as they are; when it ends, it is over.
        events: Iterator[Event] = (e for e in all_events if e["u"] > snapshot["lastUpdateId"])
    else:
        snapshot, events = binance_server.made(5)
    follower, closing = Follower(PATIENCE), Closing()
    async with binance_server.running(snapshot) as server, aiohttp.ClientSession() as http:
        feed = Feed(http, server.url.replace("http", "ws", 1), server.url, {SYMBOL: follower})
        work = asyncio.create_task(feed.run(closing))
        try:
            yield Followed(server, events, follower)
        finally:
            closing.set()
            async with asyncio.timeout(SECONDS_MAX):
                await work
    assert follower.standing(time.monotonic_ns()) is Standing.SYNCING, "who follows no more has no book"


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.recorded_feeds), False], ids=["recorded", "made up"])
async def followed(request: pytest.FixtureRequest) -> AsyncIterator[Followed]:
    if request.param and not binance_server.STREAM_FILE.exists():
        pytest.skip(f"{binance_server.STREAM_FILE} is not here")
    async with following(request.param) as made:
        await made.in_step()
        yield made


async def test_it_asks_for_the_streams_and_follows_every_update(followed: Followed) -> None:
    assert sorted(followed.server.asked) == sorted(f"{SYMBOL.lower()}@{stream}" for stream in STREAMS)
    asked = followed.server.snapshots
    for _ in range(40):
        await followed.play()
    await followed.in_step()
    assert followed.server.snapshots == asked, "without another snapshot"


@asynccontextmanager
async def another(count: str, followed: Followed) -> AsyncIterator[None]:
    """What is done inside makes the mirror begin anew: the server counts one more of `connections` or `snapshots`."""
    before = getattr(followed.server, count)
    yield

    async def again() -> bool:
        return bool(getattr(followed.server, count) > before)

    await until(again, SECONDS_MAX, count)


async def gap(followed: Followed) -> None:
    for event in followed.next(3):
        followed.server.apply(event)


async def duplicates(followed: Followed) -> None:
    again = [event for event in followed.next(4) if "U" in event]
    await followed.server.play(*again)
    for event in again:
        await followed.server.send(event)


async def cut(followed: Followed) -> None:
    async with another("connections", followed):
        followed.server.cut()


async def day_is_over(followed: Followed) -> None:
    async with another("connections", followed):
        await followed.server.end()


async def day_is_nearly_over(followed: Followed) -> None:
    async with another("connections", followed):
        await followed.server.say('{"stream": "", "data": {"e": "serverShutdown", "E": 1}}')


async def garbage(followed: Followed) -> None:
    async with another("connections", followed):
        await followed.server.say('{"stream": "x@depth", "data": {"e": "depthUpdate", "s": 5}}')


async def sequence_garbage(followed: Followed) -> None:
    async with another("connections", followed):
        await followed.server.send({"e": "depthUpdate", "s": SYMBOL, "U": 9, "u": 3, "b": [], "a": []})


async def crossing(followed: Followed) -> None:
    update = followed.server.update
    bad = {"e": "depthUpdate", "s": SYMBOL, "U": update + 1, "u": update + 1, "b": [["9999999", "1"]], "a": []}
    async with another("snapshots", followed):
        await followed.server.send(bad)


async def another_symbol(followed: Followed) -> None:
    async with another("connections", followed):
        await followed.server.send({"e": "depthUpdate", "s": "OTHER", "U": 1, "u": 2, "b": [], "a": []})


async def quote_that_differs(followed: Followed) -> None:
    quote = {"u": followed.server.update, "s": SYMBOL, "b": "0.1", "B": "1", "a": "9999999", "A": "1"}
    async with another("snapshots", followed):
        await followed.server.send(quote)


async def silence(followed: Followed) -> None:
    await followed.stands(Standing.SILENT)


async def depth_stalls_and_quotes_go_on(followed: Followed) -> None:
    ahead = followed.server.update + 1

    async def behind() -> bool:
        await followed.server.send({"u": ahead, "s": SYMBOL, "b": "1", "B": "1", "a": "2", "A": "1"})
        return followed.standing() is Standing.BEHIND

    await until(behind, SECONDS_MAX)


async def old_snapshots(followed: Followed) -> None:
    followed.server.stale = [followed.server.whole()] * 2
    await gap(followed)


async def busy(followed: Followed) -> None:
    followed.server.busy = 2
    await gap(followed)


MISBEHAVIOURS = [
    gap, duplicates, cut, day_is_over, day_is_nearly_over, garbage, sequence_garbage, crossing, another_symbol,
    quote_that_differs, silence, depth_stalls_and_quotes_go_on, old_snapshots, busy,
]  # fmt: skip


async def test_after_each_misbehaviour_the_book_is_the_servers_again(followed: Followed) -> None:
    for misbehave in MISBEHAVIOURS:
        do: Callable[[Followed], Awaitable[None]] = misbehave
        await do(followed)
        try:
            await followed.in_step()
        except TimeoutError as error:
            raise AssertionError(f"after {misbehave.__name__}: {error}") from None


@pytest.mark.recorded_feeds
def test_recorded_quotes_and_updates_agree() -> None:
    """What `DIFFERS` stands on: on the real exchange, quote and book of one update are the same."""
    if not binance_server.STREAM_FILE.exists():
        pytest.skip(f"{binance_server.STREAM_FILE} is not here")
    snapshot, events = binance_server.recorded()
    server = BinanceServer(snapshot)
    compared = 0
    books = {server.update: (max(server.sides["b"], key=float), min(server.sides["a"], key=float))}
    quotes = {}
    for event in events:
        server.apply(event)
        books[server.update] = (max(server.sides["b"], key=float), min(server.sides["a"], key=float))
        if "U" not in event:
            quotes[event["u"]] = (event["b"], event["a"])
    for update, quote in quotes.items():
        if update in books:
            assert books[update] == quote
            compared += 1
    assert compared >= 15
