"""What to order so that our book becomes a recorded feed's book, and our tape its tape. Pure.

One resting order per level, all of one account (the mirror); each recorded trade is an immediate-or-cancel order of
another (the taker) at the trade's price. Before a trade, the mirror's book is made such that the trade can only happen
as recorded: nothing better on the maker's side, and enough in one order at its price. After it the levels are set.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.cli.recorded import Level, Step
from services.units import FixedPoint

BUY, SELL = True, False


@dataclass(frozen=True)
class Cancel:
    """Cancel the mirror's order at a level."""

    buys: bool
    price: int


@dataclass(frozen=True)
class Rest:
    """Place the mirror's order at a level."""

    buys: bool
    price: int
    quantity: int


@dataclass(frozen=True)
class Take:
    """Place the taker's order, which must trade wholly and at once."""

    buys: bool
    price: int
    quantity: int


Phase = list[Cancel] | list[Rest] | list[Take]
"""Orders that do not depend on each other. Phases follow each other."""


@dataclass
class Steps:
    """The decimals that a market needs, found by looking at all of a feed."""

    price: int = 0
    quantity: int = 0

    def see(self, step: Step) -> None:
        """Widens to what a step uses."""
        for price, quantity in [*step.bids, *step.asks, *((t.price, t.quantity) for t in step.trades)]:
            self.price = max(self.price, FixedPoint.parse(price, "price").normal.decimals)
            self.quantity = max(self.quantity, FixedPoint.parse(quantity, "quantity").normal.decimals)

    def level(self, level: Level) -> tuple[int, int]:
        """A level as integers."""
        price = FixedPoint.parse(level[0], "price").scaled(self.price)
        quantity = FixedPoint.parse(level[1], "quantity").scaled(self.quantity)
        assert price is not None, "see() was called with every step"
        assert quantity is not None, "see() was called with every step"
        return price, quantity


Side = dict[int, int]
"""Price to quantity."""


@dataclass
class Plan:
    """One market's plan: the feed's book (`wanted`), the mirror's orders (`resting`), the way from one to the other."""

    steps: Steps
    wanted: dict[bool, Side] = field(default_factory=lambda: {BUY: {}, SELL: {}})
    resting: dict[bool, Side] = field(default_factory=lambda: {BUY: {}, SELL: {}})
    _open: set[tuple[bool, int]] = field(default_factory=set)
    """Levels that may differ."""

    def phases(self, step: Step) -> list[Phase]:
        """The orders for one step. Levels that cross in the feed itself rest only once they no longer do."""
        made: list[Phase] = []
        for trade in step.trades:
            price, quantity = self.steps.level((trade.price, trade.quantity))
            made += self._trade(buys=trade.taker_buys, price=price, quantity=quantity)
        self._want(step)
        made += self._settle()
        return [phase for phase in made if phase]

    def _want(self, step: Step) -> None:
        for buys, levels in ((BUY, step.bids), (SELL, step.asks)):
            side = self.wanted[buys]
            if step.snapshot:
                self._open |= {(buys, price) for price in side}
                side.clear()
            for price, quantity in map(self.steps.level, levels):
                self._open.add((buys, price))
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)
            if step.depth_max is not None:
                for price in sorted(side, reverse=buys)[step.depth_max :]:
                    self._open.add((buys, price))
                    del side[price]

    def _trade(self, *, buys: bool, price: int, quantity: int) -> list[Phase]:
        """The maker's level alone in front, then the taker."""
        maker = not buys
        in_the_way = [(maker, p) for p in self.resting[maker] if (p < price if buys else p > price)]
        in_the_way += [(buys, p) for p in self.resting[buys] if (p >= price if buys else p <= price)]
        short = self.resting[maker].get(price, 0) < quantity
        if short and price in self.resting[maker]:
            in_the_way.append((maker, price))
        cancels = self._cancel(in_the_way)
        rests = self._rest([(maker, price, max(quantity, self.wanted[maker].get(price, 0)))] if short else [])
        left = self.resting[maker][price] - quantity
        self._open.add((maker, price))
        if left:
            self.resting[maker][price] = left
        else:
            del self.resting[maker][price]
        return [cancels, rests, [Take(buys, price, quantity)]]

    def _settle(self) -> list[Phase]:
        """Cancels what is not wanted as it is, then rests what is missing and does not cross."""
        differing = {key for key in self._open if self._resting(*key) != self._wanted(*key)}
        cancels = self._cancel([key for key in differing if self._resting(*key)])
        bids, asks = self.wanted[BUY], self.wanted[SELL]
        best_bid, best_ask = max(bids, default=-1), min(asks, default=None)
        crossed = {
            (buys, price)
            for buys, price in differing
            if best_ask is not None and best_bid >= best_ask and (price >= best_ask if buys else price <= best_bid)
        }
        rests = self._rest([(*key, self._wanted(*key)) for key in differing - crossed if self._wanted(*key)])
        self._open = crossed
        return [cancels, rests]

    def _cancel(self, keys: Iterable[tuple[bool, int]]) -> list[Cancel]:
        made = []
        for buys, price in sorted(keys):
            del self.resting[buys][price]
            self._open.add((buys, price))
            made.append(Cancel(buys, price))
        return made

    def _rest(self, levels: Iterable[tuple[bool, int, int]]) -> list[Rest]:
        made = []
        for buys, price, quantity in sorted(levels):
            self.resting[buys][price] = quantity
            made.append(Rest(buys, price, quantity))
        return made

    def _resting(self, buys: bool, price: int) -> int:
        return self.resting[buys].get(price, 0)

    def _wanted(self, buys: bool, price: int) -> int:
        return self.wanted[buys].get(price, 0)
