"""Other people's clients of Binance, as they are, pointed at a running Clearbook: the scripts of tests/clients."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest
from clearbook.v1 import account_service_pb2 as accounts
from clearbook.v1 import order_service_pb2 as orders

from services.cli.clients import user
from tests.e2e.conftest import Traded, grant
from tests.suite import Clients, Suite
from tests.transcript import ROOT

SCRIPTS = ROOT / "tests/clients"
PYTHON = ROOT / ".venv/clients/bin/python"
SCRIPT_SECONDS_MAX = 120.0

Run = Callable[..., Awaitable[str]]


@pytest.fixture(scope="module")
def suite(embedded: Suite) -> Suite:
    """One exchange is enough: what is under test is the shim."""
    return embedded


async def new_key(clients: Clients, name: str) -> str:
    """A user's new key and its secret, as scripts are told."""
    asked = accounts.CreateApiKeyRequest(kind=accounts.KEY_KIND_HMAC_SHA256, scopes=[accounts.SCOPE_TRADE])
    made = await clients.accounts.CreateApiKey(asked, metadata=user(name), timeout=20)
    return f"{made.key.key_id}:{made.secret}"


@pytest.fixture(scope="module")
def node_home() -> Path:
    """Where the JavaScript client is, installed by its lock if it is not yet."""
    home = PYTHON.parents[1] / "node"
    files = ("package.json", "package-lock.json")
    if not all(
        (home / name).exists() and (home / name).read_bytes() == (SCRIPTS / name).read_bytes() for name in files
    ):
        assert shutil.which("npm"), "the JavaScript client needs node and npm: `scripts/services start` installs them"
        home.mkdir(exist_ok=True)
        for name in files:
            shutil.copy(SCRIPTS / name, home / name)
        install = ["npm", "install", "--ignore-scripts", "--no-fund", "--no-audit"]
        subprocess.run(install, cwd=home, check=True, timeout=SCRIPT_SECONDS_MAX)
    return home


@pytest.fixture
async def run(suite: Suite, clients: Clients, market: Traded) -> Run:
    """Runs a script to its end, and returns what it printed. Its exit code says whether all was as it should be."""
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | {
        "CLEARBOOK_URL": suite.http,
        "CLEARBOOK_PAIR": market.pair,
        "CLEARBOOK_SELLER": await new_key(clients, market.seller),
        "CLEARBOOK_BUYER": await new_key(clients, market.buyer),
    }

    async def script(*argv: str | Path, **more: str) -> str:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, env=env | more, stdout=pipe, stderr=pipe)
        try:
            async with asyncio.timeout(SCRIPT_SECONDS_MAX):
                said, complained = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                print((await child.communicate())[1].decode())
        assert child.returncode == 0, (said + complained).decode()
        return said.decode()

    return script


@pytest.mark.parametrize("name", ["ccxt_rest", "ccxt_streams", "python_binance", "binance_sdk"])
async def test_clients_in_python(run: Run, name: str) -> None:
    await run(PYTHON, "-m", f"tests.clients.{name}")


@pytest.mark.parametrize(
    ("begins", "addresses"),
    [
        ("import ccxt", "exchange.urls['api']"),
        ("from binance", "[getattr(o, n) for o in (AsyncClient, BinanceSocketManager) for n in dir(o) if 'URL' in n]"),
    ],
)
def test_the_page_leaves_no_address_of_the_real_binance(begins: str, addresses: str) -> None:
    """What is signed for Clearbook must not be sent to anybody else."""
    (block,) = re.findall(rf"```python\n({begins}.*?)```", (ROOT / "docs/binance.md").read_text(), re.DOTALL)
    lines = [line for line in block.splitlines() if not line.startswith("client = await")]
    program = "\n".join(["key_id = secret = ''", *lines, f"print({addresses})"])
    done = subprocess.run(
        [PYTHON, "-c", program], capture_output=True, text=True, check=True, timeout=SCRIPT_SECONDS_MAX
    )
    urls = re.findall(r"(?:https?|wss?)://[^'\"]+", done.stdout)
    assert urls
    assert [url for url in urls if not re.match(r"\w+://127\.0\.0\.1:8000/", url)] == []


