"""What was traded in the last 24 hours, by whole minutes, kept by adding and taking away. Pure."""

from collections import deque

from services.book.publisher.candle import Candle
from services.book.publisher.interval import SECONDS_PER_DAY, Interval


class Rolling:
    """The window's sums.

    Attributes:
        start: the window's first second: the whole minute 24 hours before the second that it is as of.
        lots: traded in it.
        tick_lots: the sum of price x quantity.
        trades: how many.
        previous_close_ticks: the last price before the window; 0: there was none.
    """

    def __init__(self) -> None:
        """Nothing was ever traded."""
        self.start = 0
        self.lots = self.tick_lots = self.trades = 0
        self.previous_close_ticks = 0
        self._minutes: deque[Candle] = deque()
        self._highs: deque[Candle] = deque()
        self._lows: deque[Candle] = deque()

    def add(self, traded: Candle) -> None:
        """Takes in what was traded, in the order of time, after `advance` to its second."""
        self.lots += traded.lots
        self.tick_lots += traded.tick_lots
        self.trades += traded.trades
        start = Interval.MINUTE_1.start_of(traded.start)
        if self._minutes and self._minutes[-1].start == start:
            minute = self._minutes[-1]
            high, low = minute.high_ticks, minute.low_ticks
            minute.add(traded)
            if (minute.high_ticks, minute.low_ticks) == (high, low):
                return
        else:
            minute = traded.from_(start)
            self._minutes.append(minute)
        # What is neither higher nor younger than this minute will never be the highest again.
        while self._highs and self._highs[-1].high_ticks <= minute.high_ticks:
            self._highs.pop()
        self._highs.append(minute)
        while self._lows and self._lows[-1].low_ticks >= minute.low_ticks:
            self._lows.pop()
        self._lows.append(minute)

    def advance(self, second: int) -> None:
        """It is that second now: what is 24 hours old, by whole minutes, is out of the window."""
        self.start = Interval.MINUTE_1.start_of(second - SECONDS_PER_DAY)
        while self._minutes and self._minutes[0].start < self.start:
            gone = self._minutes.popleft()
            self.lots -= gone.lots
            self.tick_lots -= gone.tick_lots
            self.trades -= gone.trades
            self.previous_close_ticks = gone.close_ticks
            for extremes in (self._highs, self._lows):
                if extremes and extremes[0] is gone:
                    extremes.popleft()

    @property
    def prices(self) -> tuple[int, int, int]:
        """Open, high and low in ticks; each the last price before the window if there is none in it; 0: none at all."""
        if not self._minutes:
            return (self.previous_close_ticks,) * 3
        return self._minutes[0].open_ticks, self._highs[0].high_ticks, self._lows[0].low_ticks

    @property
    def first_trade_id(self) -> int:
        """Of the window; 0: none."""
        return self._minutes[0].first_trade_id if self._minutes else 0
