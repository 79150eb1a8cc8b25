"""Other people's clients of Binance, as they are, pointed at a running Clearbook: the scripts of tests/clients."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from clearbook.v1 import account_service_pb2 as accounts

from services.cli.clients import user
from tests.e2e.conftest import Traded
from tests.suite import Clients, Suite
from tests.transcript import ROOT

SCRIPTS = ROOT / "tests/clients"
PYTHON = ROOT / ".venv/clients/bin/python"
SCRIPT_SECONDS_MAX = 120.0

Run = Callable[..., Awaitable[None]]


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
    """Runs a script to its end, which says by its exit code whether all was as it should be."""
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | {
        "CLEARBOOK_URL": suite.http,
        "CLEARBOOK_PAIR": market.pair,
        "CLEARBOOK_SELLER": await new_key(clients, market.seller),
        "CLEARBOOK_BUYER": await new_key(clients, market.buyer),
    }

    async def script(*argv: str | Path, **more: str) -> None:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *argv, cwd=ROOT, env=env | more, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(SCRIPT_SECONDS_MAX):
                said, _ = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        assert child.returncode == 0, said.decode()

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
