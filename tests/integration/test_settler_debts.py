"""Legs that the chain refuses: insurance pays, the debtor is frozen, nobody waits; and what becomes of the debt."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.v1 import settlement_service_pb2 as public

from services.cli import debts
from services.settler.reconciliation import reconciliation_of
from services.units import INSURANCE_ACCOUNT as INSURANCE
from tests import processes
from tests.backends import Backends
from tests.settlers import (
    POLL_SECONDS,
    STEP_SECONDS_MAX,
    FakeBook,
    Node,
    Settler,
    anvil,
    assert_balances,
    contract_of,
    devchain,
    eventually,
    fake_book,
    fund,
    lying,
    rows,
    running,
    settings,
    settler,
)

FROZEN, PAID, RESOLVED = journal.DEBT_STATE_FROZEN, journal.DEBT_STATE_PAID, journal.DEBT_STATE_RESOLVED
DEBTOR = 1999
CLI_SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(devchain(tmp_path_factory.mktemp("node"))) as started:
        yield started


@pytest.fixture
async def book() -> AsyncIterator[tuple[FakeBook, str]]:
    async with fake_book() as started:
        yield started


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/settler.sqlite"


def credit(fake: FakeBook, account: int, amount: int) -> None:
    """The ledger has what the chain has not."""
    fake.ledger[account, "USD"] += amount


def said(fake: FakeBook) -> list[tuple[int, int, int, str, int]]:
    return [(note.debt_id, note.state, note.account_id, note.asset, int(note.amount)) for note in fake.notes]


def reconciled(database: str) -> int:
    """Through which entry ledger and chain were found equal."""
    (content,) = rows(database, "SELECT content FROM reconciliations ORDER BY idx DESC LIMIT 1")[0]
    return reconciliation_of(content).through.entries


async def test_a_leg_that_the_chain_refuses_is_insurances_and_nobody_waits(
    node: Node, book: tuple[FakeBook, str], database: str
) -> None:
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url, reconcile_seconds=0.1)) as one:
        await one.settled(fake)
        await fund(node.url, contract_of(database), INSURANCE, "USD", 100)
        await fund(node.url, contract_of(database), DEBTOR, "USD", 3)
        await eventually(lambda: len(fake.deposits) == 5)
        credit(fake, DEBTOR, 20)
        fake.transfer(DEBTOR, 1001, "USD", 7)
        fake.trade(1001, 1002, 10, 20)
        await one.settled(fake)
        await one.healthy()
        await eventually(lambda: len(fake.notes) == 2)
        assert said(fake) == [(1, FROZEN, DEBTOR, "USD", 4), (1, PAID, DEBTOR, "USD", 4)]
        found = await debts.listed(database)
        assert [(each.debt_id, each.account_id, each.asset, each.amount, each.state) for each in found] == [
            (1, DEBTOR, "USD", 4, "PAID")
        ]
        await debts.resolve(database, 1, "written off")
        fake.transfer(1001, DEBTOR, "USD", 1)
        await one.settled(fake)
        await eventually(lambda: len(fake.notes) == 3)
        assert said(fake)[-1] == (1, RESOLVED, DEBTOR, "USD", 4)
        await eventually(lambda: rows(database, "SELECT state FROM debts") == [(3,)])
        await eventually(lambda: reconciled(database) == len(fake.entries))
    credit(fake, DEBTOR, -20)  # what was never on chain
    await assert_balances(fake, node.url, contract_of(database))
    assert fake.ledger[INSURANCE, "USD"] == 96
    assert fake.refused == []


async def settle_debts(database: str, *options: str) -> tuple[int, list[list[str]], str]:
    """`clearbook settle debts` as a process of its own: its status, the fields that it lists, and what it says."""
    argv, env = [*processes.COMMAND, "settle", "debts", *options], os.environ | {"DATABASE_URL": database}
    done = await asyncio.to_thread(processes.run, argv, env, CLI_SECONDS_MAX)
    return done.returncode, [line.split("\t") for line in done.stdout.splitlines()], done.stderr


async def test_the_command_line_lists_debts_and_ends_them(
    node: Node, book: tuple[FakeBook, str], database: str, tmp_path: Path
) -> None:
    fake, address = book
    assert await settle_debts(database) == (2, [], f"clearbook: {tmp_path}/settler.sqlite does not exist\n")
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url)) as one:
        await one.settled(fake)
        assert await settle_debts(database) == (0, [], "")
        await fund(node.url, contract_of(database), INSURANCE, "USD", 9)
        await eventually(lambda: len(fake.deposits) == 4)
        credit(fake, DEBTOR, 5)
        fake.transfer(DEBTOR, 1001, "USD", 5)
        await one.settled(fake)
        await eventually(lambda: len(fake.notes) == 2)
        ((batch_id, reason),) = rows(database, "SELECT batch_id, reason FROM debts")
        owed = ["1", f"account {DEBTOR}", "5 USD", f"batch {batch_id}", "PAID", reason]
        assert await settle_debts(database) == (0, [[*owed, ""]], "")
        none = "clearbook: debt 2 is none that insurance has paid and nobody has resolved\n"
        assert await settle_debts(database, "--resolve", "2", "--why", "paid back") == (2, [], none)
        code, listed, said_of_it = await settle_debts(database, "--resolve", "1")
        assert (code, listed, "say how it ended" in said_of_it) == (2, [], True)
        assert len(fake.notes) == 2, "what was refused changes nothing"
        code, listed, _ = await settle_debts(database, "--resolve", "1", "--why", "paid back")
        assert (code, [fields[-1] for fields in listed]) == (0, ["paid back"])
        await eventually(lambda: len(fake.notes) == 3)
        assert said(fake)[-1] == (1, RESOLVED, DEBTOR, "USD", 5)
        await eventually(lambda: rows(database, "SELECT state FROM debts") == [(int(RESOLVED),)])
        ended = [*owed[:4], "RESOLVED", reason, "paid back"]
        assert await settle_debts(database) == (0, [ended], "")
        assert (await settle_debts(database, "--resolve", "1", "--why", "again"))[0] == 2, "it is over"


async def test_what_insurance_cannot_pay_waits_for_a_deposit(
    node: Node, book: tuple[FakeBook, str], database: str
) -> None:
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url)) as one:
        await one.settled(fake)
        before = len(fake.entries)
        credit(fake, DEBTOR, 7)
        fake.transfer(DEBTOR, 1001, "USD", 7)
        await one.healthy(False)
        assert (fake.final_through, fake.notes) == (before, [])
        await fund(node.url, contract_of(database), INSURANCE, "USD", 7)
        await one.settled(fake)
        await one.healthy()
        await eventually(lambda: len(fake.deposits) == 4 and len(fake.notes) == 2)
    credit(fake, DEBTOR, -7)
    await assert_balances(fake, node.url, contract_of(database))


def told_of(history: list[public.StreamSettlementsResponse], sequence: int) -> list[public.Settlement]:
    """What became of an entry, change by change."""
    return [each for change in history for each in change.settlements if each.settlement_sequence == sequence]


async def answered(one: Settler, sequence: int) -> public.Settlement:
    """Of a settler that is about to answer."""
    async with asyncio.timeout(STEP_SECONDS_MAX):
        while True:
            try:
                return await one.get(settlement_sequence=sequence)
            except grpc.aio.AioRpcError:
                one.check()
                await asyncio.sleep(POLL_SECONDS)


@pytest.mark.parametrize(
    ("lies", "states", "nonces"),
    [(2, [1, 2, 3, 8, 2, 3, 4, 5, 6], [(3,), (2,)]), (1, [1, 2, 8, 2, 3, 4, 5, 6], [(2,)])],
)
async def test_a_stored_batch_that_is_refused_fails_and_is_superseded_under_its_id(
    node: Node,
    book: tuple[FakeBook, str],
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    lies: int,
    states: list[int],
    nonces: list[tuple[int]],
) -> None:
    """Its transaction reverts, or is never sent; then the node is right."""
    fake, address = book
    fake.open_market(users=2)
    lying(monkeypatch, lies)
    async with settler(settings(database, address, node.url)) as one:
        await one.settled(fake)
        await fund(node.url, contract_of(database), INSURANCE, "USD", 9)
        await eventually(lambda: len(fake.deposits) == 4)
        credit(fake, DEBTOR, 5)
        fake.transfer(DEBTOR, 1001, "USD", 5)
        await one.settled(fake)
        await eventually(lambda: len(fake.notes) == 2)
        told = told_of(await one.history(), len(fake.entries))
    assert [each.state for each in told] == states
    failed, anew = (told[place + states.index(8)] for place in (0, 1))
    assert ("reverted" in failed.reason, failed.HasField("nonce")) == (lies == 2, lies == 2)
    assert [each for each in told if each.reason] == [failed]
    assert (anew.transaction_hash, anew.HasField("nonce")) == ("", False), "it is not sent yet"
    ((batch_id, revision),) = rows(database, "SELECT batch_id, revision FROM superseded")
    assert revision == 1
    assert rows(database, f"SELECT state FROM nonces WHERE batch_id = {batch_id} ORDER BY nonce") == nonces
    assert rows(database, f"SELECT count(*) FROM batches WHERE batch_id = {batch_id}") == [(1,)]
    assert said(fake) == [(1, FROZEN, DEBTOR, "USD", 5), (1, PAID, DEBTOR, "USD", 5)]
    credit(fake, DEBTOR, -5)
    await assert_balances(fake, node.url, contract_of(database))


async def test_a_failed_batch_says_so_and_why_until_it_is_mended(
    node: Node, book: tuple[FakeBook, str], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transaction reverts, and insurance cannot pay: so it stays, through a restart, until somebody deposits."""
    fake, address = book
    fake.open_market(users=2)
    lying(monkeypatch, 2)
    given = settings(database, address, node.url)
    async with settler(given) as one:
        await one.settled(fake)
        before = len(fake.entries)
        credit(fake, DEBTOR, 5)
        fake.transfer(DEBTOR, 1001, "USD", 5)
        await one.healthy(False)
    async with settler(given) as one:
        failed = await answered(one, before + 1)
        assert (failed.state, failed.block_number) == (public.SETTLEMENT_STATE_FAILED, 0)
        assert failed.reason == f"transaction {failed.transaction_hash} reverted"
        assert failed == (await one.page(limit=1))[0]
        assert fake.final_through == before
        await fund(node.url, contract_of(database), INSURANCE, "USD", 5)
        await one.settled(fake)
        assert [each.state for each in told_of(await one.history(), before + 1)][3:] == [8, 2, 3, 4, 5, 6]
    credit(fake, DEBTOR, -5)
    await assert_balances(fake, node.url, contract_of(database))


