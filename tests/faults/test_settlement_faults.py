"""Settlement under many faults of one kind: nothing lost, nothing twice. CLEARBOOK_SOAK=1 for the long counts."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.runtime.amqp import Consumer, Publisher, Topology, Unconfirmed, settlement_topology
from services.settler import wallet
from tests.backends import Backends
from tests.rpc_proxy import SEND, lost_reply, only, rpc_proxy
from tests.settlers import (
    FakeBook,
    Node,
    SettlerProcess,
    anvil,
    assert_balances,
    assert_in_order,
    assert_one_nonce_one_batch,
    contract_of,
    eventually,
    fake_book,
    rows,
    running,
    settings,
    settler,
)

pytestmark = [pytest.mark.backends]

SOAK = os.environ.get("CLEARBOOK_SOAK") == "1"
LOST_REPLIES = 500 if SOAK else 5
REORGS = 20 if SOAK else 2
RACES = 100 if SOAK else 3
SLEEPERS = 20 if SOAK else 1
DELIVERIES = 100_000 if SOAK else 500
BROKER_KILLS = 50 if SOAK else 1
CONFIRMED = 100_000 if SOAK else 2_000
"""Messages that the broker has confirmed while it was killed so often."""
MINED, FINAL, REORGED = 4, 6, 7
STEADY_SECONDS = 10.0
"""A quorum queue younger than that may lose what it confirmed."""


@pytest.fixture
def node(tmp_path: Path, backends: Backends) -> Iterator[Node]:
    with running(anvil(tmp_path, backends.directory)) as started:
        yield started


@pytest.fixture
async def book() -> AsyncIterator[tuple[FakeBook, str]]:
    async with fake_book() as started:
        yield started


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/settler.sqlite"


async def all_mined(fake: FakeBook, *databases: str) -> None:
    """Waits until every entry is in a block, as each settler has stored it."""
    for database in databases:
        await eventually(lambda database=database: mined_through(database) == len(fake.entries))  # type: ignore[misc]


def reorganised(database: str) -> int:
    """How often a batch was."""
    return len(rows(database, f"SELECT 1 FROM changes WHERE state = {REORGED}"))


def mined_through(database: str) -> int:
    """The last entry in a block, as the settler has stored it."""
    query = f"SELECT coalesce(max(last_sequence), 0) FROM batches WHERE void = 0 AND state BETWEEN {MINED} AND {FINAL}"
    return int(rows(database, query)[0][0])


async def test_lost_replies_to_sends(
    node: Node, book: tuple[FakeBook, str], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every reply to a raw transaction is lost after the node has taken it."""
    monkeypatch.setattr(wallet, "RESEND_SECONDS", 0.3)
    fake, address = book
    fake.open_market(users=2)
    async with rpc_proxy(node.url) as proxy:
        given = settings(database, address, proxy.url, settle_age_ms=0, settle_poll_ms=20)
        async with settler(given) as one:
            await one.settled(fake)
            proxy.fault = only(SEND, lost_reply())
            while proxy.hurt[SEND] < LOST_REPLIES:
                fake.trades(1, users=2)
                await one.settled(fake)
            assert_in_order(await one.history(), len(fake.entries))
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)


@pytest.mark.parametrize("depth", [1, 3, 8])
async def test_reorganisations(node: Node, book: tuple[FakeBook, str], database: str, depth: int) -> None:
    """Several batches are mined in the blocks that go."""
    fake, address = book
    fake.open_market(users=2)
    given = settings(database, address, node.url, settle_final_blocks=12, settle_confirmed_blocks=3, settle_poll_ms=20)
    async with settler(given) as one:
        await _until_final(node, fake)
        dice = random.Random(depth)
        for _ in range(REORGS):
            for _ in range(dice.randint(1, depth)):
                fake.trades(1, users=2)
                await all_mined(fake, database)
            head = int(node.rpc("eth_blockNumber"), 16)
            ((block,),) = rows(database, "SELECT max(block_number) FROM batches WHERE void = 0")
            assert head - block < depth
            before = reorganised(database)
            node.rpc("anvil_reorg", depth, [])
            await eventually(lambda before=before: reorganised(database) > before)  # type: ignore[misc]
            await all_mined(fake, database)
            one.check()
        await _until_final(node, fake)
        await one.healthy()
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)
    assert fake.refused == []


async def _until_final(node: Node, fake: FakeBook) -> None:
    """Mines until everything is final, and deep enough that no reorganisation of these tests reaches it."""
    async with asyncio.timeout(60):
        while fake.final_through < len(fake.entries):
            await asyncio.to_thread(node.rpc, "anvil_mine", "0x1")
            await asyncio.sleep(0.02)


async def test_races_of_two_settlers(node: Node, book: tuple[FakeBook, str], database: str, tmp_path: Path) -> None:
    """Two with databases of their own, so that no lease keeps them apart: one key, one contract, each entry once."""
    fake, address = book
    fake.open_market(users=4)
    async with settler(settings(database, address, node.url, settle_age_ms=0)) as first:
        await first.settled(fake)
        other = f"sqlite:///{tmp_path}/rival.sqlite"
        rival = settings(
            other,
            address,
            node.url,
            settle_age_ms=0,
            settlement_contract_address=contract_of(database),
            settler_gateway=101,
        )
        async with settler(rival) as second:
            await second.healthy()
            await all_mined(fake, other)
            for _ in range(RACES):
                fake.trades(3, users=4)
                await all_mined(fake, database, other)
            await first.settled(fake)
    await assert_balances(fake, node.url, contract_of(database))
    query = "SELECT first_sequence, last_sequence, chained FROM batches WHERE void = 0 ORDER BY first_sequence"
    ours, theirs = rows(database, query), rows(other, query)
    assert ours == theirs, "both know the same chain of batches"
    assert [first for first, _, _ in ours] == [1, *(last + 1 for _, last, _ in ours[:-1])]


