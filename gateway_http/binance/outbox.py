"""What waits for one socket. Bounded: who reads too slowly is cut off, for a stream with holes is none."""

from collections import deque
from collections.abc import Callable
from functools import cached_property
from operator import attrgetter
from typing import Any, Final

import msgspec

from gateway_http.direct import Line, Write, never
from gateway_http.fanout import Batch
from services.errors import Reason, Rejected

WAITING_MAX: Final = 2_000
CHARS_WAITING_MAX: Final = 4 * 1024 * 1024


class Frame:
    """One message of a stream, made into JSON once for all sockets."""

    def __init__(self, stream: str, words: Any) -> None:
        """`stream`: its name; `words`: what msgspec encodes."""
        self._stream = stream
        self.raw = msgspec.json.encode(words).decode()

    @cached_property
    def combined(self) -> str:
        """The same, with the stream's name."""
        return f'{{"stream":"{self._stream}","data":{self.raw}}}'


RAW: Final[Callable[[Frame], str]] = attrgetter("raw")
COMBINED: Final[Callable[[Frame], str]] = attrgetter("combined")


class Outbox:
    """Messages to one socket.

    Attributes:
        combined: frames go with their stream's name.
    """

    def __init__(self, write: Write = never, *, combined: bool) -> None:
        """Nothing waits yet. `write`: past the sender, while it waits for more."""
        self.combined = combined
        self._waiting: deque[str] = deque()
        self._chars = 0
        self._line = Line(write)
        self._too_slow = False

    def take(self, batch: Batch[Frame]) -> None:
        """Adds streams' messages, or writes them at once."""
        if not self._line.goes_past(batch.frames(COMBINED if self.combined else RAW)):
            for frame in batch.messages:
                self.put(frame)

    def put(self, frame: Frame) -> None:
        """Adds a stream's message."""
        self.say(frame.combined if self.combined else frame.raw)

    def say(self, text: str) -> None:
        """Adds a message; one more than there may be is the last."""
        if len(self._waiting) >= WAITING_MAX or self._chars >= CHARS_WAITING_MAX:
            self._too_slow = True
            self._waiting.clear()
        if not self._too_slow:
            self._waiting.append(text)
            self._chars += len(text)
        self._line.wake()

    async def next(self) -> str:
        """The next message. Raises Rejected(LAGGED): the reader is too slow."""
        while not self._waiting:
            if self._too_slow:
                raise Rejected(Reason.LAGGED)
            await self._line.wait()
        text = self._waiting.popleft()
        self._chars -= len(text)
        return text
