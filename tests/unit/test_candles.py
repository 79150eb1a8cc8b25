"""Where candles begin, what they sum up to, and what fills their gaps."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.book.publisher.candle import Candle, empty, filled, of_trades, summed
from services.book.publisher.candle_pages import Page, Stretch, page_of, within
from services.book.publisher.candles import Candles
from services.book.publisher.events import Trade
from services.book.publisher.figures_wire import percent
from services.book.publisher.interval import BASES, NS_PER_SECOND, Interval
from services.book.publisher.rolling import Rolling

DAY = 86_400


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(f"{text}+00:00").timestamp())


BOUNDARIES = [
    # length, a moment within, the candle's begin, the next one's
    ("1s", "2024-02-29T23:59:59", "2024-02-29T23:59:59", "2024-03-01T00:00:00"),
    ("1m", "2024-02-29T23:59:59", "2024-02-29T23:59:00", "2024-03-01T00:00:00"),
    ("3m", "2024-02-29T23:58:59", "2024-02-29T23:57:00", "2024-03-01T00:00:00"),
    ("5m", "2024-02-29T23:54:59", "2024-02-29T23:50:00", "2024-02-29T23:55:00"),
    ("15m", "2024-02-29T23:45:00", "2024-02-29T23:45:00", "2024-03-01T00:00:00"),
    ("30m", "2024-02-29T23:29:59", "2024-02-29T23:00:00", "2024-02-29T23:30:00"),
    ("1h", "2024-02-29T23:59:59", "2024-02-29T23:00:00", "2024-03-01T00:00:00"),
    ("2h", "2024-02-29T23:59:59", "2024-02-29T22:00:00", "2024-03-01T00:00:00"),
    ("4h", "2024-02-29T19:59:59", "2024-02-29T16:00:00", "2024-02-29T20:00:00"),
    ("6h", "2024-02-29T17:59:59", "2024-02-29T12:00:00", "2024-02-29T18:00:00"),
    ("8h", "2024-02-29T15:59:59", "2024-02-29T08:00:00", "2024-02-29T16:00:00"),
    ("12h", "2024-02-29T11:59:59", "2024-02-29T00:00:00", "2024-02-29T12:00:00"),
    ("1d", "2024-02-29T23:59:59", "2024-02-29T00:00:00", "2024-03-01T00:00:00"),
    ("3d", "2017-07-16T10:00:00", "2017-07-14T00:00:00", "2017-07-17T00:00:00"),  # as Binance's 3d candles of BTCUSDT
    ("1w", "2024-03-03T23:59:59", "2024-02-26T00:00:00", "2024-03-04T00:00:00"),  # a Sunday; from Monday on
    ("1w", "2024-03-04T00:00:00", "2024-03-04T00:00:00", "2024-03-11T00:00:00"),
    ("1w", "1970-01-01T00:00:00", "1969-12-29T00:00:00", "1970-01-05T00:00:00"),
    ("1M", "2024-02-29T23:59:59", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
    ("1M", "2023-12-31T23:59:59", "2023-12-01T00:00:00", "2024-01-01T00:00:00"),
    ("1M", "2100-02-28T23:59:59", "2100-02-01T00:00:00", "2100-03-01T00:00:00"),  # no leap year
]


@pytest.mark.parametrize(("length", "moment", "begin", "following"), BOUNDARIES)
def test_candles_begin_where_binances_do(length: str, moment: str, begin: str, following: str) -> None:
    interval = Interval(length)
    assert interval.start_of(at(moment)) == at(begin)
    assert interval.start_of(at(begin)) == at(begin)
    assert interval.start_of(at(following)) == interval.after(at(begin)) == at(following)
    assert interval.start_of(at(following) - 1) == at(begin)
    assert interval.after(at(following), -1) == at(begin)
    assert interval.after(at(begin), 25) == _stepped(interval, at(begin), 25)


def _stepped(interval: Interval, start: int, count: int) -> int:
    for _ in range(count):
        start = interval.after(start)
    return start


@given(second=st.integers(0, 2**32))
def test_each_length_is_a_whole_number_of_its_base(second: int) -> None:
    for interval in Interval:
        start = interval.start_of(second)
        assert start <= second < interval.after(start)
        for edge in (start, interval.after(start)):
            assert interval.base.start_of(edge) == edge


class Happened(NamedTuple):
    """A trade, naively."""

    second: int
    ticks: int
    lots: int
    taker_buys: bool


def naive(start: int, end: int, happened: Iterable[Happened]) -> tuple[int, ...] | None:
    """(open, high, low, close, lots, tick x lots, trades, taker's lots, taker's tick x lots) of a stretch of time."""
    inside = [each for each in happened if start <= each.second < end]
    if not inside:
        return None
    prices = [each.ticks for each in inside]
    bought = [each for each in inside if each.taker_buys]
    return (
        *(prices[0], max(prices), min(prices), prices[-1]),
        sum(each.lots for each in inside),
        sum(each.lots * each.ticks for each in inside),
        len(inside),
        sum(each.lots for each in bought),
        sum(each.lots * each.ticks for each in bought),
    )


def shape(candle: Candle) -> tuple[int, ...]:
    return (
        *(candle.open_ticks, candle.high_ticks, candle.low_ticks, candle.close_ticks, candle.lots, candle.tick_lots),
        *(candle.trades, candle.taker_lots, candle.taker_tick_lots),
    )


def history(seed: int) -> list[list[Happened]]:
    """Rows of trades with gaps of all sizes between them: each row has one time."""
    pick, second, rows = random.Random(seed), at("2024-02-28T22:59:58"), list[list[Happened]]()
    for _ in range(pick.randint(1, 60)):
        second += pick.choice([0, 0, 0, 1, 1, 7, 61, 600, 5_000, DAY // 3, DAY, 9 * DAY])
        rows.append(
            [
                Happened(second, pick.randint(90, 110), pick.choice([1, 10**6, 2**62]), pick.random() < 0.5)
                for _ in range(pick.randint(1, 5))
            ]
        )
    return rows


def traded(rows: list[list[Happened]]) -> list[tuple[int, list[tuple[Trade, ...]]]]:
    """The same as the publisher has it: rows of commands of trades."""
    last, made = 0, list[tuple[int, list[tuple[Trade, ...]]]]()
    for sequence, row in enumerate(rows, start=1):
        commands = list[tuple[Trade, ...]]()
        for each in row:
            last += 1
            time_ns = each.second * NS_PER_SECOND + 5
            commands.append((Trade(last, sequence, each.ticks, each.lots, each.taker_buys, last, time_ns),))
        made.append((row[0].second * NS_PER_SECOND + 5, commands))
    return made


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_candles_of_each_length_are_the_naive_sums(seed: int) -> None:
    rows, candles = history(seed), Candles()
    every = [each for row in rows for each in row]
    for number, (time_ns, commands) in enumerate(traded(rows)):
        candles.take(commands, time_ns)
        second, seen = time_ns // NS_PER_SECOND, [each for row in rows[: number + 1] for each in row]
        if number % 9 == 0:
            for interval in Interval:
                now, start = candles.now(interval, second), interval.start_of(second)
                assert now is not None
                assert shape(now) == naive(start, interval.after(start), seen)
    first, last = every[0].second, every[-1].second
    for interval in Interval:
        start, end = interval.start_of(first), interval.after(interval.start_of(last))
        found = list(summed(interval, candles.between(interval.base, start, end)))
        whole = {candle.start: shape(candle) for candle in found}
        truth = {at: naive(at, interval.after(at), every) for at in map(interval.start_of, {e.second for e in every})}
        assert whole == truth
        assert sum(candle.trades for candle in found) == len(every)
        assert found[-1].last_trade_id == len(every)
        ids = [(candle.first_trade_id, candle.last_trade_id) for candle in found]
        assert [begin for begin, _ in ids[1:]] == [end + 1 for _, end in ids[:-1]]


@given(seed=st.integers(0, 2**32), later=st.lists(st.integers(0, DAY), max_size=5))
@settings(max_examples=20, deadline=None)
def test_the_rolling_day_is_exactly_the_last_24_hours_by_whole_minutes(seed: int, later: list[int]) -> None:
    rows, candles = history(seed), Candles()
    moments = [(time_ns // NS_PER_SECOND, number) for number, (time_ns, _) in enumerate(traded(rows))]
    second = moments[-1][0]
    for number, (time_ns, commands) in enumerate(traded(rows)):
        candles.take(commands, time_ns)
        expect_day(candles.day(moments[number][0]), rows[: number + 1], moments[number][0])
    for seconds in later:
        second += seconds
        expect_day(candles.day(second), rows, second)


def expect_day(day: Rolling, rows: list[list[Happened]], second: int) -> None:
    begin = (second - DAY) // 60 * 60
    every = [each for row in rows for each in row]
    before = [each.ticks for each in every if each.second < begin]
    assert (day.start, day.previous_close_ticks) == (begin, before[-1] if before else 0)
    truth = naive(begin, second + 1, every)
    if truth is None:
        assert (day.lots, day.tick_lots, day.trades, day.prices) == (0, 0, 0, (before[-1],) * 3)
    else:
        opened, high, low, _, lots, tick_lots, trades, *_ = truth
        assert (day.prices, day.lots, day.tick_lots, day.trades) == ((opened, high, low), lots, tick_lots, trades)


def test_a_gap_has_the_last_close_and_no_volume() -> None:
    minute, begin = Interval.MINUTE_1, at("2024-01-01T00:00:00")
    trade = Trade(1, 1, 50, 3, True, 1, begin)
    candle = of_trades(begin + 60, [(trade,)])
    told = filled(minute, begin, begin + 240, [candle], close_ticks=7)
    assert [(each.start - begin, each.open_ticks, each.close_ticks, each.lots) for each in told] == [
        (0, 7, 7, 0), (60, 50, 50, 3), (120, 50, 50, 0), (180, 50, 50, 0),
    ]  # fmt: skip
    assert filled(minute, begin, begin + 120, [candle], close_ticks=0) == [candle]  # nothing before the first trade
    assert filled(minute, begin, begin + 60, [], close_ticks=9) == [empty(begin, 9)]
    assert filled(minute, begin, begin + 60, [], close_ticks=0) == []


PAGES = [
    # begin, oldest first, the page (in minutes), where the next one begins
    (None, True, (0, 3), 3),
    (3, True, (3, 6), 6),
    (6, True, (6, 7), None),
    (99, True, (7, 7), None),
    (None, False, (4, 7), 4),
    (4, False, (1, 4), 1),
    (1, False, (0, 1), None),
    (0, False, (0, 0), None),
]


@pytest.mark.parametrize(("begin", "oldest_first", "page", "following"), PAGES)
def test_pages_of_candles(begin: int | None, oldest_first: bool, page: tuple[int, int], following: int | None) -> None:
    asked = None if begin is None else begin * 60
    found = page_of(Interval.MINUTE_1, Stretch(0, 7 * 60), asked, 3, oldest_first=oldest_first)
    assert found == Page(Stretch(page[0] * 60, page[1] * 60), None if following is None else following * 60)


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "stretch"),
    [
        (None, None, (60, 600)),
        (0, 10**15, (60, 600)),
        (120 * 10**9, 240 * 10**9, (120, 240)),
        (120 * 10**9 + 1, 240 * 10**9 + 1, (180, 300)),  # none that begins before the one, none from the other on
        (240 * 10**9, 120 * 10**9, (240, 240)),
        (10**15, None, (1_000_020, 1_000_020)),
    ],
)
def test_candles_between_two_moments(start_ns: int | None, end_ns: int | None, stretch: tuple[int, int]) -> None:
    assert within(Interval.MINUTE_1, Stretch(60, 600), start_ns, end_ns) == stretch


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(1, 3, "33.333"), (-1, 3, "-33.333"), (2, 3, "66.667"), (0, 5, "0.000"), (1, 200_000, "0.000"),
     (3, 200_000, "0.002"), (-1, 1, "-100.000"), (10**20, 1, "1" + "0" * 22 + ".000")],
)  # fmt: skip
def test_percent_is_half_to_even(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


def test_only_so_many_candles_are_kept() -> None:
    candles, count = Candles(), 10_050
    for number in range(count):
        candles.take([(Trade(number + 1, number + 1, 5, 1, True, 1, 0),)], (1_000 + number) * NS_PER_SECOND)
    for base in BASES:
        tail = candles.tail(base)
        assert tail is not None
        if base is Interval.SECOND_1:
            assert tail == 1_000 + 50
    assert candles.first_second == 1_000
    assert candles.close_before(Interval.SECOND_1, 1_051) == 5
    assert candles.close_before(Interval.SECOND_1, 1_050) == 0
