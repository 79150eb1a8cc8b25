"""A feed whose book is out of step, or not followed: nobody is told an empty book, or an old one, as the market's."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from clearbook.v1 import book_service_pb2 as pb

from clearbook.book import LocalBook
from gateway_http.binance.hub import BookSource, Topics
from gateway_http.binance.outbox import Frame
from gateway_http.binance.stream_names import Kind, Stream
from gateway_http.fanout import Batch, Fanout
from gateway_http.feeds import Feed
from gateway_http.turns import Turns
from gateway_http.wire import order_book_update

MARKET = pb.Market(market="BTC-USD", tick_size="0.01", lot_size="0.00001")
BID = ("100.00", "0.00001")
OUT_OF_STEP = pb.StreamOrderBookResponse(heartbeat=pb.BookHeartbeat(sequence=7))
HEARTBEAT = pb.StreamOrderBookResponse(heartbeat=pb.BookHeartbeat(sequence=1))
FRAME = order_book_update([BID], [])


def snapshot() -> pb.StreamOrderBookResponse:
    message = pb.BookSnapshot(market="BTC-USD", sequence=1, bids=[pb.Level(price=BID[0], quantity=BID[1])])
    scratch = LocalBook(MARKET)
    scratch._replace(message)
    message.checksum = scratch.checksum()
    return pb.StreamOrderBookResponse(snapshot=message)


class Stub:
    """One subscription: these messages, then its end. Remembers from where on it was asked."""

    def __init__(self, *messages: pb.StreamOrderBookResponse) -> None:
        self._messages = messages
        self.resumed = [-1]

    def StreamOrderBook(self, request: pb.StreamOrderBookRequest) -> Any:
        self.resumed = [request.resume_from_sequence]
        return self

    def cancel(self) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[pb.StreamOrderBookResponse]:
        for message in self._messages:
            yield message


class Held(Stub):
    """A subscription that stands until it is let go."""

    def __init__(self, *messages: pb.StreamOrderBookResponse) -> None:
        super().__init__(*messages)
        self.gone = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[pb.StreamOrderBookResponse]:
        async for message in super().__aiter__():
            yield message
        await self.gone.wait()


class Taker:
    """Remembers what it took."""

    def __init__(self) -> None:
        self.took: list[Any] = []
        self.some = asyncio.Event()

    def take(self, batch: Batch[Any]) -> None:
        self.took += batch.messages
        self.some.set()


async def follow(feed: Feed, stub: Stub) -> None:
    await feed.follow(stub)  # type: ignore[arg-type]


async def later() -> None:
    """Returns when whoever is told every tenth of a second would have been."""
    probe, taker = Fanout[str](Turns()), Taker()
    probe.add(taker)
    probe.tell_later(0.15, lambda: "later")
    await asyncio.wait_for(taker.some.wait(), 10)


async def follow_until(feed: Feed, taker: Taker, *messages: pb.StreamOrderBookResponse) -> None:
    """Follows a subscription that stands, until somebody has been told something."""
    held = Held(*messages)
    async with asyncio.TaskGroup() as group:
        group.create_task(follow(feed, held))
        await asyncio.wait_for(taker.some.wait(), 10)
        held.gone.set()


async def test_the_book_of_before_stays_until_the_next_snapshot_is_in() -> None:
    feed = Feed(MARKET, Turns())
    await follow(feed, Stub(snapshot(), OUT_OF_STEP))
    assert (feed.book.bids, feed.live) == ([BID], False)
    await follow(feed, stub := Stub())
    assert stub.resumed == [0]
    assert feed.book.bids == [BID]
    await follow(feed, Stub(snapshot()))
    await follow(feed, stub := Stub())
    assert stub.resumed == [1]


async def test_who_is_told_every_so_often_is_told_no_book_that_is_not_the_market_s() -> None:
    feed, often = Feed(MARKET, Turns()), Taker()
    feed.subscribers[0.1].add(often)
    await follow(feed, Stub(snapshot(), OUT_OF_STEP))
    await later()
    assert often.took == []
    await follow_until(feed, often, snapshot())
    assert often.took == [FRAME]


@pytest.mark.parametrize("seconds", [0.0, 0.1])
async def test_all_are_told_the_book_when_it_is_live_again_though_nothing_changed(seconds: float) -> None:
    """Who came meanwhile was told nothing, and what was to be told when it broke off was not."""
    feed, taker = Feed(MARKET, Turns()), Taker()
    await follow(feed, Stub(snapshot()))
    feed.subscribers[seconds].add(taker)
    await follow_until(feed, taker, HEARTBEAT, HEARTBEAT)
    assert taker.took == [FRAME]


async def test_binance_s_levels_wait_until_the_book_is_the_market_s() -> None:
    feed, topics, taker = Feed(MARKET, Turns()), Topics(), Taker()
    source = BookSource(feed, "BTCUSD", topics)
    stream = Stream("btcusd@depth5@100ms", Kind.PARTIAL, "BTCUSD", levels=5, milliseconds=100)
    topics.readers[stream.name] = Fanout[Frame](Turns())
    topics.readers[stream.name].add(taker)
    source.add(stream)
    await follow(feed, Stub(snapshot(), OUT_OF_STEP))
    await later()
    assert taker.took == []
    await follow_until(feed, taker, snapshot())
    source.drop(stream)
    assert [json.loads(frame.raw)["bids"] for frame in taker.took] == [[["100.00000000", "0.00001000"]]]
