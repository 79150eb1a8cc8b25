"""Tickers, candles, trades from anywhere on, L3, and many streams in one, from a book whose every row is known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import book_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from clearbook.book import LocalBook
from clearbook.orders_book import LocalOrders
from services.book import model as m
from services.book.publisher import wire
from services.book.publisher.batch import Batch
from services.book.publisher.figures_wire import NUMBERS
from services.book.publisher.interval import Interval
from services.errors import Reason
from tests.backends import Backends
from tests.book_flow import Flow
from tests.fake_book import FakeBook
from tests.integration.test_publisher import BTC_USD, SECONDS_MAX, Running, head, local, pairs, refused, running

NS = 10**9
DAY = 86_400
START = 1_700_006_399
"""2023-11-14T23:59:59: a second before a new day."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.backends)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/publisher.sqlite"
    servers: Backends = request.getfixturevalue("backends")
    return asyncio.run(servers.new_database())


class Market:
    """Trades at chosen prices and times, and what was traded."""

    def __init__(self) -> None:
        self.flow = Flow(start_ns=START * NS)
        self.trades: list[tuple[int, int, int, bool]] = []
        """(second, ticks, lots, taker bought)."""

    def trade(self, ticks: int, lots: int, *, buys: bool = True, seconds: int = 0) -> None:
        """A trade, so many seconds after what was before."""
        flow = self.flow
        flow.time_ns += seconds * NS
        flow.place(1, m.SIDE_SELL if buys else m.SIDE_BUY, ticks, lots, 1001)
        flow.place(1, m.SIDE_BUY if buys else m.SIDE_SELL, ticks, lots, 1002)
        self.trades.append((flow.time_ns // NS, ticks, lots, buys))

    def tick(self, seconds: int) -> None:
        """Time passes."""
        self.flow.time_ns += seconds * NS
        self.flow.tick()


@pytest.fixture
def market() -> Market:
    market = Market()
    for number in range(40):
        gap = (0, 1, 59, 3_600, 100, 2 * DAY)[number % 6]
        market.trade(2_900_000 + number * 137 % 5_000, 1_000 + number, buys=number % 3 > 0, seconds=gap)
    return market


def figures(candle: pb.Candle) -> tuple[Any, ...]:
    return (
        candle.start_time.seconds,
        *(candle.open, candle.high, candle.low, candle.close),
        *(candle.volume, candle.quote_volume, candle.trade_count),
        *(candle.taker_buy_volume, candle.taker_buy_quote_volume),
    )


def truth(running: Running, market: Market, interval: Interval, last: int) -> list[tuple[Any, ...]]:
    """The market's candles by the plainest code, oldest first, through the one of second `last`."""
    units = running.publisher.board.topic(BTC_USD).market
    start, close = interval.start_of(market.trades[0][0]), 0
    found = []
    while start <= last:
        end = interval.after(start)
        inside = [trade for trade in market.trades if start <= trade[0] < end]
        prices = [ticks for _, ticks, _, _ in inside] or [close]
        sums = [
            (sum(lots for *_, lots, _ in some), sum(ticks * lots for _, ticks, lots, _ in some))
            for some in (inside, [trade for trade in inside if trade[3]])
        ]
        (lots, quote), (taken, paid) = sums
        found.append(
            (
                start,
                *map(units.format_price, (prices[0], max(prices), min(prices), prices[-1])),
                *(units.format_quantity(lots), units.quote.format(quote * units.quote_per_tick_lot), len(inside)),
                *(units.format_quantity(taken), units.quote.format(paid * units.quote_per_tick_lot)),
            )
        )
        close, start = prices[-1], end
    return found


async def all_candles(running: Running, interval: Interval, *, oldest_first: bool, size: int) -> list[pb.Candle]:
    request = pb.ListCandlesRequest(
        market=BTC_USD, interval=number(interval), oldest_first=oldest_first, page_size=size
    )
    found: list[pb.Candle] = []
    while True:
        page = await running.stub.ListCandles(request)
        assert len(page.candles) <= size
        found += page.candles
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def number(interval: Interval) -> pb.CandleInterval.ValueType:
    return NUMBERS[interval]  # type: ignore[return-value]  # the numbers are the proto's


LENGTHS = [Interval.HOUR_1, Interval.HOUR_12, Interval.DAY_1, Interval.DAY_3, Interval.WEEK_1,
           Interval.MONTH_1]  # fmt: skip


async def test_candles_are_exact_and_filled_through_restarts(url: str, market: Market) -> None:
    async with FakeBook(market.flow) as book:
        for more in range(3):
            async with running(url, book) as publisher:
                last = market.flow.time_ns // NS
                for interval in LENGTHS:
                    expected = truth(publisher, market, interval, last)
                    size = 217 if more == 1 else 1_000
                    upwards = await all_candles(publisher, interval, oldest_first=True, size=size)
                    assert [figures(candle) for candle in upwards] == expected
                    downwards = await all_candles(publisher, interval, oldest_first=False, size=1_000)
                    assert downwards == upwards[::-1]
                    assert [candle.closed for candle in upwards] == [True] * (len(upwards) - 1) + [False]
                market.trade(2_950_000 + more, 300, seconds=more)  # in the candle of now, or the one after
                book.tell()
                await publisher.until(market.flow.engine.journal_sequence)
                market.tick(40_000)
                book.tell()
                await publisher.until(market.flow.engine.journal_sequence)


async def test_short_candles_between_two_moments(url: str, market: Market) -> None:
    begin, end = market.trades[0][0] - 50, market.trades[2][0] + 70
    async with FakeBook(market.flow) as book, running(url, book):
        pass
    async with FakeBook(market.flow) as book, running(url, book) as publisher:
        request = pb.ListCandlesRequest(
            market=BTC_USD,
            interval=pb.CANDLE_INTERVAL_1_SECOND,
            start_time=Timestamp(seconds=begin, nanos=1),
            end_time=Timestamp(seconds=end),
            page_size=1_000,
            oldest_first=True,
        )
        page = await publisher.stub.ListCandles(request)
        expected = truth(publisher, market, Interval.SECOND_1, market.trades[3][0])
        assert [figures(candle) for candle in page.candles] == [each for each in expected if each[0] < end]
        nothing = await publisher.stub.ListCandles(pb.ListCandlesRequest(market="USD-BTC", interval=request.interval))
        assert nothing == pb.ListCandlesResponse()


async def test_a_stream_of_candles_is_the_candles(tmp_path: Path, market: Market) -> None:
    async with FakeBook(market.flow) as book, running(f"sqlite:///{tmp_path}/p.sqlite", book) as publisher:
        start = Timestamp(seconds=market.trades[-3][0])
        request = pb.StreamCandlesRequest(market=BTC_USD, interval=pb.CANDLE_INTERVAL_1_HOUR, start_time=start)
        call: Any = publisher.stub.StreamCandles(request)
        told: dict[int, pb.Candle] = {}

        async def follow(until: Any) -> None:
            async with asyncio.timeout(SECONDS_MAX):
                while not until():
                    for candle in (await call.read()).candles:
                        assert not told or candle.start_time.seconds >= max(told)
                        told[candle.start_time.seconds] = candle

        hour = Interval.HOUR_1.start_of
        for step in range(3):
            now = market.flow.time_ns // NS
            await follow(lambda now=now: told and max(told) == hour(now))
            market.trade(2_940_000 + step, 5, seconds=(10, 3 * 3_600, 1)[step])
            book.tell()
        count = len([None for second, *_ in market.trades if hour(second) == hour(market.trades[-1][0])])
        await follow(lambda: told[max(told)].trade_count == count)
        market.tick(7_200)  # nothing trades, and yet it closes
        book.tell()
        await follow(lambda: max(told) == hour(market.flow.time_ns // NS))
        expected = truth(publisher, market, Interval.HOUR_1, market.flow.time_ns // NS)
        begin = hour(start.seconds)
        assert [figures(told[each]) for each in sorted(told)] == [each for each in expected if each[0] >= begin]
        assert [told[each].closed for each in sorted(told)] == [True] * (len(told) - 1) + [False]


async def test_tickers_are_the_last_day_and_the_top_of_the_book(url: str, market: Market) -> None:
    market.trade(2_900_000, 700, seconds=90_000)
    market.trade(2_905_000, 200, seconds=600)
    flow = market.flow
    flow.place(1, m.SIDE_BUY, 2_800_000, 1_000)
    flow.place(1, m.SIDE_SELL, 2_990_000, 2_000)
    async with FakeBook(flow) as book, running(url, book):
        pass
    async with FakeBook(flow) as book, running(url, book) as publisher:
        stub = publisher.stub
        ticker = (await stub.GetTicker(pb.GetTickerRequest(market=BTC_USD))).ticker
        previous = publisher.publisher.board.topic(BTC_USD).market.format_price(market.trades[-3][1])
        assert (ticker.last_price, ticker.last_quantity, ticker.last_trade_id) == ("29050.00", "0.002", 42)
        assert (ticker.bid_price, ticker.bid_quantity) == ("28000.00", "0.01")
        assert (ticker.ask_price, ticker.ask_quantity) == ("29900.00", "0.02")
        assert (ticker.open_price, ticker.high_price, ticker.low_price) == ("29000.00", "29050.00", "29000.00")
        assert (ticker.volume, ticker.quote_volume, ticker.trade_count) == ("0.009", "261.1", 2)
        assert (ticker.price_change, ticker.price_change_percent) == ("50.00", "0.172")
        assert (ticker.first_trade_id, ticker.previous_close_price) == (41, previous)
        assert ticker.sequence == head(publisher)
        listed = (await stub.ListTickers(pb.ListTickersRequest())).tickers
        assert [each.market for each in listed] == [BTC_USD, "USD-BTC"]
        assert (listed[0], listed[1].last_price, listed[1].volume) == (ticker, "", "0")
        only = await stub.ListTickers(pb.ListTickersRequest(markets=["USD-BTC", "USD-BTC"]))
        assert list(only.tickers) == [listed[1]]
        call: Any = stub.StreamTickers(pb.StreamTickersRequest())
        async with asyncio.timeout(SECONDS_MAX):
            assert [each.market for each in (await call.read()).tickers] == [BTC_USD, "USD-BTC"]
            flow.place(1, m.SIDE_BUY, 2_700_000, 1_000)  # behind the best: no other ticker
            market.tick(DAY + 60 - 600)  # what was traded first is more than a day old, by whole minutes
            book.tell()
            changed = await changed_ticker(call)
            assert (changed.market, changed.trade_count, changed.volume) == (BTC_USD, 1, "0.002")
            assert (changed.open_price, changed.previous_close_price) == ("29050.00", "29000.00")
            market.tick(DAY)
            book.tell()
            changed = await changed_ticker(call)
            assert (changed.trade_count, changed.volume, changed.open_price) == (0, "0", "29050.00")
            assert (changed.price_change, changed.first_trade_id, changed.last_trade_id) == ("0.00", 0, 42)


async def test_tickers_tell_the_reference_price_and_when_it_is_too_old(url: str, market: Market) -> None:
    flow = market.flow
    flow.do(m.SetReferencePrice(1, 2_950_000, "elsewhere", flow.time_ns))
    async with FakeBook(flow) as book, running(url, book):
        pass
    async with FakeBook(flow) as book, running(url, book) as publisher:  # it is remembered
        call: Any = publisher.stub.StreamTickers(pb.StreamTickersRequest(markets=[BTC_USD]))
        async with asyncio.timeout(SECONDS_MAX):
            ticker = await changed_ticker(call)
            assert (ticker.reference_price, ticker.reference_source) == ("29500.00", "elsewhere")
            observed_ns = ticker.reference_time.ToNanoseconds()
            for seconds, price, stale in ((1, "29500.01", False), (31, "29500.01", True), (0, "29500.02", False)):
                if price == ticker.reference_price:
                    market.tick(seconds)
                else:
                    observed_ns = flow.time_ns = flow.time_ns + seconds * NS
                    flow.do(m.SetReferencePrice(1, int(price.replace(".", "")), "elsewhere", observed_ns))
                book.tell()
                ticker = await changed_ticker(call)
                assert (ticker.reference_price, ticker.reference_stale) == (price, stale)
                assert ticker.reference_time.ToNanoseconds() == observed_ns
            flow.change(1, 0, m.MarketRules(reference_age_max_seconds=60))
            book.tell()
            market.tick(59)  # by these rules it still counts
            flow.do(m.SetReferencePrice(2, 7, "elsewhere", flow.time_ns))  # of another market
            flow.do(m.SetReferencePrice(1, 2_950_003, "elsewhere", flow.time_ns))
            book.tell()
            ticker = await changed_ticker(call)
            assert (ticker.reference_price, ticker.reference_stale) == ("29500.03", False)
        listed = (await publisher.stub.ListMarkets(pb.ListMarketsRequest())).markets
        assert [each.rules.reference_age_max_seconds for each in listed] == [60, 30]
        other = (await publisher.stub.GetTicker(pb.GetTickerRequest(market="USD-BTC"))).ticker
        assert other.reference_price and not other.reference_stale


async def changed_ticker(call: Any) -> pb.Ticker:
    """The next one, past all heartbeats."""
    while not (tickers := (await call.read()).tickers):
        pass
    (ticker,) = tickers
    assert isinstance(ticker, pb.Ticker)
    return ticker


async def test_trades_from_anywhere_on_both_ways(url: str, market: Market) -> None:
    async with FakeBook(market.flow) as book:
        async with running(url, book):
            pass
        for step in range(5):
            market.trade(2_930_000 + step, 100, seconds=step % 2)
        async with running(url, book) as publisher:  # the older are in the store, the newer on the tape
            count = len(market.trades)
            middle = market.trades[30][0]
            at = next(number for number, trade in enumerate(market.trades, start=1) if trade[0] >= middle)
            cases: list[tuple[dict[str, Any], list[int]]] = [
                ({}, list(range(count, 0, -1))),
                ({"oldest_first": True}, list(range(1, count + 1))),
                ({"from_trade_id": 7}, list(range(7, 0, -1))),
                ({"from_trade_id": 7, "oldest_first": True}, list(range(7, count + 1))),
                ({"from_trade_id": 2**63, "oldest_first": True}, []),
                ({"from_trade_id": 2**63}, list(range(count, 0, -1))),
                ({"from_time": Timestamp(seconds=middle), "oldest_first": True}, list(range(at, count + 1))),
                ({"from_time": Timestamp(seconds=middle)}, list(range(at - 1, 0, -1))),
                ({"from_time": Timestamp(seconds=0)}, []),
                ({"from_time": Timestamp(seconds=0), "oldest_first": True}, list(range(1, count + 1))),
                ({"from_time": Timestamp(seconds=2**32), "oldest_first": True}, []),
                ({"from_time": Timestamp(seconds=2**32)}, list(range(count, 0, -1))),
            ]
            for fields, expected in cases:
                assert await trade_ids(publisher, fields) == expected, fields


async def trade_ids(running: Running, fields: dict[str, Any]) -> list[int]:
    request = pb.ListTradesRequest(market=BTC_USD, page_size=4, **fields)
    found: list[int] = []
    while True:
        page = await running.stub.ListTrades(request)
        found += [trade.trade_id for trade in page.trades]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def test_orders_are_told_one_by_one_and_remembered(url: str) -> None:
    flow = Flow(seed=5, special=True)
    for _ in range(60):
        flow.some(3)
    async with FakeBook(flow) as book:
        async with running(url, book):
            pass
        for _ in range(20):
            flow.some(3)
        async with running(url, book) as publisher:
            listed = await publisher.stub.ListMarkets(pb.ListMarketsRequest())
            ours = LocalOrders(next(each for each in listed.markets if each.market == BTC_USD))
            request = pb.StreamOrderBookRequest(market=BTC_USD, detail=pb.BOOK_DETAIL_L3)
            call: Any = publisher.stub.StreamOrderBook(request)
            ours.apply(await call.read())
            for lots in (1, 2):
                flow.some(20)
                flow.place(1, m.SIDE_BUY, 2_000_000 + lots, lots)  # so that something has changed
            book.tell()
            await publisher.until(flow.engine.journal_sequence)
            async with asyncio.timeout(SECONDS_MAX):
                while ours.sequence < head(publisher):
                    ours.apply(await call.read())
            for buys, told in ((True, ours.bids), (False, ours.asks)):
                side = flow.engine.books[1].bids if buys else flow.engine.books[1].asks
                engine = [str(order.order_id) for level in side.levels_best_first() for order in level.orders()]
                assert [order.order_id for order in told] == engine
            shown = await publisher.stub.GetOrderBook(
                pb.GetOrderBookRequest(market=BTC_USD, depth=5_000, detail=pb.BOOK_DETAIL_L3)
            )
            assert (list(shown.bid_orders), list(shown.ask_orders)) == (ours.bids, ours.asks)
            assert (shown.checksum, len(shown.bids)) == (ours.checksum(), 0)


async def test_levels_by_group(tmp_path: Path) -> None:
    flow = Flow()
    for price in (1_999, 2_000, 2_049, 3_050, 3_051, 3_100):
        flow.place(1, m.SIDE_BUY if price < 3_000 else m.SIDE_SELL, price * 100, 100_000)
    async with FakeBook(flow) as book, running(f"sqlite:///{tmp_path}/p.sqlite", book) as publisher:
        request = pb.GetOrderBookRequest(market=BTC_USD, price_group="50")
        shown = await publisher.stub.GetOrderBook(request)
        assert pairs(shown.bids) == [("2000.00", "2"), ("1950.00", "1")]
        assert pairs(shown.asks) == [("3050.00", "1"), ("3100.00", "2")]
        request.detail = pb.BOOK_DETAIL_L1
        best = await publisher.stub.GetOrderBook(request)
        assert (pairs(best.bids), pairs(best.asks)) == ([("2000.00", "2")], [("3050.00", "1")])


async def test_what_is_refused(tmp_path: Path, market: Market) -> None:
    async with FakeBook(market.flow) as book, running(f"sqlite:///{tmp_path}/p.sqlite", book) as publisher:
        stub, hour = publisher.stub, pb.CANDLE_INTERVAL_1_HOUR
        token = (
            await stub.ListCandles(pb.ListCandlesRequest(market=BTC_USD, interval=hour, page_size=1))
        ).next_page_token
        day = pb.CANDLE_INTERVAL_1_DAY
        third: Any = 99
        books, asked = stub.StreamOrderBook, pb.StreamOrderBookRequest
        fields: list[Any] = [
            stub.ListCandles(pb.ListCandlesRequest(market=BTC_USD)),
            stub.ListCandles(pb.ListCandlesRequest(market=BTC_USD, interval=hour, page_size=1_001)),
            stub.ListCandles(pb.ListCandlesRequest(market=BTC_USD, interval=day, page_token=token)),
            stub.ListCandles(pb.ListCandlesRequest(market=BTC_USD, interval=hour, start_time=Timestamp(seconds=-1))),
            stub.ListTickers(pb.ListTickersRequest(markets=["X"] * 101)),
            stub.ListTrades(pb.ListTradesRequest(market=BTC_USD, from_time=Timestamp(seconds=2**40))),
            stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD, detail=third)),
            stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD, detail=pb.BOOK_DETAIL_L3, price_group="1")),
            stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD, price_group="x")),
            stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD, page_token="x")),
            stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD, detail=pb.BOOK_DETAIL_L3, page_token="x")),
            books(asked(market=BTC_USD, detail=pb.BOOK_DETAIL_L3, depth=5)).read(),
            books(asked(market=BTC_USD, conflation=third)).read(),
            books(asked(market=BTC_USD, slow_reader=third)).read(),
            books(asked(market=BTC_USD, resume_from_sequence=1, conflation=pb.CONFLATION_1_SECOND)).read(),
            books(asked(market=BTC_USD, resume_from_sequence=1, detail=pb.BOOK_DETAIL_L3)).read(),
            stub.StreamCandles(pb.StreamCandlesRequest(market=BTC_USD)).read(),
        ]
        for call in fields:
            assert await refused(call) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_FIELD)
        off_grid = stub.GetOrderBook(pb.GetOrderBookRequest(market=BTC_USD, price_group="0.001"))
        assert await refused(off_grid) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_PRICE)
        unknown: list[Any] = [
            stub.GetTicker(pb.GetTickerRequest(market="X-Y")),
            stub.ListTickers(pb.ListTickersRequest(markets=[BTC_USD, "X-Y"])),
            stub.StreamTickers(pb.StreamTickersRequest(markets=["X-Y"])).read(),
            stub.ListCandles(pb.ListCandlesRequest(market="X-Y", interval=hour)),
        ]
        for call in unknown:
            assert await refused(call) == (grpc.StatusCode.NOT_FOUND, Reason.MARKET_NOT_FOUND)


