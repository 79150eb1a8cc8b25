"""What it costs to tell many: ``python bench/fanout.py`` changes one market 1,000 times a second under the publisher,
and the shim behind it, and beside them, in turn, under the floors: a bare grpcio server that sends bytes of the same
kind to all of its readers, and a bare server of `websockets` (fanout_sockets.py) that sends its sockets the same text.

Each server is a process of its own, and so are the readers. A message's delay is from when the change was made, or due,
to when a reader has it. On a busy machine look at the server's CPU for one message. ``--orders`` measures something
else: whether who places orders feels the sockets (fanout_orders.py).
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
from clearbook.v1 import book_service_pb2 as pb

from bench.fanout_orders import compare as compare_orders
from bench.fanout_sockets import CHANGES_A_SECOND, LEVELS, LOTS, TICKS, TURN_SECONDS, WARM_SECONDS, told
from services.book import model as m
from services.book.publisher import wire
from services.book.publisher.fold import Change
from services.runtime import log, rpc
from services.runtime.run import Closing, freeze_gc, run
from services.units import Asset, market_of
from tests.book_flow import Flow
from tests.fake_book import FakeBook
from tests.processes import cpu_seconds, memory_bytes
from tests.suite import free_ports, until

SERVICE = "clearbook.v1.BookService"
METHOD = f"/{SERVICE}/StreamOrderBook"
MARKET = "BTC-USD"
STREAMS_A_CHANNEL = 50
SAMPLED_STREAMS_MAX = 10
"""Whose messages are parsed for their time."""
READY_SECONDS_MAX = 60.0
NS_PER_MS = 1_000_000
SOCKETS = Path(__file__).with_name("fanout_sockets.py")
FRAMES, TENTHS = f"/ws/marketdata?pair={MARKET}", "conflation=100_milliseconds"


async def change(book: FakeBook, began: float, rate: int) -> None:
    """Changes the market so many times a second, each time by a commit of its own, until it is canceled."""
    flow, made = book.flow, 0
    while True:
        due = int((time.monotonic() - began) * rate)
        for number in range(made, due):
            flow.place(1, m.SIDE_BUY, TICKS + number % LEVELS, LOTS).time_ns = time.time_ns()
        made = due
        book.tell()
        await asyncio.sleep(TURN_SECONDS)


class Floor:
    """Sends a delta to all of its readers at the same rate: serialized once."""

    def __init__(self) -> None:
        self._readers: set[asyncio.Queue[bytes]] = set()

    async def stream(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._readers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._readers.discard(queue)

    async def run(self, closing: Closing) -> None:
        market = market_of(1, MARKET, Asset(1, "BTC", 18), Asset(2, "USD", 18), "0.01", "0.00001")
        started, made = time.monotonic(), 0
        while not await closing.sleep(TURN_SECONDS):
            due = int((time.monotonic() - started) * CHANGES_A_SECOND)
            for number in range(made, due):
                level = (TICKS + number % LEVELS, LOTS * number + LOTS)
                data = wire.delta(market, Change(number + 1, number, [level], [], number, time.time_ns()))
                for reader in self._readers:
                    reader.put_nowait(data)
            made = due


async def floor(closing: Closing) -> None:
    """The floor as a process: prints its port."""
    server, sender = grpc.aio.server(), Floor()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "StreamOrderBook": grpc.unary_stream_rpc_method_handler(sender.stream)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    freeze_gc()
    print(port, flush=True)
    await sender.run(closing)
    await server.stop(0)


async def read(address: str, count: int, seconds: float, conflation: str) -> None:
    """Readers as a process: prints a line when it begins to count, one when it ends, and what it has counted."""
    request = pb.StreamOrderBookRequest(market=MARKET, conflation=pb.Conflation.Value(conflation)).SerializeToString()
    delays, counts = list[float](), [0]
    begins = time.monotonic() + WARM_SECONDS
    ends = begins + seconds

    async def one(channel: grpc.aio.Channel, sampled: bool) -> None:
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
        async for data in stream(request):
            if begins <= time.monotonic() < ends:
                counts[0] += 1
                if sampled:
                    told = pb.StreamOrderBookResponse.FromString(data)
                    delays.append((time.time_ns() - told.delta.event_time.ToNanoseconds()) / NS_PER_MS)

    channels = [rpc.connect(address) for _ in range(-(-count // STREAMS_A_CHANNEL))]
    tasks = [
        asyncio.ensure_future(one(channels[number // STREAMS_A_CHANNEL], number < SAMPLED_STREAMS_MAX))
        for number in range(count)
    ]
    await asyncio.wait(tasks, timeout=begins - time.monotonic())
    print("begins", flush=True)
    _, late = await asyncio.wait(tasks, timeout=ends - time.monotonic())
    print("ends", flush=True)
    for task in late:
        task.cancel()
    await asyncio.wait(tasks)
    print(json.dumps(told(counts[0], delays, count - len(late))))


@asynccontextmanager
async def child(*argv: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that lives as long as the block."""
    told = {"METRICS_PORT": "0", "LOG_LEVEL": "error"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *argv, env=os.environ | told | env, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def publisher(folder: str, book: FakeBook) -> AsyncIterator[tuple[int, str]]:
    """The publisher as a process: its id and address."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    env = {"DATABASE_URL": f"sqlite:///{folder}/p.sqlite", "PUBLISHER_ADDRESS": address, "BOOK_ADDRESS": book.address}
    async with child("-m", "services.book.publisher", **env) as process, rpc.connect(address) as channel:
        await until(lambda: rpc.serves(channel, SERVICE, seconds_max=1.0), READY_SECONDS_MAX)
        yield process.pid, address


@asynccontextmanager
async def shim(publishing: str) -> AsyncIterator[tuple[int, str]]:
    """The shim as a process, with nobody to forward orders to: its id and address."""
    listening, nobody = free_ports(2)
    address = f"127.0.0.1:{listening}"
    env = {"HTTP_ADDRESS": address, "PUBLISHER_ADDRESS": publishing, "FORWARD_ADDRESS": f"127.0.0.1:{nobody}"}
    async with child("-m", "gateway_http", **env) as process, httpx.AsyncClient(base_url=f"http://{address}") as http:
        path = f"/api/v1/orderbook/{MARKET}"
        await until(lambda: _answers(http, path), READY_SECONDS_MAX)
        yield process.pid, address


async def _answers(http: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await http.get(path)).is_success
    except httpx.TransportError:
        return False


@asynccontextmanager
async def bare(*argv: str) -> AsyncIterator[tuple[int, str]]:
    """A floor as a process: its id and address."""
    async with child(*argv) as process:
        assert process.stdout is not None
        yield process.pid, f"127.0.0.1:{int(await process.stdout.readline())}"


class Row(NamedTuple):
    """What is measured."""

    name: str
    readers: int
    argv: tuple[str, ...]
    """The process of the readers."""


async def measure(row: Row, server: tuple[int, str]) -> None:
    """Prints a line of the table."""
    pid, address = server
    async with child(*row.argv, "--address", address, "--readers", str(row.readers)) as reader:
        assert reader.stdout is not None
        await reader.stdout.readline()
        before, started = cpu_seconds(pid), time.monotonic()
        await reader.stdout.readline()
        spent, lasted = cpu_seconds(pid) - before, time.monotonic() - started
        memory = memory_bytes(pid) / 2**20
        found = json.loads(await reader.stdout.readline())
    each = spent * 1e6 / max(found["messages"], 1)
    print(
        f"{row.name:22}{row.readers:8}{found['messages'] / lasted:12,.0f}{found['p50']:10.1f}{found['p99']:10.1f}"
        f"{each:10.1f}{spent / lasted * 100:8.0f}{memory:9.0f}{found['cut_off']:9}",
        flush=True,
    )


@asynccontextmanager
async def changing(rate: int = CHANGES_A_SECOND) -> AsyncIterator[tuple[tuple[int, str], float]]:
    """The publisher under so many changes a second: its id and address, and when they began."""
    with tempfile.TemporaryDirectory() as folder:
        async with FakeBook(Flow()) as book, publisher(folder, book) as server:
            began = time.monotonic()
            task = asyncio.ensure_future(change(book, began, rate))
            yield server, began
            task.cancel()
            await asyncio.wait([task])


async def compare(counts: list[int], sockets: list[int], seconds: float) -> None:
    """Prints the table."""
    columns = (("readers", 8), ("messages/s", 12), ("p50 ms", 10), ("p99 ms", 10), ("CPU µs", 10), ("CPU %", 8))
    print(" " * 22 + "".join(f"{name:>{width}}" for name, width in (*columns, ("MiB", 9), ("cut off", 9))))
    each, tenth = "CONFLATION_UNSPECIFIED", "CONFLATION_100_MILLISECONDS"
    lasts = ("--seconds", str(seconds))
    for count in counts:
        for name, conflation in (("publisher", each), ("publisher, 100 ms", tenth)):
            async with changing() as (server, _):
                await measure(Row(name, count, (__file__, "read", "--conflation", conflation, *lasts)), server)
        async with bare(__file__, "floor") as server:
            await measure(Row("floor", count, (__file__, "read", *lasts)), server)
    read_sockets = (str(SOCKETS), "read", *lasts)
    for count in sockets:
        async with changing() as ((_, publishing), began), shim(publishing) as server:
            reader = (*read_sockets, "--began", str(began))
            await measure(Row("shim, 100 ms", count, (*reader, "--path", f"{FRAMES}&{TENTHS}")), server)
            await measure(Row("shim", count, (*reader, "--path", FRAMES)), server)
        since = ("--began", str(time.monotonic()))
        async with bare(str(SOCKETS), "floor", *since) as server:
            await measure(Row("floor (websockets)", count, (*read_sockets, *since)), server)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", nargs="?", choices=["compare", "floor", "read"], default="compare")
    parser.add_argument("--readers", type=int, nargs="*", default=[1, 50, 500])
    parser.add_argument("--sockets", type=int, nargs="*", default=[1, 100, 1_000])
    parser.add_argument("--orders", action="store_true", help="what placing an order takes with and without sockets")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--address", default="")
    parser.add_argument("--conflation", default="CONFLATION_UNSPECIFIED")
    arguments = parser.parse_args()
    if arguments.role == "floor":
        run(floor)
    elif arguments.role == "read":
        asyncio.run(read(arguments.address, arguments.readers[0], arguments.seconds, arguments.conflation))
    else:
        log.configure("fanout", "error")
        work = compare_orders if arguments.orders else partial(compare, arguments.readers, arguments.sockets)
        asyncio.run(work(arguments.seconds))


if __name__ == "__main__":
    main()
