"""What a request waits for in a process that tells 1,000 sockets of a market ten times a second.

``python bench/fanout_turns.py``: a request is as many passes through the loop as an order of the shim makes (a socket
is read, the stream to order_gateway written and read, the answer written, and tasks wake in between), 300 a second, in
turn without and with sockets, whose other ends are read by a process of its own. What it waits for is the CPU time that
the process has spent by its end, so a busy machine does not count.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from functools import partial
from typing import Final, cast

import uvloop

from gateway_http.fanout import Batch, Fanout
from gateway_http.turns import Turns
from tests.suite import until

SOCKETS: Final = 1_000
INTERVAL_SECONDS: Final = 0.1
REQUESTS_A_SECOND: Final = 300
PASSES: Final = 8
TEXT: Final = "x" * 1_300
"""As long as the documented message with 20 levels."""
CONNECT_SECONDS_MAX: Final = 60.0
MICROSECONDS: Final = 1_000_000
READER: Final = """
import selectors, socket, sys
found = selectors.DefaultSelector()
for _ in range(int(sys.argv[2])):
    found.register(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), selectors.EVENT_READ)
while all(key.fileobj.recv(65536) for key, _ in found.select()):
    pass
"""


class Told(asyncio.Protocol):
    """One who is told, as a socket of the shim that keeps up."""

    def __init__(self, readers: Fanout[str]) -> None:
        self._readers = readers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's do not say that they are
        self._readers.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._readers.discard(self)

    def take(self, batch: Batch[str]) -> None:
        self._transport.write(batch.frames(str))


async def waited(ours: socket.socket, other: socket.socket) -> float:
    """What one request waits for, in seconds of this process's CPU time."""
    loop, began = asyncio.get_running_loop(), time.process_time()
    for _ in range(PASSES):
        other.send(b"x")
        await loop.sock_recv(ours, 1)
    return time.process_time() - began


async def requests(seconds: float) -> list[float]:
    """What those of so many seconds have waited for."""
    found, began = list[float](), time.monotonic()
    ours, other = socket.socketpair()
    with ours, other:
        ours.setblocking(False)
        for number in range(int(seconds * REQUESTS_A_SECOND)):
            await asyncio.sleep(began + number / REQUESTS_A_SECOND - time.monotonic())
            found.append(await waited(ours, other))
    return found


async def tell(readers: Fanout[str]) -> None:
    """Tells them so often, until it is canceled."""
    while True:
        readers.tell(TEXT)
        await asyncio.sleep(INTERVAL_SECONDS)


async def _are(readers: Fanout[str], count: int) -> bool:
    return len(readers) >= count


async def compare(seconds: float) -> None:
    """Prints the table."""
    print(f"{'sockets':>8}{'p50 µs':>10}{'p99 µs':>10}{'max µs':>10}")
    readers = Fanout[str](Turns())
    server = await asyncio.get_running_loop().create_server(lambda: Told(readers), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for count in (0, SOCKETS):
        process = (
            await asyncio.create_subprocess_exec(
                "nice", sys.executable, "-c", READER, str(port), str(count), stderr=subprocess.DEVNULL
            )
            if count
            else None
        )
        await until(partial(_are, readers, count), CONNECT_SECONDS_MAX)
        telling = asyncio.ensure_future(tell(readers))
        found = await requests(seconds)
        telling.cancel()
        await asyncio.wait([telling])
        cut = statistics.quantiles(found, n=100)
        print(f"{count:8}" + "".join(f"{each * MICROSECONDS:10.0f}" for each in (cut[49], cut[98], max(found))))
        if process is not None:
            process.terminate()
            await process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    uvloop.run(compare(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
