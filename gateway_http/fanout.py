"""The same messages to many sockets: encoded once, several in one write where they come fast, in turn with all others.

A round tells everybody what has come by its beginning; what comes meanwhile goes out together in the next one. How a
round is spread over time, turns.py decides.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from websockets.frames import Frame, Opcode

from gateway_http.turns import Turns, Work
from services.runtime import log

Message = TypeVar("Message")

logger = log.get("fanout")


class Batch(Generic[Message]):
    """Messages in their order.

    Attributes:
        messages: one at least.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        """Nothing is encoded yet."""
        self.messages = messages
        self._frames: dict[Callable[[Message], str], bytes] = {}

    def frames(self, text_of: Callable[[Message], str]) -> bytes:
        """What goes over a WebSocket: a server's frames are not masked, so they are the same for everybody."""
        frames = self._frames.get(text_of)
        if frames is None:
            texts = (text_of(message).encode() for message in self.messages)
            frames = self._frames[text_of] = b"".join(Frame(Opcode.TEXT, text).serialize(mask=False) for text in texts)
        return frames


class Reader(Protocol[Message]):
    """One who is told."""

    def take(self, batch: Batch[Message], /) -> None:
        """Takes what is new. Never waits."""


class Fanout(Generic[Message]):
    """Those who read the same. True if there is anybody."""

    def __init__(self, turns: Turns) -> None:
        """Nobody yet. `turns`: those of the process."""
        self._turns = turns
        self._since: dict[Reader[Message], int] = {}
        """From which message on each reads."""
        self._waiting: list[Message] = []
        self._told = 0
        """How many messages have gone before those that wait."""
        self._telling = False
        self._later: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._since)

    def add(self, reader: Reader[Message]) -> None:
        """One more, who is told what comes from now on."""
        self._since[reader] = self._told + len(self._waiting)

    def discard(self, reader: Reader[Message]) -> None:
        """One less: nothing more is told to it."""
        self._since.pop(reader, None)

    def tell(self, message: Message) -> None:
        """Sends a message to all who are here now, soon."""
        self._waiting.append(message)
        if not self._telling:
            self._telling = True
            self._turns.add(self._rounds())

    def tell_later(self, seconds: float, message: Callable[[], Message | None]) -> None:
        """Sends what is the message then (None: there is none), unless one is to be sent already, or nobody is here."""
        if self._since and self._later is None:
            self._later = asyncio.get_running_loop().call_later(seconds, self._tell_now, message)

    def _tell_now(self, message: Callable[[], Message | None]) -> None:
        self._later = None
        if self._since and (words := message()) is not None:
            self.tell(words)

    def _rounds(self) -> Work:
        while self._waiting:
            messages, self._waiting = self._waiting, []
            first, self._told = self._told, self._told + len(messages)
            batch = Batch(messages)
            for reader in list(self._since):
                self._give(reader, batch, first)
                yield
        self._telling = False

    def _give(self, reader: Reader[Message], batch: Batch[Message], first: int) -> None:
        since = self._since.get(reader, self._told)  # who has gone since the round began reads from nowhere on
        try:
            if since <= first:
                reader.take(batch)
            elif since < self._told:
                reader.take(Batch(batch.messages[since - first :]))
        except Exception as error:  # whatever it is: all others read on
            self.discard(reader)
            logger.warning("reader dropped", error=repr(error))
