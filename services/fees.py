"""Fees: what is taken from what a side of a trade receives. Pure, and compiled with the engine."""

from typing import Final

from services.exact import product

PPM: Final = 1_000_000
"""Fee rates are parts per million."""


def fee(received: int, rate_ppm: int) -> int:
    """What is taken from `received` base units at a rate: rounded up to a base unit, so never in the payer's favour."""
    # received x rate / PPM, divided first: received x rate outgrows a machine word long before the fee does.
    whole, rest = received // PPM, received % PPM
    return product(rate_ppm, whole) + (rest * rate_ppm + PPM - 1) // PPM
