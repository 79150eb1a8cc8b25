"""When the orders of a market expire: the earliest first. Pure.

Orders that end otherwise stay here unnoticed; they are left out when their time comes, or when there are too many.
"""

from heapq import heappop, heappush
from typing import Final, final

from services.book.side import Resting

FORGOTTEN_MIN: Final = 1_024
"""So many entries are never too many."""


@final
class Expiries:
    """Times and order ids."""

    __slots__ = ("_heap", "_tidy_at")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._tidy_at = FORGOTTEN_MIN

    def add(self, expires_ns: int, order_id: int, orders: dict[int, Resting]) -> None:
        """An order that is in `orders` expires then."""
        heap = self._heap
        if len(heap) >= self._tidy_at:
            heap[:] = sorted({entry for entry in heap if entry[1] in orders})  # a set: a moved order came here again
            self._tidy_at = max(2 * len(heap), FORGOTTEN_MIN)
        heappush(heap, (expires_ns, order_id))

    def first(self, orders: dict[int, Resting]) -> int:
        """When the next order expires that still is in `orders`; 0 if there is none."""
        heap = self._heap
        while heap and heap[0][1] not in orders:
            heappop(heap)
        return heap[0][0] if heap else 0

    def pop(self, time_ns: int, orders: dict[int, Resting]) -> Resting | None:
        """The next order that has expired by now, which is left to the caller; None if there is none."""
        first = self.first(orders)
        if first == 0 or first > time_ns:
            return None
        return orders[heappop(self._heap)[1]]
