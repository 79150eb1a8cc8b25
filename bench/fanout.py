"""What it costs to tell many: ``python bench/fanout.py`` changes one market 1,000 times a second under the publisher,
and beside it, in turn, under the floor: a bare grpcio server that sends bytes of the same kind to all of its readers.

Each server is a process of its own, and so are the readers. A message's delay is from the time that it bears, which is
when the change was made, to when a reader has it. On a busy machine look at the server's CPU for one message.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from clearbook.v1 import book_service_pb2 as pb

from services.book import model as m
from services.book.publisher import wire
from services.book.publisher.fold import Change
from services.runtime import log, rpc
from services.runtime.run import Closing, freeze_gc, run
from services.units import Asset, market_of
from tests.book_flow import Flow
from tests.fake_book import FakeBook
from tests.suite import free_ports, until

SERVICE = "clearbook.v1.BookService"
METHOD = f"/{SERVICE}/StreamOrderBook"
MARKET = "BTC-USD"
CHANGES_A_SECOND = 1_000
TURN_SECONDS = 0.005
"""The source wakes so often, and makes as many changes as are due: each is a commit of its own."""
WARM_SECONDS = 2.0
STREAMS_A_CHANNEL = 50
SAMPLED_STREAMS_MAX = 10
"""Whose messages are parsed for their time."""
READY_SECONDS_MAX = 60.0
NS_PER_MS = 1_000_000


async def change(book: FakeBook) -> None:
    """Changes the market at its rate, until it is canceled."""
    flow, started, made = book.flow, time.monotonic(), 0
    while True:
        due = int((time.monotonic() - started) * CHANGES_A_SECOND)
        for number in range(made, due):
            flow.place(1, m.SIDE_BUY, 2_000_000 + number % 50, 100).time_ns = time.time_ns()
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
                level = (2_000_000 + number % 50, 100 * number + 100)
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
    cut = statistics.quantiles(delays, n=100) if len(delays) > 1 else [0.0] * 99
    print(json.dumps({"messages": counts[0], "p50": cut[49], "p99": cut[98], "cut_off": count - len(late)}))


def cpu_seconds(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """What it holds in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@asynccontextmanager
async def publisher(folder: str, book: FakeBook) -> AsyncIterator[tuple[int, str]]:
    """The publisher as a process: its id and address."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    env = {"DATABASE_URL": f"sqlite:///{folder}/p.sqlite", "PUBLISHER_ADDRESS": address, "BOOK_ADDRESS": book.address}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.book.publisher"),
        env=os.environ | env | {"METRICS_PORT": "0", "LOG_LEVEL": "error"},
    )
    try:
        async with rpc.connect(address) as channel:
            await until(lambda: rpc.serves(channel, SERVICE, seconds_max=1.0), READY_SECONDS_MAX)
        yield process.pid, address
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def bare() -> AsyncIterator[tuple[int, str]]:
    """The floor as a process: its id and address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "floor"), stdout=asyncio.subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    try:
        yield process.pid, f"127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.terminate()
        await process.wait()


async def measure(name: str, server: tuple[int, str], count: int, seconds: float, conflation: str) -> None:
    """Prints a line of the table."""
    pid, address = server
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "read", "--address", address, "--readers", str(count)),
        *("--seconds", str(seconds), "--conflation", conflation),
        stdout=asyncio.subprocess.PIPE,
    )
    assert reader.stdout is not None
    await reader.stdout.readline()
    before, started = cpu_seconds(pid), time.monotonic()
    await reader.stdout.readline()
    spent, lasted = cpu_seconds(pid) - before, time.monotonic() - started
    memory = memory_mib(pid)
    found = json.loads(await reader.stdout.readline())
    await reader.wait()
    each = spent * 1e6 / max(found["messages"], 1)
    print(
        f"{name:22}{count:8}{found['messages'] / lasted:12,.0f}{found['p50']:10.1f}{found['p99']:10.1f}"
        f"{each:10.1f}{spent / lasted * 100:8.0f}{memory:9.0f}{found['cut_off']:9}",
        flush=True,
    )


async def compare(counts: list[int], seconds: float) -> None:
    """Prints the table."""
    columns = (("readers", 8), ("messages/s", 12), ("p50 ms", 10), ("p99 ms", 10), ("CPU µs", 10), ("CPU %", 8))
    print(" " * 22 + "".join(f"{name:>{width}}" for name, width in (*columns, ("MiB", 9), ("cut off", 9))))
    each, tenth = "CONFLATION_UNSPECIFIED", "CONFLATION_100_MILLISECONDS"
    for count in counts:
        for name, conflation in (("publisher", each), ("publisher, 100 ms", tenth)):
            with tempfile.TemporaryDirectory() as folder:
                async with FakeBook(Flow()) as book, publisher(folder, book) as server:
                    changing = asyncio.ensure_future(change(book))
                    await measure(name, server, count, seconds, conflation)
                    changing.cancel()
                    await asyncio.wait([changing])
        async with bare() as server:
            await measure("floor", server, count, seconds, each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", nargs="?", choices=["compare", "floor", "read"], default="compare")
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 10, 50, 500])
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
        asyncio.run(compare(arguments.readers, arguments.seconds))


if __name__ == "__main__":
    main()
