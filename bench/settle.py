"""Settlement end to end: a settler as a process, Anvil, and a book that only pretends, with many trades waiting.

``python bench/settle.py [TRADES]``, after ``scripts/services start`` and ``eval "$(scripts/services env)"``: trades a
second from the first one that the settler can read to all of them MINED, gas a trade, and CPU of the settler a trade,
by the entries of a batch, among 20 accounts; then RabbitMQ beside a bare aiormq, turn by turn, on a quorum queue.

``python bench/settle.py --waiting TRADES``: the settler was down, and starts with so many trades waiting.
"""

import argparse
import asyncio
import os
import re
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiormq
from pamqp.commands import Basic

from services.runtime.amqp import PERSISTENT, WINDOW_MESSAGES, Consumer, Publisher, Topology
from tests.backends import DIRECTORY
from tests.settlers import SettlerProcess, anvil, eventually, fake_book, rows, running, settings

TRADES: Final = 10_000
USERS: Final = 20
BATCHES: Final = (50, 200, 500, 1_000)
"""Entries of a batch."""
BATCHES_WAITING: Final = (500,)
"""The settler's own."""
MESSAGES: Final = 3_000
MESSAGE_BYTES: Final = 400
TURNS: Final = 3
SECONDS_MAX: Final = 3_600.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
_SETTLED: Final = re.compile(r"gas\W{1,3}(\d+)")


def cpu_seconds(pid: int) -> float:
    """What a process has used, by the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def settle(trades: int, entries_max: int, *, waiting: bool = False) -> None:
    """One line of the table: what was there before the trades is final before they come.

    `waiting`: the settler ends before they come, and starts again when all are there; the start counts.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = f"sqlite:///{folder}/settler.sqlite"
        with running(anvil(folder, DIRECTORY)) as node:
            async with fake_book() as (book, address):
                book.open_market(users=USERS)
                given = settings(
                    database, address, node.url, settle_entries_max=entries_max, settle_age_ms=500, log_level="info"
                )
                process = SettlerProcess(folder, given)
                process.start()
                try:
                    await eventually(lambda: book.final_through == len(book.entries), seconds=SECONDS_MAX)
                    opened, last = len(process.log), len(book.entries) + trades
                    if waiting:
                        process.kill()
                    book.trades(trades, users=USERS)
                    began = time.perf_counter()
                    if waiting:
                        process.start()
                    assert process.child is not None
                    cpu = cpu_seconds(process.child.pid)
                    await eventually(lambda: mined(database) == last, seconds=SECONDS_MAX)
                    seconds = time.perf_counter() - began
                    used = cpu_seconds(process.child.pid) - cpu
                finally:
                    process.kill()
                gas = sum(int(found) for found in _SETTLED.findall(process.log[opened:]))
    print(
        f"| {entries_max} | {trades / seconds:,.0f} | {gas // trades:,} | {used / trades * 1e6:.0f} | {seconds:.1f} |",
        flush=True,
    )


def mined(database: str) -> int:
    """The last entry that is in a block."""
    query = "SELECT coalesce(max(last_sequence), 0) FROM batches WHERE void = 0 AND state BETWEEN 4 AND 6"
    return int(rows(database, query)[0][0])


async def _windowed(publish: Callable[[int], Awaitable[object]]) -> None:
    waiting = iter(range(MESSAGES))

    async def some() -> None:
        for number in waiting:
            await publish(number)

    await asyncio.gather(*(some() for _ in range(WINDOW_MESSAGES)))


async def ours(uri: str, topology: Topology) -> tuple[float, float]:
    """Seconds to have all messages confirmed, and to take and acknowledge them, by services.runtime.amqp."""
    async with Publisher(uri, topology) as publisher:
        began = time.perf_counter()
        await _windowed(lambda number: publisher.publish(bytes(MESSAGE_BYTES), f"m-{number}"))
        published = time.perf_counter() - began
    async with Consumer(uri, topology) as consumer:
        began, taken = time.perf_counter(), 0
        async for delivery in consumer:
            await delivery.ack()
            taken += 1
            if taken == MESSAGES:
                break
        return published, time.perf_counter() - began


async def bare(uri: str, topology: Topology) -> tuple[float, float]:
    """The same by aiormq alone: confirms, persistent messages, the same window."""
    connection = await aiormq.connect(uri)
    channel = await connection.channel(publisher_confirms=True)
    await topology.declare(channel)
    properties = Basic.Properties(delivery_mode=PERSISTENT)

    async def publish(_number: int) -> None:
        await channel.basic_publish(
            bytes(MESSAGE_BYTES), exchange=topology.exchange, routing_key=topology.queue, properties=properties
        )

    began = time.perf_counter()
    await _windowed(publish)
    published = time.perf_counter() - began
    over, taken = asyncio.Event(), 0

    async def take(message: aiormq.abc.DeliveredMessage) -> None:
        nonlocal taken
        assert message.delivery_tag is not None
        await channel.basic_ack(message.delivery_tag)
        taken += 1
        if taken == MESSAGES:
            over.set()

    await channel.basic_qos(prefetch_count=WINDOW_MESSAGES)
    began = time.perf_counter()
    await channel.basic_consume(topology.queue, take)
    await over.wait()
    seconds = time.perf_counter() - began
    await connection.close()
    return published, seconds


async def broker(uri: str) -> None:
    """Ours and the floor, one after the other, several times."""
    print("\n| RabbitMQ, messages/s | published | consumed |\n|---|---|---|")
    for turn in range(TURNS):
        for name, way in (("ours", ours), ("bare aiormq", bare)):
            label = f"bench-{name.split()[0]}-{os.getpid()}-{turn}"
            published, consumed = await way(uri, Topology(exchange=label, queue=label))
            print(f"| {name} | {MESSAGES / published:,.0f} | {MESSAGES / consumed:,.0f} |", flush=True)


async def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trades", type=int, nargs="?", default=TRADES)
    parser.add_argument("--waiting", action="store_true")
    asked = parser.parse_args()
    print("| entries a batch | trades/s | gas a trade | settler's CPU a trade, µs | seconds |\n|---|---|---|---|---|")
    for entries_max in BATCHES_WAITING if asked.waiting else BATCHES:
        await settle(asked.trades, entries_max, waiting=asked.waiting)
    if not asked.waiting and (uri := os.environ.get("RABBITMQ_URI")):
        await broker(uri)


if __name__ == "__main__":
    asyncio.run(main())
