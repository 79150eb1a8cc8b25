"""clearbook.client against the running exchange: what a newcomer's first program does."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from clearbook.v1 import order_service_pb2 as pb

from clearbook.client import Client
from tests.e2e.conftest import Traded
from tests.suite import Suite, fresh, until

SECONDS_MAX = 20.0


_STOP = {"trigger": pb.TRIGGER_STOP, "trigger_price": "29000"}


def _exit(market: Traded, price: str, more: dict[str, Any] | None = None) -> pb.PlaceOrderRequest:
    kind = pb.ORDER_TYPE_LIMIT if price else pb.ORDER_TYPE_MARKET
    named = {"market": market.pair, "price": price, "quantity": "0.1", **(more or {})}
    return pb.PlaceOrderRequest(side=pb.SIDE_SELL, type=kind, **named)


async def test_two_orders_meet_and_a_follower_sees_it(suite: Suite, market: Traded) -> None:
    addresses = (suite.gateway, suite.publisher)
    async with (
        Client(*addresses, user=market.seller) as seller,
        Client(*addresses, user=market.buyer) as buyer,
        asyncio.timeout(SECONDS_MAX),
    ):

        async def listed() -> bool:
            return market.pair in await buyer.markets()

        await until(listed, SECONDS_MAX)
        async with aclosing(buyer.follow_book(market.pair)) as books:
            book = await anext(books)
            assert (book.bids, book.asks) == ([], [])
            rested = await seller.place_order(market.pair, "sell", quantity="0.5", price="30000.00")
            assert (await anext(books)).asks == [("30000.00", "0.5")]
            taken = await buyer.place_order(market.pair, "buy", quantity="0.2")
            assert [(x.price, x.quantity) for x in taken.executions] == [("30000.00", "0.2")]
            assert (await anext(books)).asks == [("30000.00", "0.3")]
            renamed = await seller.replace_order(rested.order.client_order_id, price="31000.00")
            assert renamed.order.client_order_id != rested.order.client_order_id
            assert (await anext(books)).asks == [("31000.00", "0.3")]
            request = pb.PlaceOrderRequest(
                market=market.pair, side=pb.SIDE_BUY, type=pb.ORDER_TYPE_MARKET, quantity="1"
            )
            assert (await buyer.preview_order(request)).filled_quantity == "0.3"
            await seller.cancel_after(60)
            await seller.cancel_after(0)
            await seller.cancel_order(rested.order.client_order_id)
            assert (await anext(books)).asks == []
            placed = [await seller.place(_exit(market, "32000.00"))]
            placed += (await seller.place_group(_exit(market, "31000.00"), _exit(market, "", _STOP))).orders
            assert len({answer.order.client_order_id for answer in placed}) == 3
            assert (await seller.cancel_all(market.pair)).canceled_count == 3
        found = await seller.get_order(rested.order.client_order_id)
        assert found.order.state == pb.ORDER_STATE_CANCELED
        assert found.order.filled_quantity == "0.2"


async def test_an_order_sent_twice_is_one_order_and_a_refusal_is_not_insisted_on(suite: Suite, market: Traded) -> None:
    async with Client(suite.gateway, suite.publisher, user=market.seller) as client, asyncio.timeout(SECONDS_MAX):
        order = {"quantity": "0.1", "price": "40000", "client_order_id": fresh("order")}
        first = await client.place_order(market.pair, "sell", **order)
        assert await client.place_order(market.pair, "sell", **order) == first
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.place_order(market.pair, "sell", quantity="0.000001", price="40000")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
