"""One subscriber of a book: what it is told next. All that it holds is a place in the window."""

from services.book.publisher import wire
from services.book.publisher.bell import Bell
from services.book.publisher.topic import RESUME_CHANGES_MAX, Topic
from services.book.publisher.view import View
from services.book.publisher.window import Reader
from services.errors import Reason, Rejected
from services.market_rules import MarketState
from services.runtime import metrics

MESSAGES_AT_ONCE = 32
"""How many messages a subscriber takes before it looks again whether it has fallen too far behind."""

_lagged = metrics.counter("publisher_lagged", "Snapshots sent to readers who had fallen too far behind.")


class Subscriber:
    """Snapshot or resumption first, then every change; when it falls too far behind a fresh snapshot, or the end.

    Attributes:
        bells: ring when there is something new.
    """

    def __init__(
        self, topic: Topic, view: View, incarnation: str, resume_from: int | None = None, *, patient: bool = True
    ) -> None:
        """Begins now.

        Args:
            topic: the market.
            view: the market's book as it was asked for.
            incarnation: the journal's.
            resume_from: the sequence after which to go on, see `resumable`; None: begin with a snapshot.
            patient: begin with a fresh snapshot, when too far behind, instead of ending.
        """
        self._view, self._incarnation, self._patient = view, incarnation, patient
        self._fold = topic.fold
        self._state: MarketState | None = topic.fold.state
        self.bells: tuple[Bell, ...] = (view.bell,)
        position = None if resume_from is None else view.window.position_of(resume_from)
        self._first: list[bytes] = []
        if resume_from is None or position is None:
            self._sequence, self._first = view.snapshot(False, incarnation)
            position = view.window.head
        else:
            self._sequence = resume_from
            if position == view.window.head:  # the first message never waits
                self._first = [self._heartbeat()]
            else:
                self._state = None  # who knows what it was before
        self._reader = Reader(view.window, position, topic.lag_changes_max)
        self._beats = view.bell.beats

    @staticmethod
    def resumable(topic: Topic, sequence: int) -> bool:
        """Whether all changes after a sequence are still here, and a message begins with the first of them."""
        recent = sequence >= topic.fold.sequence - RESUME_CHANGES_MAX
        return recent and topic.full.window.position_of(sequence) is not None

    async def more(self) -> list[bytes]:
        """See `ready`."""
        return self.ready()

    def ready(self) -> list[bytes]:
        """The next messages. None: wait for the bells.

        Raises:
            Rejected: LAGGED: it is not patient, and too far behind.
        """
        if self._first:
            first, self._first = self._first, []
            return first
        messages = self._reader.take(MESSAGES_AT_ONCE)
        if messages is None:
            if not self._patient:
                raise Rejected(Reason.LAGGED, f"{self._reader.lag} messages of the book were not read in time")
            self._sequence, snapshot = self._view.snapshot(True, self._incarnation)
            self._state = self._fold.state
            self._reader.skip()
            _lagged.inc()
            return snapshot
        beats, self._beats = self._beats, self._view.bell.beats
        if not messages and (beats != self._beats or self._state is not self._fold.state):
            return [self._heartbeat()]
        for message in messages:
            assert message.previous_sequence == self._sequence, "a message that does not follow"
            self._sequence = message.sequence
        return [message.once.data for message in messages]

    def _heartbeat(self) -> bytes:
        self._state = self._fold.state
        return wire.heartbeat(self._sequence, self._incarnation, self._fold.state)
