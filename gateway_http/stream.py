"""WS /ws/marketdata: the order book on connect, then at every change.

Close codes: 1008 with a reason for an unknown pair or too many sockets, 1012 when the server closes, 1011 when market
data cannot be had. What clients send is read and ignored.
"""

import asyncio
from typing import Final

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from gateway_http.feeds import Feed, Subscriber
from gateway_http.state import State
from services.errors import Reason, Rejected
from services.runtime import metrics
from services.runtime.run import Closed

PAIR_DEFAULT: Final = "BTC-USD"
SOCKETS_MAX: Final = 2_000
GOING_AWAY, POLICY, BROKEN = 1012, 1008, 1011

router = APIRouter()
_open_sockets = metrics.gauge("http_sockets", "WebSocket connections that are open")


@router.websocket("/ws/marketdata")
async def market_data(socket: WebSocket, pair: str = PAIR_DEFAULT) -> None:
    """Sends the documented orderbook_update of one market."""
    state: State = socket.app.state.clearbook
    await socket.accept()
    if state.sockets >= SOCKETS_MAX:
        await socket.close(POLICY, "too many sockets")
        return
    state.sockets += 1
    _open_sockets.set(state.sockets)
    try:
        async with state.closing.guard():
            await _serve(socket, state, pair)
    except Closed:
        await _close(socket, GOING_AWAY, "the server is closing; connect again")
    finally:
        state.sockets -= 1
        _open_sockets.set(state.sockets)


async def _serve(socket: WebSocket, state: State, pair: str) -> None:
    try:
        feed = await state.feeds.feed(pair)
        await feed.current()
    except Rejected as error:
        await _close(socket, POLICY if error.reason is Reason.MARKET_NOT_FOUND else BROKEN, error.message)
        return
    subscriber = Subscriber()
    subscriber.put(feed.frame())
    feed.subscribers.add(subscriber)
    try:
        await _until_gone(socket, feed, subscriber)
    finally:
        feed.subscribers.discard(subscriber)


async def _until_gone(socket: WebSocket, feed: Feed, subscriber: Subscriber) -> None:
    """Sends frames until the client has gone. A client that does not read is ended by TCP_USER_TIMEOUT."""
    reading = asyncio.create_task(_read(socket), name=f"socket {feed.market}")
    sending = asyncio.create_task(_send(socket, subscriber), name=f"frames {feed.market}")
    try:
        await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (reading, sending):
            task.cancel()
        await asyncio.gather(reading, sending, return_exceptions=True)


async def _read(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _send(socket: WebSocket, subscriber: Subscriber) -> None:
    try:
        while True:
            await socket.send_text(await subscriber.next())
    except (WebSocketDisconnect, RuntimeError):
        return  # it has gone: Starlette says so in either way


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Closes; a client that has gone already is fine."""
    try:
        await socket.close(code, reason)
    except (WebSocketDisconnect, RuntimeError):
        return
