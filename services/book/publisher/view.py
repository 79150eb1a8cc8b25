"""One market's book as subscribers of one kind see it: what they are told, once for all of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from services.book.publisher import wire
from services.book.publisher.asked import Asked
from services.book.publisher.bell import Bell
from services.book.publisher.checksum import CHECKSUM_LEVELS, checksum, text_of
from services.book.publisher.crop import Crop
from services.book.publisher.fold import Change, Fold, Level, Sealed
from services.book.publisher.grouped import Grouped
from services.book.publisher.once import Once
from services.book.publisher.pace import Pace
from services.book.publisher.resting import Resting, Touched
from services.book.publisher.window import Message, Window
from services.depth import Depth
from services.market_rules import MarketState
from services.units import INT64_MAX, Market


class View(ABC):
    """What subscribers of one kind read.

    Attributes:
        asked: the kind.
        sequence: of the last change that they were told.
        window: their messages.
        bell: rings when there are new ones.
        readers: how many there are.
    """

    def __init__(self, asked: Asked, fold: Fold, window: Window) -> None:
        """Begins as the book is."""
        self.asked, self.window, self.bell = asked, window, Bell()
        self.sequence = fold.sequence
        self.readers = 0
        self._fold = fold
        self._snapshots: dict[bool, tuple[tuple[int, MarketState], list[bytes]]] = {}

    @abstractmethod
    def note(self, sealed: Sealed) -> None:
        """A row has changed the book."""

    @abstractmethod
    def flush(self) -> None:
        """Tells what was noted, if that makes a difference here."""

    def snapshot(self, lagged: bool, incarnation: str) -> tuple[int, list[bytes]]:
        """The book's sequence, and the book in messages, serialized once for all who ask at the same moment.

        All that was noted before is told.
        """
        self.flush()
        now = self.sequence, self._fold.state
        moment, messages = self._snapshots.get(lagged, (None, []))
        if moment != now:
            messages = self._snapshot(lagged, incarnation)
            self._snapshots[lagged] = (now, messages)
        return self.sequence, messages

    @abstractmethod
    def _snapshot(self, lagged: bool, incarnation: str) -> list[bytes]: ...

    def _tell(self, make: Callable[[], bytes]) -> None:
        """The change to the fold's sequence is news; `make` serializes it."""
        self.window.append(Message(self._fold.sequence, self.sequence, Once(make)))
        self.sequence = self._fold.sequence
        self.bell.ring()


class WholeView(View):
    """Each change of each level: what a row did, as it is."""

    def note(self, sealed: Sealed) -> None:
        """Told at once."""
        self._tell(partial(wire.delta, self._fold.market, sealed.change))

    def restore(self, changes: list[Change]) -> None:
        """What was told before, up to now, without gaps."""
        for change in changes:
            make = partial(wire.delta, self._fold.market, change)
            self.window.append(Message(change.sequence, change.previous_sequence, Once(make)))

    def flush(self) -> None:
        """All was told."""

    def _snapshot(self, lagged: bool, incarnation: str) -> list[bytes]:
        fold = self._fold
        levels = fold.depth.all(True), fold.depth.all(False)
        now = fold.sequence, fold.checksum, fold.time_ns
        return [wire.snapshot(fold, *levels, now, lagged, incarnation)]


