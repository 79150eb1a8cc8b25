"""The publisher as a process that is killed, and among readers that do not read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import book_service_pb2 as pb
from clearbook.v1 import book_service_pb2_grpc

from clearbook.book import LocalBook
from clearbook.client import Client
from clearbook.orders_book import LocalOrders
from services.book import model as m
from services.errors import Reason
from services.runtime import rpc
from tests.book_flow import Flow
from tests.fake_book import FakeBook
from tests.narrow import narrow
from tests.processes import memory_bytes
from tests.suite import free_ports, until

SECONDS_MAX = 30.0
STALL_SECONDS = 2.0
CANDLES_CLOSED_MIN = 3
STALLED, STALLED_MANY, HEALTHY = 100, 10, 10
"""Readers; of those that stall so many have several subscriptions."""
BURSTS, BURSTS_FULL, BURST_ROWS, LEVELS = 20, 14, 20, 40
"""In a burst are so many rows, each of so many levels; after some, all that a reader may have ahead is full."""
BTC_USD = "BTC-USD"
WHOLE = pb.StreamOrderBookRequest(market=BTC_USD)
SUBSCRIPTIONS = [
    pb.MarketDataSubscription(id=1, order_book=WHOLE),
    pb.MarketDataSubscription(id=2, trades=pb.StreamTradesRequest(market=BTC_USD)),
    pb.MarketDataSubscription(id=3, order_book=pb.StreamOrderBookRequest(market=BTC_USD, detail=pb.BOOK_DETAIL_L3)),
    pb.MarketDataSubscription(id=4, tickers=pb.StreamTickersRequest()),
]


class Process:
    """`python -m services.book.publisher` that always listens on the same port."""

    def __init__(self, folder: Path, book: FakeBook, **more: str) -> None:
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        self._env = os.environ | {
            "DATABASE_URL": f"sqlite:///{folder}/p.sqlite",
            "PUBLISHER_ADDRESS": self.address,
            "BOOK_ADDRESS": book.address,
            "METRICS_PORT": "0",
            "LOG_LEVEL": "warning",
            **more,
        }
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.book.publisher"), env=self._env
        )

    async def ready(self) -> None:
        """Waits until it answers."""
        async with asyncio.timeout(SECONDS_MAX), rpc.connect(self.address) as channel:
            stub = book_service_pb2_grpc.BookServiceStub(channel)
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await stub.ListMarkets(pb.ListMarketsRequest())
                    return
                await asyncio.sleep(0.05)

    def memory_bytes(self) -> int:
        """What it holds in memory now."""
        return memory_bytes(self.process.pid)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def __aenter__(self) -> Process:
        await self.start()
        await self.ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(SECONDS_MAX):
                assert await self.process.wait() == 0


@asynccontextmanager
async def alive(flow: Flow, book: FakeBook) -> AsyncIterator[None]:
    """Things happen in the market all the time."""

    async def live() -> None:
        while True:
            flow.time_ns = max(flow.time_ns, time.time_ns())  # as a book's would: the head is where now is
            flow.some(3)
            book.tell()
            await asyncio.sleep(0.005)

    task = asyncio.create_task(live())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def sequence(flow: Flow) -> int:
    return flow.engine.books[1].market_sequence


def counted(levels: list[tuple[str, str]]) -> list[tuple[int, int]]:
    """In ticks of 0.01 and lots of 0.00001, exactly."""
    return [(_scaled(price, 2), _scaled(quantity, 5)) for price, quantity in levels]


def _scaled(number: str, decimals: int) -> int:
    whole, _, fraction = number.partition(".")
    return int(whole + fraction.ljust(decimals, "0"))


async def caught_up(books: AsyncIterator[LocalBook], flow: Flow) -> LocalBook:
    async with asyncio.timeout(SECONDS_MAX):
        async for book in books:
            if book.sequence == sequence(flow):
                return book
    raise AssertionError("the stream ended")


@pytest.mark.slow
async def test_killed_again_and_again_it_never_loses_a_change_nor_a_trade(tmp_path: Path) -> None:
    flow, pick = Flow(seed=3), random.Random(3)
    async with FakeBook(flow) as book, Process(tmp_path, book) as process:
        async with Client(market_data=process.address) as client:
            watched = Watched(client, process.address)
            async with alive(flow, book), asyncio.TaskGroup() as group:
                watching = (watched.book(), watched.trades(), watched.orders(), watched.candles())
                following = [group.create_task(each) for each in watching]
                for _ in range(5):
                    await asyncio.sleep(pick.uniform(0.1, 0.8))
                    await process.kill()
                    await process.start()
                    await process.ready()
                async with asyncio.timeout(SECONDS_MAX):
                    while len(watched.candle_by_start) <= CANDLES_CLOSED_MIN:  # where all goes fast, time has to pass
                        await asyncio.sleep(0.1)
                for task in following:
                    task.cancel()
            local = await caught_up(client.follow_book(BTC_USD), flow)
            assert counted(local.bids) == flow.levels(1, True)
            assert counted(local.asks) == flow.levels(1, False)
            await watched.expect_orders(flow)
        assert watched.lost == []
        assert watched.sequences[-1] - watched.sequences[0] > 300  # LocalBook has checked that each follows on the last
        assert len(watched.trade_ids) > 20
        assert watched.trade_ids == list(range(1, watched.trade_ids[-1] + 1))
        await watched.expect_candles()


class Watched:
    """What one subscriber got who resumes after every break."""

    def __init__(self, client: Client, address: str) -> None:
        self._client, self._address = client, address
        self.sequences: list[int] = []
        self.trade_ids: list[int] = []
        self.lost: list[str] = []
        self.candle_by_start: dict[int, pb.Candle] = {}
        self.orders_seen = 0

    async def book(self) -> None:
        """Resumes by hand: a snapshot but the first would mean that something was lost."""
        local = LocalBook((await self._client.markets())[BTC_USD])
        async with rpc.connect(self._address) as channel:
            stub = book_service_pb2_grpc.BookServiceStub(channel)
            while True:
                request = pb.StreamOrderBookRequest(
                    market=BTC_USD, resume_from_sequence=local.sequence, incarnation=local.incarnation
                )
                with contextlib.suppress(grpc.aio.AioRpcError):
                    async for message in stub.StreamOrderBook(request):
                        if message.HasField("snapshot") and self.sequences:
                            self.lost.append(f"a snapshot at {message.snapshot.sequence} after {local.sequence}")
                        if local.apply(message):
                            self.sequences.append(local.sequence)
                await asyncio.sleep(0.02)

    async def trades(self) -> None:
        async with rpc.connect(self._address) as channel:
            stub = book_service_pb2_grpc.BookServiceStub(channel)
            while True:
                after = self.trade_ids[-1] if self.trade_ids else 0
                request = pb.StreamTradesRequest(market=BTC_USD, after_trade_id=after)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    async for message in stub.StreamTrades(request):
                        self.trade_ids += [trade.trade_id for trade in message.trades]
                await asyncio.sleep(0.02)

    async def orders(self) -> None:
        """From a snapshot after each break: LocalOrders checks that each change follows, and the sum of all orders."""
        local = LocalOrders((await self._client.markets())[BTC_USD])
        request = pb.StreamOrderBookRequest(market=BTC_USD, detail=pb.BOOK_DETAIL_L3)
        async with rpc.connect(self._address) as channel:
            stub = book_service_pb2_grpc.BookServiceStub(channel)
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    async for message in stub.StreamOrderBook(request):
                        self.orders_seen += local.apply(message)
                await asyncio.sleep(0.02)

    async def candles(self) -> None:
        """Each second's, from the last one that was told: it may have changed."""
        told = self.candle_by_start
        request = pb.StreamCandlesRequest(market=BTC_USD, interval=pb.CANDLE_INTERVAL_1_SECOND)
        async with rpc.connect(self._address) as channel:
            stub = book_service_pb2_grpc.BookServiceStub(channel)
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    async for message in stub.StreamCandles(request):
                        for candle in message.candles:
                            start = candle.start_time.seconds
                            if told and not max(told) <= start <= max(told) + 1:
                                self.lost.append(f"candle {start} after {max(told)}")
                            told[start] = candle
                            request.start_time.seconds = start
                await asyncio.sleep(0.02)

    async def expect_orders(self, flow: Flow) -> None:
        """They were followed through all kills, and are the engine's, in their lines."""
        assert self.orders_seen > 100
        async with asyncio.timeout(SECONDS_MAX), aclosing(self._client.follow_orders(BTC_USD)) as books:
            async for book in books:
                if book.sequence == sequence(flow):
                    break
        for side, told in ((flow.engine.books[1].bids, book.bids), (flow.engine.books[1].asks, book.asks)):
            engine = [str(order.order_id) for level in side.levels_best_first() for order in level.orders()]
            assert [order.order_id for order in told] == engine

    async def expect_candles(self) -> None:
        """Those that were followed through all kills are those that are listed, and sum up to all trades since."""
        first, (*closed, _) = min(self.candle_by_start), sorted(self.candle_by_start)
        async with Client(market_data=self._address) as client:
            listed = [each async for each in client.candles(BTC_USD, "1s", start_seconds=first)]
        by_start = {candle.start_time.seconds: candle for candle in listed}
        assert len(closed) >= CANDLES_CLOSED_MIN
        for start in closed:
            assert self.candle_by_start[start] == by_start[start], start
        ids = [(candle.first_trade_id, candle.last_trade_id) for candle in listed if candle.trade_count]
        assert [begin for begin, _ in ids[1:]] == [end + 1 for _, end in ids[:-1]]


