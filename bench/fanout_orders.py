"""Whether who places orders feels those who watch: ``python bench/fanout.py --orders``.

The whole exchange on SQLite; 300 orders a second, sent when they are due whether or not those before are answered, by
gRPC and by REST; in turn without and with 1,000 WebSocket clients, niced, that are told of the market every 100 ms. A
latency is from when the order was due.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from bench.e2e import welcomed
from bench.fanout_sockets import NICE, SECONDS_TO_MS
from bench.load import USERS, Job, Order, orders, sender
from tests.processes import cpu_seconds
from tests.suite import Suite

ORDERS_A_SECOND: Final = 300
ROUNDS: Final = 3
SOCKETS: Final = 1_000
CALLERS: Final = 64
SETTLE_SECONDS: Final = 3.0
STREAM: Final = "/ws/marketdata?pair=BTC-USD&conflation=100_milliseconds"
SPENDERS: Final = ("gateway", "book", "publisher", "http")
CHAIN: Final = "devchain"
"""It stands in for what is elsewhere, and would take the processor for a quarter of a second at a time."""
WIDTH: Final = 11
READERS: Final = str(Path(__file__).with_name("fanout_sockets.py"))
Kind = Literal["grpc", "rest"]


@asynccontextmanager
async def watched(address: str, count: int, seconds: float) -> AsyncIterator[None]:
    """So many sockets read, from now on for so long at least."""
    if not count:
        yield
        return
    argv = (READERS, "read", "--address", address, "--path", STREAM, "--readers", str(count))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *argv, "--seconds", str(seconds), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"begins\n"
        yield
    finally:
        process.terminate()
        await process.wait()


async def latencies(kind: Kind, address: str, tag: str, seconds: float) -> list[float]:
    """Of the orders of so many seconds, in seconds."""
    job = Job(kind, False, address, CALLERS, 0, seconds, tag, seed=len(tag))
    free, found, wrong = asyncio.Queue[int](), list[float](), list[str]()
    for caller in range(CALLERS):
        free.put_nowait(caller)
    async with sender(job) as way:
        began = time.monotonic()

        async def place(order: Order, due: float) -> None:
            caller = await free.get()
            ended_ns, answer = await way.send(order, caller)
            free.put_nowait(caller)
            found.append(ended_ns / 1e9 - due)
            wrong.extend(filter(None, [way.wrong(order, answer)]))

        async with asyncio.TaskGroup() as group:
            for number, order in enumerate(islice(orders(job), int(seconds * ORDERS_A_SECOND))):
                due = began + number / ORDERS_A_SECOND
                await asyncio.sleep(due - time.monotonic())
                group.create_task(place(order, due))
    assert not wrong, wrong[0]
    return found


def cpu_ms(suite: Suite) -> Counter[str]:
    """What the exchange's processes have used."""
    return Counter({name: round(cpu_seconds(suite.pid(name)) * SECONDS_TO_MS) for name in SPENDERS})


async def compare(seconds: float) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite.embedded(Path(folder))
        try:
            await suite.start_all()
            os.setpriority(os.PRIO_PROCESS, suite.pid(CHAIN), os.getpriority(os.PRIO_PROCESS, 0) + NICE)
            async with suite.clients() as clients:
                for number in range(USERS):
                    await welcomed(clients, number)
            found = defaultdict[tuple[Kind, int], list[list[float]]](list)
            spent = defaultdict[tuple[Kind, int], Counter[str]](Counter)
            addresses: dict[Kind, str] = {"grpc": suite.gateway, "rest": str(suite.plan.http)}
            for turn in range(ROUNDS):
                for count in (0, SOCKETS):
                    async with watched(str(suite.plan.http), count, 4 * seconds + 4 * SETTLE_SECONDS):
                        for kind, address in addresses.items():
                            await latencies(kind, address, f"warm-{turn}-{count}-{kind}", SETTLE_SECONDS)
                            before, tag = cpu_ms(suite), f"{turn}-{count}-{kind}"
                            found[kind, count].append(await latencies(kind, address, tag, seconds))
                            spent[kind, count].update(cpu_ms(suite))
                            spent[kind, count].subtract(before)
        finally:
            await suite.stop_all()
    columns = "".join(f"{name:>{WIDTH}}" for name in SPENDERS)
    print(f"{'':6}{'sockets':>8}{'p50 ms':>10}{'p99 ms':>10}{columns}   99th percentiles of each round")
    for (kind, count), rounds in sorted(found.items()):
        cut = statistics.quantiles([each for one in rounds for each in one], n=100)
        p99s = ", ".join(f"{statistics.quantiles(one, n=100)[98] * SECONDS_TO_MS:.1f}" for one in rounds)
        cpu = "".join(f"{spent[kind, count][name] / SECONDS_TO_MS / seconds / ROUNDS:{WIDTH}.0%}" for name in SPENDERS)
        print(f"{kind:6}{count:8}{cut[49] * SECONDS_TO_MS:10.1f}{cut[98] * SECONDS_TO_MS:10.1f}{cpu}   {p99s}")
