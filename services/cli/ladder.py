"""What a market maker of the demo wants in a book: a ladder of quotes around a middle that walks at random. Pure.

The middle moves from rung to rung of a fixed grid: a step changes the two ends of the ladder and nothing between.
"""

from dataclasses import dataclass

BUY, SELL = True, False

Quote = tuple[bool, int]
"""Whether it buys, and at how many ticks."""


@dataclass(frozen=True)
class Ladder:
    """The grid of one market. `gap_ticks`: from rung to rung; `lots`: of the quote next to the middle."""

    market: str
    middle_ticks: int
    gap_ticks: int
    lots: int
    levels: int = 8

    def rung(self, ticks: int) -> int:
        """The rung nearest below a price."""
        return ticks // self.gap_ticks

    def ticks(self, rung: int) -> int:
        """The price of a rung."""
        return rung * self.gap_ticks

    def around(self, rung: int) -> dict[Quote, int]:
        """Quotes and their lots, larger the farther from the middle. None at the middle itself, none below one rung."""
        wanted: dict[Quote, int] = {}
        for level in range(1, self.levels + 1):
            wanted[SELL, self.ticks(rung + level)] = self.lots * level
            if rung > level:
                wanted[BUY, self.ticks(rung - level)] = self.lots * level
        return wanted


def moves(wanted: dict[Quote, int], resting: dict[Quote, int]) -> tuple[list[Quote], list[Quote]]:
    """What to cancel and then to place, so that what rests (lots left) becomes what is wanted.

    A quote that was filled in part stays until less than half of it is left: its place in the queue is worth more.
    """
    gone = [quote for quote, left in resting.items() if quote not in wanted or left * 2 < wanted[quote]]
    return sorted(gone), sorted(quote for quote in wanted if quote not in resting or quote in gone)
