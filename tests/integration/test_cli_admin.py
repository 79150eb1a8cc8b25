"""`clearbook admin` and `clearbook export`, as their users run them, against a running gateway."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from clearbook.v1 import account_service_pb2 as account_pb

from services.cli.export import TABLES
from services.market_rules import MarketRules
from tests import books, gateways
from tests.gateways import Exchange, limit

SHELL = """
import json, sys
from typer.testing import CliRunner
from services.cli.main import app
for line in sys.stdin:
    done = CliRunner().invoke(app, json.loads(line))
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
"""
"""The command line in a process of its own, which is started once for many commands."""


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path, fee_tiers="gold:1000:100:200") as running:
        yield running


Shell = subprocess.Popen[str]


@pytest.fixture
def shell(exchange: Exchange) -> Iterator[Shell]:
    env = {"GATEWAY_ADDRESS": f"127.0.0.1:{exchange.gateway.port}", "CLEARBOOK_TOKEN": ""}
    argv = [sys.executable, "-c", SHELL]
    with subprocess.Popen(
        argv, env=os.environ | env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


async def run(shell: Shell, *arguments: str, code: int = 0) -> str:
    """What it wrote to standard output, or to standard error if it is to fail."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(json.dumps(arguments) + "\n")
    shell.stdin.flush()
    async with asyncio.timeout(60):
        answer = await asyncio.to_thread(shell.stdout.readline)
    found, out, errors = json.loads(answer)
    assert found == code, out + errors
    return str(out if code == 0 else errors)


async def rows(shell: Shell, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await run(shell, "admin", *arguments, "--json")).splitlines()]


async def test_accounts_money_fees_and_the_log(exchange: Exchange, shell: Shell) -> None:
    assert (await run(shell, "admin", "accounts", "create", "carol")).startswith("account 1")
    carol = exchange.gateway.ledger.account_ids["carol"]
    btc = exchange.gateway.ledger.assets_by_symbol["BTC"].asset_id
    await books.eventually(lambda: exchange.gateway.ledger.balance(carol, btc).total > 0)
    assert "settlement sequence" in await run(shell, "admin", "grant", "carol", "BTC", "2.5", "--id", "g1")
    await run(shell, "admin", "debit", "carol", "BTC", "1", "--reason", "fine", "--id", "d1")
    await run(shell, "admin", "credit", "carol", "BTC", "0.5", "--reason", "mercy", "--id", "c1")
    await run(shell, "admin", "credit", "carol", "BTC", "0.5", "--reason", "mercy", "--id", "c1")
    (account,) = await rows(shell, "accounts", "list", "--user", "carol")
    assert {b["asset"]: b["total"] for b in account["balances"]}["BTC"] == "102"
    table = (await run(shell, "admin", "accounts", "list", "--user", "carol")).splitlines()
    assert table[0].split() == ["account", "user", "tier", "frozen", "asset", "total", "available", "held", "unsettled"]
    assert table[1].split()[1:6] == ["carol", "standard", "-", "BTC", "102"]
    assert "is frozen, 0 orders" in await run(shell, "admin", "accounts", "freeze", "carol", "--reason", "a court")
    assert (await rows(shell, "accounts", "list", "--user", "carol"))[0]["freeze_reason"] == "a court"
    assert await run(shell, "admin", "accounts", "unfreeze", "carol", "--reason", "over") == "carol is not frozen\n"
    none = await run(shell, "admin", "accounts", "unlink-wallet", "carol", "--reason", "x", code=1)
    assert "WALLET_NOT_FOUND" in none
    refusal = await run(shell, "admin", "credit", "nobody", "BTC", "1", "--reason", "x", code=1)
    assert refusal == "clearbook: ACCOUNT_NOT_FOUND: no such user: nobody\n"
    refusal = await run(shell, "admin", "debit", "carol", "BTC", "1", "--reason", "x", "--to", "carol", code=1)
    assert refusal == "clearbook: INVALID_FIELD: --to must be another account than USER\n"
    assert [tier["tier"] for tier in await rows(shell, "fees", "list")] == ["standard", "gold"]
    assert await run(shell, "admin", "fees", "set", "carol", "gold") == "carol: gold\n"
    assert (await rows(shell, "accounts", "list", "--user", "carol"))[0]["fee_tier"] == "gold"
    log = await rows(shell, "audit", "list")
    assert [entry["method"] for entry in reversed(log)] == [
        *("CreateAccount", "GrantFunds", "AdjustBalance", "AdjustBalance", "AdjustBalance"),
        *("FreezeAccount", "UnfreezeAccount", "UnlinkWallet", "AdjustBalance", "AdjustBalance", "SetFeeTier"),
    ]
    assert [entry["outcome"] for entry in log][:3] == ["OK", "INVALID_FIELD", "ACCOUNT_NOT_FOUND"]
    assert {entry["user"] for entry in log} == {"admin"}


