"""Ledger against chain, continuously: what is published can be proven from outside, and a difference is told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clearbook.v1 import reconciliation_pb2
from google.protobuf.json_format import MessageToDict

from services.errors import Reason
from services.runtime import metrics
from services.settler.__main__ import SettlerSettings
from services.settler.book_session import BookSession
from services.settler.reconciler import Reconciler
from services.settler.wire import Folded
from services.units import INSURANCE_ACCOUNT
from tests.backends import Backends
from tests.reserves import verified, verifier
from tests.settlers import (
    FAUCET,
    SECOND_KEY,
    WALLET,
    FakeBook,
    Node,
    Settler,
    claim,
    contract_of,
    deposit,
    devchain,
    eventually,
    fake_book,
    fund,
    running,
    settings,
    settler,
)

USER, DEBTOR = 1001, 1999
RIVAL = 101
"""The gateway number of a second settler."""
HEAD_START_SECONDS = 2.0
EVENTS_PER_MESSAGE = 50
"""Of the fake book's."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(devchain(tmp_path_factory.mktemp("node"))) as started:
        yield started


@pytest.fixture
async def book() -> AsyncIterator[tuple[FakeBook, str]]:
    async with fake_book() as started:
        yield started


async def proof_of(running_settler: Settler, account_id: int) -> dict[str, Any]:
    """As REST tells it."""
    return dict(MessageToDict(await running_settler.proof(account_id), preserving_proto_field_name=True))


def alarm(kind: str) -> float:
    return metrics.registry.get_sample_value("clearbook_settler_alarm", {"kind": kind}) or 0


def alarms(kind: str) -> float:
    """How often it was raised, ever."""
    return metrics.registry.get_sample_value("clearbook_settler_alarms_total", {"kind": kind}) or 0


def differences() -> float:
    return metrics.registry.get_sample_value("clearbook_settler_ledger_differences") or 0


async def test_what_is_owed_is_published_and_proven_from_the_chain_alone(
    node: Node, book: tuple[FakeBook, str], tmp_path: Path
) -> None:
    fake, address = book
    database = f"sqlite:///{tmp_path}/settler.sqlite"
    fake.open_market()
    given = settings(database, address, node.url, settle_entries_max=40)
    async with settler(given) as running_settler:
        fake.trades(60)
        fake.withdraw(USER, "BTC", 12, WALLET)
        await running_settler.settled(fake)
        first = await running_settler.reconciled(len(fake.entries), deposits=3)
        proof = await proof_of(running_settler, USER)
        assert proof["reconciliation"]["settlement_sequence"] == str(len(fake.entries))
        assert await running_settler.proof_refused(1) is None, "fees are owed too"
        assert await running_settler.proof_refused(5555) is Reason.RECONCILIATION_NOT_FOUND
        code, said = verified(tmp_path, proof, "--rpc", node.url, "--account", str(USER))
        assert (code, "PROVEN" in said) == (verifier.HOLDS, True), said
        owed = dict(zip([each.asset for each in first.reserves], proof["proof"]["amounts"], strict=True))
        assert {asset: int(amount) for asset, amount in owed.items()} == {
            asset: fake.ledger[USER, asset] for asset in ("BTC", "ETH", "USD")
        }
        assert first.leaves == 8 + 2 + 1, "users, fees and faucet, and the address that may claim"
        assert {each.asset: int(each.liabilities) for each in first.reserves} == dict.fromkeys(owed, 10**30)
        assert first.reserves[0].liabilities == first.reserves[0].reserves

        await claim(node.url, contract_of(database), SECOND_KEY, "BTC")
        await deposit(node.url, contract_of(database), SECOND_KEY, USER, "BTC", 12)
        second = await running_settler.reconciled(len(fake.entries), deposits=4, claims=1)
        assert (second.index > first.index, second.leaves) == (True, first.leaves - 1)
        followed = await running_settler.reconciliation(second.index - 1)
        assert second.previous == followed.digest, "none can be left out"
        code, said = verified(tmp_path, proof | {"reconciliation": published(second)}, "--rpc", node.url)
        assert code == verifier.REFUTED, "an old leaf in a new tree"
    async with settler(given) as running_settler:  # the same tree, made again
        await running_settler.healthy()
        again = await running_settler.reconciliation()
        assert again == second
        code, said = verified(tmp_path, await proof_of(running_settler, USER), "--rpc", node.url)
        assert code == verifier.HOLDS, said
        fake.trades(5)
        await running_settler.settled(fake)
        third = await running_settler.reconciled(len(fake.entries), deposits=4, claims=1)
        assert third.index == second.index + 1
    assert alarm("ledger") == 0


def published(found: reconciliation_pb2.Reconciliation) -> dict[str, Any]:
    return dict(MessageToDict(found, preserving_proto_field_name=True))


@pytest.mark.backends
async def test_the_same_on_postgresql(node: Node, book: tuple[FakeBook, str], backends: Backends) -> None:
    fake, address = book
    fake.open_market(users=2)
    given = settings(await backends.new_database(), address, node.url)
    async with settler(given) as running_settler:
        await running_settler.settled(fake)
        newest = await running_settler.reconciled(len(fake.entries), deposits=3)
    async with settler(given) as running_settler:
        await running_settler.healthy()
        assert await running_settler.reconciliation() == newest


async def funded(given: SettlerSettings, node: Node, fake: FakeBook) -> None:
    """Until all is settled and reconciled, and the wallet has BTC of its own."""
    fake.withdraw(USER, "BTC", 1, WALLET)
    async with settler(given) as running_settler:
        await running_settler.settled(fake)
        await claim(node.url, contract_of(given.database_url), SECOND_KEY, "BTC")
        await running_settler.reconciled(len(fake.entries), deposits=3, claims=1)


