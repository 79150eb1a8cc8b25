"""Locks: what an open order sets aside. Pure.

The one function for it: the gateway calls it before it submits, the engine for every order event. Plain ints in and
out, so that the compiled engine calls it cheaply.
"""

from services.exact import product


def lock(
    buys: bool,
    limit: bool,
    price_ticks: int,
    remaining_lots: int,
    budget: int,
    base_per_lot: int,
    quote_per_tick_lot: int,
) -> int:
    """Base units that an order with `remaining_lots` to trade must keep aside; 0 once nothing remains.

    Sell: the remaining lots, in the base asset. Limit buy: the remaining lots at the limit price, in the quote asset
    (a better fill frees the difference). Market buy: `budget`, what remains of its quote budget.
    """
    if remaining_lots == 0:
        return 0
    if not buys:
        return remaining_lots * base_per_lot
    if limit:
        return product(remaining_lots * price_ticks, quote_per_tick_lot)
    return budget
