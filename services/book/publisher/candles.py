"""What one market has traded, as candles: the newest of each stored length, that of now of each length, the last day.

The store has all the others. What it does not have yet is here: no more rows than these are ever unstored. Rows of one
second are put together first: most are asked for by nobody before the next comes. Pure.
"""

from collections import deque
from collections.abc import Sequence

from services.book.publisher.candle import Candle, empty, of_trades
from services.book.publisher.events import Trade
from services.book.publisher.interval import BASES, NS_PER_SECOND, Interval
from services.book.publisher.rolling import Rolling

CANDLES_MAX = 10_000
"""Of each stored length: more than there are rows that are not stored yet."""


class Candles:
    """One market's candles with trades in them; those without are made up when they are asked for.

    Attributes:
        first_second: of the market's first trade, since 1970; None: there was none yet.
    """

    def __init__(self) -> None:
        """None yet."""
        self.first_second: int | None = None
        self._kept: dict[Interval, deque[Candle]] = {base: deque(maxlen=CANDLES_MAX) for base in BASES}
        self._now: dict[Interval, Candle] = {}
        self._day = Rolling()
        self._waiting: Candle | None = None

    def restore(self, first_second: int, now: dict[Interval, Candle], minutes: list[Candle]) -> None:
        """Takes over what was stored.

        Args:
            first_second: of the market's first trade.
            now: the last candle of each length.
            minutes: of a little more than a day, and the last one before them.
        """
        self.first_second, self._now = first_second, now
        for base, kept in self._kept.items():
            kept.append(now[base])
        for minute in minutes:
            self._day.add(minute)

    def take(self, traded: Sequence[Sequence[Trade]], time_ns: int) -> int:
        """Takes what a row traded, which is at least one trade; returns its second, since 1970."""
        second = time_ns // NS_PER_SECOND
        row, waiting = of_trades(second, traded), self._waiting
        if waiting is not None and waiting.start == second:
            waiting.add(row)
        else:
            self._settle()
            self._waiting = row
        return second

    def now(self, interval: Interval, second: int) -> Candle | None:
        """A copy of the candle that this second, which is not before the last trade's, falls into.

        None: nothing was ever traded.
        """
        self._settle()
        last, start = self._now.get(interval), interval.start_of(second)
        if last is None:
            return None
        return last.from_(start) if last.start == start else empty(start, last.close_ticks)

    def day(self, second: int) -> Rolling:
        """The last 24 hours as of this second, which is not before the last trade's."""
        self._settle()
        self._day.advance(second)
        return self._day

    def tail(self, base: Interval) -> int | None:
        """When the oldest candle of a stored length begins that is here; None: there is none."""
        self._settle()
        kept = self._kept[base]
        return kept[0].start if kept else None

    def between(self, base: Interval, start: int, end: int) -> list[Candle]:
        """Copies of those that are here and begin from `start` on, before `end`, in order."""
        return [candle.from_(candle.start) for candle in self.since(base, start) if candle.start < end]

    def since(self, base: Interval, start: int) -> list[Candle]:
        """Those themselves that are here and begin from `start` on, in order."""
        self._settle()
        found: list[Candle] = []
        for candle in reversed(self._kept[base]):
            if candle.start < start:
                break
            found.append(candle)
        found.reverse()
        return found

    def close_before(self, base: Interval, start: int) -> int:
        """The close of the last one that is here and begins before `start`, in ticks; 0: there is none."""
        self._settle()
        return next((candle.close_ticks for candle in reversed(self._kept[base]) if candle.start < start), 0)

    def _settle(self) -> None:
        row, self._waiting = self._waiting, None
        if row is None:
            return
        if self.first_second is None:
            self.first_second = row.start
        self._day.advance(row.start)
        self._day.add(row)
        for interval in Interval:
            last, start = self._now.get(interval), interval.start_of(row.start)
            if last is not None and last.start == start:
                last.add(row)
                continue
            assert last is None or last.start < start, "trades of the past"
            now = self._now[interval] = row.from_(start)
            if interval in self._kept:
                self._kept[interval].append(now)
