"""The settler on geth, another client than all other tests have: its own words for nonces, fees, finality and reorgs.

Run by scripts/interop, which builds geth and names it in GETH.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.settler.contract import Signer
from tests.settlers import (
    FakeBook,
    Node,
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

CHAIN_ID = 1337
"""geth's in its developer mode."""
FUNDS_WEI = 10**20
RECEIPT_SECONDS_MAX = 30.0
MINED, REORGED = 4, 7
REORG_BLOCKS = 3
USERS = 4


def geth(folder: Path) -> Node:
    """One with a block a second; its own account holds all ether."""
    binary, data = os.environ["GETH"], str(folder / "geth")

    def argv(port: int) -> list[str]:
        http = ["--http", "--http.addr", "127.0.0.1", "--http.port", str(port), "--http.api", "eth,net,web3,debug"]
        lonely = ["--nodiscover", "--maxpeers", "0", "--ipcdisable", "--authrpc.port", "0", "--port", "0"]
        return [binary, "--dev", "--dev.period", "1", "--datadir", data, "--gcmode", "archive", *http, *lonely]

    return Node(argv, folder, CHAIN_ID)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with running(geth(tmp_path)) as started:
        yield started


@pytest.fixture
async def book() -> AsyncIterator[tuple[FakeBook, str]]:
    async with fake_book() as started:
        yield started


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/settler.sqlite"


async def funded_key(node: Node) -> str:
    """A key of our own with ether of geth's account."""
    key = "0x" + secrets.token_hex(32)
    (rich,) = node.rpc("eth_accounts")
    sent = node.rpc("eth_sendTransaction", {"from": rich, "to": Signer(key).address, "value": hex(FUNDS_WEI)})
    await eventually(lambda: node.rpc("eth_getTransactionReceipt", sent), seconds=RECEIPT_SECONDS_MAX)
    return key


async def given(node: Node, address: str, database: str, **more: Any) -> Any:
    """Settings of a settler on geth."""
    key = await funded_key(node)
    return settings(database, address, node.url, settlement_private_key=key, chain_id=CHAIN_ID, **more)


async def test_trades_are_settled_on_geth_and_a_restart_goes_on(
    node: Node, book: tuple[FakeBook, str], database: str
) -> None:
    fake, address = book
    fake.open_market(users=USERS)
    asked = await given(node, address, database, settle_confirmed_blocks=2, settle_final_blocks=3)
    async with settler(asked) as one:
        await one.settled(fake)
        fake.trades(40, users=USERS)
        await one.settled(fake)
    fake.trades(20, users=USERS)
    async with settler(asked) as one:
        await one.settled(fake)
        assert_in_order(await one.history(), len(fake.entries))
        await one.reconciled(len(fake.entries), deposits=len(fake.deposits))
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)
    assert fake.refused == []


async def test_a_reorganisation_of_geth_is_healed(node: Node, book: tuple[FakeBook, str], database: str) -> None:
    """Its head is set back below a batch that was mined; the same transaction is mined again."""
    fake, address = book
    fake.open_market(users=USERS)
    asked = await given(node, address, database, settle_confirmed_blocks=4, settle_final_blocks=12, settle_poll_ms=50)
    async with settler(asked) as one:
        await one.settled(fake)
        fake.trades(10, users=USERS)
        last = len(fake.entries)
        mined = f"SELECT block_number FROM batches WHERE void = 0 AND state >= {MINED} AND last_sequence = {last}"
        await eventually(lambda: rows(database, mined))
        ((block,),) = rows(database, mined)
        node.rpc("debug_setHead", hex(block - REORG_BLOCKS))
        await eventually(lambda: rows(database, f"SELECT 1 FROM changes WHERE state = {REORGED}"))
        await one.settled(fake)
        await one.healthy()
    await assert_balances(fake, node.url, contract_of(database))
    assert_one_nonce_one_batch(database)
    assert fake.refused == []