async def test_markets_withdrawals_and_keys(exchange: Exchange, shell: Shell, tmp_path: Path) -> None:
    await run(shell, "admin", "assets", "create", "SOL", "--decimals", "9")
    steps = ("--tick-size", "0.01", "--lot-size", "0.001")
    assert await run(shell, "admin", "markets", "create", "SOL-USD", *steps) == "market SOL-USD exists\n"
    book = exchange.gateway.ledger.books[exchange.gateway.ledger.markets_by_symbol["SOL-USD"].market_id]
    for command, state in (("pre-open", "PRE_OPEN"), ("open", "OPEN"), ("halt", "HALTED"), ("close", "CLOSED")):
        assert await run(shell, "admin", "markets", command, "SOL-USD", "--reason", "x") == f"SOL-USD is {state}\n"
        assert book.state.name == state
    assert await run(shell, "admin", "markets", "resume", "SOL-USD", "--reason", "x") == "SOL-USD is OPEN\n"
    limits = ("--quantity-min", "0.002", "--price-band", "500", "--open-orders-max", "7", "--reference-age-max", "9")
    assert "are set" in await run(shell, "admin", "markets", "rules", "SOL-USD", "--reason", "x", *limits)
    assert book.rules == MarketRules(2, band_ppm=50_000, open_orders_max=7, reference_age_max_seconds=9)
    said = await run(shell, "admin", "markets", "reference", "SOL-USD", "150.25", "--source", "the desk")
    assert said == "the reference price of SOL-USD is 150.25\n"
    assert book.reference is not None and book.reference.price_ticks == 15_025
    refusal = await run(shell, "admin", "markets", "rules", "SOL-USD", "--reason", "x", "--price-band", "10000", code=1)
    assert refusal.startswith("clearbook: INVALID_FIELD: ") and "must be 0 to 9999, not 10000" in refusal
    alice = exchange.user("alice")
    await alice.balances()
    for name in ("w1", "w2"):
        request = account_pb.CreateWithdrawalRequest(
            transfer_id=name, asset="BTC", amount="1", address="0x" + "a1" * 20
        )
        await alice.accounts.CreateWithdrawal(request, metadata=alice.metadata, timeout=15)
    second, first = await rows(shell, "withdrawals", "list", "--state", "requested")
    assert "approved" in await run(shell, "admin", "withdrawals", "approve", first["withdrawal_id"])
    await run(shell, "admin", "withdrawals", "reject", second["withdrawal_id"], "--reason", "no")
    unknown = await run(shell, "admin", "withdrawals", "list", "--state", "requestd", code=2)
    assert "'requestd' is not one of" in unknown and "TRANSFER_STATE" not in unknown
    table = (await run(shell, "admin", "withdrawals", "list")).splitlines()
    assert [line.split()[2] for line in table] == ["state", "CANCELED", "APPROVED"]
    public = (await run(shell, "keys", "new", str(tmp_path / "alice.pem"))).strip()
    own = await run(shell, "admin", "keys", "create", "alice", "--kind", "ed25519", "--public-key", public)
    assert re.fullmatch(r"key \S+\n", own), "there is no secret to show"
    made = (await run(shell, "admin", "keys", "create", "alice", "--scope", "trade", "--label", "bot")).split()
    assert made[0] == "key" and made[2] == "secret" and len(made[3]) > 20
    assert await run(shell, "admin", "keys", "revoke", made[1]) == f"key {made[1]} is revoked\n"
    (newest, older) = await rows(shell, "keys", "list", "--user", "alice")
    assert (newest["key"]["key_id"], bool(newest["key"]["revoke_time"]), older["key"]["kind"]) == (
        made[1], True, "KEY_KIND_ED25519",
    )  # fmt: skip
    table = (await run(shell, "admin", "keys", "list")).splitlines()
    assert [line.split()[:5] for line in table[1:]] == [
        ["alice", made[1], "BEARER", "bot", "TRADE"], ["alice", own.split()[1], "ED25519", "READ", table[2].split()[4]],
    ]  # fmt: skip
    log = await run(shell, "admin", "audit", "list")
    assert made[3] not in log and made[1] in log, "the key's id, not its secret"


