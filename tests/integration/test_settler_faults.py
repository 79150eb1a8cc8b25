"""The settler under fire: killed anywhere, its chain gone, its broker lying, its blocks reorganised away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiormq
import grpc
import pytest
from clearbook.v1 import settlement_service_pb2 as public

from services.runtime.amqp import Publisher, settlement_topology
from services.runtime.sqlite import Sqlite
from services.settler.contract import Chain, SendOutcome
from tests.backends import Backends
from tests.settlers import (
    SECOND_KEY,
    WALLET,
    FakeBook,
    Node,
    Settler,
    SettlerProcess,
    anvil,
    assert_balances,
    assert_in_order,
    assert_one_nonce_one_batch,
    claim,
    contract_of,
    devchain,
    eventually,
    fake_book,
    running,
    settings,
    settler,
)

KILLS = 4
WHOLE_RUNS = 3
STEPS_MIN = 6
"""Writes and sends of a run: more of them where the clock parts what another run does at once."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with running(devchain(tmp_path / "node")) as started:
        yield started


@pytest.fixture
async def book() -> AsyncIterator[tuple[FakeBook, str]]:
    async with fake_book() as started:
        yield started


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/settler.sqlite"


class Crash(BaseException):
    """The power is cut here: nothing but what is on disk survives."""


