"""A stand-in for Binance: one symbol's streams and snapshots, which misbehaves on command.

Its book is kept by the plainest code, apart from the mirror's. `play` applies an update and sends it; what a test does
to the connection is done to all that are open.
"""

from __future__ import annotations

import asyncio
import json
import lzma
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from tests.recordings import RECORDED

SYMBOL = "NKNUSDT"
STREAM_FILE = RECORDED / "binance-2021-10-12-depth100ms.ws.xz"
SNAPSHOT_FILE = RECORDED / "binance-2021-10-12-depth-snapshots.http.xz"
SECONDS_MAX = 5.0

Event = dict[str, Any]
"""The `data` of a message."""
Sides = dict[str, dict[str, str]]
""""b" and "a": price to quantity, as they are written."""


def recorded(symbol: str = SYMBOL) -> tuple[Event, list[Event]]:
    """A recorded snapshot, and the depth updates and quotes of its symbol, in their order."""
    snapshot = next(_json(line) for line in _lines(SNAPSHOT_FILE) if f"symbol={symbol}&" in line)
    found = (_json(line) for line in _lines(STREAM_FILE) if '{"stream":' in line)
    events = [item["data"] for item in found if item["stream"].rpartition("@")[0].startswith(symbol.lower())
              or item["stream"] == f"{symbol.lower()}@bookTicker"]  # fmt: skip
    return snapshot, [event for event in events if event.get("e", "depthUpdate") == "depthUpdate"]


def _lines(file: Path) -> list[str]:
    with lzma.open(file, "rt") as text:
        return text.readlines()


def _json(line: str) -> Any:
    return json.loads(line[line.index(": {") + 2 :])


def made(seed: int, price: int = 30_000) -> tuple[Event, Iterator[Event]]:
    """A made-up snapshot around a price, and updates that walk at random, for ever. Seeded."""
    source = random.Random(seed)
    middle = price * 100

    def level(cents: int) -> list[str]:
        return [f"{cents // 100}.{cents % 100:02}", f"{source.randint(1, 9)}.{source.randint(0, 999):03}"]

    bids, asks = ({middle + sign * (step * 50 + 25) for step in range(20)} for sign in (-1, 1))

    def updates(update: int) -> Iterator[Event]:
        now = middle
        while True:
            now += source.choice((-50, 0, 50))
            changed: Event = {"e": "depthUpdate", "s": SYMBOL, "U": update + 1, "u": update + source.randint(1, 3)}
            update = changed["u"]
            for name, held, sign in (("b", bids, -1), ("a", asks, 1)):
                goal = {now + sign * (step * 50 + 25) for step in range(20)}
                changed[name] = [[level(cents)[0], "0.000"] for cents in sorted(held - goal)]
                held.intersection_update(goal)
                fresh = (goal - held) | {source.choice(sorted(goal))}
                changed[name] += [level(cents) for cents in sorted(fresh)]
                held.update(fresh)
            yield changed

    first: Event = {"lastUpdateId": 1_000}
    first["bids"], first["asks"] = ([level(cents) for cents in sorted(held)] for held in (bids, asks))
    return first, updates(1_000)


class BinanceServer:
    """Attributes: `sides` and `update`, the book as it is; `stale`, a snapshot to answer instead of it; `snapshots`,
    how often one was asked for; `busy`, how many of these are answered 429.
    """

    def __init__(self, snapshot: Event) -> None:
        self.update: int = snapshot["lastUpdateId"]
        self.sides: Sides = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}
        self.stale: list[Event] = []
        self.snapshots = self.connections = self.busy = 0
        self.url = ""
        self.asked: list[str] = []
        self._sockets: set[web.WebSocketResponse] = set()
        self._opened = asyncio.Event()

    def whole(self) -> Event:
        """The book as a snapshot."""
        bids, asks = ([[price, quantity] for price, quantity in self.sides[name].items()] for name in ("b", "a"))
        return {"lastUpdateId": self.update, "bids": bids, "asks": asks}

    def apply(self, event: Event) -> None:
        """The book goes on, and nobody is told."""
        if "U" not in event or event["u"] <= self.update:
            return
        for name, side in self.sides.items():
            for price, quantity in event[name]:
                if float(quantity):
                    side[price] = quantity
                else:
                    side.pop(price, None)
        self.update = event["u"]

    async def play(self, *events: Event) -> None:
        """The book goes on, and all are told."""
        for event in events:
            self.apply(event)
            await self.send(event)

    async def send(self, event: Event) -> None:
        """All are told, of something that the book need not know."""
        kind = "bookTicker" if "e" not in event else "depth@100ms"
        timed = {**event, "E": time.time_ns() // 10**6}
        await self.say(json.dumps({"stream": f"{SYMBOL.lower()}@{kind}", "data": timed}))

    async def say(self, text: str) -> None:
        """Sends any text."""
        for socket in list(self._sockets):
            await socket.send_str(text)

    async def end(self, code: int = WSCloseCode.GOING_AWAY) -> None:
        """Closes all connections, as after 24 hours."""
        self._opened.clear()
        for socket in list(self._sockets):
            await socket.close(code=code)

    def cut(self) -> None:
        """All connections are gone, without a word."""
        self._opened.clear()
        for socket in list(self._sockets):
            transport = socket._req.transport if socket._req is not None else None
            assert transport is not None
            transport.abort()

    async def opened(self) -> None:
        """Waits until somebody is connected."""
        async with asyncio.timeout(SECONDS_MAX):
            await self._opened.wait()

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        self.asked = request.query["streams"].split("/")
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        self.connections += 1
        self._sockets.add(socket)
        self._opened.set()
        try:
            async for message in socket:
                assert message.type is not WSMsgType.TEXT, "the mirror says nothing"
        finally:
            self._sockets.discard(socket)
        return socket

    async def depth(self, request: web.Request) -> web.Response:
        assert request.query["symbol"] == SYMBOL
        self.snapshots += 1
        if self.busy:
            self.busy -= 1
            return web.Response(status=429, headers={"Retry-After": "0"})
        return web.json_response(self.stale.pop(0) if self.stale else self.whole())


@asynccontextmanager
async def running(snapshot: Event, port: int = 0) -> AsyncIterator[BinanceServer]:
    """A server; 0: on a free port."""
    server = BinanceServer(snapshot)
    app = web.Application()
    app.add_routes([web.get("/stream", server.stream), web.get("/api/v3/depth", server.depth)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


async def play_for_ever(port: int) -> None:
    """A made-up book that walks, ten updates a second, for whoever wants to see the mirror without an internet."""
    snapshot, events = made(seed=time.time_ns())
    async with running(snapshot, port) as server:
        print(f"{SYMBOL} at {server.url}", flush=True)
        for event in events:
            await server.play(event)
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(play_for_ever(int(sys.argv[1])))
