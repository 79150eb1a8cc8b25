"""Fees: the rates of an order, and what a rate makes of an amount. Pure. (tiers.py says who has which.)"""

from dataclasses import dataclass

from services.units import PPM, fee


@dataclass(frozen=True, slots=True)
class Rates:
    """Parts per million of what a side receives, as maker and as taker."""

    maker_ppm: int
    taker_ppm: int

    def __post_init__(self) -> None:
        assert 0 <= self.maker_ppm <= PPM, f"maker fee {self.maker_ppm} ppm"
        assert 0 <= self.taker_ppm <= PPM, f"taker fee {self.taker_ppm} ppm"


def net_of_fee(received: int, rate_ppm: int) -> tuple[int, int]:
    """`received` base units as (what the side keeps, what account `fees` gets): exact, the parts make the whole."""
    taken = fee(received, rate_ppm)
    return received - taken, taken