async def test_debts_outlive_the_settlers_database(
    node: Node, book: tuple[FakeBook, str], database: str, tmp_path: Path
) -> None:
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url)) as one:
        await one.settled(fake)
        await fund(node.url, contract_of(database), INSURANCE, "USD", 9)
        await eventually(lambda: len(fake.deposits) == 4)
        credit(fake, DEBTOR, 8)
        fake.transfer(DEBTOR, 1001, "USD", 5)
        await one.settled(fake)
        await eventually(lambda: len(fake.notes) == 2)
    fresh = f"sqlite:///{tmp_path}/fresh.sqlite"
    given = settings(fresh, address, node.url, settlement_contract_address=contract_of(database))
    async with settler(given) as one:
        fake.transfer(DEBTOR, 1001, "USD", 3)
        await one.settled(fake)
        await eventually(lambda: len(fake.notes) == 4)
    assert said(fake)[2:] == [(3, FROZEN, DEBTOR, "USD", 3), (3, PAID, DEBTOR, "USD", 3)]
    assert [(each.debt_id, each.state) for each in await debts.listed(fresh)] == [(1, "PAID"), (3, "PAID")]


async def test_insurance_has_paid_though_the_database_that_knew_is_lost(
    node: Node, book: tuple[FakeBook, str], database: str, tmp_path: Path
) -> None:
    """The batch is on chain, its debt FROZEN in the journal: who comes after the loss must say that it is paid."""
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url)) as one:
        await one.settled(fake)
        await fund(node.url, contract_of(database), INSURANCE, "USD", 9)
        await eventually(lambda: len(fake.deposits) == 4)
    credit(fake, DEBTOR, 5)
    async with settler(settings(database, address, node.url, settle_final_blocks=99)):
        fake.transfer(DEBTOR, 1001, "USD", 5)
        mined = "SELECT max(last_sequence) FROM batches WHERE block_number > 0"
        await eventually(lambda: rows(database, mined) == [(len(fake.entries),)])
        await eventually(lambda: len(fake.notes) == 1)
    assert fake.final_through < len(fake.entries)
    fresh = f"sqlite:///{tmp_path}/fresh.sqlite"
    given = settings(fresh, address, node.url, settlement_contract_address=contract_of(database))
    async with settler(given) as one:
        await one.settled(fake)
        await eventually(lambda: len(fake.notes) == 2)
        assert said(fake) == [(1, FROZEN, DEBTOR, "USD", 5), (1, PAID, DEBTOR, "USD", 5)]
        await eventually(lambda: rows(fresh, "SELECT count(*) FROM reconciliations")[0][0] > 0)
        await eventually(lambda: reconciled(fresh) == len(fake.entries))
        await eventually(lambda: rows(fresh, "SELECT state FROM debts") == [(int(PAID),)])
    credit(fake, DEBTOR, -5)
    await assert_balances(fake, node.url, contract_of(database))


