"""A hundred WebSocket clients that never read: gone within ten seconds, and nobody else is slowed."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager

import httpx
from clearbook.v1 import order_service_pb2 as orders
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from tests.e2e.conftest import Traded
from tests.processes import memory_bytes
from tests.suite import Clients, Suite, user

STALLED, HEALTHY = 100, 10
MEMORY_BYTES_MAX = 64 * 2**20
GONE_SECONDS_MAX = 10.0
FRAME_SECONDS_MAX = 2.0
LEVELS = 20
BUFFER_BYTES = 4_096
SUBSCRIBES_EACH = 5
SUBSCRIBE = json.dumps({
    "id": 1, "method": "subscribe", "params": {"subscriptions": [
        {"id": 1, "channel": "book", "market": "PAIR"}, {"id": 2, "channel": "book", "market": "PAIR", "detail": "l3"},
    ]},
})  # fmt: skip
HANDSHAKE = (
    "GET /ws/marketdata?pair={pair} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@contextmanager
def stalled(suite: Suite, pair: str) -> Iterator[list[socket.socket]]:
    """Sockets that are WebSockets by their first words and then never read again. Some have subscribed more."""
    with ExitStack() as stack:
        made = []
        for number in range(STALLED):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            client.connect(suite.plan.http)
            client.sendall(HANDSHAKE.format(pair=pair, host=suite.plan.http).encode())
            if number % SUBSCRIBES_EACH == 0:
                assert client.recv(BUFFER_BYTES).startswith(b"HTTP/1.1 101")
                client.sendall(Frame(Opcode.TEXT, SUBSCRIBE.replace("PAIR", pair).encode()).serialize(mask=True))
            made.append(client)
        yield made


async def sockets_open(http: httpx.AsyncClient) -> int:
    found = re.search(r"^clearbook_http_sockets (\d+)", (await http.get("/metrics")).text, re.MULTILINE)
    assert found
    return int(found[1])


async def quote(clients: Clients, market: Traded, number: int) -> None:
    """One more change of the book: levels come one after the other, then grow."""
    request = orders.PlaceOrderRequest(
        market=market.pair,
        side=orders.SIDE_SELL,
        type=orders.ORDER_TYPE_LIMIT,
        price=f"30000.{number % LEVELS:02d}",
        quantity="0.00001",
    )
    await clients.orders.PlaceOrder(request, metadata=user(market.seller), timeout=10)


async def test_stalled_sockets(suite: Suite, market: Traded, clients: Clients, http: httpx.AsyncClient) -> None:
    before, memory = await sockets_open(http), memory_bytes(suite.pid("http"))
    async with AsyncExitStack() as stack:
        url = f"ws://{suite.plan.http}/ws/marketdata?pair={market.pair}"
        healthy = [await stack.enter_async_context(connect(url)) for _ in range(HEALTHY)]
        for reader in healthy:
            await reader.recv()
        with stalled(suite, market.pair):
            while await sockets_open(http) < before + HEALTHY + STALLED:
                await asyncio.sleep(0.05)
            began, number, frames = time.monotonic(), 0, set[str | bytes]()
            while (there := await sockets_open(http)) > before + HEALTHY:
                assert time.monotonic() - began < GONE_SECONDS_MAX, f"{there} are still there"
                await quote(clients, market, number)
                async with asyncio.timeout(FRAME_SECONDS_MAX):
                    read = {await reader.recv() for reader in healthy}
                assert len(read) == 1, "all are told the same"
                assert not read & frames, "each change is told, once"
                frames |= read
                number += 1
    assert number > LEVELS
    assert memory_bytes(suite.pid("http")) - memory < MEMORY_BYTES_MAX
