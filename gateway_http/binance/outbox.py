"""What waits for one socket. Bounded: who reads too slowly is cut off, for a stream with holes is none."""

import asyncio
from collections import deque
from functools import cached_property
from typing import Any, Final

import msgspec

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


class Outbox:
    """Messages to one socket.

    Attributes:
        combined: frames go with their stream's name.
    """

    def __init__(self, *, combined: bool) -> None:
        """Nothing waits yet."""
        self.combined = combined
        self._waiting: deque[str] = deque()
        self._chars = 0
        self._news = asyncio.Event()
        self._too_slow = False

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
        self._news.set()

    async def next(self) -> str:
        """The next message. Raises Rejected(LAGGED): the reader is too slow."""
        while not self._waiting:
            if self._too_slow:
                raise Rejected(Reason.LAGGED)
            self._news.clear()
            await self._news.wait()
        text = self._waiting.popleft()
        self._chars -= len(text)
        return text