class Talk:
    """A StreamMarketData: what was told to each subscription."""

    def __init__(self, running: Running) -> None:
        self.call: Any = running.stub.StreamMarketData()

    async def ask(self, subscribe: Sequence[pb.MarketDataSubscription] = (), **fields: Any) -> None:
        await self.call.write(pb.StreamMarketDataRequest(subscribe=subscribe, **fields))

    async def next(self) -> pb.StreamMarketDataResponse:
        async with asyncio.timeout(SECONDS_MAX):
            message: pb.StreamMarketDataResponse = await self.call.read()
        return message

    async def acknowledged(self) -> tuple[int, int, str, str]:
        """The next acknowledgement, past all else."""
        while not (message := await self.next()).HasField("acknowledgement"):
            pass
        told = message.acknowledgement
        return message.id, told.state, told.reason, told.field


def wants(number: int, **channel: Any) -> pb.MarketDataSubscription:
    return pb.MarketDataSubscription(id=number, **channel)


BOOK = pb.StreamOrderBookRequest(market=BTC_USD)
ACCEPTED, REFUSED, ENDED = pb.SUBSCRIPTION_STATE_ACCEPTED, pb.SUBSCRIPTION_STATE_REFUSED, pb.SUBSCRIPTION_STATE_ENDED
OUTCOMES: list[tuple[pb.MarketDataSubscription, int, str, str]] = [
    (wants(1, order_book=BOOK), ACCEPTED, "", ""),
    (wants(1, order_book=BOOK), REFUSED, "INVALID_FIELD", "id"),
    (wants(0, order_book=BOOK), REFUSED, "INVALID_FIELD", "id"),
    (wants(2), REFUSED, "INVALID_FIELD", "channel"),
    (wants(2, order_book=pb.StreamOrderBookRequest(market="X-Y")), REFUSED, "MARKET_NOT_FOUND", "market"),
    (wants(2, order_book=pb.StreamOrderBookRequest(market=BTC_USD, depth=-1)), REFUSED, "INVALID_FIELD", "depth"),
    (wants(2, order_book=pb.StreamOrderBookRequest(market=BTC_USD, depth=1)), ACCEPTED, "", ""),
    (wants(3, trades=pb.StreamTradesRequest(market=BTC_USD, after_trade_id=10**6)), REFUSED, "OUT_OF_SEQUENCE",
     "after_trade_id"),
    (wants(3, trades=pb.StreamTradesRequest(market=BTC_USD, after_trade_id=0)), ACCEPTED, "", ""),
    (wants(4, tickers=pb.StreamTickersRequest(markets=["X-Y"])), REFUSED, "MARKET_NOT_FOUND", "markets"),
    (wants(4, tickers=pb.StreamTickersRequest()), ACCEPTED, "", ""),
    (wants(5, candles=pb.StreamCandlesRequest(market=BTC_USD)), REFUSED, "INVALID_FIELD", "interval"),
    (wants(5, candles=pb.StreamCandlesRequest(market=BTC_USD, interval=pb.CANDLE_INTERVAL_1_DAY)), ACCEPTED, "", ""),
]  # fmt: skip


