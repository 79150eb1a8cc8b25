"""What an opening auction would be now, by what the book shows. Pure."""

from services.crossing import crossing
from services.depth import Depth


def indicative(depth: Depth, last_price_ticks: int) -> tuple[int, int] | None:
    """At which price, in ticks, how many lots would trade; None: nobody would."""
    bid, ask = depth.best(True), depth.best(False)
    if bid is None or ask is None or bid < ask:
        return None
    bids, asks = dict[int, int](), dict[int, int]()
    # No price beyond the other side's best can be it, so what is there need not be looked at.
    for lots_by_price, buys, last in ((bids, True, ask), (asks, False, bid)):
        for ticks, lots in depth.levels(buys):
            if ticks < last if buys else ticks > last:
                break
            lots_by_price[ticks] = lots
    return crossing(bids, asks, last_price_ticks)
