"""The fold of one market: its events become depth, changes and trades. Pure.

An event that does not follow the one before, or that does not fit the book, is an assertion: this projection has lost
its way and must not go on telling the world about it.
"""

from typing import NamedTuple

from services.book.publisher.checksum import CHECKSUM_LEVELS, checksum, text_of
from services.book.publisher.events import BookEvent, Fill, OrderEvent
from services.depth import Depth
from services.units import Market

Level = tuple[int, int]
"""(price_ticks, lots); 0 lots: the level is gone."""


class Trade(NamedTuple):
    """A public trade. `sequence` is its command's: what one command traded belongs together."""

    trade_id: int
    sequence: int
    price_ticks: int
    quantity_lots: int
    taker_buys: bool
    settlement_sequence: int
    time_ns: int


class Change(NamedTuple):
    """What one command did to one market's book."""

    sequence: int
    previous_sequence: int
    bids: list[Level]
    asks: list[Level]
    checksum: int
    time_ns: int
    trades: list[Trade]


class Fold:
    """One market's book as of `sequence`.

    Attributes:
        market: units and names.
        depth: both sides.
        sequence: of the last change; 0 before the first.
        checksum: of the top ten.
        time_ns: of the last change; 0 before the first.
        last_trade_id: 0 before the first.
    """

    def __init__(self, market: Market) -> None:
        """An empty book."""
        self.market = market
        self.depth = Depth()
        self.sequence = 0
        self._texts: dict[bool, str | None] = {False: None, True: None}
        self.checksum = self.top_checksum()
        self.time_ns = 0
        self.last_trade_id = 0

    def apply(self, event: OrderEvent | BookEvent, time_ns: int) -> Change:
        """Takes the next event."""
        assert event.sequence == self.sequence + 1, (
            f"{self.market.symbol}: change {event.sequence} does not follow {self.sequence}"
        )
        if isinstance(event, OrderEvent):
            touched = self._move(event)
            trades = [self._trade(event.buys, fill, event.sequence, time_ns) for fill in event.fills]
        else:
            touched = [(buys, price_ticks) for buys, price_ticks, _ in event.levels]
            for level in event.levels:
                self.depth.put(*level)
            trades = [self._trade(taker_buys, fill, event.sequence, time_ns) for taker_buys, fill in event.fills]
        assert touched, f"{self.market.symbol}: change {event.sequence} changes nothing"
        self.sequence, self.time_ns = event.sequence, time_ns
        for buys in {buys for buys, price in touched if self.depth.among(buys, price, CHECKSUM_LEVELS)}:
            self._texts[buys] = None
        if None in self._texts.values():
            self.checksum = checksum(self._text(False), self._text(True))
        levels = [(buys, (price, self.depth.quantity(buys, price))) for buys, price in touched]
        bids = [level for buys, level in levels if buys]
        asks = [level for buys, level in levels if not buys]
        return Change(event.sequence, event.sequence - 1, bids, asks, self.checksum, time_ns, trades)

    def _move(self, event: OrderEvent) -> list[tuple[bool, int]]:
        """Puts what a plain order did into the depth; returns the levels that it touched, each once."""
        touched: dict[tuple[bool, int], None] = {}
        for fill in event.fills:
            self.depth.take(event.buys, fill.price_ticks, fill.quantity_lots)
            touched[not event.buys, fill.price_ticks] = None
        if event.rested_lots:
            self.depth.rest(event.buys, event.price_ticks, event.rested_lots)
            touched[event.buys, event.price_ticks] = None
        if event.canceled_lots:
            self.depth.cancel(event.buys, event.price_ticks, event.canceled_lots)
            touched[event.buys, event.price_ticks] = None
        return list(touched)

    def _trade(self, taker_buys: bool, fill: Fill, sequence: int, time_ns: int) -> Trade:
        assert fill.trade_id == self.last_trade_id + 1, (
            f"{self.market.symbol}: trade {fill.trade_id} does not follow {self.last_trade_id}"
        )
        self.last_trade_id = fill.trade_id
        return Trade(
            fill.trade_id,
            sequence,
            fill.price_ticks,
            fill.quantity_lots,
            taker_buys,
            fill.settlement_sequence,
            time_ns,
        )

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
