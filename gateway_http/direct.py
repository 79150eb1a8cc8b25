"""Frames that are encoded already, written to the transport itself.

ASGI has no words for them: a message to a socket is an awaited call through each layer, and a frame made for it alone.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

EXTENSION: Final = "clearbook.direct"

Write = Callable[[bytes], bool]
"""Writes whole frames now; False: it cannot, the usual way is to be taken."""


def never(_frames: bytes) -> bool:
    """The `Write` of a server that has none."""
    return False


class DirectProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, which gives applications a `Write` in the scope's extensions."""

    def handle_connect(self, event: Request) -> None:
        """Begins the application's task, which runs later."""
        super().handle_connect(event)
        if not self.close_sent:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = {"write": self._write}

    def _write(self, frames: bytes) -> bool:
        opened = self.conn.state is State.OPEN and not self.close_sent and not self.transport.is_closing()
        if not (opened and self.writable.is_set()):
            return False
        self.transport.write(frames)
        return True


def write_of(scope: Any) -> Write:
    """That of a WebSocket's scope."""
    extension = scope.get("extensions", {}).get(EXTENSION)
    write: Write = extension["write"] if extension else never
    return write


class Line:
    """Where a socket's sender waits until there is something to send: while it does, frames may go past it."""

    def __init__(self, write: Write) -> None:
        """Nobody waits yet, so nothing goes past."""
        self._write = write
        self._waits = False
        self._woken = asyncio.Event()

    def goes_past(self, frames: bytes) -> bool:
        """Whether the frames are written: nothing waits before them, and the client keeps up."""
        return self._waits and self._write(frames)

    def wake(self) -> None:
        """There is something to send."""
        self._waits = False
        self._woken.set()

    async def wait(self) -> None:
        """Returns after the next `wake`."""
        self._woken.clear()
        self._waits = True
        try:
            await self._woken.wait()
        finally:
            self._waits = False
