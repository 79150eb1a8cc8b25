"""The whole exchange with mutual TLS between its processes and TLS on its public ports: it trades and settles."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from clearbook.internal.v1 import matching_service_pb2 as matching
from clearbook.internal.v1 import matching_service_pb2_grpc
from clearbook.v1 import order_service_pb2 as orders
from clearbook.v1 import settlement_service_pb2 as settlement

from clearbook.client import Client
from services.cli import certs
from services.cli.health import http_ready, serving
from services.runtime import rpc
from services.runtime.roles import Role
from tests.certificates import Certificates
from tests.suite import Suite, user

SETTLED_SECONDS_MAX = 40.0


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture
async def suite(ours: Certificates, tmp_path: Path) -> AsyncIterator[Suite]:
    suite = Suite.embedded(tmp_path, certificates=ours.folder, LOG_LEVEL="info")
    try:
        await suite.start_all()
        yield suite
    finally:
        await suite.stop_all()


@pytest.mark.slow
async def test_it_trades_and_settles(suite: Suite, ours: Certificates) -> None:
    believed = ours.folder / certs.AUTHORITY
    async with httpx.AsyncClient(base_url=suite.http, verify=ssl.create_default_context(cafile=believed)) as http:
        body = {"order_id": "1", "user_id": "alice", "pair": "BTC-USD", "order_type": "limit", "side": "sell"}
        answer = await http.post("/api/v1/order", json=body | {"price": 30000.00, "amount": 0.001}, timeout=60)
        assert answer.status_code == 200, answer.text
        await bob_buys(suite, believed.read_bytes())
        book = await http.get("/api/v1/orderbook/BTC-USD", timeout=30)
        assert book.json() == {"bids": [], "asks": []}
    await settled(suite)
    await doors_are_shut(suite, ours)


async def bob_buys(suite: Suite, believed: bytes) -> None:
    """With the Python client."""
    async with Client(suite.gateway, suite.publisher, user="bob", root_certificates=believed) as bob:
        async for book in bob.follow_book("BTC-USD"):
            if [price for price, _ in book.top(1)[1]] == ["30000.00"]:
                break
        answer = await bob.place_order("BTC-USD", "buy", quantity="0.001")
        assert [execution.price for execution in answer.executions] == ["30000.00"]


async def settled(suite: Suite) -> None:
    """The trade is final on chain, and the public API says so."""
    async with suite.clients() as clients:
        filled = await clients.call(clients.orders.GetOrder, orders.GetOrderRequest(client_order_id="1"), user("alice"))
        (execution,) = filled.executions
        request = settlement.StreamSettlementsRequest()
        async for change in clients.settlements.StreamSettlements(request, timeout=SETTLED_SECONDS_MAX):
            for item in change.settlements:
                if (item.trade_id, item.state) == (execution.trade_id, settlement.SETTLEMENT_STATE_FINAL):
                    return


async def doors_are_shut(suite: Suite, ours: Certificates) -> None:
    """The publisher's certificate opens no session; nobody speaks without a certificate, or in plain text."""
    book = f"127.0.0.1:{suite.plan.book_port}"
    async with rpc.connect(book, ours.role(Role.PUBLISHER), role=Role.BOOK) as channel:
        stub = matching_service_pb2_grpc.MatchingServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.OpenSession(matching.OpenSessionRequest(gateway=1), timeout=10)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert '"role":"publisher"' in suite.log_tail("book")
    for port in (suite.plan.book_port, suite.plan.settler_port, suite.plan.forward_port):
        assert not await serving(f"127.0.0.1:{port}")
        assert not await serving(f"127.0.0.1:{port}", tls=ours.believed)
    for address in (suite.gateway, suite.publisher):
        assert not await serving(address)
        assert await serving(address, tls=ours.believed)
    ready = f"{suite.http}/readyz"
    assert await http_ready(ready, ours.believed._replace(name="http"))
    assert not await http_ready(ready, ours.believed._replace(name="elsewhere.example"))
    assert not await http_ready(ready)
    with pytest.raises(httpx.TransportError):
        httpx.get(suite.http.replace("https", "http") + "/healthz", timeout=10)
