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
        band_ppm: how far a price may be from the reference price while that is fresh, else from the last trade's,
            parts per million of it.
        notional_min: the smallest price x quantity of a limit order, in place of what the market was created with.
        open_orders_max: how many orders an account may have open or waiting.
        reference_age_max_seconds: how old the reference price may be; 0: REFERENCE_AGE_SECONDS_DEFAULT.
        signed_orders: whether it takes only limit orders that their account's wallet has signed.
    """

    quantity_min_lots: int = 0
    quantity_max_lots: int = 0
    notional_max: int = 0
    band_ppm: int = 0
    notional_min: int = 0
    open_orders_max: int = 0
    reference_age_max_seconds: int = 0
    signed_orders: bool = False


STORED_ALWAYS: Final = 6
"""Rules of before there were the others: of these, what ends a text and is not set is left out of it."""


def stored(rules: MarketRules | None) -> str:
    """Rules as one text for a database; "" for none.

    So rules of before there were the last ones are stored as they were.
    """
    if rules is None:
        return ""
    values = [*rules]
    while len(values) > STORED_ALWAYS and not values[-1]:
        values.pop()
    return json.dumps(values)


def of_stored(text: str) -> MarketRules | None:
    """And back."""
    return MarketRules(*json.loads(text)) if text else None
