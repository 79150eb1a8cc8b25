"""WS /ws/marketdata: the order book on connect, then at every change; and, to who logs on, the account.

Close codes: 1008 with a reason for an unknown pair, too many sockets or too many messages, 1012 when the server or the
session's keeper closes, 4401 when the session's credential is no longer good, 1011 when market data cannot be had. What
clients send that is no request is read and ignored. A page of somebody else's gets no socket: see origins.py.
"""

import asyncio
from typing import Any, Final

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from gateway_http.feeds import Subscriber
from gateway_http.limits import Limits, peer_of
from gateway_http.private import Private, last_words, request_in
from gateway_http.state import State
from services.errors import Reason, Rejected
from services.runtime.limits import of_ip
from services.runtime.run import Closed

PAIR_DEFAULT: Final = "BTC-USD"
GOING_AWAY, POLICY, BROKEN, LOGGED_OUT = 1012, 1008, 1011, 4401
CODES: Final = {Reason.RATE_LIMITED: POLICY, Reason.UNAUTHENTICATED: LOGGED_OUT}
"""Why a socket ends by itself; for all else the client may connect again."""
LAST_WORDS_SECONDS_MAX: Final = 2.0

router = APIRouter()


@router.websocket("/ws/marketdata")
async def market_data(socket: WebSocket, pair: str = PAIR_DEFAULT) -> None:
    """Sends the documented orderbook_update of one market."""
    state: State = socket.app.state.clearbook
    await socket.accept()
    try:
        with state.limits.socket(peer_of(socket)):
            async with state.closing.guard():
                await _serve(socket, state, pair)
    except Rejected as refused:
        await _end(socket, refused, POLICY)
    except Closed:
        await _close(socket, GOING_AWAY, "the server is closing; connect again")


async def _serve(socket: WebSocket, state: State, pair: str) -> None:
    try:
        feed = await state.feeds.feed(pair)
        await feed.current()
    except Rejected as error:
        if error.reason is Reason.MARKET_NOT_FOUND:
            await _close(socket, POLICY, error.message)
        else:
            await _end(socket, error, BROKEN)
        return
    subscriber = Subscriber()
    subscriber.put(feed.frame())
    feed.subscribers.add(subscriber)
    try:
        last = await _until_gone(socket, state, subscriber)
    finally:
        feed.subscribers.discard(subscriber)
    if last is not None:
        await _end(socket, last, CODES.get(last.reason, GOING_AWAY))


async def _until_gone(socket: WebSocket, state: State, subscriber: Subscriber) -> Rejected | None:
    """Sends frames and answers until the client has gone, or until it is to be told why it has to.

    A client that does not read is ended by TCP_USER_TIMEOUT.
    """
    async with asyncio.TaskGroup() as group:
        private = Private(state.forward, peer_of(socket), subscriber, group)
        reading = group.create_task(_read(socket, private, state.limits), name="socket")
        sending = group.create_task(_send(socket, subscriber), name="frames")
        first: set[asyncio.Future[Any]] = {reading, sending, private.ended}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, sending):
            task.cancel()
        private.close()
    if private.ended.done():
        return private.ended.result()
    return None if reading.cancelled() else reading.result()


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


async def _send(socket: WebSocket, subscriber: Subscriber) -> None:
    try:
        while True:
            await socket.send_text(await subscriber.next())
    except (WebSocketDisconnect, RuntimeError):
        return  # it has gone: Starlette says so in either way


async def _end(socket: WebSocket, why: Rejected, code: int) -> None:
    """Says why, and when to come again where that helps, and closes."""
    try:
        async with asyncio.timeout(LAST_WORDS_SECONDS_MAX):
            await socket.send_text(last_words(why))
            await socket.close(code, why.message)
    except (WebSocketDisconnect, RuntimeError, TimeoutError):
        return


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Closes; a client that has gone already is fine."""
    try:
        await socket.close(code, reason)
    except (WebSocketDisconnect, RuntimeError):
        return
