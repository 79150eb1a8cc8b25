"""A window over the newest of an endless list of messages, and readers that each go at their own pace. Pure.

All subscribers read the same bytes out of one window: a slow one costs a position, not a queue. Who falls further
behind than allowed is told so, and begins again with a snapshot.
"""

from bisect import bisect_left
from typing import NamedTuple

from services.book.publisher.once import Once


class Message(NamedTuple):
    """One message: it leads from `previous_sequence` to `sequence`, which may be many changes later."""

    sequence: int
    previous_sequence: int
    once: Once


class Window:
    """The newest messages, at positions that count up by one from 1.

    Attributes:
        head: the position of the newest message.
    """

    def __init__(self, lag_max: int, sequence: int = 0, changes: int = 0) -> None:
        """Empty.

        Args:
            lag_max: so many messages are kept at least.
            sequence: what the first message will lead on from.
            changes: beyond those, all that lead to one of the last so many sequences are kept.
        """
        assert lag_max > 0
        self.head = 0
        self._lag_max, self._changes = lag_max, changes
        self._first_sequence = sequence
        self._messages: dict[int, Message] = {}

    @property
    def tail(self) -> int:
        """The position before the oldest message that is still here: a reader there misses nothing."""
        return self.head - len(self._messages)

    def append(self, message: Message) -> None:
        """Adds the newest; the oldest go that need not be kept."""
        self.head += 1
        self._messages[self.head] = message
        # A reader that resumes at the window's very edge has the lag of any other reader before it falls out.
        past = self.head - self._lag_max
        if past <= self.tail:
            return
        sequence = self._messages[past].sequence - self._changes
        while self._messages[oldest := self.tail + 1].sequence <= sequence:
            self._first_sequence = self._messages.pop(oldest).sequence

    def read(self, position: int, n: int) -> list[Message]:
        """The at most `n` messages after a position that is not before `tail`."""
        assert self.tail <= position <= self.head
        messages = self._messages
        return [messages[each] for each in range(position + 1, min(position + n, self.head) + 1)]

    def position_of(self, sequence: int) -> int | None:
        """Where a reader goes on who has everything up to a sequence; None if no message that is here ends there."""
        positions = range(self.tail, self.head + 1)
        place = bisect_left(positions, sequence, key=self._sequence_at)
        found = place < len(positions) and self._sequence_at(positions[place]) == sequence
        return positions[place] if found else None

    def _sequence_at(self, position: int) -> int:
        message = self._messages.get(position)
        return self._first_sequence if message is None else message.sequence


class Reader:
    """One reader's place in a window.

    It may fall `lag_max` messages behind. One that begins further behind, because it resumes, may stay so until it has
    caught up: nobody who asked within the window is turned away for having asked late.
    """

    def __init__(self, window: Window, position: int, lag_max: int) -> None:
        """At `position`: the messages after it follow."""
        self._window = window
        self._position = position
        self._lag_max = lag_max
        self._allowed = window.head - position + lag_max

    @property
    def lag(self) -> int:
        """How many messages are waiting."""
        return self._window.head - self._position

    def take(self, n: int) -> list[Message] | None:
        """The next messages, at most `n`, none if there are none; None if too many are waiting: see `skip`."""
        if self.lag > self._allowed or self._position < self._window.tail:
            return None
        if self.lag <= self._lag_max:
            self._allowed = self._lag_max
        messages = self._window.read(self._position, n)
        self._position += len(messages)
        return messages

    def skip(self) -> None:
        """Leaves out all that is waiting: the reader gets a snapshot instead."""
        self._position = self._window.head
        self._allowed = self._lag_max
