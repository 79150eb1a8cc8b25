"""One command's turn: what it does to orders, gathered in order while it is done. Pure.

A plain order needs none: its event says it all. Everything that may touch another order than the makers it trades with
goes through a turn, which bounds how many such steps one command takes.
"""

from typing import Final, final

from services.book.model import (
    SIDE_BUY,
    SIDE_SELL,
    Order,
    OrderChanged,
    Trade,
)

TURN_STEPS_MAX: Final = 256
"""Steps that one command takes beyond its own order's; what is left stays due, and the next command begins with it."""


@final
class Turn:
    """What one command has done so far.

    Attributes:
        arrival: its journal_sequence: when what it puts into a book came there.
        time_ns: when it happens.
        settlement_sequence: the last one given.
        decremented_lots: what the order that is trading lost to its owner's other orders.
        overdue: whether orders may be left in a book whose time is over.
        hides: whether an iceberg came, left or showed more, which no plain event can say.
        room: steps that it may still take beyond its own.
        steps: in order.
        touched: (market_id, side, price_ticks) of the levels that changed, in order.
    """

    __slots__ = (
        "arrival",
        "decremented_lots",
        "ended",
        "hides",
        "overdue",
        "room",
        "settlement_sequence",
        "steps",
        "time_ns",
        "touched",
    )

    def __init__(self, arrival: int, time_ns: int, settlement_sequence: int) -> None:
        self.arrival: Final = arrival
        self.time_ns: Final = time_ns
        self.settlement_sequence = settlement_sequence
        self.decremented_lots = 0
        self.hides = False
        self.overdue = False
        self.room = TURN_STEPS_MAX
        self.steps: list[OrderChanged] = []
        self.touched: dict[tuple[int, int, int], None] = {}

    def add(self, order: Order, trades: list[Trade]) -> None:
        """An order is now like this, after trades in which it was the taker."""
        makers = SIDE_SELL if order.place.side == SIDE_BUY else SIDE_BUY
        for trade in trades:
            self.touched[order.place.market_id, makers, trade.price_ticks] = None
        self.steps.append(OrderChanged(order, trades))

    def consequence(self, order: Order) -> None:
        """An order changed because of what another did."""
        self.room -= 1
        self.steps.append(OrderChanged(order, []))

    def touch(self, market_id: int, side: int, price_ticks: int) -> None:
        """A level changed."""
        self.touched[market_id, side, price_ticks] = None
