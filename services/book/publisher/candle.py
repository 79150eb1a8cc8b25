"""What was traded in a stretch of time, in ticks and lots: candles add up exactly. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from services.book.publisher.events import Trade
from services.book.publisher.interval import Interval


class Candle(Struct, gc=False, array_like=True):
    """A candle.

    Attributes:
        start: its first second, since 1970.
        open_ticks: the first price.
        high_ticks: the highest.
        low_ticks: the lowest.
        close_ticks: the last.
        lots: traded.
        tick_lots: the sum of price x quantity.
        trades: how many.
        taker_lots: of lots, what takers bought.
        taker_tick_lots: of tick_lots, what takers paid.
        first_trade_id: 0: none.
    """

    start: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    lots: int = 0
    tick_lots: int = 0
    trades: int = 0
    taker_lots: int = 0
    taker_tick_lots: int = 0
    first_trade_id: int = 0

    @property
    def last_trade_id(self) -> int:
        """0: none. Trade ids have no gaps."""
        return self.first_trade_id + self.trades - 1 if self.trades else 0

    def add(self, later: "Candle") -> None:
        """Takes in what was traded after it."""
        if not self.trades:
            self.open_ticks = self.high_ticks = self.low_ticks = later.open_ticks
            self.first_trade_id = later.first_trade_id
        self.high_ticks = max(self.high_ticks, later.high_ticks)
        self.low_ticks = min(self.low_ticks, later.low_ticks)
        self.close_ticks = later.close_ticks
        self.lots += later.lots
        self.tick_lots += later.tick_lots
        self.trades += later.trades
        self.taker_lots += later.taker_lots
        self.taker_tick_lots += later.taker_tick_lots

    def from_(self, start: int) -> "Candle":
        """The same, beginning then."""
        return Candle(
            start,
            self.open_ticks,
            self.high_ticks,
            self.low_ticks,
            self.close_ticks,
            self.lots,
            self.tick_lots,
            self.trades,
            self.taker_lots,
            self.taker_tick_lots,
            self.first_trade_id,
        )


def empty(start: int, close_ticks: int) -> Candle:
    """One without trades: all its prices are the close of the one before."""
    return Candle(start, close_ticks, close_ticks, close_ticks, close_ticks)


def of_trades(start: int, traded: Iterable[Sequence[Trade]]) -> Candle:
    """What a row traded, which is at least one trade."""
    first_id = lots = tick_lots = count = taker_lots = taker_tick_lots = opened = high = low = close = 0
    for trades in traded:
        for trade in trades:
            close, quantity = trade.price_ticks, trade.quantity_lots
            amount = close * quantity
            if not count:
                opened = high = low = close
                first_id = trade.trade_id
            elif close > high:
                high = close
            elif close < low:
                low = close
            lots += quantity
            tick_lots += amount
            count += 1
            if trade.taker_buys:
                taker_lots += quantity
                taker_tick_lots += amount
    assert count, "no trades"
    return Candle(start, opened, high, low, close, lots, tick_lots, count, taker_lots, taker_tick_lots, first_id)


def summed(interval: Interval, base: Iterable[Candle]) -> Iterator[Candle]:
    """Candles of this length out of shorter ones in order; a stretch without any is left out."""
    now: Candle | None = None
    for candle in base:
        start = interval.start_of(candle.start)
        if now is None or now.start != start:
            if now is not None:
                yield now
            now = candle.from_(start)
        else:
            now.add(candle)
    if now is not None:
        yield now


def filled(interval: Interval, start: int, end: int, candles: Iterable[Candle], close_ticks: int) -> list[Candle]:
    """One candle for each interval from `start` to before `end`: given ones, and in the gaps the last close.

    Args:
        interval: their length.
        start: when the first begins.
        end: none begins then or later.
        candles: those with trades, in order, none before start.
        close_ticks: of the last one before start; 0: there was none, and nothing is told before the first.
    """
    told: list[Candle] = []
    for candle in candles:
        while start < candle.start:
            if close_ticks:
                told.append(empty(start, close_ticks))
            start = interval.after(start) if close_ticks else candle.start
        told.append(candle)
        close_ticks, start = candle.close_ticks, interval.after(candle.start)
    while close_ticks and start < end:
        told.append(empty(start, close_ticks))
        start = interval.after(start)
    return told
