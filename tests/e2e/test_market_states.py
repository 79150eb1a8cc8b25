"""A market's opening on the running exchange, as operators, traders and readers of market data see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from clearbook.v1 import admin_service_pb2 as admin
from clearbook.v1 import book_service_pb2 as book
from clearbook.v1 import order_service_pb2 as orders

from tests.e2e.conftest import Traded
from tests.gateways import limit, market_state
from tests.suite import ADMIN, Clients, until, user

STEP_SECONDS_MAX = 30.0


async def told(markets: AsyncIterator[book.StreamMarketsResponse], pair: str) -> book.Market:
    """What is told next of a market."""
    async with asyncio.timeout(STEP_SECONDS_MAX):
        async for message in markets:
            for market in message.markets:
                if market.market == pair:
                    return market
    raise AssertionError("the stream has ended")


@pytest.mark.parametrize("suite", ["embedded"], indirect=True, scope="session")
async def test_an_opening(clients: Clients, http: httpx.AsyncClient, market: Traded) -> None:
    async def listed() -> list[dict[str, Any]]:
        answer = (await http.get("/api/v1/markets")).raise_for_status().json()
        return [one for one in answer["markets"] if one["market"] == market.pair]

    call = clients.book.StreamMarkets(book.StreamMarketsRequest())
    watching = aiter(call)
    assert (await told(watching, market.pair)).state == book.MARKET_STATE_OPEN
    await clients.admin.SetMarketState(market_state("PRE_OPEN", market.pair), metadata=ADMIN, timeout=20)
    rules = admin.SetMarketRulesRequest(market=market.pair, quantity_max="10", reason="a test")
    await clients.admin.SetMarketRules(rules, metadata=ADMIN, timeout=20)
    for who, side, price, quantity in (
        (market.seller, "SELL", "99.00", "3"),
        (market.seller, "SELL", "101.00", "4"),
        (market.buyer, "BUY", "102.00", "5"),
    ):
        order = limit(side, price, quantity, market=market.pair)
        placed = await clients.orders.PlaceOrder(order, metadata=user(who), timeout=20)
        assert placed.order.state == orders.ORDER_STATE_OPEN and not placed.executions
    now = await told(watching, market.pair)
    while now.auction.quantity != "5":
        now = await told(watching, market.pair)
    assert (now.state, now.rules.quantity_max, now.auction.price) == (book.MARKET_STATE_PRE_OPEN, "10", "101.00")
    (shown,) = await listed()
    assert (shown["state"], shown["rules"]["quantity_max"]) == ("MARKET_STATE_PRE_OPEN", "10")
    await clients.admin.SetMarketState(market_state("OPEN", market.pair), metadata=ADMIN, timeout=20)
    assert (await told(watching, market.pair)).state == book.MARKET_STATE_OPEN
    call.cancel()

    async def traded() -> bool:
        request = book.ListTradesRequest(market=market.pair)
        trades = (await clients.book.ListTrades(request, timeout=20)).trades
        return [(trade.price, trade.quantity) for trade in trades] == [("101.00", "2"), ("101.00", "3")]

    await until(traded, STEP_SECONDS_MAX)
