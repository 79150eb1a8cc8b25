"""A book whose levels are wider than a tick: bids rounded down, asks up; what would be 0 is one tick. Pure."""

from services.book.publisher.fold import Level
from services.depth import Depth


class Grouped:
    """A book's levels in groups of so many ticks.

    Attributes:
        depth: the groups.
    """

    def __init__(self, group_ticks: int, full: Depth) -> None:
        """Begins as `full` is."""
        assert group_ticks > 0
        self._ticks = group_ticks
        self.depth = Depth()
        for buys in (True, False):
            self.apply(buys, full.all(buys), full)

    def apply(self, buys: bool, changed: list[Level], full: Depth) -> list[Level]:
        """Follows what has changed on a side of `full`; returns the groups concerned."""
        groups = dict.fromkeys([group_of(buys, price_ticks, self._ticks) for price_ticks, _ in changed])
        told = []
        for group in groups:
            lots = full.between(buys, *self._range(buys, group))
            self.depth.put(buys, max(group, 1), lots)
            told.append((max(group, 1), lots))
        return told

    def _range(self, buys: bool, group: int) -> tuple[int, int]:
        return (group, group + self._ticks - 1) if buys else (group - self._ticks + 1, group)


def grouped(full: Depth, group_ticks: int, n: int) -> Depth:
    """The `n` best groups of each side of a book: what lies behind them is not looked at."""
    found = Depth()
    for buys in (True, False):
        for price_ticks, lots in full.levels(buys):
            group = max(group_of(buys, price_ticks, group_ticks), 1)
            known = found.quantity(buys, group)
            if not known and found.count(buys) == n:
                break
            found.put(buys, group, known + lots)
    return found


def group_of(buys: bool, price_ticks: int, group_ticks: int) -> int:
    """The group of a price: bids rounded down, asks up."""
    return (price_ticks if buys else price_ticks + group_ticks - 1) // group_ticks * group_ticks
