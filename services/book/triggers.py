"""Orders that wait in a market for a price: stops, take-profits and trailing stops. Pure.

Each waits for one of three prices (the last trade's, the best ask for buys, the best bid for sells) to rise or to fall
to its trigger. Six heaps, nearest trigger first, then who came first; an entry that is not an order's current one has
been left behind and is passed over, or left out when there are too many.
"""

from heapq import heapify, heappop, heappush
from typing import Final, final

from services.book.model import (
    SIDE_BUY,
    TRIGGER_SOURCE_QUOTE,
    TRIGGER_STOP,
    TRIGGER_TRAILING,
    PlaceOrder,
)

LAST_RISES: Final = 0
LAST_FALLS: Final = 1
ASK_RISES: Final = 2
ASK_FALLS: Final = 3
BID_RISES: Final = 4
BID_FALLS: Final = 5
WAITS: Final = 6

FORGOTTEN_MIN: Final = 1_024
"""So many entries that were left behind are never too many in a heap."""

Entry = tuple[int, int, int]
"""Greater or smaller ticks as the heap ranks them, when the order came, its id."""


@final
class Triggers:
    """Order ids by what they wait for.

    Attributes:
        current: of each order that waits, its heap and its entry there.
        trails: of each trailing stop its best price so far; 0 before the first trade.
        quoted: how many of them look at a quote: whatever rests or leaves may then be what they wait for.
    """

    __slots__ = ("_heaps", "current", "quoted", "trails")

    def __init__(self) -> None:
        self._heaps: list[list[Entry]] = [[] for _ in range(WAITS)]
        self.current: dict[int, tuple[int, Entry]] = {}
        self.trails: dict[int, tuple[int, PlaceOrder, int]] = {}
        self.quoted = 0

    def add(self, order_id: int, place: PlaceOrder, arrival: int, best_ticks: int) -> None:
        """An order waits; `best_ticks` is the best price that a trailing stop has seen, 0 for none."""
        terms = place.terms
        assert terms is not None, "an order without a trigger"
        if terms.trigger == TRIGGER_TRAILING:
            self.trails[order_id] = (best_ticks, place, arrival)
            if best_ticks > 0:
                self._wait(order_id, place, arrival, trailed(place, best_ticks))
        else:
            self._wait(order_id, place, arrival, terms.trigger_ticks)

    def remove(self, order_id: int) -> None:
        """An order waits no more."""
        known = self.current.pop(order_id, None)
        self.trails.pop(order_id, None)
        if known is not None:
            self.quoted -= known[0] >= ASK_RISES
            self._tidy(known[0])

    def follow(self, last_ticks: int) -> None:
        """There was a trade: trailing stops follow their best price."""
        if not self.trails:
            return
        for order_id, (best_ticks, place, arrival) in list(self.trails.items()):
            buys = place.side == SIDE_BUY
            if best_ticks == 0 or (last_ticks < best_ticks if buys else last_ticks > best_ticks):
                self.add(order_id, place, arrival, last_ticks)

    def hit(self, last_ticks: int, ask_ticks: int, bid_ticks: int) -> int:
        """The next order whose price is there, which waits no more; 0 for none. A price of 0 is none."""
        if not self.current:
            return 0
        prices = (last_ticks, last_ticks, ask_ticks, ask_ticks, bid_ticks, bid_ticks)
        for heap_number in range(WAITS):
            price_ticks = prices[heap_number]
            if price_ticks == 0:
                continue
            order_id = self._nearest(heap_number, price_ticks if heap_number % 2 == 0 else -price_ticks)
            if order_id != 0:
                self.remove(order_id)
                return order_id
        return 0

    def _wait(self, order_id: int, place: PlaceOrder, arrival: int, trigger_ticks: int) -> None:
        heap_number = waits_for(place)
        entry = (trigger_ticks if heap_number % 2 == 0 else -trigger_ticks, arrival, order_id)
        known = self.current.get(order_id)
        if known is not None and known[1] == entry:  # a trail at the first tick stays there
            return
        if known is None:
            self.quoted += heap_number >= ASK_RISES
        self.current[order_id] = (heap_number, entry)
        heappush(self._heaps[heap_number], entry)
        self._tidy(heap_number)

    def _tidy(self, heap_number: int) -> None:
        """Leaves out what was left behind, once it is the most of a heap."""
        heap = self._heaps[heap_number]
        if len(heap) <= 2 * len(self.current) + FORGOTTEN_MIN:
            return
        kept = []
        for entry in heap:
            known = self.current.get(entry[2])
            if known is not None and known[1] == entry:
                kept.append(entry)
        heapify(kept)
        self._heaps[heap_number] = kept

    def _nearest(self, heap_number: int, reached: int) -> int:
        """Who is first in a heap, if the price has reached him; 0 for none."""
        heap = self._heaps[heap_number]
        while heap:
            entry = heap[0]
            known = self.current.get(entry[2])
            if known is None or known[1] != entry:
                heappop(heap)
            elif entry[0] > reached:
                return 0
            else:
                return entry[2]
        return 0


def waits_for(place: PlaceOrder) -> int:
    """Which price must do what: a stop goes with the market against its owner, a take-profit the other way."""
    terms = place.terms
    assert terms is not None, "an order without a trigger"
    buys = place.side == SIDE_BUY
    rises = buys == (terms.trigger in (TRIGGER_STOP, TRIGGER_TRAILING))
    source = LAST_RISES
    if terms.trigger_source == TRIGGER_SOURCE_QUOTE:
        source = ASK_RISES if buys else BID_RISES
    return source if rises else source + 1


def trailed(place: PlaceOrder, best_ticks: int) -> int:
    """Where a trailing stop's trigger is when the best price so far was this; never below the first tick."""
    assert place.terms is not None, "an order without a trigger"
    trail_ticks = place.terms.trail_ticks
    return best_ticks + trail_ticks if place.side == SIDE_BUY else max(best_ticks - trail_ticks, 1)