@pytest.mark.slow
async def test_sleepers(node: Node, book: tuple[FakeBook, str], backends: Backends, tmp_path: Path) -> None:
    """Whoever holds the lease is frozen, another takes over, the sleeper wakes: it ends, and has settled nothing.

    On PostgreSQL: it ends the transaction of a process frozen within one, and SQLite's lock stays for ever.
    """
    fake, address = book
    fake.open_market(users=4)
    database = await backends.new_database()
    pair = [SettlerProcess(tmp_path, settings(database, address, node.url, settle_lease_ms=500)) for _ in range(2)]
    dice = random.Random(11)
    feeding = asyncio.create_task(_feed(fake))
    try:
        pair[0].start()
        await _leads(pair[0], "")
        for turn in range(SLEEPERS):
            holder, waiter = pair[turn % 2], pair[1 - turn % 2]
            before = waiter.log
            waiter.start()
            await eventually(lambda: "waiting for the lease" in waiter.log[len(before) :])  # noqa: B023
            await asyncio.sleep(dice.uniform(0, 0.5))
            assert holder.child is not None
            slept = holder.log
            holder.child.send_signal(signal.SIGSTOP)
            await _leads(waiter, before)
            through = fake.final_through
            await eventually(lambda: fake.final_through > through)  # noqa: B023
            holder.child.send_signal(signal.SIGCONT)
            assert await holder.ended() not in {0, 2}
            assert re.search("Superseded|idle-in-transaction timeout|connection was closed", holder.log[len(slept) :])
    finally:
        feeding.cancel()
        for each in pair:
            each.kill()
    async with settler(settings(database, address, node.url)) as one:
        await one.settled(fake)
        assert_in_order(await one.history(), len(fake.entries))
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)


async def _leads(process: SettlerProcess, before: str) -> None:
    await eventually(lambda: "holds the lease" in process.log[len(before) :])


async def _feed(fake: FakeBook) -> None:
    while True:
        fake.trades(2, users=4)
        await asyncio.sleep(0.1)


async def test_duplicated_and_reordered_deliveries(
    node: Node, book: tuple[FakeBook, str], database: str, backends: Backends
) -> None:
    """Each message comes several times, far from its place."""
    fake, address = book
    fake.open_market(users=4)
    fake.trades(DELIVERIES // 5 - len(fake.entries), users=4)
    uri, topology = await backends.new_vhost(), settlement_topology(0)
    bodies = [fake.message(n, n).SerializeToString() for n in range(1, len(fake.entries) + 1)] * 5
    dice = random.Random(5)
    for place in range(len(bodies)):  # within ten thousand places, so that the settler keeps up with the gaps
        other = min(len(bodies) - 1, place + dice.randrange(10_000))
        bodies[place], bodies[other] = bodies[other], bodies[place]
    given = settings(database, address, node.url, rabbitmq_uri=uri)
    async with Publisher(uri, topology) as publisher, settler(given) as one:
        await _publish_all(publisher, bodies)
        await one.settled(fake, seconds=600)
    assert rows(database, "SELECT count(*), min(settlement_sequence), max(settlement_sequence) FROM entries") == [
        (len(fake.entries), 1, len(fake.entries))
    ]
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)


@pytest.mark.slow
async def test_broker_kills_lose_nothing_that_was_confirmed(own_backends: Backends) -> None:
    uri, topology = await own_backends.new_vhost(), Topology(exchange="kills", queue="kills")
    confirmed: set[int] = set()
    taken: set[int] = set()
    again = 0
    over = asyncio.Event()

    async def taking(consumer: Consumer) -> None:
        nonlocal again
        async for delivery in consumer:
            number = int(delivery.body)
            again += number in taken
            taken.add(number)
            await delivery.ack()

    async with Publisher(uri, topology, window=64) as publisher, Consumer(uri, topology) as consumer:
        reading = asyncio.create_task(taking(consumer))
        writing = [asyncio.create_task(_confirmed(publisher, confirmed, place, over)) for place in range(64)]
        await asyncio.sleep(STEADY_SECONDS)
        for kill in range(BROKER_KILLS):
            await own_backends.broker_kill()
            before = len(confirmed)
            await own_backends.broker_start()
            share = CONFIRMED * (kill + 1) // BROKER_KILLS
            await eventually(lambda: len(confirmed) > max(before, share), seconds=300)  # noqa: B023
        over.set()
        await asyncio.gather(*writing)
        await eventually(lambda: confirmed <= taken, seconds=120)
        reading.cancel()
    assert len(confirmed) >= CONFIRMED
    print(f"{BROKER_KILLS} kills: {len(confirmed)} confirmed, 0 lost, {again} came again")


async def _confirmed(publisher: Publisher, confirmed: set[int], place: int, over: asyncio.Event) -> None:
    number = place
    while not over.is_set():
        try:
            await publisher.publish(str(number).encode(), f"m-{number}")
        except Unconfirmed:
            await asyncio.sleep(0.05)
            continue
        confirmed.add(number)
        number += 64


async def _publish_all(publisher: Publisher, bodies: list[bytes]) -> None:
    """Each once; 64 at a time."""
    waiting = iter(enumerate(bodies))

    async def some() -> None:
        for place, body in waiting:
            await publisher.publish(body, f"m-{place}")

    await asyncio.gather(*(some() for _ in range(64)))
