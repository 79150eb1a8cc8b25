"""What a market buy may spend when its client did not say. Pure."""

from services.depth import Depth
from services.errors import Reason, Rejected
from services.units import Asset, Market

HEADROOM_PERCENT = 5
"""The book may move between the look at it and the match."""


def market_buy_budget(market: Market, depth: Depth, quantity_lots: int, available: int) -> int:
    """The cost of sweeping the visible asks plus HEADROOM_PERCENT, rounded up; at most `available`. In base units.

    Raises:
        Rejected: EMPTY_BOOK if there is nothing to buy, INSUFFICIENT_FUNDS if one lot at the best price is too much.
    """
    best = depth.best(buys=False)
    if best is None:
        raise Rejected(Reason.EMPTY_BOOK, f"nobody sells in {market.symbol} now")
    one_lot = market.quote_amount(best, 1)
    if available < one_lot:
        raise insufficient(market.quote, one_lot, available)
    ticks_lots, _ = depth.sweep(taker_buys=True, lots=quantity_lots)
    with_headroom = -(-ticks_lots * market.quote_per_tick_lot * (100 + HEADROOM_PERCENT) // 100)
    return min(with_headroom, available)


def insufficient(asset: Asset, needed: int, available: int) -> Rejected:
    """The refusal of what needs more of an asset than is available, in base units."""
    return Rejected(
        Reason.INSUFFICIENT_FUNDS,
        f"{asset.symbol}: {asset.format(available)} available, {asset.format(needed)} needed",
    )
