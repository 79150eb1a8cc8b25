"""One market as it is published: its book, how it is seen, its tape and its candles."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from services.book.publisher import figures_wire, wire
from services.book.publisher.asked import Asked
from services.book.publisher.bell import Bell
from services.book.publisher.candle import Candle
from services.book.publisher.candles import Candles
from services.book.publisher.events import MarketEvent, ReferenceEvent
from services.book.publisher.fold import Change, Fold, Sealed
from services.book.publisher.indicative import indicative
from services.book.publisher.interval import NS_PER_SECOND, Interval
from services.book.publisher.once import Once
from services.book.publisher.pace import Pace
from services.book.publisher.tape import Print, Tape
from services.book.publisher.view import View, WholeView, view_of
from services.book.publisher.window import Window
from services.errors import Reason, Rejected
from services.market_rules import MarketState
from services.reference import is_fresh
from services.units import Market

RESUME_CHANGES_MAX = 10_000
"""How far back a reader may resume: a promise of the public API."""
LAG_CHANGES_MAX = 2_500
"""How many messages a reader may fall behind before it gets a snapshot instead."""
TAPE_COMMANDS_MAX = 10_000
VIEWS_MAX = 64
"""In how many different ways a book may be read at once: each costs a little at every change."""
CANDLES_TOLD_MAX = 64
"""Of the candles that were told last, whose messages are kept for others who ask for the same."""


class Topic:
    """One market. All of it is as of the same change, always.

    Attributes:
        market: units and names.
        event: the market as its last event described it.
        fold: the book.
        reference: what the price is elsewhere; None before it was first told.
        full: what subscribers of the whole book read.
        tape: the newest trades, and the bell of those who read them.
        candles: what was traded when.
    """

    def __init__(self, market: Market, event: MarketEvent, lag_changes_max: int = LAG_CHANGES_MAX) -> None:
        """A market without orders."""
        self.market, self.event = market, event
        self.fold = Fold(market, event.state)
        self.reference: ReferenceEvent | None = None
        self.tape = Tape(TAPE_COMMANDS_MAX)
        self.tape_bell = Bell()
        self.candles = Candles()
        self.lag_changes_max = lag_changes_max
        self.full = self._whole(0)
        self._views: dict[Asked, View] = {}
        self._ticker: tuple[object, bytes] = (None, b"")
        self._candles_told: dict[tuple[Interval, int, int, bool], bytes] = {}

    def restore(self, fold: Fold, changes: list[Change]) -> None:
        """Takes over a stored book and the stored changes that led to it, without gaps."""
        self.fold = fold
        self.tape = Tape(TAPE_COMMANDS_MAX, fold.last_trade_id)
        self.full = self._whole(changes[0].previous_sequence if changes else fold.sequence)
        self.full.restore(changes)

    def change(self, event: MarketEvent) -> None:
        """The market has other rules, or another state, which is told to all who read the book."""
        self.event = event
        if event.state is not self.fold.state:
            self.fold.state = event.state
            for bell in (self.full.bell, *(view.bell for view in self._views.values())):
                bell.ring()

    def seal(self, time_ns: int) -> Sealed:
        """A row is over: publishes what its events changed, wakes who waits for that, and returns it."""
        sealed = self.fold.seal(time_ns)
        self.full.note(sealed)
        for view in self._views.values():
            view.note(sealed)
        if sealed.traded:
            self.candles.take(sealed.traded, time_ns)
            for trades in sealed.traded:
                message = partial(wire.trades, self.market, trades, trades[-1].trade_id)
                self.tape.append(Print(trades, Once(message)))
            self.tape_bell.ring()
        return sealed

    def pulse(self, paces: set[Pace]) -> None:
        """It is time for those who are told now and then only."""
        for view in self._views.values():
            if view.asked.pace in paces:
                view.flush()

    def auction(self) -> tuple[int, int] | None:
        """Before the opening: at which price, in ticks, how many lots would trade now; None: nobody would."""
        if self.event.state is not MarketState.PRE_OPEN:
            return None
        return indicative(self.fold.depth, self.fold.last_price_ticks)

    def beat(self) -> None:
        """The heartbeat interval has passed."""
        for bell in (self.full.bell, self.tape_bell, *(view.bell for view in self._views.values())):
            bell.beat()

    def ticker_moment(self, time_ns: int) -> tuple[object, ...]:
        """What a ticker says, apart from when: another moment is another ticker."""
        fold, day = self.fold, self.candles.day(max(time_ns, self.fold.time_ns) // NS_PER_SECOND)
        bid, ask = fold.depth.top(True, 1), fold.depth.top(False, 1)
        traded = fold.last_trade_id, day.first_trade_id, day.trades
        return fold.state, bid, ask, *traded, self.reference, self.is_stale(time_ns)

    def is_stale(self, time_ns: int) -> bool:
        """Whether there is a reference price, and it is too old to count by then."""
        told, rules = self.reference, self.event.rules
        age_max_seconds = 0 if rules is None else rules.reference_age_max_seconds
        return told is not None and not is_fresh(told.observed_ns, age_max_seconds, time_ns)

    def ticker(self, time_ns: int) -> bytes:
        """The ticker as a stream's message, serialized once for all who ask at the same moment."""
        moment = self.ticker_moment(time_ns)
        if self._ticker[0] != moment:
            stale = self.is_stale(time_ns)
            told = figures_wire.ticker(self.fold, self.candles, time_ns, self.reference, stale=stale)
            data = figures_wire.tickers([told])
            self._ticker = (moment, data)
        return self._ticker[1]

    def candle(self, interval: Interval, candle: Candle, closed: bool) -> bytes:
        """A candle as a stream's message, serialized once for all who are told of it."""
        key = (interval, candle.start, candle.trades, closed)
        data = self._candles_told.get(key)
        if data is None:
            data = figures_wire.candles([figures_wire.candle(self.market, interval, candle, closed)])
            self._candles_told[key] = data
            if len(self._candles_told) > CANDLES_TOLD_MAX:
                del self._candles_told[next(iter(self._candles_told))]
        return data

    @contextmanager
    def subscribed(self, asked: Asked) -> Iterator[View]:
        """The book as somebody wants it, kept as long as somebody is inside.

        Raises:
            Rejected: OVERLOADED, when it is being read in too many different ways.
        """
        if asked.whole:
            yield self.full
            return
        view = self._views.get(asked)
        if view is None:
            if len(self._views) >= VIEWS_MAX:
                message = f"{VIEWS_MAX} different views of {self.market.symbol} are subscribed already"
                raise Rejected(Reason.OVERLOADED, message, "depth")
            view = self._views[asked] = view_of(asked, self.fold, Window(self.lag_changes_max))
        view.readers += 1
        try:
            yield view
        finally:
            view.readers -= 1
            if not view.readers:
                del self._views[asked]

    def _whole(self, sequence: int) -> WholeView:
        window = Window(self.lag_changes_max, sequence, RESUME_CHANGES_MAX)
        return WholeView(Asked(), self.fold, window)
