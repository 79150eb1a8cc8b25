"""What a market takes: its state, and its rules for orders, as the journal tells them. Pure."""

import json
from enum import IntEnum
from typing import Final, NamedTuple

PPM_PER_BASIS_POINT: Final = 100


class MarketState(IntEnum):
    """Whether a market takes orders. The numbers are those of the protos, the journal's and the public one."""

    OPEN = 1
    HALTED = 2
    PRE_OPEN = 3
    CLOSED = 4


class MarketRules(NamedTuple):
    """What orders of a market may be; 0: no such rule.

    Attributes:
        quantity_min_lots: the smallest quantity.
        quantity_max_lots: the largest.
        notional_max: the largest price x quantity, or budget, in base units of the quote asset.
        band_ppm: how far a price may be from the last trade's, parts per million of it.
        notional_min: the smallest price x quantity of a limit order, in place of what the market was created with.
        open_orders_max: how many orders an account may have open or waiting.
    """

    quantity_min_lots: int = 0
    quantity_max_lots: int = 0
    notional_max: int = 0
    band_ppm: int = 0
    notional_min: int = 0
    open_orders_max: int = 0


def stored(rules: MarketRules | None) -> str:
    """Rules as one text for a database; "" for none."""
    return "" if rules is None else json.dumps(rules)


def of_stored(text: str) -> MarketRules | None:
    """And back."""
    return MarketRules(*json.loads(text)) if text else None
