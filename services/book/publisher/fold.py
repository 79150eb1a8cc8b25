"""The fold of one market: the events of a row become depth, one change and trades. Pure.

An event that does not follow the one before, or that does not fit the book, is an assertion: this projection has lost
its way and must not go on telling the world about it.
"""

from typing import NamedTuple

from services.book.publisher.checksum import CHECKSUM_LEVELS, checksum, text_of
from services.book.publisher.events import BookEvent, OrderEvent, Trade
from services.book.publisher.resting import Orders, Touched
from services.depth import Depth
from services.market_rules import MarketState
from services.units import Market

Level = tuple[int, int]
"""(price_ticks, lots); 0 lots: the level is gone."""


class Change(NamedTuple):
    """What the commands of one row did to one market's book, all together.

    Attributes:
        sequence: of the last of them.
        previous_sequence: of the last one before them.
        bids: the levels that are not what they were.
        asks: the same.
        checksum: of the top ten after it.
        time_ns: the row's.
    """

    sequence: int
    previous_sequence: int
    bids: list[Level]
    asks: list[Level]
    checksum: int
    time_ns: int


class Sealed(NamedTuple):
    """What a row did to one market.

    Attributes:
        change: to its levels.
        traded: what it traded, by command.
        touched: the orders that it touched, as they were before.
    """

    change: Change
    traded: list[tuple[Trade, ...]]
    touched: Touched


class Fold:
    """One market's book as of `sequence`. Between `take` and `seal` it is that of the row before.

    Attributes:
        market: units and names.
        state: whether the market takes orders.
        depth: both sides.
        sequence: of the last change; 0 before the first.
        checksum: of the top ten.
        time_ns: of the last change; 0 before the first.
        last_trade_id: 0 before the first.
        last_price_ticks: the last trade's; 0 before the first.
        last_trade: the last trade, None before the first.
        orders: all orders of the book.
    """

    def __init__(self, market: Market, state: MarketState = MarketState.OPEN) -> None:
        """An empty book."""
        self.market, self.state = market, state
        self.depth = Depth()
        self.sequence = 0
        self._texts: dict[bool, str | None] = {False: None, True: None}
        self.checksum = self.top_checksum()
        self.time_ns = 0
        self.last_trade_id = 0
        self.last_price_ticks = 0
        self.last_trade: Trade | None = None
        self.orders = Orders()
        self._events: list[OrderEvent | BookEvent] = []
        self._last_taken = 0
        self._moved: dict[bool, dict[int, int]] = {False: {}, True: {}}
        self._traded: list[tuple[Trade, ...]] = []

    def restore(self, sequence: int, checksum: int, time_ns: int, last_trade_id: int) -> None:
        """Says what the depth, which has been put in, is as of."""
        self.sequence = self._last_taken = sequence
        self.checksum, self.time_ns, self.last_trade_id = checksum, time_ns, last_trade_id

    def take(self, event: OrderEvent | BookEvent) -> None:
        """Takes the next event of a row."""
        assert event.sequence == self._last_taken + 1, (
            f"{self.market.symbol}: change {event.sequence} does not follow {self._last_taken}"
        )
        self._last_taken = event.sequence
        self._events.append(event)
        if event.trades:
            self._trade(event.trades)
        if isinstance(event, OrderEvent):
            for trade in event.trades:
                makers = self._moved[not event.buys]
                makers[trade.price_ticks] = makers.get(trade.price_ticks, 0) - trade.quantity_lots
            if event.lots:
                own = self._moved[event.buys]
                own[event.price_ticks] = own.get(event.price_ticks, 0) + event.lots
        else:
            for buys, price_ticks, lots in event.levels:
                self._moved[buys][price_ticks] = lots - self.depth.quantity(buys, price_ticks)

    def seal(self, time_ns: int) -> Sealed:
        """The row is over: what its events did."""
        assert self._last_taken > self.sequence, f"{self.market.symbol}: no event to seal"
        previous, self.sequence, self.time_ns = self.sequence, self._last_taken, time_ns
        bids, asks = self._apply(True), self._apply(False)
        if None in self._texts.values():
            self.checksum = checksum(self._text(False), self._text(True))
        traded, self._traded = self._traded, []
        touched = self.orders.apply(self._events, time_ns)
        self._events.clear()
        return Sealed(Change(self.sequence, previous, bids, asks, self.checksum, time_ns), traded, touched)

    def _apply(self, buys: bool) -> list[Level]:
        """Puts what has moved on a side into the depth; returns the levels that are not what they were."""
        moved, depth = self._moved[buys], self.depth
        if not moved:
            return []
        levels = [(price_ticks, depth.move(buys, price_ticks, lots)) for price_ticks, lots in moved.items() if lots]
        if levels:
            best = max(levels)[0] if buys else min(levels)[0]
            if depth.among(buys, best, CHECKSUM_LEVELS):
                self._texts[buys] = None
        moved.clear()
        return levels

    def _trade(self, trades: tuple[Trade, ...]) -> None:
        for trade in trades:
            assert trade.trade_id == self.last_trade_id + 1, (
                f"{self.market.symbol}: trade {trade.trade_id} does not follow {self.last_trade_id}"
            )
            self.last_trade_id = trade.trade_id
        self.last_trade = trades[-1]
        self.last_price_ticks = self.last_trade.price_ticks
        self._traded.append(trades)

    def top_checksum(self) -> int:
        """The checksum of the top ten as it stands, however it came to be so."""
        self._texts = {False: None, True: None}
        return checksum(self._text(False), self._text(True))

    def _text(self, buys: bool) -> str:
        """What a side's top ten puts into the checksum: made anew when it has changed."""
        text = self._texts[buys]
        if text is None:
            price, quantity = self.market.price_scaled, self.market.quantity_scaled
            top = self.depth.top(buys, CHECKSUM_LEVELS)
            text = self._texts[buys] = text_of((price(ticks), quantity(lots)) for ticks, lots in top)
        return text
