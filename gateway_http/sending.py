"""What waits for a WebSocket is sent."""

from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from services.errors import Rejected


class Source(Protocol):
    """What waits for one socket."""

    async def next(self) -> str:
        """The next message. Raises Rejected: why there is none any more."""
        ...


async def send_until_closed(socket: WebSocket, source: Source) -> Rejected | None:
    """Sends what waits, until the client has gone (None) or until there is no more to send: why."""
    try:
        while True:
            await socket.send_text(await source.next())
    except Rejected as why:
        return why
    except (WebSocketDisconnect, RuntimeError):
        return None  # it has gone: Starlette says so in either way
