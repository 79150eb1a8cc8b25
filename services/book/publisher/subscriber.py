"""One subscriber of a book: what it is told next. All that it holds is a place in the window."""

from services.book.publisher import wire
from services.book.publisher.topic import RESUME_CHANGES_MAX, Book, Topic
from services.book.publisher.window import Reader
from services.runtime import metrics

MESSAGES_AT_ONCE = 32
"""How many messages a subscriber takes before it looks again whether it has fallen too far behind."""

_lagged = metrics.counter("publisher_lagged", "Snapshots sent to readers who had fallen too far behind.")


class Subscriber:
    """Snapshot or resumption first, then every change; a fresh snapshot when it falls too far behind."""

    def __init__(self, topic: Topic, book: Book, incarnation: str, resume_from: int | None = None) -> None:
        """Begins now.

        Args:
            topic: the market.
            book: the market's book at the subscribed depth.
            incarnation: the journal's.
            resume_from: the sequence after which to go on, see `resumable`; None: begin with a snapshot.
        """
        self._topic, self._book, self._incarnation = topic, book, incarnation
        position = None if resume_from is None else book.window.position_of(resume_from)
        self._reader = Reader(book.window, book.window.head if position is None else position, topic.lag_changes_max)
        self._first: bytes | None = None
        self._beats = book.bell.beats
        if resume_from is None or position is None:
            self._sequence, self._first = topic.snapshot(book.depth, False, incarnation)
        else:
            self._sequence = resume_from
            if not self._reader.lag:  # the first message never waits
                self._first = wire.heartbeat(self._sequence, incarnation)

    @staticmethod
    def resumable(topic: Topic, sequence: int) -> bool:
        """Whether all changes after a sequence are still here, and a message begins with the first of them."""
        recent = sequence >= topic.fold.sequence - RESUME_CHANGES_MAX
        return recent and topic.full.window.position_of(sequence) is not None

    def ready(self) -> list[bytes]:
        """The next messages. None: wait for `Book.bell`."""
        if self._first is not None:
            first, self._first = self._first, None
            return [first]
        messages = self._reader.take(MESSAGES_AT_ONCE)
        if messages is None:
            self._reader.skip()
            _lagged.inc()
            self._sequence, data = self._topic.snapshot(self._book.depth, True, self._incarnation)
            return [data]
        beats, self._beats = self._beats, self._book.bell.beats
        if not messages and beats != self._beats:
            return [wire.heartbeat(self._sequence, self._incarnation)]
        told = []
        for sequence, previous, once in messages:
            # In a stream with a depth, the first change after a snapshot may follow on one that all others had.
            told.append(once.data if previous == self._sequence else wire.chained(once.data, self._sequence))
            self._sequence = sequence
        return told
