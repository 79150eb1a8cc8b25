"""The orders of one market's book: what each shows, and its place in the line. Pure.

Whatever the journal says is folded here at once, a row at a time; lines by price, which cost as much again, are kept
from the first time on that somebody asks for them.
"""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from services.book.publisher.events import BookEvent, OrderEvent, Step
from services.depth import Depth

PLACES_BITS = 20
"""A priority is the change's sequence and, in so many bits, the how manieth place it gave."""


class Resting(Struct, frozen=True, gc=False, array_like=True):
    """An order in the book.

    Attributes:
        order_id: its id.
        buys: its side.
        price_ticks: its price.
        lots: what it shows.
        priority: its place: orders of one price stand in line by it, lowest first.
        time_ns: when it took that place.
        hidden_lots: what an iceberg does not show.
        display_lots: how much of itself it shows at once.
    """

    order_id: int
    buys: bool
    price_ticks: int
    lots: int
    priority: int
    time_ns: int
    hidden_lots: int = 0
    display_lots: int = 0


Touched = dict[int, Resting | None]
"""Orders by id, each as it was before; None: it was not there."""

Line = dict[int, Resting]
"""The orders of one price by id, in their order."""


class Orders:
    """All orders of one market's book.

    Attributes:
        resting: by id.
    """

    def __init__(self) -> None:
        """None."""
        self.resting: dict[int, Resting] = {}
        self._lines: dict[bool, dict[int, Line]] | None = None

    def apply(self, events: Sequence[OrderEvent | BookEvent], time_ns: int) -> Touched:
        """Takes the events of a row; returns what it touched."""
        resting, touched = self.resting, Touched()
        for event in events:
            if not isinstance(event, OrderEvent):
                self._take_steps(event, time_ns, touched)
                continue
            if event.trades:
                for place, trade in enumerate(event.trades):
                    self._fill(trade.maker_order_id, trade.quantity_lots, event.sequence, place, time_ns, touched)
            order_id, lots = event.order_id, event.lots
            if lots > 0:  # a new order: nothing of this row can have touched it before
                touched[order_id] = None
                priority = event.sequence << PLACES_BITS
                resting[order_id] = Resting(order_id, event.buys, event.price_ticks, lots, priority, time_ns)
            elif lots:
                touched.setdefault(order_id, resting.pop(order_id))
        if self._lines is not None:
            self._align(self._lines, touched)
        return touched

    def _take_steps(self, event: BookEvent, time_ns: int, touched: Touched) -> None:
        place = 0
        for step in event.steps:
            for trade in step.trades:
                place += 1
                self._fill(trade.maker_order_id, trade.quantity_lots, event.sequence, place, time_ns, touched)
            place += 1
            self._step(step, event.sequence << PLACES_BITS | place, time_ns, touched)
        assert place >> PLACES_BITS == 0, "more places than a priority can tell apart"

    def _step(self, step: Step, priority: int, time_ns: int, touched: Touched) -> None:
        """An order after a step: it has gone, keeps its place, or comes anew behind all others."""
        before = self.resting.get(step.order_id)
        touched.setdefault(step.order_id, before)
        if not step.remaining_lots:
            self.resting.pop(step.order_id, None)
            return
        stays = before is not None and before.price_ticks == step.price_ticks
        if stays and before is not None:
            traded = sum([trade.quantity_lots for trade in step.trades])
            if traded:  # in an auction
                self._take(before, traded, priority, time_ns)
                return
            lost = before.lots + before.hidden_lots - step.remaining_lots
            if lost >= 0:  # what is hidden goes first
                hidden = max(before.hidden_lots - lost, 0)
                after = (step.remaining_lots - hidden, before.priority, before.time_ns, hidden)
                self._put(step, *after)
                return
        shown = min(step.remaining_lots, step.display_lots) if step.display_lots else step.remaining_lots
        self._put(step, shown, priority, time_ns, step.remaining_lots - shown)

    def _put(self, step: Step, lots: int, priority: int, time_ns: int, hidden: int) -> None:
        self.resting[step.order_id] = Resting(
            step.order_id, step.buys, step.price_ticks, lots, priority, time_ns, hidden, step.display_lots
        )

    def _fill(self, order_id: int, lots: int, sequence: int, place: int, time_ns: int, touched: Touched) -> None:
        """A maker has traded."""
        before = self.resting[order_id]
        touched.setdefault(order_id, before)
        self._take(before, lots, sequence << PLACES_BITS | place, time_ns)

    def _take(self, before: Resting, lots: int, priority: int, time_ns: int) -> None:
        """So much of what an order shows is gone. Once all is, an iceberg shows more, behind all others."""
        left, hidden, display = before.lots - lots, before.hidden_lots, before.display_lots
        assert left >= 0, f"order {before.order_id} shows {before.lots} lots: {lots} cannot trade at once"
        if left:
            priority, time_ns = before.priority, before.time_ns
        elif hidden:
            left = min(hidden, display)
            hidden -= left
        else:
            del self.resting[before.order_id]
            return
        self.resting[before.order_id] = Resting(
            before.order_id, before.buys, before.price_ticks, left, priority, time_ns, hidden, display
        )

    def lines(self, buys: bool, depth: Depth, n: int | None = None) -> Iterator[Line]:
        """The lines of the `n` best prices of a side (all by default), best first; `depth` is that of this book."""
        lines = self._kept_lines()[buys]
        prices = depth.levels(buys) if n is None else iter(depth.top(buys, n))
        return (lines[price] for price, _ in prices)

    def fit(self, depth: Depth) -> bool:
        """Whether the orders of each price sum up to its level."""
        sums: dict[tuple[bool, int], int] = {}
        for order in self.resting.values():
            key = (order.buys, order.price_ticks)
            sums[key] = sums.get(key, 0) + order.lots
        return sums == {(buys, ticks): lots for buys in (False, True) for ticks, lots in depth.levels(buys)}

    def _kept_lines(self) -> dict[bool, dict[int, Line]]:
        if self._lines is None:
            self._lines = {False: {}, True: {}}
            for order in sorted(self.resting.values(), key=lambda each: each.priority):
                self._lines[order.buys].setdefault(order.price_ticks, {})[order.order_id] = order
        return self._lines

    def _align(self, lines: dict[bool, dict[int, Line]], touched: Touched) -> None:
        came: list[Resting] = []
        for order_id, before in touched.items():
            now = self.resting.get(order_id)
            if before is not None:
                side = lines[before.buys]
                if now is not None and now.priority == before.priority:
                    side[before.price_ticks][order_id] = now
                    continue
                line = side[before.price_ticks]
                del line[order_id]
                if not line:
                    del side[before.price_ticks]
            if now is not None:
                came.append(now)
        for order in sorted(came, key=lambda each: each.priority):
            lines[order.buys].setdefault(order.price_ticks, {})[order.order_id] = order
