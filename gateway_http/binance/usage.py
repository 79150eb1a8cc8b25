"""How much was asked for by address, and how many orders were placed by key: told, never judged. Pure."""

from collections import Counter
from typing import Final

COUNTED_MAX: Final = 10_000
"""Addresses or keys in one span of time; what comes on top of them is told of itself alone."""
WEIGHT_HEADER: Final = "x-mbx-used-weight-1m"
MS_PER_SECOND: Final = 1_000
MINUTE_MS: Final = 60 * MS_PER_SECOND
TEN_SECONDS_MS: Final = 10 * MS_PER_SECOND
DAY_MS: Final = 24 * 3600 * MS_PER_SECOND


class Span:
    """Counts within a span of the clock: all begin at zero when the next one begins."""

    def __init__(self, length_ms: int) -> None:
        self._length_ms, self._number = length_ms, -1
        self._counts: Counter[str] = Counter()

    def add(self, key: str, count: int, now_ms: int) -> int:
        """So many more of a key; returns how many in all."""
        number = now_ms // self._length_ms
        if number != self._number:
            self._number = number
            self._counts.clear()
        if key not in self._counts and len(self._counts) >= COUNTED_MAX:
            return count
        self._counts[key] += count
        return self._counts[key]


class Usage:
    """What the headers X-MBX-USED-WEIGHT-1M and X-MBX-ORDER-COUNT-… say."""

    def __init__(self) -> None:
        self._weights = Span(MINUTE_MS)
        self._orders = (("10S", Span(TEN_SECONDS_MS)), ("1D", Span(DAY_MS)))

    def asked(self, address: str, weight: int, now_ms: int) -> dict[str, str]:
        """One more request of an address; its headers."""
        used = str(self._weights.add(address, weight, now_ms))
        return {"x-mbx-used-weight": used, WEIGHT_HEADER: used}

    def placed(self, key: str, orders: int, now_ms: int) -> dict[str, str]:
        """So many more orders of a key; their headers."""
        return {f"x-mbx-order-count-{name.lower()}": str(span.add(key, orders, now_ms)) for name, span in self._orders}
