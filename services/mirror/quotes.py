"""What we quote for an outside book: its best levels, smaller and further apart, on our grid. Pure.

A bid is rounded down to our tick and an ask up, so whatever the grid our quotes are at most as good as the outside's,
and never meet each other. Quantities are rounded down to whole lots.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.depth import Depth
from services.fees import PPM
from services.mirror.messages import UNIT_DECIMALS
from services.units import FixedPoint

BASIS_POINTS: Final = 10_000
"""In one."""


@dataclass(frozen=True)
class Grid:
    """Our market's steps and least order, in units of the feed (the product of price and quantity in units²)."""

    tick: int
    lot: int
    lots_min: int = 1
    lots_max: int | None = None
    notional_min: int = 0

    @classmethod
    def of(cls, tick: FixedPoint, lot: FixedPoint, **limits: FixedPoint | None) -> "Grid | None":
        """The grid of a market's steps and rules (quantity_min, quantity_max, notional_min); None if they are finer
        than units.
        """
        steps = [tick.scaled(UNIT_DECIMALS), lot.scaled(UNIT_DECIMALS)]
        found = {name: limit.scaled(UNIT_DECIMALS) for name, limit in limits.items() if limit and limit.coefficient}
        if not all(steps) or None in found.values():
            return None
        tick_units, lot_units = (step or 1 for step in steps)
        least, most = found.get("quantity_min") or 0, found.get("quantity_max")
        return cls(
            tick_units,
            lot_units,
            max(1, -(-least // lot_units)),
            most // lot_units if most else None,
            (found.get("notional_min") or 0) * 10**UNIT_DECIMALS,
        )


@dataclass(frozen=True)
class Terms:
    """How much of the outside is quoted.

    Attributes:
        levels: at most so many prices a side.
        share_ppm: of the outside's quantity, in millionths.
        spread_bps: how far a quote stays behind the outside's price, in hundredths of a percent.
        notional_max: of all quotes together, in units of the quote asset; each side has half of it.
    """

    levels: int
    share_ppm: int
    spread_bps: int
    notional_max: int


Wanted = dict[tuple[bool, int], int]
"""(whether it buys, ticks) to lots."""


def wanted(depth: Depth, grid: Grid, terms: Terms) -> Wanted:
    """The quotes for an outside book, best first on each side."""
    found: Wanted = {}
    for buys in (True, False):
        budget = terms.notional_max * 10**UNIT_DECIMALS // 2
        for ticks, units in _levels(depth.levels(buys), grid, terms, buys=buys):
            each = ticks * grid.tick * grid.lot
            lots = min(units * terms.share_ppm // (PPM * grid.lot), budget // each)
            if grid.lots_max is not None:
                lots = min(lots, grid.lots_max)
            if lots >= grid.lots_min and lots * each >= grid.notional_min:
                found[buys, ticks] = lots
                budget -= lots * each
    return found


def _levels(levels: Iterable[tuple[int, int]], grid: Grid, terms: Terms, *, buys: bool) -> Iterable[tuple[int, int]]:
    """Our prices in ticks and the outside's quantity at them, best first: several outside prices may be one of ours."""
    merged: dict[int, int] = {}
    for price, quantity in levels:
        if buys:
            ticks = price * (BASIS_POINTS - terms.spread_bps) // (BASIS_POINTS * grid.tick)
        else:
            ticks = -(-price * (BASIS_POINTS + terms.spread_bps) // (BASIS_POINTS * grid.tick))
        if ticks <= 0:
            break
        if ticks not in merged and len(merged) == terms.levels:
            break
        merged[ticks] = merged.get(ticks, 0) + quantity
    return merged.items()
