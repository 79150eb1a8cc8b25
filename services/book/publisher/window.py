"""A window over the newest of an endless list of messages, and readers that each go at their own pace. Pure.

All subscribers read the same bytes out of one ring: a slow one costs a position, not a queue. Who falls further behind
than allowed is told so, and begins again with a snapshot.
"""

from typing import NamedTuple


class Message(NamedTuple):
    """One message, serialized once for everybody."""

    sequence: int
    previous_sequence: int
    data: bytes


class Window:
    """The newest `capacity` messages, at positions that count up by one.

    Attributes:
        head: the position of the newest message.
    """

    def __init__(self, capacity: int, head: int = 0) -> None:
        """Empty; the first message will be at `head` + 1."""
        assert capacity > 0
        self.head = head
        self._capacity = capacity
        self._base = head + 1
        self._ring: list[Message] = []

    @property
    def tail(self) -> int:
        """The position before the oldest message that is still here: a reader there misses nothing."""
        return self.head - len(self._ring)

    def append(self, message: Message) -> None:
        """Adds the newest; the oldest goes when there is no room."""
        self.head += 1
        if len(self._ring) < self._capacity:
            self._ring.append(message)
        else:
            self._ring[(self.head - self._base) % self._capacity] = message

    def read(self, position: int, n: int) -> list[Message]:
        """The at most `n` messages after a position that is not before `tail`."""
        assert self.tail <= position <= self.head
        start, stop = position + 1 - self._base, min(position + n, self.head) + 1 - self._base
        return [self._ring[i % self._capacity] for i in range(start, stop)]


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
