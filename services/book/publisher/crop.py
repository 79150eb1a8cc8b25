"""The best n levels of a book, kept by its changes. Pure.

What a subscriber with a depth holds: after each change exactly the best n levels a side. Levels that fall out are
removed, levels that come in are told. A change costs what it touches, not n.
"""

from services.book.publisher.fold import Change, Level
from services.depth import Depth


class Crop:
    """The best `n` levels of each side, as told so far."""

    def __init__(self, n: int, full: Depth) -> None:
        """Begins with the top `n` of `full`."""
        assert n > 0
        self._n = n
        self._view = Depth()
        for buys in (True, False):
            for price, lots in full.top(buys, n):
                self._view.put(buys, price, lots)

    def apply(self, change: Change, full: Depth) -> tuple[list[Level], list[Level]]:
        """What to tell of a change: (bids, asks), both empty if it is all behind the best n.

        Args:
            change: the next one.
            full: the whole book after it.
        """
        return self._side(True, change.bids, full), self._side(False, change.asks, full)

    def levels(self, buys: bool) -> list[Level]:
        """The best n, best first."""
        return self._view.all(buys)

    def _side(self, buys: bool, changed: list[Level], full: Depth) -> list[Level]:
        if not changed:
            return []
        view, n = self._view, self._n
        before: dict[int, int] = {}

        def put(price: int, lots: int) -> None:
            before.setdefault(price, view.quantity(buys, price))
            view.put(buys, price, lots)

        # The view is a prefix of the book. It stays one if, of new levels, it takes those before its last only.
        last = view.top(buys, 1, skip=n - 1)
        for price, lots in changed:
            if not last or (price >= last[0][0] if buys else price <= last[0][0]):
                put(price, lots)
        for price, _ in view.top(buys, view.count(buys), skip=n):
            put(price, 0)
        for price, lots in full.top(buys, n - view.count(buys), skip=view.count(buys)):
            put(price, lots)
        now = [(price, view.quantity(buys, price), was) for price, was in before.items()]
        return [(price, lots) for price, lots, was in now if lots != was]