class LevelsView(View):
    """The best levels, wide ones perhaps, now and then perhaps."""

    def __init__(self, asked: Asked, fold: Fold, window: Window) -> None:
        """Begins as the book is."""
        super().__init__(asked, fold, window)
        self._grouped = Grouped(asked.group_ticks, fold.depth) if asked.group_ticks > 1 else None
        self._crop = Crop(asked.depth or INT64_MAX, self._depth)
        self._checksum, self._time_ns = self._checksum_now(), fold.time_ns
        self._noted: dict[bool, dict[int, int]] = {False: {}, True: {}}

    @property
    def _depth(self) -> Depth:
        return self._fold.depth if self._grouped is None else self._grouped.depth

    def note(self, sealed: Sealed) -> None:
        """Told now, or at the next pulse."""
        self._noted[True].update(sealed.change.bids)
        self._noted[False].update(sealed.change.asks)
        if self.asked.pace is Pace.EACH:
            self.flush()

    def flush(self) -> None:
        """Tells the levels that are not what was told before."""
        if not (self._noted[True] or self._noted[False]):
            return
        fold = self._fold
        changed = Change(fold.sequence, self.sequence, self._changed(True), self._changed(False), 0, fold.time_ns)
        bids, asks = self._crop.apply(changed, self._depth)
        if bids or asks:
            self._checksum, self._time_ns = self._checksum_now(), fold.time_ns
            told = changed._replace(bids=bids, asks=asks, checksum=self._checksum)
            self._tell(partial(wire.delta, fold.market, told))

    def _changed(self, buys: bool) -> list[Level]:
        noted, self._noted[buys] = list(self._noted[buys].items()), {}
        return noted if self._grouped is None else self._grouped.apply(buys, noted, self._fold.depth)

    def _checksum_now(self) -> int:
        return self._fold.checksum if self._grouped is None else checksum_of(self._fold.market, self._grouped.depth)

    def _snapshot(self, lagged: bool, incarnation: str) -> list[bytes]:
        levels = self._crop.levels(True), self._crop.levels(False)
        now = self.sequence, self._checksum, self._time_ns
        return [wire.snapshot(self._fold, *levels, now, lagged, incarnation)]


class OrdersView(View):
    """Each order."""

    def __init__(self, asked: Asked, fold: Fold, window: Window) -> None:
        """Begins as the book is."""
        super().__init__(asked, fold, window)
        self._noted: Touched = {}

    def note(self, sealed: Sealed) -> None:
        """Told now, or at the next pulse."""
        for order_id, before in sealed.touched.items():
            self._noted.setdefault(order_id, before)
        if self.asked.pace is Pace.EACH:
            self.flush()

    def flush(self) -> None:
        """Tells the orders that are not what was told before."""
        noted, self._noted = self._noted, {}
        fold = self._fold
        told: dict[bool, list[tuple[Resting, int]]] = {False: [], True: []}
        for order_id, before in noted.items():
            now = fold.orders.resting.get(order_id)
            if now is not None and (before is None or shown(now) != shown(before)):
                told[now.buys].append((now, now.lots))
            elif now is None and before is not None:
                told[before.buys].append((before, 0))
        if told[True] or told[False]:
            bids, asks = (sorted(told[buys], key=_priority) for buys in (True, False))
            numbers = (fold.sequence, self.sequence, orders_checksum(fold), fold.time_ns)
            self._tell(partial(wire.orders_delta, fold.market, numbers, bids, asks))

    def _snapshot(self, lagged: bool, incarnation: str) -> list[bytes]:
        return wire.orders_snapshot(self._fold, self.sequence, orders_checksum(self._fold), lagged, incarnation)


def view_of(asked: Asked, fold: Fold, window: Window) -> View:
    """The view of a kind."""
    if asked.whole:
        return WholeView(asked, fold, window)
    return OrdersView(asked, fold, window) if asked.orders else LevelsView(asked, fold, window)


def checksum_of(market: Market, depth: Depth) -> int:
    """Of the top ten levels of any depth."""
    asks, bids = (
        text_of(
            (market.price_scaled(ticks), market.quantity_scaled(lots))
            for ticks, lots in depth.top(buys, CHECKSUM_LEVELS)
        )
        for buys in (False, True)
    )
    return checksum(asks, bids)


def orders_checksum(fold: Fold) -> int:
    """Of all orders of the ten best prices, in their order."""
    market, texts = fold.market, []
    for buys in (False, True):
        lines = fold.orders.lines(buys, fold.depth, CHECKSUM_LEVELS)
        orders = (order for line in lines for order in line.values())
        texts.append(
            text_of((market.price_scaled(each.price_ticks), market.quantity_scaled(each.lots)) for each in orders)
        )
    return checksum(*texts)


def shown(order: Resting) -> tuple[int, int, int]:
    """What of an order everybody may know."""
    return order.price_ticks, order.lots, order.priority


def _priority(told: tuple[Resting, int]) -> int:
    return told[0].priority
