"""How what rests becomes what is wanted, in one request: cancels, then replaces, then places. Pure.

An order that can be moved is moved: it is one command instead of two. Nothing is done about a quote that has less than
half traded: its place in the queue is worth more. Replaces that move away from the other side come first, so our
own orders never meet on the way.
"""

from dataclasses import dataclass, field
from typing import Final

from services.mirror.quotes import Wanted

KEPT_PART: Final = 2
"""A quote is filled up once less than one part in so many of what is wanted is left."""


@dataclass(frozen=True)
class Resting:
    """An open order of ours. Lots: `left` to trade, `filled` so far."""

    order_id: str
    buys: bool
    ticks: int
    left: int
    filled: int


@dataclass(frozen=True)
class Move:
    """An order gets another price, or quantity: `lots`, with what has traded."""

    order_id: str
    ticks: int
    lots: int


@dataclass(frozen=True)
class Place:
    """A new order."""

    buys: bool
    ticks: int
    lots: int


@dataclass
class Moves:
    """What to ask for, in this order."""

    cancels: list[str] = field(default_factory=list)
    replaces: list[Move] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.cancels or self.replaces or self.places)


def moves(wanted: Wanted, resting: list[Resting]) -> Moves:
    """The way from one to the other."""
    made = Moves()
    away: list[Move] = []
    toward: list[Move] = []
    for buys in (True, False):
        missing = {ticks: lots for (side, ticks), lots in wanted.items() if side is buys}
        free = []
        for order in sorted((order for order in resting if order.buys is buys), key=lambda order: order.ticks):
            lots = missing.pop(order.ticks, None)
            if lots is None:
                free.append(order)
            elif order.left > lots or order.left * KEPT_PART < lots:
                away.append(Move(order.order_id, order.ticks, order.filled + lots))
        goals = sorted(missing)
        for order, ticks in zip(free, goals, strict=False):
            move = Move(order.order_id, ticks, order.filled + missing[ticks])
            (away if (ticks < order.ticks) is buys else toward).append(move)
        made.cancels += [order.order_id for order in free[len(goals) :]]
        made.places += [Place(buys, ticks, missing[ticks]) for ticks in goals[len(free) :]]
    made.replaces = away + toward
    return made
