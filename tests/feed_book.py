"""The book that a feed tells of, by the plainest code: what any other reading of the feed must come to."""

from __future__ import annotations

from services.cli.mirror_plan import Steps
from services.cli.recorded import Step

Sides = dict[bool, dict[int, int]]
"""Bids (True) and asks: price to quantity."""


class FeedBook:
    """One market's book, after the steps that it has seen."""

    def __init__(self, decimals: Steps) -> None:
        self._decimals = decimals
        self.sides: Sides = {True: {}, False: {}}

    def see(self, step: Step) -> None:
        for buys, levels in ((True, step.bids), (False, step.asks)):
            side = self.sides[buys]
            if step.snapshot:
                side.clear()
            for price, quantity in map(self._decimals.level, levels):
                side[price] = quantity
                if not quantity:
                    del side[price]
            if step.depth_max is not None and len(side) > step.depth_max:
                for price in sorted(side, reverse=buys)[step.depth_max :]:
                    del side[price]

    def best(self, *, buys: bool) -> int | None:
        return max(self.sides[True], default=None) if buys else min(self.sides[False], default=None)

    def crossed(self) -> bool:
        """No book of orders can be."""
        bid, ask = self.best(buys=True), self.best(buys=False)
        return bid is not None and ask is not None and bid >= ask
