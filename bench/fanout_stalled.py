"""Whether readers feel others that have stalled: ``python bench/fanout_stalled.py`` changes one market for ten readers,
of the publisher by gRPC and of the shim by WebSocket, alone and beside a hundred that read their first message and no
other. In turn, a fresh server each, some rounds; ``fanout.py`` says what the columns are. The sockets' market changes
1,000 times a second. The streams' does so 200 times, for 110 streams of 1,000 messages a second are more than one core
tells: until the hundred are full and cut off, they cost what readers cost.
"""

import argparse
import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import grpc
from clearbook.v1 import book_service_pb2 as pb

from bench import fanout
from bench.fanout import FRAMES, MARKET, METHOD, SOCKETS, Row
from bench.fanout_sockets import HANDSHAKE
from services.runtime import log
from tests.narrow import narrow

HEALTHY, STALLED = 10, 100
STREAMS_RATE = 200
RECEIVE_BYTES = 4_096
READ = str(fanout.__file__)


@asynccontextmanager
async def stalled_streams(address: str, count: int) -> AsyncIterator[None]:
    """So many streams of the book that have begun, and of which nothing is read any more."""
    request = pb.StreamOrderBookRequest(market=MARKET).SerializeToString()
    async with AsyncExitStack() as stack:
        for _ in range(count):
            channel = await stack.enter_async_context(narrow(address))
            stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
            call = stream(request)
            await call.read()
            stack.callback(call.cancel)
        yield


@asynccontextmanager
async def stalled_sockets(address: str, count: int) -> AsyncIterator[None]:
    """So many WebSockets that have begun, and of which nothing is read any more."""
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            await asyncio.to_thread(client.connect, (host, int(port)))
            client.sendall(HANDSHAKE.format(path=FRAMES).encode())
        yield


async def compare(rounds: int, seconds: float) -> None:
    """Prints the table."""
    print(" " * 30 + "messages/s    p50 ms    p99 ms    CPU µs   CPU %      MiB  cut off")
    lasts = ("--seconds", str(seconds))
    for _ in range(rounds):
        for count in (0, STALLED):
            async with fanout.changing(STREAMS_RATE) as (server, _), stalled_streams(server[1], count):
                await fanout.measure(Row(f"gRPC, {count} stalled", HEALTHY, (READ, "read", *lasts)), server)
        for count in (0, STALLED):
            async with fanout.changing() as ((_, publishing), began), fanout.shim(publishing) as server:
                read = (str(SOCKETS), "read", *lasts, "--began", str(began), "--path", FRAMES)
                async with stalled_sockets(server[1], count):
                    await fanout.measure(Row(f"sockets, {count} stalled", HEALTHY, read), server)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    log.configure("fanout", "error")
    asyncio.run(compare(arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