async def test_export(exchange: Exchange, shell: Shell, tmp_path: Path) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    for number in range(3):
        await alice.place(limit("SELL", "30000.00", "0.1", f"s{number}"))
        await bob.place(limit("BUY", "30000.00", "0.1", f"b{number}"))
    found = {}
    for kind, table in TABLES.items():
        text = await run(shell, "export", kind, "--user", "alice")
        header, *lines = csv.reader(io.StringIO(text))
        assert tuple(header) == table.columns
        found[kind] = [dict(zip(header, line, strict=True)) for line in lines]
    assert [row["client_order_id"] for row in found["orders"]] == ["s2", "s1", "s0"]
    assert {(row["side"], row["state"], row["price"]) for row in found["orders"]} == {("SELL", "FILLED", "30000.00")}
    fees = [(row["fee"], row["fee_asset"], row["is_maker"]) for row in found["executions"]]
    assert fees == [("0.3", "USD", "true"), ("0.3", "USD", "true"), ("3", "USD", "true")], "gold from the second on"
    assert {row["kind"] for row in found["transfers"]} == {"ADJUSTMENT"}
    assert len(found["ledger"]) == 3 + 3 * 2
    sums: dict[str, int] = {}
    for row in found["ledger"]:
        asset = exchange.gateway.ledger.assets_by_symbol[row["asset"]]
        amount = row["amount"].removeprefix("-")
        sign = -1 if row["amount"].startswith("-") else 1
        sums[row["asset"]] = sums.get(row["asset"], 0) + sign * asset.parse(amount, "amount")
    shown = {a: exchange.gateway.ledger.assets_by_symbol[a].format(total) for a, total in sums.items()}
    assert shown == {asset: total for asset, (total, _, _) in (await alice.balances()).items()}
    out = tmp_path / "orders.csv"
    await run(shell, "export", "orders", "--user", "alice", "--market", "ETH-USD", "--out", str(out))
    assert out.read_text() == ",".join(TABLES["orders"].columns) + "\n"
    none = await run(shell, "export", "executions", "--user", "alice", "--end", "2020-01-01T00:00:00Z")
    assert none.count("\n") == 1
    unfit = await run(shell, "export", "ledger", "--user", "alice", "--market", "BTC-USD", code=1)
    assert unfit == "clearbook: ledger cannot be told apart by --market\n"
    before = out.read_text()
    for file, who in ((out, "fees"), (tmp_path / "none.csv", "fees")):
        assert "PERMISSION_DENIED" in await run(shell, "export", "orders", "--user", who, "--out", str(file), code=1)
    assert (out.read_text(), [file.name for file in tmp_path.glob("*.csv*")]) == (before, ["orders.csv"])
    assert not list(tmp_path.glob(".*")), "nothing half written is left"
    await alice.place(limit("SELL", "40000.00", "0.1", "=1+1"))
    assert ",'=1+1," in await run(shell, "export", "orders", "--user", "alice")
