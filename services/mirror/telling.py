"""What the price outside is, and when our exchange is to be told it again. Pure: the clocks are given."""

from typing import Final

from services.depth import Depth
from services.mirror.quotes import Grid

NS_PER_SECOND: Final = 10**9
TELL_SECONDS_MIN: Final = 1
"""From one price told to the next."""
REPEAT_SECONDS: Final = 5
"""A price that stays is told again after so long, or it would be too old one day although it is true."""


def middle_ticks(depth: Depth, grid: Grid) -> int | None:
    """The middle of the best prices, in whole ticks of ours; None if a side is empty, or it is less than a tick."""
    bid, ask = depth.best(buys=True), depth.best(buys=False)
    if bid is None or ask is None:
        return None
    return (bid + ask) // (2 * grid.tick) or None


class Telling:
    """What was told last of one market."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._ticks = self._told_ns = self._heard_ns = 0

    def due(self, ticks: int, heard_ns: int, now_ns: int) -> bool:
        """Whether a price that was true when the outside was heard last is to be told now."""
        if not self._ticks:
            return True
        if heard_ns <= self._heard_ns or now_ns - self._told_ns < TELL_SECONDS_MIN * NS_PER_SECOND:
            return False
        return ticks != self._ticks or now_ns - self._told_ns >= REPEAT_SECONDS * NS_PER_SECOND

    def told(self, ticks: int, heard_ns: int, now_ns: int) -> None:
        """It is on its way, whatever comes of it."""
        self._ticks, self._heard_ns, self._told_ns = ticks, heard_ns, now_ns