async def test_each_subscription_is_acknowledged_and_then_served(tmp_path: Path, market: Market) -> None:
    async with FakeBook(market.flow) as book, running(f"sqlite:///{tmp_path}/p.sqlite", book) as publisher:
        talk = Talk(publisher)
        await talk.ask([item for item, *_ in OUTCOMES])
        first = [await talk.next() for _ in OUTCOMES]  # all answers come before all else
        told = [(x.acknowledgement.state, x.acknowledgement.reason, x.acknowledgement.field) for x in first]
        assert told == [(state, reason, field) for _, state, reason, field in OUTCOMES]
        assert [x.id for x in first] == [item.id for item, *_ in OUTCOMES]
        ours, trades, kinds = await local(publisher), list[int](), dict[int, str]()
        while len(kinds) < 5 or len(trades) < len(market.trades):
            message = await talk.next()
            kinds[message.id] = message.WhichOneof("kind") or ""
            trades += [trade.trade_id for trade in message.trades.trades]
            if message.id == 1:
                ours.apply(message.order_book)
        assert kinds == {1: "order_book", 2: "order_book", 3: "trades", 4: "tickers", 5: "candles"}
        assert trades == list(range(1, len(market.trades) + 1))
        market.trade(2_999_999, 5)
        market.flow.place(1, m.SIDE_BUY, 2_500_000, 100)
        book.tell()
        await publisher.until(market.flow.engine.journal_sequence)
        while ours.sequence < head(publisher):
            if (message := await talk.next()).id == 1:
                ours.apply(message.order_book)
        assert ours.bids[0] == ("25000.00", "0.001")
        await talk.ask(unsubscribe=[1, 1, 77])
        answers = [await talk.acknowledged() for _ in range(3)]
        assert answers == [
            (1, ENDED, "", ""),
            (1, REFUSED, "INVALID_FIELD", "unsubscribe"),
            (77, REFUSED, "INVALID_FIELD", "unsubscribe"),
        ]
        await talk.ask([wants(1, order_book=BOOK)])  # the id is free again
        assert await talk.acknowledged() == (1, ACCEPTED, "", "")
        await talk.ask(unsubscribe=[1, 2, 3, 4, 5])
        for _ in range(5):
            await talk.acknowledged()
        await talk.call.done_writing()
        async with asyncio.timeout(SECONDS_MAX):
            assert await talk.call.read() is grpc.aio.EOF  # nothing is subscribed, and nothing more can be asked


