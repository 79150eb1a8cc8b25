"""The gateway's side of the shim's entrance: forwarded streams, and sessions that stand in for a credential."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.internal.v1 import forward_service_pb2 as wire
from clearbook.internal.v1 import forward_service_pb2_grpc as services
from clearbook.v1 import account_service_pb2 as accounts
from clearbook.v1 import order_service_pb2 as orders
from google.rpc import status_pb2

from services.order_gateway import forward as forwarder
from services.runtime import rpc
from services.runtime.status import refusal_in
from tests import gateways
from tests.gateways import Exchange, limit, refused

BALANCES = "/clearbook.v1.AccountService/ListBalances"
STREAM = "/clearbook.v1.OrderService/StreamOrders"
ALICE = {"x-clearbook-user": "alice"}


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path) as running:
        yield running


@pytest.fixture
async def shim(exchange: Exchange) -> AsyncIterator[Any]:
    async with rpc.connect(f"127.0.0.1:{exchange.gateway.forward_port}") as channel:
        yield services.ForwardServiceStub(channel)


def opened(shim: Any, method: str, metadata: dict[str, str], request: bytes = b"") -> Any:
    item = wire.ForwardRequest(method=method, request=request, metadata=metadata)
    return shim.ForwardStream(wire.ForwardStreamRequest(request=item))


async def answer(shim: Any, method: str, metadata: dict[str, str]) -> wire.ForwardResponse:
    item = wire.ForwardRequest(id=1, method=method, metadata=metadata)
    async for response in shim.Forward(iter([item])):
        return response  # type: ignore[no-any-return]
    raise AssertionError("no answer")


def reason(response: wire.ForwardResponse) -> str:
    refusal = refusal_in(status_pb2.Status.FromString(response.status))
    return refusal.reason.name if refusal else ""


async def test_a_stream_is_forwarded(exchange: Exchange, shim: Any) -> None:
    stream = opened(shim, STREAM, ALICE)
    async with asyncio.timeout(20):
        first = orders.StreamOrdersResponse.FromString((await stream.read()).response)
        assert first.snapshot and not first.orders
        placed = await exchange.user("alice").place(limit("SELL", "30000.00", "0.1", "mine"))
        told = orders.StreamOrdersResponse.FromString((await stream.read()).response)
    assert [order.order_id for order in told.orders] == [placed.order.order_id]
    stream.cancel()


@pytest.mark.parametrize(
    ("method", "metadata", "request_bytes", "expected"),
    [
        (STREAM, {}, b"", ("UNAUTHENTICATED", "UNAUTHENTICATED", "")),
        (STREAM, ALICE, b"\xff", ("INVALID_ARGUMENT", "MALFORMED_REQUEST", "")),
        (STREAM, {"x-clearbook-session": "made up"}, b"", ("UNAUTHENTICATED", "UNAUTHENTICATED", "")),
        (STREAM, ALICE | {"x-clearbook-session": ""}, b"", ("UNAUTHENTICATED", "UNAUTHENTICATED", "")),
        ("/clearbook.v1.OrderService/Nonsense", ALICE, b"", ("INVALID_ARGUMENT", "MALFORMED_REQUEST", "method")),
        (BALANCES, {}, b"", ("UNAUTHENTICATED", "UNAUTHENTICATED", "")),
    ],
)
async def test_streams_that_are_refused(
    shim: Any, method: str, metadata: dict[str, str], request_bytes: bytes, expected: tuple[str, str, str]
) -> None:
    assert await refused(opened(shim, method, metadata, request_bytes).read()) == expected


async def test_a_session_is_a_credential_for_as_long_as_it_lasts(exchange: Exchange, shim: Any) -> None:
    mine = await exchange.user("alice").accounts.ListBalances(
        accounts.ListBalancesRequest(), metadata=tuple(ALICE.items()), timeout=15
    )
    session = opened(shim, BALANCES, ALICE)
    async with asyncio.timeout(20):
        first = await session.read()
        assert accounts.ListBalancesResponse.FromString(first.response).account_id == mine.account_id
        assert len(first.session) >= 43
        named = {"x-clearbook-session": first.session}
        again = await answer(shim, BALANCES, named | {"x-clearbook-user": "bob"})
        found = accounts.ListBalancesResponse.FromString(again.response).account_id
        assert found == mine.account_id, "a session is one user's, whoever is named beside it"
        stream = opened(shim, STREAM, named)
        assert orders.StreamOrdersResponse.FromString((await stream.read()).response).snapshot
        session.cancel()
        while not (response := await answer(shim, BALANCES, named)).status:
            await asyncio.sleep(0.01)
    assert reason(response) == "UNAUTHENTICATED"
    stream.cancel()


async def test_every_session_has_a_name_of_its_own(shim: Any) -> None:
    calls = [opened(shim, BALANCES, ALICE) for _ in range(3)]
    async with asyncio.timeout(20):
        names = {(await call.read()).session for call in calls}
    assert len(names) == 3
    for call in calls:
        call.cancel()
        with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
            await call.read()


async def test_sessions_of_a_user_are_limited(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "SESSIONS_USER_MAX", 2)
    first, second = (opened(shim, BALANCES, ALICE) for _ in range(2))
    async with asyncio.timeout(20):
        await first.read()
        await second.read()
        refusal = await refused(opened(shim, BALANCES, ALICE).read())
        assert refusal == ("RESOURCE_EXHAUSTED", "TOO_MANY_SESSIONS", "")
        other = opened(shim, BALANCES, {"x-clearbook-user": "bob"})
        assert (await other.read()).session, "another user's are counted apart"
        first.cancel()
        while True:
            again = opened(shim, BALANCES, ALICE)
            with suppress(grpc.aio.AioRpcError):
                assert (await again.read()).session
                break
    for call in (second, other, again):
        call.cancel()


async def test_callers_are_told_of_their_buckets(tmp_path: Path) -> None:
    rates: dict[str, Any] = {"limit_account_orders": "1/2", "limit_account_requests": "1/9"}
    async with gateways.exchange(tmp_path, **rates) as exchange:
        alice = exchange.user("alice")

        async def told(call: Any) -> dict[str, Any]:
            with suppress(grpc.aio.AioRpcError):  # it is told all the same
                await call
            return {key: value for key, value in await call.trailing_metadata() if key.startswith(("x-rate", "retry"))}

        async def asked() -> dict[str, Any]:
            request = accounts.ListBalancesRequest()
            return await told(alice.accounts.ListBalances(request, metadata=alice.metadata, timeout=15))

        async def placed(user: gateways.Client) -> dict[str, Any]:
            order = limit("SELL", "30000.00", "0.01")
            return await told(user.orders.PlaceOrder(order, metadata=user.metadata, timeout=15))

        assert await asked() == {
            "x-ratelimit-limit": "9", "x-ratelimit-remaining": "8", "x-ratelimit-reset": "1",
        }  # fmt: skip
        orders_told = [await placed(alice) for _ in range(3)]
        assert [found["x-ratelimit-remaining"] for found in orders_told] == ["1", "0", "0"]
        assert [found.get("retry-after") for found in orders_told] == [None, None, "1"]
        assert await refused(alice.place(limit("SELL", "30000.00", "0.01"))) == (
            "RESOURCE_EXHAUSTED", "RATE_LIMITED", "",
        )  # fmt: skip
        assert (await asked())["x-ratelimit-limit"] == "9", "orders are counted apart"
        assert (await placed(exchange.user("bob")))["x-ratelimit-remaining"] == "1"