class CrashPoints:
    """Counts the steps whose interruption could hurt, and cuts the power at the n-th, before or after its effect."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.after = False
        write, send = Sqlite.write, Chain.send_raw

        async def guarded_write(database: Sqlite, statements: Any) -> None:
            await self._around(lambda: write(database, statements))

        async def guarded_send(chain: Chain, raw: bytes) -> SendOutcome:
            return await self._around(lambda: send(chain, raw))  # type: ignore[no-any-return]

        monkeypatch.setattr(Sqlite, "write", guarded_write)
        monkeypatch.setattr(Chain, "send_raw", guarded_send)

    async def _around(self, effect: Callable[[], Any]) -> Any:
        self.left -= 1
        cut_here = self.left == 0  # others count on while this one waits
        if cut_here and not self.after:
            raise Crash
        result = await effect()
        if cut_here:
            raise Crash
        return result


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_at_any_write_or_send_changes_nothing(
    node: Node, book: tuple[FakeBook, str], database: str, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    fake, address = book
    fake.asset("BTC")
    fake.asset("USD")
    given = settings(database, address, node.url, settle_age_ms=20, settle_poll_ms=20)
    points = CrashPoints(monkeypatch)
    points.after = after
    crashes = whole = nth = 0
    claimed: list[int] = []
    while whole < WHOLE_RUNS:
        nth += 1
        points.left = nth
        try:
            async with settler(given) as one:
                await one.settled(fake, len(claimed))
        except* Crash:
            crashes += 1
        if points.left > 0:  # a run that needed fewer steps: from the first step again, with something new to do
            whole, nth = whole + 1, 0
            points.left = -1
            if whole > 1:
                claimed.append(await claim(node.url, contract_of(database), SECOND_KEY, "BTC"))
            fake.transfer(2, 1001, "BTC", 10)
            fake.withdraw(1001, "BTC", whole, WALLET)
            fake.transfer(2, 1002, "USD", 10**9)
            fake.trade(1002, 1001, 3, 700)
    points.left = -1
    assert crashes >= STEPS_MIN * WHOLE_RUNS
    async with settler(given) as one:
        await one.settled(fake, len(claimed))
        assert_in_order(await one.history(), len(fake.entries))
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)
    assert claimed == [1, 2]
    heard = [(each.claim_index, each.address, each.asset, int(each.amount)) for each in fake.claims]
    assert heard == [(1, WALLET, "BTC", 1), (2, WALLET, "BTC", 2)]
    assert [deposit.deposit_index for deposit in fake.deposits] == [1, 2]
    assert fake.refused == []


@pytest.mark.slow
async def test_kill_9_in_a_loop(node: Node, book: tuple[FakeBook, str], database: str, tmp_path: Path) -> None:
    fake, address = book
    fake.open_market()
    given = settings(database, address, node.url, settle_entries_max=200)
    process = SettlerProcess(tmp_path, given)
    dice = random.Random(7)
    feeding = asyncio.create_task(_feed(fake))
    try:
        for _ in range(KILLS):
            process.start()
            began = len(process.log)
            await eventually(lambda began=began: "listening" in process.log[began:])  # type: ignore[misc]
            await asyncio.sleep(dice.uniform(0, 2.0))
            process.kill()
        feeding.cancel()
        process.start()
        await eventually(lambda: fake.final_through == len(fake.entries), seconds=120)
    finally:
        feeding.cancel()
        process.kill()
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)
    assert fake.refused == []
    async with settler(given) as one:
        await one.healthy()
        assert_in_order(await one.history(), len(fake.entries))


async def _feed(fake: FakeBook) -> None:
    while True:
        fake.trades(2)
        await asyncio.sleep(0.1)


async def test_the_node_goes_and_comes_back(node: Node, book: tuple[FakeBook, str], database: str) -> None:
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url)) as one:
        await one.settled(fake)
        for _ in range(2):
            feeding = asyncio.create_task(_feed_pair(fake))
            await asyncio.sleep(0.3)
            await asyncio.to_thread(node.stop)
            await asyncio.sleep(1)
            await asyncio.to_thread(node.start)
            feeding.cancel()
            await one.settled(fake)
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)


async def _feed_pair(fake: FakeBook) -> None:
    while True:
        fake.trades(2, users=2)
        await asyncio.sleep(0.05)


async def test_it_waits_for_a_node_that_is_not_there_yet(
    book: tuple[FakeBook, str], database: str, tmp_path: Path
) -> None:
    fake, address = book
    fake.asset("BTC")
    node = devchain(tmp_path / "late")
    async with settler(settings(database, address, node.url)) as one:
        await asyncio.sleep(0.5)
        one.check()
        await asyncio.to_thread(node.start)
        try:
            await one.settled(fake)
        finally:
            await asyncio.to_thread(node.stop)


async def test_the_book_goes_and_comes_back(node: Node, database: str) -> None:
    async with fake_book() as (fake, address):
        fake.open_market(users=2)
        one = settler(settings(database, address, node.url))
        running_one = await one.__aenter__()
        await running_one.settled(fake)
        fake.trades(5, users=2)
    fake.trades(5, users=2)
    await asyncio.sleep(0.5)
    async with fake_book(port=int(address.rpartition(":")[2]), book=fake):
        await running_one.settled(fake)
        await one.__aexit__(None, None, None)
    assert fake.epoch >= 2
    assert fake.refused == []
    await assert_balances(fake, node.url, contract_of(database))


async def test_a_superseded_session_is_opened_again(node: Node, book: tuple[FakeBook, str], database: str) -> None:
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url)) as one:
        await one.settled(fake)
        fake.epoch += 1  # somebody else opened one: what the settler submits next ends its stream
        fake.trades(5, users=2)
        await one.settled(fake)
    assert fake.epoch >= 3
    assert fake.refused == []


# RabbitMQ


@pytest.mark.backends
async def test_duplicated_reordered_missing_and_poisoned_deliveries(
    node: Node, book: tuple[FakeBook, str], database: str, backends: Backends
) -> None:
    fake, address = book
    fake.open_market()
    fake.trades(60)
    uri = await backends.new_vhost()
    topology = settlement_topology(0)
    foreign = FakeBook(seed=9)
    foreign.open_market(users=3)
    messages = fake.messages(1, len(fake.entries))
    dice = random.Random(3)
    bodies = [message.SerializeToString() for message in messages]
    missing = {bodies[4], bodies[9], bodies[-1]}
    sent = [body for body in bodies * 2 if body not in missing]
    dice.shuffle(sent)
    sent[3:3] = [b"\xff poison", foreign.message(1, 5).SerializeToString()]
    async with Publisher(uri, topology) as publisher:
        for place, body in enumerate(sent):
            await publisher.publish(body, f"m-{place}")
        async with settler(settings(database, address, node.url, rabbitmq_uri=uri)) as one:
            await one.settled(fake)
            more = len(fake.entries) + 1
            fake.trades(10)
            await publisher.publish(fake.message(more, len(fake.entries)).SerializeToString(), "live")
            await one.settled(fake)
            assert_in_order(await one.history(), len(fake.entries))
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)
    assert await _waiting(uri, topology.dead) == 2, "the poison and the other journal's message, nothing else"
    assert await _waiting(uri, topology.queue) == 0, "everything else is acknowledged"


async def _waiting(uri: str, queue: str) -> int:
    connection = await aiormq.connect(uri)
    try:
        channel = await connection.channel()
        for _ in range(100):
            count = (await channel.queue_declare(queue, passive=True)).message_count or 0
            if count:
                return count
            await asyncio.sleep(0.02)
        return 0
    finally:
        await connection.close()


@pytest.mark.backends
async def test_without_deliveries_the_journal_is_enough(
    node: Node, book: tuple[FakeBook, str], database: str, backends: Backends
) -> None:
    """The broker has lost everything: the settler notices that the journal has more, and reads it there."""
    fake, address = book
    fake.open_market(users=2)
    uri = await backends.new_vhost()
    async with settler(settings(database, address, node.url, rabbitmq_uri=uri)) as one:
        await one.settled(fake)
    assert fake.refused == []


# Reorganisations


@pytest.mark.backends
async def test_a_reorganised_batch_is_sent_again_and_settled_once(
    book: tuple[FakeBook, str], database: str, backends: Backends, tmp_path: Path
) -> None:
    fake, address = book
    fake.open_market(users=2)
    with running(anvil(tmp_path, backends.directory)) as node:
        given = settings(database, address, node.url, settle_final_blocks=5, settle_confirmed_blocks=3)
        async with settler(given) as one:
            await _mined_until_final(node, fake)
            sequence = len(fake.entries) + 1
            fake.trades(3, users=2)
            await _reached(one, sequence, public.SETTLEMENT_STATE_MINED)
            node.rpc("anvil_reorg", 1, [])
            history = one.stream(0)
            seen = []
            async for response in history:
                seen += [each.state for each in response.settlements if each.settlement_sequence == sequence]
                if seen.count(public.SETTLEMENT_STATE_MINED) == 2:
                    break
            assert seen == [1, 2, 3, 4, 7, 3, 4]
            await _mined_until_final(node, fake)
        await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)
    assert fake.refused == []


async def _reached(one: Settler, sequence: int, state: int) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(grpc.aio.AioRpcError):  # not there yet
                if (await one.get(settlement_sequence=sequence)).state >= state:
                    return
            await asyncio.sleep(0.05)


async def _mined_until_final(node: Node, fake: FakeBook) -> None:
    """Mines until everything is final; nothing becomes final on an idle chain."""
    async with asyncio.timeout(60):
        while fake.final_through < len(fake.entries):
            await asyncio.to_thread(node.rpc, "anvil_mine", "0x1")
            await asyncio.sleep(0.1)
