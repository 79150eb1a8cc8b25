"""A market maker on the Trade stream of the running exchange: the gateway dies midway, and nothing is placed twice."""

from __future__ import annotations

import asyncio

import grpc
from clearbook.v1 import book_service_pb2 as book
from clearbook.v1 import order_service_pb2 as orders

from tests.e2e.conftest import Traded
from tests.suite import Clients, Suite, until, user

REQUESTS, LEVELS = 30, 20
STEP_SECONDS_MAX = 60.0


def ladder(market: Traded, number: int) -> orders.TradeRequest:
    """Twenty offers, each level once in a request; those of the last one are canceled first."""
    before = [orders.CancelOrderRequest(client_order_id=f"{number - 1}-{level}") for level in range(LEVELS)]
    return orders.TradeRequest(
        request_id=number,
        cancels=before if number else [],
        orders=[
            orders.PlaceOrderRequest(
                client_order_id=f"{number}-{level}",
                market=market.pair,
                side=orders.SIDE_SELL,
                type=orders.ORDER_TYPE_LIMIT,
                price=f"{100 + level}.00",
                quantity=f"0.{number + 1:03}",
            )
            for level in range(LEVELS)
        ],
    )


async def quote(clients: Clients, market: Traded, first: int, suite: Suite | None) -> int:
    """Sends ladders from `first` on; returns which one was not answered. `suite`: its gateway is killed on the way."""
    stream = clients.orders.Trade(metadata=user(market.seller), wait_for_ready=True)
    answered = first
    try:
        for number in range(first, REQUESTS):
            await stream.write(ladder(market, number))
        while answered < REQUESTS:
            response = await stream.read()
            assert isinstance(response, orders.TradeResponse), "the stream ended in order"
            for answer in response.answers:
                assert answer.request_id == answered and not answer.HasField("refusal"), answer
                assert {outcome.refusal.reason for outcome in answer.orders} == {""}, answer
                assert {outcome.refusal.reason for outcome in answer.cancels} <= {"", "ORDER_ENDED"}, answer
                answered += 1
            if suite is not None:
                await suite.kill("gateway")
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):  # a write on a call that has ended says so in its own way
        assert suite is not None
    stream.cancel()
    return answered


async def test_a_maker_whose_gateway_dies(suite: Suite, clients: Clients, market: Traded) -> None:
    async with asyncio.timeout(STEP_SECONDS_MAX):
        first = await quote(clients, market, 0, suite)
        assert first < REQUESTS
        suite.start("gateway")
        await suite.ready("gateway")
        assert await quote(clients, market, first, None) == REQUESTS
    found, token = list[orders.Order](), ""
    while token or not found:
        asked = orders.ListOrdersRequest(market=market.pair, page_size=500, page_token=token)
        page = await clients.orders.ListOrders(asked, metadata=user(market.seller), timeout=20)
        found, token = [*found, *page.orders], page.next_page_token
    assert len(found) == len({order.client_order_id for order in found}) == REQUESTS * LEVELS, "each once"
    resting = {order.client_order_id for order in found if order.state == orders.ORDER_STATE_OPEN}
    assert resting == {f"{REQUESTS - 1}-{level}" for level in range(LEVELS)}
    expected = [(f"{100 + level}.00", f"0.{REQUESTS:03}".rstrip("0")) for level in range(LEVELS)]

    async def shown() -> bool:
        top = book.GetOrderBookRequest(market=market.pair, depth=100)
        asks = (await clients.book.GetOrderBook(top, timeout=20)).asks
        return [(level.price, level.quantity) for level in asks] == expected

    await until(shown, 20)