async def test_heartbeats_are_as_often_as_the_client_wants(tmp_path: Path, market: Market) -> None:
    async with FakeBook(market.flow) as book, running(f"sqlite:///{tmp_path}/p.sqlite", book) as publisher:
        talk = Talk(publisher)
        await talk.ask(heartbeat_milliseconds=100)
        for _ in range(3):
            beat = await talk.next()
            assert beat == pb.StreamMarketDataResponse(heartbeat=beat.heartbeat)
            assert beat.heartbeat.event_time.ToNanoseconds() == market.flow.time_ns
        publisher.publisher.board.live = False  # cut off from the book, nobody can say that nothing happened
        quiet = asyncio.ensure_future(talk.next())
        await asyncio.wait([quiet], timeout=0.5)
        assert not quiet.done()
        publisher.publisher.board.live = True
        assert (await quiet).HasField("heartbeat")
        await talk.ask(heartbeat_milliseconds=99)
        assert await refused(_read_on(talk)) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_FIELD)


async def _read_on(talk: Talk) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while await talk.call.read() is not grpc.aio.EOF:
            pass


async def test_no_more_subscriptions_than_are_allowed(tmp_path: Path, market: Market) -> None:
    async with FakeBook(market.flow) as book, running(f"sqlite:///{tmp_path}/p.sqlite", book) as publisher:
        talk, item = Talk(publisher), pb.StreamTradesRequest(market=BTC_USD)
        await talk.ask([wants(number, trades=item) for number in range(1, 257)])
        await talk.ask([wants(257, trades=item)])
        answers = [await talk.acknowledged() for _ in range(257)]
        assert {state for _, state, *_ in answers[:256]} == {ACCEPTED}
        assert answers[256] == (257, REFUSED, "OVERLOADED", "")
        await talk.ask([wants(number, trades=item) for number in range(1, 258)])
        assert await refused(_read_on(talk)) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_FIELD)


