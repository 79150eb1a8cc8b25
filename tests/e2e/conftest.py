"""The running exchange, one for each set of backends, started when first asked for and used by all tests here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import grpc
import httpx
import pytest
from clearbook.v1 import admin_service_pb2 as admin

from services.errors import Reason
from services.runtime import rpc
from tests.backends import Backends
from tests.suite import ADMIN, Clients, Suite, fresh_symbol, until

FUNDING_SECONDS_MAX = 60.0


def running(suite: Suite) -> Iterator[Suite]:
    try:
        asyncio.run(suite.start_all())
        yield suite
    finally:
        asyncio.run(suite.stop_all())


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """SQLite, no broker, a devchain of its own."""
    yield from running(Suite.embedded(tmp_path_factory.mktemp("embedded"), RECONCILE_SECONDS="1"))


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory, backends: Backends) -> Iterator[Suite]:
    """RabbitMQ, PostgreSQL and Anvil."""
    folder = tmp_path_factory.mktemp("production")
    yield from running(asyncio.run(Suite.production(folder, backends, RECONCILE_SECONDS="1")))


@pytest.fixture(params=["embedded", "production"], scope="session")
def suite(request: pytest.FixtureRequest) -> Suite:
    """Both, one after the other."""
    found: Suite = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def http(suite: Suite) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shim."""
    async with httpx.AsyncClient(base_url=suite.http, timeout=30) as client:
        yield client


@pytest.fixture
async def clients(suite: Suite) -> AsyncIterator[Clients]:
    """Stubs of all public services."""
    async with suite.clients() as made:
        yield made


@dataclass(frozen=True)
class Traded:
    """A market that nobody else uses, with BTC-USD's steps, and two users who have funds for it."""

    pair: str
    base: str
    seller: str
    buyer: str


async def grant(clients: Clients, user: str, asset: str, amount: str) -> None:
    """Gives a user funds, once the faucet has some."""
    given = {"user": user, "asset": asset, "amount": amount, "reason": "a test"}
    asked = admin.GrantFundsRequest(transfer_id=f"{user}-{asset}", **given)

    async def funded() -> bool:
        try:
            await clients.admin.GrantFunds(asked, metadata=ADMIN, timeout=20)
        except grpc.aio.AioRpcError as error:
            if rpc.rejected_from(error) is Reason.INSUFFICIENT_FUNDS:  # the faucet's, until it is funded on chain
                return False
            raise
        return True

    await until(funded, FUNDING_SECONDS_MAX)


@pytest.fixture
async def market(clients: Clients) -> Traded:
    """A market of the test's own: its book is empty."""
    base = fresh_symbol()
    made = Traded(f"{base}-USD", base, f"seller-{base}", f"buyer-{base}")
    await clients.admin.CreateAsset(admin.CreateAssetRequest(symbol=base), metadata=ADMIN, timeout=20)
    create = admin.CreateMarketRequest(market=made.pair, tick_size="0.01", lot_size="0.00001")
    await clients.admin.CreateMarket(create, metadata=ADMIN, timeout=20)
    await grant(clients, made.seller, base, "1000")
    await grant(clients, made.buyer, "USD", "50000000")
    return made
