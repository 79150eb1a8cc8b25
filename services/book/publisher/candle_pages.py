"""Candles of any stretch of time, out of the store and out of what it does not have yet."""

from typing import NamedTuple

from services.book.publisher.candle import Candle, filled, summed
from services.book.publisher.interval import NS_PER_SECOND, Interval
from services.book.publisher.store import Store
from services.book.publisher.topic import Topic


class Stretch(NamedTuple):
    """A whole number of candles: from the first one's start to the last one's end, in seconds since 1970."""

    start: int
    end: int


async def candles(topic: Topic, store: Store, interval: Interval, stretch: Stretch) -> list[Candle]:
    """One candle for each interval of a stretch that begins with the market's first candle or later."""
    base, market_id = interval.base, topic.market.market_id
    tail = topic.candles.tail(base)
    here = topic.candles.between(base, stretch.start, stretch.end)  # before the store is asked: the oldest may go
    stored_end = stretch.end if tail is None else min(stretch.end, tail)
    stored = await store.candles(market_id, base, stretch.start, stored_end) if stored_end > stretch.start else []
    traded = list(summed(interval, [*stored, *here]))
    close_ticks = 0
    if not traded or traded[0].start > stretch.start:
        close_ticks = topic.candles.close_before(base, stretch.start)
        close_ticks = close_ticks or await store.close_before(market_id, base, stretch.start)
    return filled(interval, stretch.start, stretch.end, traded, close_ticks)


def known(topic: Topic, interval: Interval, time_ns: int) -> Stretch | None:
    """From the market's first candle to that of a moment; None: there was no trade yet."""
    topic.candles.tail(Interval.SECOND_1)
    first = topic.candles.first_second
    if first is None:
        return None
    now = max(time_ns // NS_PER_SECOND, topic.fold.time_ns // NS_PER_SECOND)
    return Stretch(interval.start_of(first), interval.after(interval.start_of(now)))


def within(interval: Interval, stretch: Stretch, start_ns: int | None, end_ns: int | None) -> Stretch:
    """Those candles of a stretch that begin from one moment on and before another; perhaps none."""
    start = stretch.start if start_ns is None else max(_next_start(interval, start_ns), stretch.start)
    end = stretch.end if end_ns is None else min(_next_start(interval, end_ns), stretch.end)
    return Stretch(start, max(start, end))


def _next_start(interval: Interval, time_ns: int) -> int:
    """When the first candle begins that does not begin before a moment."""
    second = -(-time_ns // NS_PER_SECOND)
    start = interval.start_of(second)
    return start if start == second else interval.after(start)


class Page(NamedTuple):
    """A part of a stretch, and where the next one begins; None: there is none."""

    page: Stretch
    next_begin: int | None


def page_of(interval: Interval, stretch: Stretch, begin: int | None, size: int, *, oldest_first: bool) -> Page:
    """At most `size` candles of a stretch, from its begin or end, or from where the page before left off."""
    if oldest_first:
        start = stretch.start if begin is None else min(max(interval.start_of(begin), stretch.start), stretch.end)
        end = min(interval.after(start, size), stretch.end)
        return Page(Stretch(start, end), end if end < stretch.end else None)
    end = stretch.end if begin is None else max(min(interval.start_of(begin), stretch.end), stretch.start)
    start = max(interval.after(end, -size), stretch.start)
    return Page(Stretch(start, end), start if start > stretch.start else None)
