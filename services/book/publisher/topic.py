"""One market as it is published: its book, its window of changes, its tape, and its books of limited depth."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from services.book.publisher import wire
from services.book.publisher.bell import Bell
from services.book.publisher.crop import Crop
from services.book.publisher.events import MarketEvent, Trade
from services.book.publisher.fold import Change, Fold
from services.book.publisher.indicative import indicative
from services.book.publisher.once import Once
from services.book.publisher.tape import Print, Tape
from services.book.publisher.window import Message, Window
from services.errors import Reason, Rejected
from services.market_rules import MarketState
from services.units import Market

RESUME_CHANGES_MAX = 10_000
"""How far back a reader may resume: a promise of the public API."""
LAG_CHANGES_MAX = 2_500
"""How many messages a reader may fall behind before it gets a snapshot instead."""
TAPE_COMMANDS_MAX = 10_000
DEPTHS_MAX = 64
"""How many different depths of one market may be subscribed at once: each costs a little at every change."""


@dataclass
class Book:
    """What subscribers of one depth read: messages, and the bell that rings when there are new ones."""

    depth: int
    window: Window
    bell: Bell = field(default_factory=Bell)


@dataclass
class _Cropped:
    """The book at a limited depth, while somebody reads it."""

    crop: Crop
    book: Book
    last_sequence: int
    readers: int = 0


class Topic:
    """One market. All of it is as of the same change, always.

    Attributes:
        market: units and names.
        event: the market as its last event described it.
        fold: the book.
        full: what subscribers of the whole book read.
        tape: the newest trades, and the bell of those who read them.
    """

    def __init__(self, market: Market, event: MarketEvent, lag_changes_max: int = LAG_CHANGES_MAX) -> None:
        """A market without orders."""
        self.market, self.event = market, event
        self.fold = Fold(market)
        self.tape = Tape(TAPE_COMMANDS_MAX)
        self.tape_bell = Bell()
        self.lag_changes_max = lag_changes_max
        self.full = self._whole(0)
        self._cropped: dict[int, _Cropped] = {}
        self._snapshots: dict[tuple[int, bool], tuple[int, bytes]] = {}

    def restore(self, fold: Fold, changes: list[Change]) -> None:
        """Takes over a stored book and the stored changes that led to it, without gaps."""
        self.fold = fold
        self.tape = Tape(TAPE_COMMANDS_MAX, fold.last_trade_id)
        self.full = self._whole(changes[0].previous_sequence if changes else fold.sequence)
        for change in changes:
            self.full.window.append(self._message(change))

    def seal(self, time_ns: int) -> tuple[Change, list[tuple[Trade, ...]]]:
        """A row is over: publishes what its events changed, wakes who waits for that, and returns it: see Fold.seal."""
        change, traded = self.fold.seal(time_ns)
        self.full.window.append(self._message(change))
        for cropped in self._cropped.values():
            self._crop(cropped, change)
        if traded:
            for trades in traded:
                message = partial(wire.trades, self.market, trades, trades[-1].trade_id)
                self.tape.append(Print(trades, Once(message)))
            self.tape_bell.ring()
        self.full.bell.ring()
        return change, traded

    def auction(self) -> tuple[int, int] | None:
        """Before the opening: at which price, in ticks, how many lots would trade now; None: nobody would."""
        if self.event.state is not MarketState.PRE_OPEN:
            return None
        return indicative(self.fold.depth, self.fold.last_price_ticks)

    def beat(self) -> None:
        """The heartbeat interval has passed."""
        for bell in (self.full.bell, self.tape_bell, *(cropped.book.bell for cropped in self._cropped.values())):
            bell.beat()

    def snapshot(self, depth: int, lagged: bool, incarnation: str) -> tuple[int, bytes]:
        """The book's sequence, and the book, serialized once for all who ask at the same moment."""
        sequence, data = self._snapshots.get((depth, lagged), (-1, b""))
        if sequence != self.fold.sequence:
            data = wire.snapshot(self.fold, depth, lagged, incarnation)
            self._snapshots[depth, lagged] = (self.fold.sequence, data)
        return self.fold.sequence, data

    @contextmanager
    def subscribed(self, depth: int) -> Iterator[Book]:
        """The book at a depth (0: all of it), kept as long as somebody is inside.

        Raises:
            Rejected: OVERLOADED, when too many different depths are being read.
        """
        if not depth:
            yield self.full
            return
        cropped = self._cropped.get(depth)
        if cropped is None:
            if len(self._cropped) >= DEPTHS_MAX:
                message = f"{DEPTHS_MAX} different depths of {self.market.symbol} are subscribed already"
                raise Rejected(Reason.OVERLOADED, message, "depth")
            book = Book(depth, Window(self.lag_changes_max))
            cropped = self._cropped[depth] = _Cropped(Crop(depth, self.fold.depth), book, self.fold.sequence)
        cropped.readers += 1
        try:
            yield cropped.book
        finally:
            cropped.readers -= 1
            if not cropped.readers:
                del self._cropped[depth]
                for lagged in (False, True):
                    self._snapshots.pop((depth, lagged), None)

    def _crop(self, cropped: _Cropped, change: Change) -> None:
        bids, asks = cropped.crop.apply(change, self.fold.depth)
        if bids or asks:
            told = change._replace(previous_sequence=cropped.last_sequence, bids=bids, asks=asks)
            cropped.book.window.append(self._message(told))
            cropped.last_sequence = change.sequence
            cropped.book.bell.ring()

    def _message(self, change: Change) -> Message:
        return Message(change.sequence, change.previous_sequence, Once(partial(wire.delta, self.market, change)))

    def _whole(self, sequence: int) -> Book:
        return Book(0, Window(self.lag_changes_max, sequence, RESUME_CHANGES_MAX))