@pytest.mark.parametrize(
    "planted",
    [
        "UPDATE liabilities SET amount = '77' WHERE holder = '1001' AND asset = 'BTC'",
        "INSERT INTO liabilities VALUES ('1099', 'BTC', '5')",
        "UPDATE liabilities SET amount = '-5' WHERE holder = '1001' AND asset = 'BTC'",
        "",
    ],
    ids=["of somebody", "of nobody", "negative", "a deposit that the journal overstates"],
)
async def test_a_difference_is_told_and_nothing_is_published(
    planted: str, node: Node, book: tuple[FakeBook, str], tmp_path: Path
) -> None:
    fake, address = book
    fake.open_market(users=2)
    given = settings(f"sqlite:///{tmp_path}/settler.sqlite", address, node.url)
    await funded(given, node, fake)
    if planted:
        with sqlite3.connect(tmp_path / "settler.sqlite") as connection:
            connection.execute(planted)
    else:
        fake.overstates = 1
        await deposit(node.url, contract_of(given.database_url), SECOND_KEY, USER, "BTC", 1)
    fake.transfer(FAUCET, USER, "ETH", 5)
    async with settler(given) as running_settler:
        await running_settler.healthy()
        newest = await running_settler.reconciliation()
        await running_settler.settled(fake)
        await eventually(lambda: alarm("ledger") == 1)
        assert await running_settler.reconciliation() == newest
        refusal = await running_settler.proof_refused(1002)
        assert refusal is (Reason.RECONCILIATION_NOT_FOUND if planted else None), "what was published can be proven"


async def test_what_the_journal_lacks_is_named(
    node: Node, book: tuple[FakeBook, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.settler.reconciler.JOURNAL_SECONDS_MAX", 0.2)
    fake, address = book
    fake.open_market(users=2)
    given = settings(f"sqlite:///{tmp_path}/settler.sqlite", address, node.url)
    await funded(given, node, fake)
    async with settler(given) as running_settler:
        fake.deaf = True
        await deposit(node.url, contract_of(given.database_url), SECOND_KEY, USER, "BTC", 1)
        await eventually(lambda: alarm("reconcile") == 1)
        fake.deaf = False
        await running_settler.reconciled(len(fake.entries), deposits=4, claims=1)
        await eventually(lambda: alarm("reconcile") == 0)


async def test_what_insurance_paid_is_no_difference_though_the_database_is_lost(
    node: Node, book: tuple[FakeBook, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain and the messages are read before the journal, where alone it stands what insurance has paid."""
    fake, address = book
    fake.open_market(users=2)
    lost = settings(f"sqlite:///{tmp_path}/lost.sqlite", address, node.url)
    async with settler(lost) as running_settler:
        await running_settler.settled(fake)
        await fund(node.url, contract_of(lost.database_url), INSURANCE_ACCOUNT, "USD", 9)
        await eventually(lambda: len(fake.deposits) == 4)
        fake.trades(EVENTS_PER_MESSAGE, users=2)  # so that the journal tells of the debt later than of the deposits
        fake.transfer(DEBTOR, USER, "USD", 5)
        await running_settler.settled(fake)
        await eventually(lambda: len(fake.notes) == 2)
        await running_settler.reconciled(len(fake.entries), deposits=4)
    fold = BookSession._fold
    waited: list[BookSession] = []

    async def late(session: BookSession, rows: Folded) -> None:
        if rows.debts and not waited:
            waited.append(session)
            with suppress(TimeoutError):
                await eventually(lambda: differences() > 0, HEAD_START_SECONDS)
        await fold(session, rows)

    monkeypatch.setattr(BookSession, "_fold", late)
    contract = contract_of(lost.database_url)
    found = settings(f"sqlite:///{tmp_path}/new.sqlite", address, node.url, settlement_contract_address=contract)
    async with settler(found) as running_settler:
        await running_settler.healthy()
        await running_settler.reconciled(len(fake.entries), deposits=4)
        assert differences() == 0


async def test_what_insurance_paid_in_anothers_batch_is_waited_for(
    node: Node, book: tuple[FakeBook, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settler with a database of its own sees the batch on chain before the journal tells of its debt."""
    fake, address = book
    fake.open_market(users=2)
    given = settings(f"sqlite:///{tmp_path}/settler.sqlite", address, node.url)
    differs, told = asyncio.Event(), alarms("ledger")
    fold, compare = BookSession._fold, Reconciler._compare

    async def late(session: BookSession, rows: Folded) -> None:
        if rows.debts and session._gateway == RIVAL:
            await differs.wait()
        await fold(session, rows)

    async def compared(reconciler: Reconciler, block: int) -> None:
        await compare(reconciler, block)
        if reconciler._wrong:
            differs.set()

    async with settler(given) as first:
        await first.settled(fake)
        contract = contract_of(given.database_url)
        await fund(node.url, contract, INSURANCE_ACCOUNT, "USD", 9)
        await eventually(lambda: len(fake.deposits) == 4)
        idle = {"settle_age_ms": 3_600_000, "settler_gateway": RIVAL, "settlement_contract_address": contract}
        rival = settings(f"sqlite:///{tmp_path}/rival.sqlite", address, node.url, **idle)
        async with settler(rival) as second:
            await second.healthy()
            await second.reconciled(len(fake.entries), deposits=4)
            monkeypatch.setattr(BookSession, "_fold", late)
            monkeypatch.setattr(Reconciler, "_compare", compared)
            fake.transfer(DEBTOR, USER, "USD", 5)
            await first.settled(fake)
            await second.reconciled(len(fake.entries), deposits=4)
    assert differs.is_set()
    assert (alarms("ledger"), differences()) == (told, 0)