@pytest.mark.parametrize("patient", [True, False])
async def test_who_is_too_slow_gets_what_it_chose(tmp_path: Path, market: Market, patient: bool) -> None:
    """A reader of one subscription, whose publisher tells more than it may fall behind before it reads."""
    policy = pb.SLOW_READER_CONFLATE if patient else pb.SLOW_READER_DISCONNECT
    url = f"sqlite:///{tmp_path}/p.sqlite"
    async with FakeBook(market.flow) as book, running(url, book, publisher_lag_changes_max=5) as publisher:
        wanted = pb.StreamOrderBookRequest(market=BTC_USD, slow_reader=policy)
        talk, ours = Talk(publisher), await local(publisher)
        await talk.ask([wants(1, order_book=wanted)])
        await talk.acknowledged()
        ours.apply((await talk.next()).order_book)
        topic, flow = publisher.publisher.board.topic(BTC_USD), market.flow
        rows = len(flow.rows)
        for price in range(20):
            flow.place(1, m.SIDE_BUY, 2_000_000 + price, 10)
        for row in flow.rows[rows:]:  # all at once: no reader gets a turn between two rows
            publisher.publisher.board.apply(wire.row(row), Batch())
        if not patient:
            assert await refused(_read_on(talk)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.LAGGED)
            return
        message = await talk.next()
        assert message.order_book.snapshot.lagged
        ours.apply(message.order_book)
        assert ours.sequence == topic.fold.sequence


