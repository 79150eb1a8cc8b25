"""`clearbook audit` and the proof of reserves beside the running exchange: all sides agree, whoever asks."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sqlite3
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import order_service_pb2 as orders
from clearbook.v1 import settlement_service_pb2 as settlements
from rich.console import Console
from web3 import AsyncHTTPProvider, AsyncWeb3

from services.cli.audit import audit
from services.cli.balance_sheet import EXIT_DIFFERENT, EXIT_EQUAL
from services.cli.chain_side import Sources
from services.settler.contract import Chain, SettlementContract, Signer, load_abi
from services.settler.deploy import DirectTransact
from tests import processes
from tests.e2e.conftest import Traded
from tests.reserves import verified, verifier
from tests.suite import ADMIN, Clients, Suite, until, user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WALLET_KEY = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"
"""The third key of "test test … junk": funded on every development chain."""
WALLET = Signer(WALLET_KEY).address
GAS_LIMIT = 200_000
SETTLED_SECONDS_MAX = 60.0


async def audited(suite: Suite, *options: str) -> tuple[int, str]:
    """Exit code and output of the command, in the environment of the exchange."""
    env = os.environ | suite.plan.env() | suite.env | {"COLUMNS": "200"}
    done = await asyncio.to_thread(processes.run, [*processes.COMMAND, "audit", *options], env, 120)
    return done.returncode, done.stdout + done.stderr


@asynccontextmanager
async def contract_of(suite: Suite, transaction_hash: str) -> AsyncIterator[SettlementContract]:
    """The contract that a settlement was sent to."""
    web3 = AsyncWeb3(AsyncHTTPProvider(suite.eth_url))
    transaction = await web3.eth.get_transaction(transaction_hash)  # type: ignore[arg-type]
    await web3.provider.disconnect()
    chain = await Chain.connect(suite.eth_url)
    try:
        yield await SettlementContract.on(chain, transaction["to"], load_abi(None))
    finally:
        await chain.close()


async def test_all_sides_agree(suite: Suite, clients: Clients, market: Traded) -> None:
    who = user(market.seller)
    asked = pb.CreateWithdrawalRequest(transfer_id="w", asset=market.base, amount="0.25", address=WALLET)

    async def withdrawal() -> pb.Transfer:
        return (await clients.accounts.CreateWithdrawal(asked, metadata=who, timeout=20)).transfer

    await _trade(clients, market)
    moved = pb.CreateTransferRequest(transfer_id="t", to_user=market.buyer, asset=market.base, amount="0.5")
    await clients.accounts.CreateTransfer(moved, metadata=who, timeout=20)
    assert (await withdrawal()).state == pb.TRANSFER_STATE_REQUESTED
    listed = await clients.admin.ListWithdrawals(admin_pb.ListWithdrawalsRequest(), metadata=ADMIN, timeout=20)
    (mine,) = (item for item in listed.withdrawals if item.user == market.seller)
    approve = admin_pb.ApproveWithdrawalRequest(withdrawal_id=mine.withdrawal_id)
    number = (await clients.admin.ApproveWithdrawal(approve, metadata=ADMIN, timeout=20)).settlement_sequence

    async def stands(state: int) -> bool:
        return (await withdrawal()).state == state

    await until(lambda: stands(pb.TRANSFER_STATE_SETTLED), SETTLED_SECONDS_MAX, "the withdrawal is not settled")
    code, said = await audited(suite)
    assert code == EXIT_EQUAL, said
    assert "claimable" in said and "0 differences" in said
    named = settlements.GetSettlementRequest(settlement_sequence=number)
    settled = (await clients.settlements.GetSettlement(named, timeout=20)).settlement
    async with contract_of(suite, settled.transaction_hash) as contract:
        token = await contract.token_of(market.base)
        assert token is not None
        transact = DirectTransact(contract.chain, Signer(WALLET_KEY))
        await transact(contract.address, contract.calldata("claim", token), GAS_LIMIT)
    await until(lambda: stands(pb.TRANSFER_STATE_DONE), SETTLED_SECONDS_MAX, "the claim is not journaled")
    code, said = await audited(suite, "--json")
    assert code == EXIT_EQUAL, said
    found = json.loads(said)
    assert found["differences"] == []
    assert {line["difference"] for part in found["comparisons"] for line in part["lines"]} == {"0"}
    assert {name for part in found["comparisons"] for line in part["lines"] for name in line["amounts"]} == {
        *("journal", "ledger", "postings", "engine", "chain"),
    }


async def test_a_user_proves_what_is_owed_to_him_and_that_it_is_there(
    suite: Suite, clients: Clients, http: httpx.AsyncClient, market: Traded, tmp_path: Path
) -> None:
    """What was traded, settled: by REST, then from the chain by a script that has nothing of ours."""
    await _trade(clients, market)
    who = market.seller
    balances = (await http.post("/api/v1/balances/query", json={"user_id": who})).json()

    async def reconciled() -> bool:
        now = await clients.accounts.ListBalances(pb.ListBalancesRequest(), metadata=user(who), timeout=20)
        proof = (await http.post("/api/v1/liabilities/query", json={"user_id": who})).json()
        settled = all(each.unsettled == "0" for each in now.balances)
        return settled and _owed(proof) == {each.asset: Decimal(each.total) for each in now.balances}

    await until(reconciled, SETTLED_SECONDS_MAX, "what is settled is not in the tree")
    answer = await http.post("/api/v1/liabilities/query", json={"user_id": who})
    code, said = verified(tmp_path, answer.json(), "--rpc", suite.eth_url, "--account", balances["account_id"])
    assert code == verifier.HOLDS, said
    assert answer.json()["proof"]["holder"] == balances["account_id"], "one's own, whoever asks"
    listed = (await http.get("/api/v1/settlements", params={"market": market.pair, "page_size": 1})).json()
    (newest,) = listed["settlements"]
    assert (newest["market"], newest["kind"]) == (market.pair, "SETTLEMENT_KIND_TRADE")
    assert int(newest["nonce"]) >= 0

    env = os.environ | suite.plan.env() | suite.env | {"COLUMNS": "200"}
    done = await asyncio.to_thread(processes.run, [*processes.COMMAND, "reconcile", "--json"], env, 120)
    assert done.returncode == EXIT_EQUAL, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["differences"] == []
    mine = {line["asset"]: line for line in found["lines"] if line["account"] == balances["account_id"]}
    assert mine.keys() >= {market.base, "USD"}
    assert all(line["ledger"] == line["chain"] and line["difference"] == "0" for line in found["lines"])


DECIMALS = 18


def _owed(proof: dict[str, Any]) -> dict[str, Decimal]:
    """In whole units, as far as it is anything."""
    assets = [each["asset"] for each in proof.get("reconciliation", {}).get("reserves", [])]
    amounts = [int(each) for each in proof.get("proof", {}).get("amounts", [])]
    return {a: Decimal(n).scaleb(-DECIMALS) for a, n in zip(assets, amounts, strict=True) if n}


async def _trade(clients: Clients, market: Traded) -> None:
    for who, side in ((market.seller, orders.SIDE_SELL), (market.buyer, orders.SIDE_BUY)):
        order = orders.PlaceOrderRequest(
            market=market.pair, side=side, type=orders.ORDER_TYPE_LIMIT, price="100.00", quantity="1.5"
        )
        await clients.orders.PlaceOrder(order, metadata=user(who), timeout=20)
        order.quantity = "0.3"  # and what rests
        order.price = "101.00" if side == orders.SIDE_SELL else "99.00"
        await clients.orders.PlaceOrder(order, metadata=user(who), timeout=20)


TAMPERED = {
    "a balance": ("UPDATE balances SET total = '77' WHERE account_id = 1", "Balances as of event"),
    "a hold": ("UPDATE balances SET held = '77' WHERE account_id = 1001", "Held"),
    "a posting": (
        "DROP TRIGGER postings_stays; "  # the owner of the tables may
        "DELETE FROM postings WHERE journal_sequence IN (SELECT MIN(journal_sequence) FROM postings)",
        "postings",
    ),
    "a transfer made twice": (
        "INSERT INTO movements SELECT -1, transfer_id, kind, state, from_account_id, to_account_id, asset_id, amount, "
        "create_ns, event_sequence, event_ns, settlement_sequence, withdrawal_id, address, reason, transaction_hash, "
        "release_ns FROM movements LIMIT 1",
        "moved more than once",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
async def test_what_was_tampered_with_is_found(embedded: Suite, name: str, tmp_path: Path) -> None:
    """In a copy of the gateway's database, beside the running exchange."""
    sql, expected = TAMPERED[name]
    data = embedded.plan.data
    copy = tmp_path / "gateway.sqlite"
    with sqlite3.connect(data / "gateway.sqlite") as live, sqlite3.connect(copy) as connection:
        live.backup(connection)
        connection.executescript(sql)
    urls = (f"sqlite:///{data}/book.sqlite", f"sqlite:///{copy}", f"sqlite:///{data}/settler.sqlite")
    printed = io.StringIO()
    sources = Sources(*urls, 0, embedded.eth_url, "", load_abi(None))
    code = await asyncio.to_thread(audit, sources, Console(file=printed, width=200))
    assert code == EXIT_DIFFERENT, printed.getvalue()
    assert expected in printed.getvalue()
