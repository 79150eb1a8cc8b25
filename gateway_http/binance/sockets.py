"""One WebSocket: what comes in is read, what waits is sent, until either side ends it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from gateway_http.binance.outbox import Outbox
from gateway_http.binance.refusals import Refused
from gateway_http.closing import GOING_AWAY, POLICY, close_reason
from gateway_http.limits import Limits, peer_of
from gateway_http.sending import send_until_closed
from services.errors import Reason, Rejected
from services.runtime.limits import of_ip

CLOSE_SECONDS_MAX: Final = 2.0
CODES: Final = {Reason.RATE_LIMITED: POLICY, Reason.LAGGED: POLICY, Reason.UNAUTHENTICATED: POLICY}
"""Why a socket ends; for all else the client may connect again."""

Take = Callable[[str | bytes], Awaitable[None]]


async def pump(
    socket: WebSocket, outbox: Outbox, limits: Limits, take: Take, ended: "asyncio.Future[Rejected] | None" = None
) -> Rejected | Refused | None:
    """Takes what comes and sends what waits, until the client has gone (None) or until it has to.

    A client that does not read is ended by TCP_USER_TIMEOUT.

    Args:
        socket: accepted.
        outbox: what is sent.
        limits: how many messages may come.
        take: does what a message asks for.
        ended: resolved when there is no more to tell.
    """
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_read(socket, limits, take), name="socket")
        sending = group.create_task(send_until_closed(socket, outbox), name="frames")
        first: set[asyncio.Future[Any]] = {reading, sending}
        if ended is not None:
            first.add(ended)
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, sending):
            task.cancel()
    if ended is not None and ended.done():
        return ended.result()
    done = [task for task in (sending, reading) if not task.cancelled()]
    return next((why for task in done if (why := task.result()) is not None), None)


async def _read(socket: WebSocket, limits: Limits, take: Take) -> Rejected | Refused | None:
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        try:
            limits.messages.take(of_ip(peer_of(socket)), {})
            await take(message.get("text") or message.get("bytes") or "")
        except (Rejected, Refused) as why:
            return why
    return None


async def accept(socket: WebSocket) -> None:
    """Opens a socket, unless it is open: one that is refused, too, is told why by its close code."""
    if socket.application_state is WebSocketState.CONNECTING:
        with suppress(OSError):  # it has gone: what reads will say so
            await socket.accept()


async def close(socket: WebSocket, why: Rejected | Refused) -> None:
    """Says why and closes; a client that has gone already is fine."""
    reason = why.reason if isinstance(why, Rejected) else None
    code = POLICY if reason is None else CODES.get(reason, GOING_AWAY)
    await close_with(socket, code, why.message)


async def close_with(socket: WebSocket, code: int, reason: str) -> None:
    """Closes with a code; a client that has gone already is fine."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await socket.close(code, close_reason(reason))
    except (WebSocketDisconnect, RuntimeError, TimeoutError):
        return