async def test_conflated_streams_end_equal_to_the_book(tmp_path: Path) -> None:
    flow = Flow(seed=11)
    for _ in range(50):
        flow.some(3)
    async with FakeBook(flow) as book, running(f"sqlite:///{tmp_path}/p.sqlite", book) as publisher:
        paces = (pb.CONFLATION_100_MILLISECONDS, pb.CONFLATION_1_SECOND)
        books = {}
        for pace in paces:
            ours: LocalBook = await local(publisher)
            call: Any = publisher.stub.StreamOrderBook(pb.StreamOrderBookRequest(market=BTC_USD, conflation=pace))
            ours.apply(await call.read())
            books[pace] = (ours, call)
        for _ in range(100):
            flow.some(3)
            book.tell()
            await asyncio.sleep(0)
        flow.place(1, m.SIDE_BUY, 2_000_000, 10)
        book.tell()
        await publisher.until(flow.engine.journal_sequence)
        for ours, call in books.values():
            told = 0
            async with asyncio.timeout(SECONDS_MAX):
                while ours.sequence < head(publisher):
                    ours.apply(await call.read())  # checks the chain and the checksum
                    told += 1
            assert told < 50
            market = publisher.publisher.board.topic(BTC_USD).market
            truth = [(market.format_price(p), market.format_quantity(q)) for p, q in flow.levels(1, True)]
            assert ours.bids == truth
