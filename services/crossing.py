"""Where a crossed book would trade, all of it at one price. Pure: for the engine, and for those who foretell it."""

from collections.abc import Mapping


def crossing(bids: Mapping[int, int], asks: Mapping[int, int], last_price_ticks: int) -> tuple[int, int]:
    """The price of maximum volume, and that volume; of several prices the one that leaves the least unfilled, then the
    one nearest to the last trade's, then the lowest.

    Args:
        bids: lots by price, ticks.
        asks: the same; the two cross.
        last_price_ticks: 0: there was no trade.

    Returns:
        The price in ticks, and the lots that trade at it.
    """
    bought, sold = sum(bids.values()), 0
    best: tuple[int, int, int, int] | None = None
    for ticks in sorted({*bids, *asks}):
        sold += asks.get(ticks, 0)
        distance = abs(ticks - last_price_ticks) if last_price_ticks > 0 else 0
        rank = (min(bought, sold), -abs(bought - sold), -distance, -ticks)
        if best is None or rank > best:
            best = rank
        bought -= bids.get(ticks, 0)
    assert best is not None, "a crossed book without a price"
    return -best[3], best[0]
