"""A market's candles as they change, close and begin: a reader who is slow gets what is true by then."""

from services.book.publisher import figures_wire
from services.book.publisher.bell import Bell
from services.book.publisher.board import Board
from services.book.publisher.candle import Candle
from services.book.publisher.candle_pages import Stretch, candles, known
from services.book.publisher.interval import NS_PER_SECOND, Interval
from services.book.publisher.pace import Pace
from services.book.publisher.store import Store
from services.book.publisher.topic import Topic

CANDLES_AT_ONCE = 500


class CandleSource:
    """One subscriber's place: the candle that it was told last.

    Attributes:
        bells: ring when there is something new.
    """

    def __init__(
        self, board: Board, topic: Topic, store: Store, interval: Interval, pace: Pace, start_ns: int | None = None
    ) -> None:
        """Begins with the candle of now, or of an earlier moment."""
        self._board, self._topic, self._store, self._interval = board, topic, store, interval
        self._start = None if start_ns is None else interval.start_of(start_ns // NS_PER_SECOND)
        self._told: tuple[int, int] | None = None
        """When the last one begins, and how many trades it had."""
        self._beats = -1
        paced = () if pace is Pace.EACH else (board.pulses[pace],)
        self.bells: tuple[Bell, ...] = (board.beat_bell, *(paced or (topic.tape_bell, board.pulses[Pace.SECOND])))

    async def more(self) -> list[bytes]:
        """All candles that are not what was told before, at most CANDLES_AT_ONCE, in one message."""
        second = self._second  # what comes while the store is asked may still change what it answers
        told = [
            self._topic.candle(self._interval, candle, self._interval.after(candle.start) <= second)
            for candle in await self._changed()
        ]
        quiet = self._beats == self._board.beats
        if told or not quiet:
            self._beats = self._board.beats
            return [b"".join(told) or figures_wire.candles(())]
        return []

    @property
    def _second(self) -> int:
        return max(self._board.time_ns, self._topic.fold.time_ns) // NS_PER_SECOND

    async def _changed(self) -> list[Candle]:
        stretch = known(self._topic, self._interval, self._board.time_ns)
        if stretch is None:
            return []
        start = self._interval.after(stretch.end, -1)
        if self._told is not None:
            start = self._told[0]
        elif self._start is not None:
            start = min(max(self._start, stretch.start), start)
        if self._interval.after(start) == stretch.end:  # most often
            now = self._topic.candles.now(self._interval, self._second)
            found = [now] if now is not None and self._told != (now.start, now.trades) else []
        else:
            end = min(self._interval.after(start, CANDLES_AT_ONCE), stretch.end)
            found = await candles(self._topic, self._store, self._interval, Stretch(start, end))
        if found:
            self._told = (found[-1].start, found[-1].trades)
        return found
