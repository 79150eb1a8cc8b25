"""The publisher over real gRPC, on SQLite and on PostgreSQL, with a book whose every row is known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import book_service_pb2 as pb
from clearbook.v1 import book_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from clearbook.book import LocalBook
from services.book import model as m
from services.book.auction import auction_ticks
from services.book.publisher.__main__ import Publisher, PublisherSettings
from services.errors import Reason
from services.runtime import rpc
from services.runtime.run import Closing, StartError
from tests.backends import Backends
from tests.book_flow import Flow
from tests.fake_book import FakeBook

SECONDS_MAX = 20.0
BTC_USD = "BTC-USD"

Run = Callable[..., Any]


class Running:
    """A publisher in this process, and a client of it."""

    def __init__(self, publisher: Publisher, channel: grpc.aio.Channel) -> None:
        self.publisher, self.channel = publisher, channel
        self.stub = book_service_pb2_grpc.BookServiceStub(channel)

    async def until(self, journal_sequence: int) -> None:
        """Waits until it has published so much."""
        async with asyncio.timeout(SECONDS_MAX):
            while self.publisher.board.journal_sequence < journal_sequence:
                await asyncio.sleep(0.005)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.backends)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/publisher.sqlite"
    servers: Backends = request.getfixturevalue("backends")
    return asyncio.run(servers.new_database())


@pytest.fixture
def flow() -> Flow:
    flow = Flow(seed=7)
    for _ in range(100):
        flow.some(3)
    return flow


def settings(url: str, book_address: str, **more: Any) -> PublisherSettings:
    return PublisherSettings.load(database_url=url, publisher_address="127.0.0.1:0", book_address=book_address, **more)


@asynccontextmanager
async def running(url: str, book: FakeBook, **more: Any) -> AsyncIterator[Running]:
    publisher, closing = Publisher(settings(url, book.address, **more)), Closing()
    work = asyncio.create_task(publisher.run(closing))
    ready = asyncio.create_task(publisher.ready.wait())
    try:
        await asyncio.wait({work, ready}, timeout=SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        assert publisher.ready.is_set()
        async with rpc.connect(f"127.0.0.1:{publisher.port}") as channel:
            yield Running(publisher, channel)
    finally:
        ready.cancel()
        closing.set()
        async with asyncio.timeout(SECONDS_MAX):
            await asyncio.wait([work])
    await work


def printed(running: Running, levels: list[tuple[int, int]]) -> list[tuple[str, str]]:
    market = running.publisher.board.topic(BTC_USD).market
    return [(market.format_price(ticks), market.format_quantity(lots)) for ticks, lots in levels]


def pairs(levels: Any) -> list[tuple[str, str]]:
    return [(level.price, level.quantity) for level in levels]


async def local(running: Running, depth: int = 0) -> LocalBook:
    listed = await running.stub.ListMarkets(pb.ListMarketsRequest())
    return LocalBook(next(market for market in listed.markets if market.market == BTC_USD), depth)


async def follow(book: LocalBook, call: Any, sequence: int) -> list[pb.StreamOrderBookResponse]:
    """Applies messages until the book is at a sequence."""
    messages: list[pb.StreamOrderBookResponse] = []
    async with asyncio.timeout(SECONDS_MAX):
        while not messages or book.sequence < sequence:
            messages.append(await call.read())
            book.apply(messages[-1])
    return messages


async def read(call: Any) -> pb.StreamOrderBookResponse:
    message: pb.StreamOrderBookResponse = await call.read()
    return message


def head(running: Running) -> int:
    return running.publisher.board.topic(BTC_USD).fold.sequence


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, Reason | None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), rpc.rejected_from(caught.value)


async def test_what_it_lists_and_shows(url: str, flow: Flow) -> None:
    async with FakeBook(flow) as book, running(url, book) as publisher:
        stub = publisher.stub
        listed = await stub.ListMarkets(pb.ListMarketsRequest())
        assert [
            (x.market, x.base_asset, x.quote_asset, x.tick_size, x.lot_size, x.notional_min) for x in listed.markets
        ] == [
            ("BTC-USD", "BTC", "USD", "0.01", "0.00001", "1"),
            ("USD-BTC", "USD", "BTC", "0.0005", "0.1", "0"),
        ]
        assert {x.state for x in listed.markets} == {pb.MARKET_STATE_OPEN}
        shown = await stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD, depth=5))
        assert pairs(shown.bids) == printed(publisher, flow.levels(1, True)[:5])
        assert pairs(shown.asks) == printed(publisher, flow.levels(1, False)[:5])
        assert len((await stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD))).bids) <= 20
        assert shown.event_time.ToNanoseconds() <= flow.time_ns


async def changed(markets: AsyncIterator[pb.StreamMarketsResponse]) -> pb.Market:
    """The next market that has changed, past all heartbeats."""
    async with asyncio.timeout(SECONDS_MAX):
        while not (message := await anext(markets)).markets:
            pass
    (market,) = message.markets
    return market


async def test_markets_are_told_as_they_change_and_remembered(url: str, flow: Flow) -> None:
    rules = m.MarketRules(2, 0, 5 * 10**30, 12_500, 10**6 + 10**5, 9)
    async with FakeBook(flow) as book:
        async with running(url, book) as publisher:
            call = publisher.stub.StreamMarkets(pb.StreamMarketsRequest())
            watching = aiter(call)
            first = await anext(watching)
            assert [(x.market, x.state) for x in first.markets] == [
                (BTC_USD, pb.MARKET_STATE_OPEN), ("USD-BTC", pb.MARKET_STATE_OPEN),
            ]  # fmt: skip
            flow.change(1, m.MARKET_STATE_PRE_OPEN, rules)
            book.tell()
            told = await changed(watching)
            assert (told.market, told.state, told.HasField("auction")) == (BTC_USD, pb.MARKET_STATE_PRE_OPEN, False)
            market = publisher.publisher.board.topic(BTC_USD).market
            assert told.notional_min == market.quote.format(10**6 + 10**5)
            quantity_min, notional_max = told.rules.quantity_min, told.rules.notional_max
            assert told.rules == pb.MarketRules(
                quantity_min="0.00002",
                notional_max=notional_max,
                price_band_basis_points=125,
                open_orders_max=9,
                reference_age_max_seconds=30,
            ), quantity_min
            ask = flow.levels(1, False)[0][0]
            flow.place(1, m.SIDE_BUY, ask + 3, 100, times=3)
            book.tell()
            told = await changed(watching)
            foretold = auction_ticks(flow.engine.books[1])
            assert (told.auction.price, bool(told.auction.quantity)) == (market.format_price(foretold), True)
            flow.change(1, m.MARKET_STATE_CLOSED)
            book.tell()
            told = await changed(watching)
            assert (told.state, told.HasField("auction")) == (pb.MARKET_STATE_CLOSED, False)
            call.cancel()
        async with running(url, book) as publisher:
            listed = await publisher.stub.ListMarkets(pb.ListMarketsRequest())
            assert listed.markets[0] == told


async def test_prices_have_the_markets_decimals_and_quantities_no_trailing_zeros(tmp_path: Path) -> None:
    flow = Flow()
    flow.place(1, m.SIDE_BUY, 2_999_950, 1_000)
    flow.place(1, m.SIDE_SELL, 3_000_000, 100_000)
    async with FakeBook(flow) as book, running(f"sqlite:///{tmp_path}/p.sqlite", book) as publisher:
        shown = await publisher.stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD))
        assert (pairs(shown.bids), pairs(shown.asks)) == ([("29999.50", "0.01")], [("30000.00", "1")])


@pytest.mark.parametrize("depth", [0, 1, 3, 10, 5000])
async def test_a_stream_is_the_book_at_every_depth(tmp_path: Path, flow: Flow, depth: int) -> None:
    async with FakeBook(flow) as book, running(f"sqlite:///{tmp_path}/p.sqlite", book) as publisher:
        ours = await local(publisher, depth)
        call = publisher.stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD, depth=depth))
        (first,) = await follow(ours, call, 0)
        assert first.WhichOneof("kind") == "snapshot"
        assert first.snapshot.incarnation == "flow"
        for _ in range(100):
            flow.some(2)
        for lots in (1, 2):  # so that the last change is seen at every depth
            flow.place(1, m.SIDE_BUY, 2_999_000 + 10**6 * lots, 100 * lots)
        book.tell()
        await publisher.until(flow.engine.journal_sequence)
        await follow(ours, call, head(publisher))
        shown = slice(depth or None)
        assert ours.bids == printed(publisher, flow.levels(1, True)[shown])
        assert ours.asks == printed(publisher, flow.levels(1, False)[shown])


READINGS: dict[str, dict[str, Any]] = {
    "each change": {},
    "ten levels": {"depth": 10},
    "each second": {"conflation": pb.CONFLATION_1_SECOND},
    "each order": {"detail": pb.BOOK_DETAIL_L3},
}


async def test_who_reads_the_book_is_told_the_markets_state(tmp_path: Path, flow: Flow) -> None:
    url = f"sqlite:///{tmp_path}/p.sqlite"
    async with FakeBook(flow) as book, running(url, book) as publisher:
        stub = publisher.stub
        calls = {
            name: stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD, **how))
            for name, how in READINGS.items()
        }
        tickers: Any = stub.StreamTickers(pb.StreamTickersRequest(markets=[BTC_USD]))
        async with asyncio.timeout(SECONDS_MAX):
            for name, call in calls.items():
                assert (await read(call)).snapshot.state == pb.MARKET_STATE_OPEN, name
            assert (await tickers.read()).tickers[0].state == pb.MARKET_STATE_OPEN
            for state in (m.MARKET_STATE_HALTED, m.MARKET_STATE_CLOSED, m.MARKET_STATE_PRE_OPEN, m.MARKET_STATE_OPEN):
                flow.change(1, state)
                flow.change(2, state)  # of another market
                flow.change(1, 0, m.MarketRules(open_orders_max=state))  # is no other state
                book.tell()
                for name, call in calls.items():
                    beat = (await read(call)).heartbeat
                    assert (beat.sequence, beat.state) == (head(publisher), state), name
                while (told := (await tickers.read()).tickers) == []:
                    pass
                assert [ticker.state for ticker in told] == [state]
                shown = await stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD))
                of_orders = await stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD, detail=pb.BOOK_DETAIL_L3))
                late: Any = stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD))
                assert {shown.state, of_orders.state, (await read(late)).snapshot.state} == {state}
                late.cancel()
        last = head(publisher)
        flow.place(1, m.SIDE_BUY, 2_000_000, 1_000)
        flow.change(1, m.MARKET_STATE_HALTED)
        book.tell()
        resumed: Any = stub.StreamOrderBook(
            pb.StreamOrderBookRequest(market=BTC_USD, resume_from_sequence=last, incarnation="flow")
        )
        async with asyncio.timeout(SECONDS_MAX):
            assert [(await read(resumed)).WhichOneof("kind"), (await read(resumed)).heartbeat.state] == [
                "delta", pb.MARKET_STATE_HALTED,
            ]  # fmt: skip
    async with FakeBook(flow) as book, running(url, book) as publisher:
        again: Any = publisher.stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD))
        assert (await read(again)).snapshot.state == pb.MARKET_STATE_HALTED, "it is remembered"


async def test_heartbeats_say_where_the_book_is(tmp_path: Path, flow: Flow) -> None:
    url = f"sqlite:///{tmp_path}/p.sqlite"
    async with FakeBook(flow) as book, running(url, book, publisher_heartbeat_seconds=0.1) as publisher:
        flow.tick()
        book.tell()
        ours = await local(publisher)
        books: Any = publisher.stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD))
        trades = publisher.stub.StreamTrades(pb.StreamTradesRequest(market=BTC_USD))
        async with asyncio.timeout(SECONDS_MAX):
            for _ in range(4):
                ours.apply(await books.read())
            last = publisher.publisher.board.topic(BTC_USD).tape.last_trade_id
            for _ in range(3):
                assert await trades.read() == pb.StreamTradesResponse(last_trade_id=last)
        assert ours.sequence == head(publisher)


async def test_resuming_brings_exactly_what_was_missed(url: str, flow: Flow) -> None:
    async with FakeBook(flow) as book:
        async with running(url, book) as publisher:
            ours = await local(publisher)
            await follow(ours, publisher.stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD)), 0)
            before = ours.sequence
        for _ in range(50):
            flow.some(2)
        async with running(url, book) as publisher:
            resume = pb.StreamOrderBookRequest(market=BTC_USD, resume_from_sequence=before, incarnation="flow")
            messages = await follow(ours, publisher.stub.StreamOrderBook(resume), head(publisher))
            ends = [x.delta.sequence for x in messages]
            assert [x.delta.previous_sequence for x in messages] == [before, *ends[:-1]]
            assert before < ends[0] <= before + 2  # a message a row, of one row only
            assert ours.bids == printed(publisher, flow.levels(1, True))
            assert book.asked[-1] > book.asked[0]  # it went on from its cursor
            resume.resume_from_sequence = head(publisher)  # nothing missed: a sign of life at once
            (message,) = await follow(ours, publisher.stub.StreamOrderBook(resume), 0)
            assert message.heartbeat == pb.BookHeartbeat(
                sequence=head(publisher), incarnation="flow", state=pb.MARKET_STATE_OPEN
            )


@pytest.mark.parametrize(
    ("behind", "incarnation", "kind"),
    [
        (0, "flow", "heartbeat"),
        (1, "flow", "delta"),
        (2, "flow", "snapshot"),  # within what one row changed: nobody was ever told of that
        (3, "flow", "delta"),
        (1, "other", "snapshot"),
        (1, "", "snapshot"),
        (-1, "flow", "snapshot"),
    ],
)
async def test_who_may_resume(tmp_path: Path, flow: Flow, behind: int, incarnation: str, kind: str) -> None:
    for orders in (2, 1):
        flow.place(1, m.SIDE_BUY, 2_000_000, 100, times=orders)
    async with FakeBook(flow) as book, running(f"sqlite:///{tmp_path}/p.sqlite", book) as publisher:
        request = pb.StreamOrderBookRequest(
            market=BTC_USD, resume_from_sequence=head(publisher) - behind, incarnation=incarnation
        )
        message: Any = await publisher.stub.StreamOrderBook(request).read()
        assert message.WhichOneof("kind") == kind


async def test_the_window_holds_ten_thousand_changes_and_no_more_are_kept(tmp_path: Path) -> None:
    flow = Flow()
    for number in range(10_050):
        flow.place(1, m.SIDE_BUY, 2_000_000 + number % 50, 10)
    url = f"sqlite:///{tmp_path}/p.sqlite"
    async with FakeBook(flow) as book:
        async with running(url, book):
            pass
        async with running(url, book) as publisher:
            assert book.asked[-1] == flow.engine.journal_sequence
            ours = await local(publisher)
            request = pb.StreamOrderBookRequest(market=BTC_USD, resume_from_sequence=50, incarnation="flow")
            call: Any = publisher.stub.StreamOrderBook(request)
            async with asyncio.timeout(SECONDS_MAX):
                sequences = [(await call.read()).delta.sequence for _ in range(10_000)]
            assert sequences == list(range(51, 10_051))
            request.resume_from_sequence = 49
            messages = await follow(ours, publisher.stub.StreamOrderBook(request), 0)
            assert messages[0].snapshot.sequence == 10_050
            assert not messages[0].snapshot.lagged


async def test_trades_by_page_are_all_trades_once(url: str, flow: Flow) -> None:
    for _ in range(100):
        flow.some(5)
    async with FakeBook(flow) as book:
        async with running(url, book):
            pass
        for _ in range(30):
            flow.some(5)
        async with running(url, book) as publisher:  # the older trades are in the store, the newer on the tape
            last = publisher.publisher.board.topic(BTC_USD).tape.last_trade_id
            request, trades = pb.ListTradesRequest(market=BTC_USD, page_size=7), list[pb.Trade]()
            while True:
                page = await publisher.stub.ListTrades(request)
                trades += page.trades
                if not page.next_page_token:
                    break
                assert len(page.trades) == 7
                request.page_token = page.next_page_token
            assert [trade.trade_id for trade in trades] == list(range(last, 0, -1))
            assert last > 50
            streamed = publisher.stub.StreamTrades(pb.StreamTradesRequest(market=BTC_USD, after_trade_id=0))
            again = await read_trades(streamed, last)
            assert again == trades[::-1]
            assert {trade.market for trade in trades} == {BTC_USD}


async def read_trades(call: Any, last: int) -> list[pb.Trade]:
    trades: list[pb.Trade] = []
    async with asyncio.timeout(SECONDS_MAX):
        while not trades or trades[-1].trade_id < last:
            message = await call.read()
            trades += message.trades
            # What one command traded is in one message: it has one time and one taker.
            assert len({trade.event_time.ToNanoseconds() for trade in message.trades}) <= 1
    return trades


async def test_trades_are_streamed_without_a_gap_from_wherever_one_stopped(tmp_path: Path, flow: Flow) -> None:
    url = f"sqlite:///{tmp_path}/p.sqlite"
    async with FakeBook(flow) as book:
        async with running(url, book):
            pass
        async with running(url, book) as publisher:
            tape = publisher.publisher.board.topic(BTC_USD).tape
            stopped = tape.last_trade_id // 2
            calls = {
                after: publisher.stub.StreamTrades(pb.StreamTradesRequest(market=BTC_USD, after_trade_id=after))
                for after in (0, 1, stopped, tape.last_trade_id)
            }
            live = publisher.stub.StreamTrades(pb.StreamTradesRequest(market=BTC_USD))
            first: Any = await live.read()
            assert (len(first.trades), first.last_trade_id) == (0, tape.last_trade_id)
            began = tape.last_trade_id
            for price in (1, 2, 3):
                flow.place(1, m.SIDE_SELL, 2_000_000 + price, 1)
            flow.place(1, m.SIDE_BUY, 4_000_000, 10**9)  # takes all there is
            book.tell()
            await publisher.until(flow.engine.journal_sequence)
            last = tape.last_trade_id
            assert last >= began + 3
            for after, call in calls.items():
                assert [x.trade_id for x in await read_trades(call, last)] == list(range(after + 1, last + 1))
            assert [x.trade_id for x in await read_trades(live, last)] == list(range(began + 1, last + 1))


async def test_what_is_refused(tmp_path: Path, flow: Flow) -> None:
    url = f"sqlite:///{tmp_path}/p.sqlite"
    async with FakeBook(flow) as book, running(url, book, publisher_subscriptions_max=2) as publisher:
        stub, last = publisher.stub, publisher.publisher.board.topic(BTC_USD).tape.last_trade_id
        invalid, field = grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_FIELD
        unknown, no_market = grpc.StatusCode.NOT_FOUND, Reason.MARKET_NOT_FOUND
        other = (await stub.ListTrades(pb.ListTradesRequest(market="USD-BTC", page_size=1))).next_page_token
        cases: list[tuple[Awaitable[Any], grpc.StatusCode, Reason]] = [
            (
                stub.GetOrderBook(pb.GetOrderBookRequest(market="XXX-YYY")),
                unknown,
                no_market,
            ),
            (stub.GetOrderBook(pb.GetOrderBookRequest()), invalid, field),
            (stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD, depth=5001)), invalid, field),
            (stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD, depth=-1)), invalid, field),
            (stub.ListTrades(pb.ListTradesRequest(market=BTC_USD, page_size=1001)), invalid, field),
            (stub.ListTrades(pb.ListTradesRequest(market=BTC_USD, page_token="nonsense")), invalid, field),
            (stub.ListTrades(pb.ListTradesRequest(market=BTC_USD, page_token="é")), invalid, field),
            (stub.ListTrades(pb.ListTradesRequest(market=BTC_USD, page_token=other)), invalid, field),
            (stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD, depth=-1)).read(), invalid, field),
            (
                stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD, depth=1, resume_from_sequence=1)).read(),
                invalid,
                field,
            ),
            (
                stub.StreamOrderBook(pb.StreamOrderBookRequest(market="XXX-YYY")).read(),
                unknown,
                no_market,
            ),
            (
                stub.StreamTrades(pb.StreamTradesRequest(market=BTC_USD, after_trade_id=last + 1)).read(),
                grpc.StatusCode.FAILED_PRECONDITION,
                Reason.OUT_OF_SEQUENCE,
            ),
        ]
        for call, code, reason in cases:
            assert await refused(call) == (code, reason)
        streams = [stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD)) for _ in range(2)]
        for stream in streams:
            await stream.read()
        third = stub.StreamTrades(pb.StreamTradesRequest(market=BTC_USD))
        assert await refused(third.read()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED)
        streams[0].cancel()
        async with asyncio.timeout(SECONDS_MAX):
            while True:  # until the server has noticed
                if await stub.StreamTrades(pb.StreamTradesRequest(market=BTC_USD)).read() is not grpc.aio.EOF:
                    break


async def test_one_address_may_not_read_all_streams(tmp_path: Path, flow: Flow) -> None:
    url = f"sqlite:///{tmp_path}/p.sqlite"
    async with FakeBook(flow) as book, running(url, book, limit_ip_subscriptions=1) as publisher:
        first = publisher.stub.StreamTrades(pb.StreamTradesRequest(market=BTC_USD))
        await first.read()
        second = publisher.stub.StreamTrades(pb.StreamTradesRequest(market=BTC_USD))
        assert await refused(second.read()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED)


async def test_another_journal_is_refused_until_a_rebuild_is_asked_for(url: str, flow: Flow) -> None:
    async with FakeBook(flow) as book, running(url, book) as publisher:
        await publisher.until(flow.engine.journal_sequence)
    other = Flow(seed=8, incarnation="other")
    other.some(50)
    async with FakeBook(other) as book:
        with pytest.raises(ExceptionGroup) as caught:
            async with running(url, book):
                pass
        assert caught.group_contains(StartError, match="--rebuild")
        async with running(url, book, publisher_rebuild=True) as publisher:
            shown = await publisher.stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD))
            assert pairs(shown.asks) == printed(publisher, other.levels(1, False)[:20])
        async with running(url, book) as publisher:
            assert publisher.publisher.board.incarnation == "other"


async def test_a_damaged_store_is_refused(tmp_path: Path, flow: Flow) -> None:
    from services.runtime.db import Database, Statement

    url = f"sqlite:///{tmp_path}/p.sqlite"
    async with FakeBook(flow) as book:
        async with running(url, book):
            pass
        async with await Database.open(url, "publisher") as db:
            await db.write([Statement("UPDATE levels SET lots = lots + 1 WHERE market_id = 1")])
        with pytest.raises(StartError, match="damaged"):
            async with running(url, book):
                pass


async def test_two_publishers_on_one_store_do_not_mix(tmp_path: Path, flow: Flow) -> None:
    url = f"sqlite:///{tmp_path}/p.sqlite"
    ahead = Flow(seed=7)
    for _ in range(103):
        ahead.some(3)

    async def overtaken() -> None:
        async with FakeBook(flow) as slow, running(url, slow) as first:
            async with FakeBook(ahead) as fast, running(url, fast):
                pass
            flow.some(3)
            slow.tell()
            await first.until(flow.engine.journal_sequence)

    with pytest.raises(ExceptionGroup) as caught:
        await overtaken()
    assert caught.group_contains(StartError, match="another publisher")


async def test_the_book_may_go_and_come_back(tmp_path: Path, flow: Flow) -> None:
    url = f"sqlite:///{tmp_path}/p.sqlite"
    async with FakeBook(flow) as book:
        address = book.address
        manager = running(url, book, publisher_heartbeat_seconds=0.05)
        publisher = await manager.__aenter__()
    ours = await local(publisher)
    call: Any = publisher.stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD))
    await follow(ours, call, 0)
    quiet = asyncio.ensure_future(read(call))
    await asyncio.wait([quiet], timeout=0.4)
    assert not quiet.done()  # without the book nobody can say that nothing happened
    flow.some(20)
    async with FakeBook(flow, address) as book:
        ours.apply(await asyncio.wait_for(quiet, SECONDS_MAX))
        await publisher.until(flow.engine.journal_sequence)
        await follow(ours, call, head(publisher))
        assert ours.bids == printed(publisher, flow.levels(1, True))
        await manager.__aexit__(None, None, None)


async def test_not_ready_before_it_has_caught_up(tmp_path: Path, flow: Flow) -> None:
    async with FakeBook(flow) as book:
        address = book.address
    publisher, closing = Publisher(settings(f"sqlite:///{tmp_path}/p.sqlite", address)), Closing()
    work = asyncio.create_task(publisher.run(closing))
    async with asyncio.timeout(SECONDS_MAX):
        while not publisher.port:
            await asyncio.sleep(0.01)
        async with rpc.connect(f"127.0.0.1:{publisher.port}") as channel:
            stub = book_service_pb2_grpc.BookServiceStub(channel)
            health = health_pb2_grpc.HealthStub(channel)
            check = health_pb2.HealthCheckRequest(service="clearbook.v1.BookService")
            assert (await health.Check(check)).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await refused(stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD))) == (
                grpc.StatusCode.UNAVAILABLE,
                Reason.UNAVAILABLE,
            )
            async with FakeBook(flow, address):
                await publisher.ready.wait()
                assert (await health.Check(check)).status == health_pb2.HealthCheckResponse.SERVING
                assert publisher.board.journal_sequence == flow.engine.journal_sequence
                stream = stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD))
                await stream.read()
                closing.set()
                assert await refused(stream.read()) == (grpc.StatusCode.UNAVAILABLE, Reason.CLOSING)
        await work


async def test_a_row_that_is_newer_than_the_question_ends_the_catching_up_at_once(tmp_path: Path) -> None:
    flow = Flow(start_ns=time.time_ns() + 10**9)
    async with FakeBook(flow) as book:
        started = time.monotonic()
        async with running(f"sqlite:///{tmp_path}/p.sqlite", book):
            pass
    assert time.monotonic() - started < SECONDS_MAX