def deep(flow: Flow, levels: int) -> None:
    """A book whose snapshot is large."""
    for number in range(levels):
        flow.place(1, m.SIDE_BUY, 1_000_000 + number, 1_000)


async def busy(flow: Flow, book: FakeBook, changes: int) -> None:
    """Changes at one level, told at once."""
    for _ in range(changes):
        flow.place(1, m.SIDE_BUY, 1_000_000, 1_000)
    book.tell()
    await asyncio.sleep(0.01)


async def _published(address: str, through: int) -> bool:
    async with rpc.connect(address) as channel:  # another one: the reader's may be full
        asked = pb.GetOrderBookRequest(market=BTC_USD, depth=1)
        answer = await book_service_pb2_grpc.BookServiceStub(channel).GetOrderBook(asked, timeout=SECONDS_MAX)
    return answer.sequence >= through


class Healthy:
    """One who reads everything, and finds that each change follows on the one before.

    Attributes:
        sequence: up to which it has read.
    """

    def __init__(self, stub: book_service_pb2_grpc.BookServiceAsyncStub) -> None:
        self.sequence = 0
        self._call, self._read = stub.StreamOrderBook(WHOLE), asyncio.Event()

    async def read(self) -> None:
        """Until it is canceled."""
        async for message in self._call:
            part = message.snapshot if message.HasField("snapshot") else message.delta
            if message.HasField("heartbeat"):
                continue
            assert message.HasField("delta") or not (self.sequence or message.snapshot.lagged), "a second snapshot"
            assert not self.sequence or message.delta.previous_sequence == self.sequence
            self.sequence = part.sequence
            self._read.set()

    async def reaches(self, sequence: int) -> None:
        """Waits until it has read so far."""
        async with asyncio.timeout(SECONDS_MAX):
            while self.sequence < sequence:
                self._read.clear()
                await self._read.wait()


