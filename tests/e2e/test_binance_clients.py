"""Other people's clients of Binance, as they are, pointed at a running Clearbook: the scripts of tests/clients."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest
from clearbook.v1 import account_service_pb2 as accounts

from services.cli.clients import user
from tests.e2e.conftest import Traded
from tests.suite import Clients, Suite
from tests.transcript import ROOT

PYTHON = ROOT / ".venv/clients/bin/python"
SCRIPT_SECONDS_MAX = 120.0

Run = Callable[[str], Awaitable[str]]


@pytest.fixture(scope="module")
def suite(embedded: Suite) -> Suite:
    """One exchange is enough: what is under test is the shim."""
    return embedded


async def new_key(clients: Clients, name: str) -> str:
    """A user's new key and its secret, as scripts are told."""
    asked = accounts.CreateApiKeyRequest(kind=accounts.KEY_KIND_HMAC_SHA256, scopes=[accounts.SCOPE_TRADE])
    made = await clients.accounts.CreateApiKey(asked, metadata=user(name), timeout=20)
    return f"{made.key.key_id}:{made.secret}"


@pytest.fixture
async def run(suite: Suite, clients: Clients, market: Traded) -> Run:
    """Runs a script to its end, and gives what it printed."""
    env = os.environ | {
        "CLEARBOOK_URL": suite.http,
        "CLEARBOOK_PAIR": market.pair,
        "CLEARBOOK_SELLER": await new_key(clients, market.seller),
        "CLEARBOOK_BUYER": await new_key(clients, market.buyer),
    }

    async def script(name: str) -> str:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *(PYTHON, "-m", f"tests.clients.{name}"), cwd=ROOT, env=env, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(SCRIPT_SECONDS_MAX):
                said, _ = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        assert child.returncode == 0, said.decode()
        return said.decode()

    return script


@pytest.mark.parametrize("name", ["ccxt_rest", "ccxt_streams", "python_binance", "binance_sdk"])
async def test_clients_as_they_are(run: Run, name: str) -> None:
    await run(name)  # it says what is wrong by its exit code