async def test_ccxt_in_javascript(run: Run, node_home: Path) -> None:
    await run("node", SCRIPTS / "ccxt_trade.mjs", CLEARBOOK_NODE=str(node_home))


async def quote(clients: Clients, market: Traded) -> None:
    """Both sides of a book, and a trade at the bid: a bot asks for candles first."""
    for who, side, price, quantity in (
        (market.seller, orders.SIDE_SELL, "30030.00", "5"),
        (market.buyer, orders.SIDE_BUY, "30000.00", "5"),
        (market.seller, orders.SIDE_SELL, "30000.00", "0.1"),
    ):
        order = orders.PlaceOrderRequest(
            market=market.pair, side=side, type=orders.ORDER_TYPE_LIMIT, price=price, quantity=quantity
        )
        await clients.orders.PlaceOrder(order, metadata=user(who), timeout=20)


async def held(clients: Clients, name: str) -> dict[str, Decimal]:
    """What an account has, nothing of it set aside."""
    found = await clients.accounts.ListBalances(accounts.ListBalancesRequest(), metadata=user(name), timeout=20)
    assert {each.held for each in found.balances} == {"0"}
    return {each.asset: Decimal(each.total) for each in found.balances}


def profit(bought: orders.Execution, sold: orders.Execution) -> Decimal:
    """What a round trip brought, as freqtrade reckons: what was sold, for what it cost to buy, both fees on top."""
    quantity, rate = Decimal(sold.quantity), Decimal(bought.fee) / Decimal(bought.quantity)
    return quantity * (Decimal(sold.price) - Decimal(bought.price) * (1 + rate)) - Decimal(sold.fee)


async def test_freqtrade_trades_dry_and_in_earnest(run: Run, clients: Clients, market: Traded) -> None:
    bot = f"bot-{market.base}"
    await grant(clients, bot, "USD", "10000")
    await quote(clients, market)
    before = await held(clients, bot)
    said = await run(PYTHON, "-m", "tests.clients.freqtrade_bot", CLEARBOOK_BOT=await new_key(clients, bot))
    trades = json.loads(said.splitlines()[-1])
    assert {name: [trade["is_open"] for trade in made] for name, made in trades.items()} == {
        "dry": [0, 0],
        "live": [0, 0],
    }
    assert [trade["open_rate"] for trade in trades["dry"]] == [30030, 30030]

    ours = await clients.orders.ListOrders(orders.ListOrdersRequest(), metadata=user(bot), timeout=20)
    mine = await clients.orders.ListExecutions(orders.ListExecutionsRequest(), metadata=user(bot), timeout=20)
    theirs = {order["order_id"]: order for trade in trades["live"] for order in trade["orders"]}
    assert {each.order_id for each in ours.orders} == set(theirs)  # the dry ones never came here
    for each in ours.orders:
        order = theirs[each.order_id]
        ended = "canceled" if each.trigger == orders.TRIGGER_STOP else "closed"
        assert each.state == (orders.ORDER_STATE_CANCELED if ended == "canceled" else orders.ORDER_STATE_FILLED)
        assert (order["status"], order["amount"], order["filled"], order["cost"]) == (
            ended, float(each.quantity), float(each.filled_quantity), pytest.approx(float(each.filled_quote))
        )  # fmt: skip
    oldest = list(reversed(mine.executions))
    reckoned = [float(profit(*oldest[first : first + 2])) for first in (0, 2)]
    assert [trade["close_profit_abs"] for trade in trades["live"]] == pytest.approx(reckoned)

    after = await held(clients, bot)
    moved = {"USD": Decimal(0), market.base: Decimal(0)}
    for execution in oldest:
        sign = 1 if execution.side == orders.SIDE_BUY else -1
        moved[market.base] += sign * Decimal(execution.quantity)
        moved["USD"] -= sign * Decimal(execution.price) * Decimal(execution.quantity)
        moved[execution.fee_asset] -= Decimal(execution.fee)
    assert {asset: after[asset] - before.get(asset, 0) for asset in moved} == moved