async def stall(address: str, stack: contextlib.AsyncExitStack) -> list[Any]:
    """So many streams that have begun, and of which nothing is read from then on."""
    channels = [await stack.enter_async_context(narrow(address)) for _ in range(STALLED)]
    stubs = [book_service_pb2_grpc.BookServiceStub(channel) for channel in channels]
    many: list[Any] = [stub.StreamMarketData() for stub in stubs[:STALLED_MANY]]
    for call in many:
        await call.write(pb.StreamMarketDataRequest(subscribe=SUBSCRIPTIONS))
        assert (await call.read()).acknowledgement.state == pb.SUBSCRIPTION_STATE_ACCEPTED
    calls = many + [stub.StreamOrderBook(WHOLE) for stub in stubs[STALLED_MANY:]]
    await asyncio.gather(*(call.read() for call in calls))  # the snapshot, or another answer
    return calls


@pytest.mark.slow
async def test_who_stalls_is_cut_off_and_told_and_nobody_else_notices(tmp_path: Path) -> None:
    flow = Flow()
    deep(flow, 2_000)
    limits = {"PUBLISHER_LAG_CHANGES_MAX": "50", "PUBLISHER_STALL_SECONDS_MAX": str(STALL_SECONDS)}
    async with (
        FakeBook(flow) as book,
        Process(tmp_path, book, **limits) as process,
        rpc.connect(process.address) as channel,
        contextlib.AsyncExitStack() as stack,
        asyncio.TaskGroup() as group,
    ):
        stub = book_service_pb2_grpc.BookServiceStub(channel)
        healthy = [Healthy(stub) for _ in range(HEALTHY)]
        reading = [group.create_task(each.read()) for each in healthy]
        for each in healthy:
            await each.reaches(sequence(flow))
        before = process.memory_bytes()
        stalled = await stall(process.address, stack)
        clock = asyncio.get_running_loop().time
        slowest = 0.0
        for burst in range(BURSTS):
            for _ in range(BURST_ROWS):
                flow.ladder(1, m.SIDE_BUY, 1_000_000, 1_000, LEVELS)
            book.tell()
            if burst == BURSTS_FULL:  # they are full by now: let their time run out
                await asyncio.sleep(2 * STALL_SECONDS)
            started = clock()
            for each in healthy:
                await each.reaches(sequence(flow))
            slowest = max(slowest, clock() - started)
        assert slowest < STALL_SECONDS
        assert process.memory_bytes() - before < 64 * 2**20
        for call in stalled:
            await told_that_it_lagged(call)
        for task in reading:
            task.cancel()


