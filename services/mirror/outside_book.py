"""One symbol's book as Binance's published procedure keeps it. Pure: a state machine of messages and snapshots.

Buffer the depth updates; get a snapshot; drop what it holds already (u <= lastUpdateId); the next must join on
(U <= lastUpdateId + 1), and so must each after it. Whatever does not fit, and a book that is crossed, is out of step:
the book is forgotten, updates are buffered again, and a new snapshot is needed.
"""

from collections import deque
from enum import Enum
from typing import Final

from services.depth import Depth
from services.mirror.messages import Change, Level, Quote, Snapshot

BUFFERED_MAX: Final = 1_000
"""Updates kept while there is no snapshot: 100 s of them. Beyond it the oldest go, and the snapshot must be newer."""


class Step(Enum):
    """What came of a message."""

    APPLIED = "applied"
    BUFFERED = "buffered"
    """There is no snapshot yet."""
    DUPLICATE = "duplicate"
    """The book holds it already: nothing changed."""
    OLD = "old"
    """The snapshot is older than the first update that was kept: another is needed."""
    GAP = "gap"
    CROSSED = "crossed"
    DIFFERS = "differs"
    """The best prices are not those that the exchange told for the same update."""


IN_STEP: Final = frozenset({Step.APPLIED, Step.DUPLICATE})
"""After these the book goes on."""


class OutsideBook:
    """A mirrored book.

    Attributes:
        update: the last update that is applied; 0 while out of step.
        depth: the levels, prices and quantities in units; empty while out of step.
    """

    def __init__(self) -> None:
        """Out of step, with nothing buffered."""
        self.update = 0
        self.depth = Depth()
        self._buffer: deque[Change] = deque(maxlen=BUFFERED_MAX)
        self._quote: Quote | None = None

    @property
    def in_step(self) -> bool:
        """Whether this is the exchange's book as of `update`."""
        return self.update > 0

    @property
    def behind(self) -> bool:
        """Whether the exchange has quoted as of an update that has not come yet."""
        return self.in_step and self._quote is not None and self._quote.update > self.update

    def forget(self) -> None:
        """Out of step, with nothing buffered: the connection is another."""
        self._buffer.clear()
        self._quote = None
        self._leave_step()

    def change(self, change: Change) -> Step:
        """A depth update has come."""
        if not self.in_step:
            self._buffer.append(change)
            return Step.BUFFERED
        step = self._join(change)
        if step in IN_STEP:
            return step
        self._leave_step()
        if step is Step.GAP:  # what follows the gap joins the next snapshot; what made the book wrong does not help
            self._buffer.append(change)
        return step

    def quote(self, quote: Quote) -> Step:
        """The best prices have come: compared at once, or when their update has."""
        if self._quote is None or quote.update >= self._quote.update:
            self._quote = quote
        return self._compare()

    def snapshot(self, snapshot: Snapshot) -> Step:
        """A snapshot has come: what is buffered joins it. Not while in step."""
        assert not self.in_step, "a snapshot would undo what came since"
        first = next((change.first for change in self._buffer if change.last > snapshot.update), None)
        if first is not None and first > snapshot.update + 1:
            return Step.OLD
        self._set(snapshot.bids, snapshot.asks)
        self.update = snapshot.update
        buffered = list(self._buffer)
        self._buffer.clear()
        step = Step.CROSSED if self._crossed() else self._compare()
        for place, change in enumerate(buffered):
            if step not in IN_STEP:
                break
            step = self._join(change)
            if step is Step.GAP:
                self._buffer.extend(buffered[place:])
        if step in IN_STEP:
            return Step.APPLIED
        self._leave_step()
        return step

    def _join(self, change: Change) -> Step:
        if change.last <= self.update:
            return Step.DUPLICATE
        if change.first > self.update + 1:
            return Step.GAP
        self._set(change.bids, change.asks)
        self.update = change.last
        return Step.CROSSED if self._crossed() else self._compare()

    def _compare(self) -> Step:
        quote = self._quote
        if quote is None or not self.in_step or quote.update > self.update:
            return Step.APPLIED
        self._quote = None
        if quote.update < self.update:
            return Step.APPLIED  # a depth update joins several of the book's: what was in between is not seen
        same = (quote.bid, quote.ask) == (self.depth.best(buys=True), self.depth.best(buys=False))
        if not same:
            self._leave_step()
        return Step.APPLIED if same else Step.DIFFERS

    def _set(self, bids: list[Level], asks: list[Level]) -> None:
        for buys, levels in ((True, bids), (False, asks)):
            for price, quantity in levels:
                self.depth.put(buys, price, quantity)

    def _crossed(self) -> bool:
        bid, ask = self.depth.best(buys=True), self.depth.best(buys=False)
        return bid is not None and ask is not None and bid >= ask

    def _leave_step(self) -> None:
        self.update = 0
        self.depth = Depth()
