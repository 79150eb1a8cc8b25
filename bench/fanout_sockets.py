"""The WebSocket side of fanout.py, as processes of their own: readers, and the floor that they are held against.

The floor is a bare server of `websockets`, which is the library under the shim's sockets: it makes the same text of the
same changes and broadcasts it, uncompressed, in the way that the library has for just that.

A reader knows when what it reads was due: a change adds as many lots as all before it to the price that is its turn,
so the levels tell which changes are in them, and the changes come at a fixed rate from a time that is given.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from typing import Any, Final, cast

import msgspec
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from gateway_http.wire import order_book_update
from services.runtime.run import Closing, freeze_gc, run

CHANGES_A_SECOND: Final = 1_000
TURN_SECONDS: Final = 0.005
"""The source wakes so often, and makes as many changes as are due."""
WARM_SECONDS: Final = 2.0
CONNECT_SECONDS_MAX: Final = 180.0
TOLD_A_TURN_MAX: Final = 20
"""Of the floor, which would otherwise do nothing else once it is behind: what is more is left out."""
LEVELS: Final = 20
"""As many as the documented message has: each change is in it."""
TICKS: Final = 2_000_000
LOTS: Final = 100
TICKS_A_UNIT: Final = 100
LOTS_A_UNIT: Final = 100_000
SAMPLED_SOCKETS_MAX: Final = 10
"""Whose messages are parsed for their time."""
CONNECTING_MAX: Final = 50
NICE: Final = 19
SECONDS_TO_MS: Final = 1_000
LENGTH_FOLLOWS: Final = 126
PING_BYTES: Final = 4
MESSAGE, PING, PONG = bytes([0x81, LENGTH_FOLLOWS]), bytes([0x89, PING_BYTES]), 0x8A
"""How frames begin: those of 126 bytes and more, a server's pings, a client's answers."""
HANDSHAKE: Final = (
    "GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


class _Level(msgspec.Struct):
    price: msgspec.Raw
    amount: msgspec.Raw


class _Book(msgspec.Struct):
    bids: list[_Level]


class _Update(msgspec.Struct):
    data: _Book


_updates = msgspec.json.Decoder(_Update)


def _scaled(number: msgspec.Raw, unit: int) -> int:
    whole, _, fraction = bytes(number).decode().partition(".")
    return int(whole) * unit + int(fraction.ljust(len(str(unit)) - 1, "0") or "0")


def newest_in(text: bytes) -> int:
    """The number of the last change that is in a message."""
    return max(
        (_scaled(level.amount, LOTS_A_UNIT) // LOTS - 1) * LEVELS + _scaled(level.price, TICKS_A_UNIT) - TICKS
        for level in _updates.decode(text).data.bids
    )


class Floor:
    """Broadcasts what the book would be."""

    def __init__(self) -> None:
        self._sockets = set[ServerConnection]()
        self._lots = [0] * LEVELS

    async def serve(self, socket: ServerConnection) -> None:
        self._sockets.add(socket)
        try:
            await socket.wait_closed()
        finally:
            self._sockets.discard(socket)

    async def run(self, closing: Closing, began: float) -> None:
        made = 0
        while not await closing.sleep(TURN_SECONDS):
            due = int((time.monotonic() - began) * CHANGES_A_SECOND)
            for number in range(made, due):
                self._lots[number % LEVELS] += LOTS
                if number >= due - TOLD_A_TURN_MAX:
                    broadcast(self._sockets, self._text())
            made = due

    def _text(self) -> str:
        levels = [
            (f"{(TICKS + at) // TICKS_A_UNIT}.{(TICKS + at) % TICKS_A_UNIT:02}", f"{lots / LOTS_A_UNIT:.5f}")
            for at, lots in enumerate(self._lots)
            if lots
        ]
        return order_book_update(levels[::-1], [])


async def floor(closing: Closing, began: float) -> None:
    """The floor as a process: prints its port."""
    sender = Floor()
    async with serve(sender.serve, "127.0.0.1", 0, compression=None, open_timeout=None, ping_interval=None) as server:
        freeze_gc()
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await sender.run(closing, began)


class Client(asyncio.Protocol):
    """Counts messages. One that is sampled takes them apart, and keeps each with the time when it came.

    All others look for what only begins a frame: messages are ASCII, and a thousand readers share a process.
    """

    def __init__(self, path: str, *, sampled: bool) -> None:
        self._path, self._rest, self._upgraded = path, b"", False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.messages, self.open = 0, True
        self.samples: list[tuple[float, bytes]] | None = [] if sampled else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not say that they are
        self.transport.write(HANDSHAKE.format(path=self._path).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("refused"))

    def data_received(self, data: bytes) -> None:
        if not self._upgraded:
            head, end, data = (self._rest + data).partition(b"\r\n\r\n")
            self._rest = b"" if end else head
            if not end or self.opened.done():
                return
            self._upgraded = True
            self.opened.set_result(None)
        if self.samples is not None:
            self._take_apart(self._rest + data, self.samples)
            return
        self.messages += data.count(MESSAGE)
        if (ping := data.find(PING)) >= 0:
            self._answer(data[ping + len(PING) :][:PING_BYTES])

    def _take_apart(self, data: bytes, samples: list[tuple[float, bytes]]) -> None:
        at = 0
        while len(data) >= at + 2:
            size, begin = data[at + 1], at + 2
            if size == LENGTH_FOLLOWS:
                begin += 2
                size = int.from_bytes(data[at + 2 : begin])
            if len(data) < begin + size:
                break
            payload = data[begin : begin + size]
            if data[at] == MESSAGE[0]:
                self.messages += 1
                samples.append((time.monotonic(), payload))
            elif data[at] == PING[0]:
                self._answer(payload)
            at = begin + size
        self._rest = data[at:]

    def _answer(self, ping: bytes) -> None:
        self.transport.write(bytes([PONG, 0x80 | len(ping), 0, 0, 0, 0]) + ping)


async def connected(address: str, path: str, count: int) -> list[Client]:
    """So many clients, all of them open."""
    host, _, port = address.rpartition(":")
    clients, room, loop = list[Client](), asyncio.Semaphore(CONNECTING_MAX), asyncio.get_running_loop()

    async def one(sampled: bool) -> None:
        async with room:
            _, client = await loop.create_connection(lambda: Client(path, sampled=sampled), host, int(port))
            clients.append(client)
            await client.opened

    async with asyncio.timeout(CONNECT_SECONDS_MAX), asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number < SAMPLED_SOCKETS_MAX))
    return clients


async def read(address: str, path: str, count: int, seconds: float, began: float) -> None:
    """Readers as a process: prints a line when it begins to count, one when it ends, and what it has counted."""
    clients = await connected(address, path, count)
    os.nice(NICE)
    await asyncio.sleep(WARM_SECONDS)
    for client in clients:
        client.messages = 0
        if client.samples:
            client.samples.clear()
    print("begins", flush=True)
    await asyncio.sleep(seconds)
    print("ends", flush=True)
    messages, gone = sum(client.messages for client in clients), sum(not client.open for client in clients)
    delays = [
        (at - began - newest_in(text) / CHANGES_A_SECOND) * SECONDS_TO_MS
        for client in clients
        for at, text in client.samples or []
        if began
    ]
    for client in clients:
        client.transport.abort()
    print(json.dumps(told(messages, delays, gone)))


def told(messages: int, delays: list[float], gone: int) -> dict[str, Any]:
    """What readers say in the end; delays in ms."""
    cut = statistics.quantiles(delays, n=100) if len(delays) > 1 else [0.0] * 99
    return {"messages": messages, "p50": cut[49], "p99": cut[98], "cut_off": gone}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["floor", "read"])
    parser.add_argument("--address", default="")
    parser.add_argument("--path", default="/")
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--began", type=float, default=0.0)
    asked = parser.parse_args()
    if asked.role == "floor":
        run(lambda closing: floor(closing, asked.began))
    uvloop.run(read(asked.address, asked.path, asked.readers, asked.seconds, asked.began))


if __name__ == "__main__":
    main()
