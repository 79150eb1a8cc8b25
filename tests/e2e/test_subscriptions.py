"""Subscriptions on /ws/marketdata against the running exchange: all channels, resumption, heartbeats, ways to end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from clearbook.v1 import order_service_pb2 as orders
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway_http.__main__ import WS_MESSAGE_BYTES_MAX
from gateway_http.private import LOGONS_FAILED_MAX
from tests.e2e.conftest import Traded
from tests.suite import Clients, Suite, user

SECONDS_MAX = 15.0

Message = dict[str, Any]


@pytest.fixture(scope="module")
def suite(embedded: Suite) -> Suite:
    """The shim is the same on other backends."""
    return embedded


class Reader:
    """Asks, and reads what it waits for; what comes before is kept."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.told: list[Message] = []

    async def ask(self, method: str, **params: Any) -> Message:
        await self._socket.send(json.dumps({"id": 1, "method": method, "params": params}))
        return await self.until(lambda message: "status" in message)

    async def subscribe(self, *items: Message, **more: Any) -> list[Message]:
        answer = await self.ask("subscribe", subscriptions=list(items), **more)
        assert answer["status"] == 200, answer
        found: list[Message] = answer["result"]["subscriptions"]
        return found

    async def heard(self, wanted: Callable[[Message], bool]) -> Message:
        """As `until`, or one that has come already."""
        return next((message for message in self.told if wanted(message)), None) or await self.until(wanted)

    async def until(self, wanted: Callable[[Message], bool]) -> Message:
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                message: Message = json.loads(await self._socket.recv())
                self.told.append(message)
                if wanted(message):
                    return message

    async def data(self, subscription: int, has: str = "") -> Message:
        """The next message of a subscription which has a field."""
        message = await self.until(lambda told: told.get("id") == subscription and has in str(told.get("data")))
        data: Message = message["data"]
        return data


async def sell(clients: Clients, market: Traded, price: str) -> None:
    request = orders.PlaceOrderRequest(
        market=market.pair, side=orders.SIDE_SELL, type=orders.ORDER_TYPE_LIMIT, price=price, quantity="0.001"
    )
    await clients.orders.PlaceOrder(request, metadata=user(market.seller), timeout=10)


async def buy(clients: Clients, market: Traded) -> None:
    request = orders.PlaceOrderRequest(
        market=market.pair, side=orders.SIDE_BUY, type=orders.ORDER_TYPE_MARKET, quantity="0.001"
    )
    await clients.orders.PlaceOrder(request, metadata=user(market.buyer), timeout=10)


async def test_every_channel(suite: Suite, market: Traded, clients: Clients) -> None:
    of = {"market": market.pair}
    async with connect(f"ws://{suite.plan.http}/ws/marketdata?pair={market.pair}") as socket:
        reader = Reader(socket)
        assert (await reader.ask("unsubscribe", channels=["orderbook_update"]))["result"] == {"channels": []}
        assert (await reader.ask("session.logon", user_id=market.buyer))["status"] == 200
        told = await reader.subscribe(
            {"id": 1, "channel": "book"} | of,
            {"id": 2, "channel": "book", "detail": "l1", "conflation": "100_milliseconds"} | of,
            {"id": 3, "channel": "book", "detail": "l3"} | of,
            {"id": 4, "channel": "trades"} | of,
            {"id": 5, "channel": "tickers", "markets": [market.pair]},
            {"id": 6, "channel": "candles", "interval": "1_day"} | of,
            {"id": 7, "channel": "account"},
            {"id": 8, "channel": "orders"} | of,
            {"id": 9, "channel": "executions"},
            {"id": 10, "channel": "book", "market": "NO-SUCH"},
            {"id": 1, "channel": "trades"} | of,
        )
        assert [each.get("reason") for each in told] == [None] * 9 + ["MARKET_NOT_FOUND", "INVALID_FIELD"]
        reader.told.clear()
        await sell(clients, market, "31000.50")
        await buy(clients, market)
        trade = (await reader.data(4, "trades"))["trades"][0]
        assert (trade["price"], trade["taker_side"]) == ("31000.50", "TAKER_SIDE_BUY")
        seen = {message["id"] for message in reader.told if "id" in message}
        for subscription in set(range(1, 10)) - seen:
            await reader.data(subscription)
        told_of = await reader.heard(lambda told: told.get("id") == 9 and "executions" in told["data"])
        execution = told_of["data"]["executions"][0]
        assert (execution["price"], execution["market"]) == ("31000.50", market.pair)
        assert not [message for message in reader.told if message.get("type") == "orderbook_update"]
        books = [message["data"] for message in reader.told if message.get("id") == 1]
        changes = [book["delta"] for book in books if "delta" in book]
        for before, after in pairwise(changes):
            assert after["previous_sequence"] == before["sequence"]