async def told_that_it_lagged(call: Any) -> None:
    async def read_on() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while await call.read() is not grpc.aio.EOF:
                pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_on()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rpc.rejected_from(caught.value) is Reason.LAGGED


async def test_who_pauses_gets_a_snapshot_that_says_so_and_goes_on(tmp_path: Path) -> None:
    flow = Flow()
    deep(flow, 2_000)
    limits = {"PUBLISHER_LAG_CHANGES_MAX": "50", "PUBLISHER_STALL_SECONDS_MAX": "60"}
    async with (
        FakeBook(flow) as book,
        Process(tmp_path, book, **limits) as process,
        narrow(process.address) as channel,
    ):
        stub = book_service_pb2_grpc.BookServiceStub(channel)
        market = next(x for x in (await stub.ListMarkets(pb.ListMarketsRequest())).markets if x.market == BTC_USD)
        local, call, lagged = LocalBook(market), stub.StreamOrderBook(WHOLE), 0
        message: Any = await call.read()
        local.apply(message)  # from here on it is subscribed, however busy the machine
        for _ in range(50):
            await busy(flow, book, 100)
        await until(lambda: _published(process.address, sequence(flow)), SECONDS_MAX, "the publisher is behind")
        async with asyncio.timeout(SECONDS_MAX):
            while local.sequence < sequence(flow):
                message = await call.read()
                local.apply(message)  # checks the chain and the checksum
                lagged += message.HasField("snapshot") and message.snapshot.lagged
        assert lagged
        assert counted(local.bids) == flow.levels(1, True)
        call.cancel()
