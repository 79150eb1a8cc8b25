"""WS /ws/marketdata: the order book on connect, then at every change; what is subscribed; to who logs on, the account.

Close codes: 1008 with a reason for an unknown pair, too many sockets or too many messages, 1012 when the server or the
session's keeper closes, 1013 for who reads too slowly and wanted to be told so, 4401 when the session's credential is
no longer good, 1011 when market data cannot be had. What clients send that is no request is read and ignored. A page of
somebody else's gets no socket: see origins.py.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, WebSocket
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect

from gateway_http.closing import (
    BROKEN,
    GOING_AWAY,
    LOGGED_OUT,
    POLICY,
    TOO_SLOW,
    close_reason,
)
from gateway_http.direct import write_of
from gateway_http.errors import upgrade_required
from gateway_http.feeds import CONFLATIONS, Subscriber
from gateway_http.limits import Limits, peer_of
from gateway_http.private import Private, last_words, request_in
from gateway_http.sending import send_until_closed
from gateway_http.state import State
from services.errors import Reason, Rejected
from services.runtime.limits import of_ip
from services.runtime.run import Closed

PAIR_DEFAULT: Final = "BTC-USD"
SLOW_READERS: Final = (SKIPS := "conflate", "disconnect")
CODES: Final = {
    Reason.RATE_LIMITED: POLICY,
    Reason.INVALID_FIELD: POLICY,
    Reason.LAGGED: TOO_SLOW,
    Reason.UNAUTHENTICATED: LOGGED_OUT,
}
"""Why a socket ends by itself; for all else the client may connect again."""
LAST_WORDS_SECONDS_MAX: Final = 2.0

Show = Callable[[bool], None]
"""Has the documented channel sent, beginning with the book as it is, or no longer."""

router = APIRouter()


@router.get("/ws/marketdata", include_in_schema=False)
async def no_socket() -> Response:
    """Plain HTTP, by mistake."""
    return upgrade_required()


@router.websocket("/ws/marketdata")
async def market_data(
    socket: WebSocket, pair: str = PAIR_DEFAULT, conflation: str = "", slow_reader: str = SKIPS
) -> None:
    """Sends the documented orderbook_update of one market.

    Args:
        socket: not accepted yet.
        pair: the market.
        conflation: how often, "100_milliseconds" or "1_second"; at each change if it is empty.
        slow_reader: what is to be done with one.
    """
    state: State = socket.app.state.clearbook
    await socket.accept()
    for name, value, known in (("slow_reader", slow_reader, SLOW_READERS), ("conflation", conflation, CONFLATIONS)):
        if value not in known:
            await _close(socket, POLICY, f"{name} is one of {', '.join(filter(None, known))}")
            return
    try:
        with state.limits.socket(peer_of(socket)):
            async with state.closing.guard():
                await _serve(socket, state, pair, CONFLATIONS[conflation], patient=slow_reader == SKIPS)
    except Rejected as refused:
        await _end(socket, refused, POLICY)
    except Closed:
        await _close(socket, GOING_AWAY, "the server is closing; connect again")


async def _serve(socket: WebSocket, state: State, pair: str, seconds: float, *, patient: bool) -> None:
    try:
        feed = await state.feeds.feed(pair)
        await feed.current()
    except Rejected as error:
        if error.reason is Reason.MARKET_NOT_FOUND:
            await _close(socket, POLICY, error.message)
        else:
            await _end(socket, error, BROKEN)
        return
    subscriber, readers = Subscriber(write_of(socket.scope), patient=patient), feed.subscribers[seconds]

    def show(on: bool) -> None:
        readers.discard(subscriber)
        if on:
            if feed.live:  # else all are told when it is again
                subscriber.put(feed.frame())
            readers.add(subscriber)
        else:
            subscriber.forget_frames()

    show(True)
    try:
        last = await _until_gone(socket, state, subscriber, show)
    finally:
        readers.discard(subscriber)
    if last is not None:
        await _end(socket, last, CODES.get(last.reason, GOING_AWAY))


async def _until_gone(socket: WebSocket, state: State, subscriber: Subscriber, show: Show) -> Rejected | None:
    """Sends frames and answers until the client has gone, or until it is to be told why it has to.

    A client that does not read is ended by TCP_USER_TIMEOUT.
    """
    async with asyncio.TaskGroup() as group:
        private = Private(state.forward, state.market_data, peer_of(socket), subscriber, group, show)
        reading = group.create_task(_read(socket, private, state.limits), name="socket")
        sending = group.create_task(send_until_closed(socket, subscriber), name="frames")
        first: set[asyncio.Future[Any]] = {reading, sending, private.ended}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, sending):
            task.cancel()
        private.close()
    if private.ended.done():
        return private.ended.result()
    done = (task for task in (sending, reading) if not task.cancelled())
    return next((why for task in done if (why := task.result()) is not None), None)


async def _read(socket: WebSocket, private: Private, limits: Limits) -> Rejected | None:
    """Answers requests until the client has gone, or asks too much."""
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        try:
            limits.messages.take(of_ip(peer_of(socket)), {})
        except Rejected as rejected:
            return rejected
        request = request_in(message.get("text") or message.get("bytes") or "")
        if request is not None:
            await private.answer(request)
    return None


async def _end(socket: WebSocket, why: Rejected, code: int) -> None:
    """Says why, and when to come again where that helps, and closes."""
    try:
        async with asyncio.timeout(LAST_WORDS_SECONDS_MAX):
            await socket.send_text(last_words(why))
            await socket.close(code, close_reason(why.message))
    except (WebSocketDisconnect, RuntimeError, TimeoutError):
        return


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Closes; a client that has gone already is fine."""
    try:
        await socket.close(code, close_reason(reason))
    except (WebSocketDisconnect, RuntimeError):
        return