async def test_what_was_missed_is_sent_from_a_sequence_on(suite: Suite, market: Traded, clients: Clients) -> None:
    address = f"ws://{suite.plan.http}/ws/marketdata"
    book = {"id": 1, "channel": "book", "market": market.pair}
    async with connect(address) as socket:
        reader = Reader(socket)
        await reader.subscribe(book)
        first = (await reader.data(1, "snapshot"))["snapshot"]
        await sell(clients, market, "31000.50")
        sequence = (await reader.data(1, "delta"))["delta"]["sequence"]
    for price in ("31001.00", "31002.00"):
        await sell(clients, market, price)
    async with connect(address) as socket:
        reader = Reader(socket)
        resume = {"resume_from_sequence": sequence, "incarnation": first["incarnation"]}
        await reader.subscribe(book | resume)
        missed = (await reader.data(1, "delta"))["delta"]
        assert missed["previous_sequence"] == sequence
        refused = await reader.subscribe(book | resume | {"id": 3, "depth": 5})
        assert (refused[0]["reason"], refused[0]["field"]) == ("INVALID_FIELD", "resume_from_sequence")


async def test_heartbeats_come_as_they_were_asked_for(suite: Suite, market: Traded) -> None:
    async with connect(f"ws://{suite.plan.http}/ws/marketdata?pair={market.pair}") as socket:
        reader = Reader(socket)
        trades = {"id": 1, "channel": "trades", "market": market.pair}
        await reader.subscribe(trades, heartbeat_milliseconds=100)
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            await reader.until(lambda message: message["type"] == "heartbeat")
        assert asyncio.get_running_loop().time() - began < 3.0, "every 5 s, unless asked otherwise"


async def closed(socket: ClientConnection) -> tuple[int | None, str]:
    """The code, and the last words' reason, if there were any."""
    code = ""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(SECONDS_MAX):
            async for text in socket:
                message = json.loads(text)
                code = message["error"]["code"] if message.get("type") == "closing" else code
    return socket.close_code, code


async def test_the_ways_to_end(suite: Suite, market: Traded) -> None:
    address = f"ws://{suite.plan.http}/ws/marketdata"
    async with connect(address) as socket:
        for _ in range(LOGONS_FAILED_MAX):
            wrong = {"apiKey": "nobody", "timestamp": 1, "signature": "ab"}
            await socket.send(json.dumps({"id": 1, "method": "session.logon", "params": wrong}))
        assert await closed(socket) == (1008, "RATE_LIMITED")
    async with connect(address) as socket:
        reader = Reader(socket)
        await reader.subscribe({"id": 1, "channel": "trades", "market": market.pair})
        items = [{"id": 2, "channel": "trades", "market": market.pair}]
        await socket.send(json.dumps({
            "id": 1, "method": "subscribe", "params": {"subscriptions": items, "heartbeat_milliseconds": 1},
        }))  # fmt: skip
        assert await closed(socket) == (1008, "INVALID_FIELD")
    async with connect(address) as socket:
        await socket.send("x" * (WS_MESSAGE_BYTES_MAX + 1))
        assert await closed(socket) == (1009, "")