async def test_what_a_lost_batch_was_to_charge_insurance_is_over(
    node: Node, book: tuple[FakeBook, str], database: str, tmp_path: Path
) -> None:
    """A batch was stored, its debt journaled, and the batch lost before it was sent: its entries are settled anew."""
    fake, address = book
    fake.open_market(users=2)
    async with settler(settings(database, address, node.url)) as one:
        await one.settled(fake)
    fake.transfer(1001, 1002, "USD", 5)
    owes = journal.NoteDebt(note_index=1, debt_id=1, state=FROZEN, account_id=DEBTOR, asset="USD", amount="5")
    owes.reason, owes.settlement_sequence = "LEG", len(fake.entries)
    fake.note(owes)
    fresh = f"sqlite:///{tmp_path}/fresh.sqlite"
    given = settings(fresh, address, node.url, settlement_contract_address=contract_of(database))
    async with settler(given) as one:
        await one.settled(fake)
        await eventually(lambda: len(fake.notes) == 2)
    assert said(fake)[1:] == [(1, RESOLVED, DEBTOR, "USD", 5)]
    await assert_balances(fake, node.url, contract_of(database))


@pytest.mark.backends
async def test_a_reorganisation_past_what_was_final_halts(
    book: tuple[FakeBook, str], database: str, backends: Backends, tmp_path: Path
) -> None:
    fake, address = book
    fake.open_market(users=2)
    with running(anvil(tmp_path, backends.directory)) as chain:
        async with settler(settings(database, address, chain.url, settle_final_blocks=2)) as one:
            async with asyncio.timeout(60):
                while fake.final_through < len(fake.entries):
                    await asyncio.to_thread(chain.rpc, "anvil_mine", "0x1")
                    await asyncio.sleep(0.1)
            await asyncio.to_thread(chain.rpc, "anvil_mine", "0x4")
            head = int(chain.rpc("eth_blockNumber"), 16) - 1
            query = "SELECT content FROM meta WHERE name = 'searched_block'"
            await eventually(lambda: int(rows(database, query)[0][0]) >= head)
            await asyncio.to_thread(chain.rpc, "anvil_reorg", 3, [])
            await one.healthy(False)
            before = fake.final_through
            fake.withdraw(1001, "USD", 5, "0x" + "ab" * 20)
            await asyncio.sleep(1)
            assert fake.final_through == before
