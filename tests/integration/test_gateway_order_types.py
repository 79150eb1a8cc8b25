"""Orders of all kinds through the gateway, at the real book: where they stand, what they hold, and what ends them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clearbook.v1 import order_service_pb2 as pb

from services.order_gateway.check import violations
from tests import gateways
from tests.gateways import Client, Exchange, limit, refused

STOP = {"trigger": pb.TRIGGER_STOP, "trigger_price": "29900.00"}


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path) as running:
        yield running
        assert violations(running.gateway.ledger) == []


async def replace(client: Client, client_order_id: str, **fields: str) -> Any:
    request = pb.ReplaceOrderRequest(client_order_id=client_order_id, **fields)
    return await client.orders.ReplaceOrder(request, metadata=client.metadata, timeout=15)


def told(order: pb.Order) -> tuple[str, str, str]:
    """State or cause, filled, locked."""
    ended = order.state == pb.ORDER_STATE_CANCELED
    state = pb.CancelCause.Name(order.cancel_cause) if ended else pb.OrderState.Name(order.state)
    return state.removeprefix("ORDER_STATE_").removeprefix("CANCEL_CAUSE_"), order.filled_quantity, order.locked


async def test_a_stop_waits_goes_to_market_and_is_found_as_it_was(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    stop = limit("SELL", "29800.00", "2", "stop", **STOP, display_quantity="0.5")
    placed = await alice.place(stop)
    assert told(placed.order) == ("WAITING", "0", "2") and placed.order.trigger_price == "29900.00"
    assert [order.client_order_id for order in (await alice.list(open_only=True)).orders] == ["stop"]
    await bob.place(limit("BUY", "29900.00", "0.1"))
    await bob.place(limit("BUY", "29850.00", "1"))
    await alice.place(limit("SELL", "29900.00", "0.1"))
    now = await alice.get(client_order_id="stop")
    assert told(now.order) == ("OPEN", "1", "1")
    assert [(item.price, item.quantity, item.is_maker) for item in now.executions] == [("29850.00", "1", False)]
    assert await alice.place(stop) == placed, "sent again it is what was answered"
    assert exchange.gateway.ledger.books[1].depth.all(buys=False) == [(2_980_000, 50_000)], "an iceberg shows a part"


async def test_an_order_is_replaced_and_what_it_holds_with_it(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    first = limit("SELL", "30000.00", "60", "a")
    placed = await alice.place(first)
    assert (await refused(replace(alice, "a", quantity="101")))[:2] == ("FAILED_PRECONDITION", "INSUFFICIENT_FUNDS")
    for fields, price, quantity in (
        ({"quantity": "100"}, "30000.00", "100"),
        ({"price": "31000.00"}, "31000.00", "100"),
        ({"price": "31000.00", "quantity": "20"}, "31000.00", "20"),
        ({"price": "31000.00", "quantity": "20"}, "31000.00", "20"),
    ):
        replaced = (await replace(alice, "a", **fields)).order
        assert (replaced.price, replaced.quantity, replaced.order_id) == (price, quantity, placed.order.order_id)
        assert told(replaced) == ("OPEN", "0", quantity)
    assert await alice.place(first) == placed, "sent again it is what was answered"
    bob = exchange.user("bob")
    await bob.place(limit("BUY", "30500.00", "5"))
    taken = await replace(alice, "a", price="30500.00")
    assert told(taken.order) == ("OPEN", "5", "15") and [item.quantity for item in taken.executions] == ["5"]
    assert (await refused(replace(alice, "a", quantity="5")))[1] == "QUANTITY_TRADED"
    await alice.cancel(client_order_id="a")
    assert (await refused(replace(alice, "a", quantity="9")))[1] == "ORDER_ENDED"
    assert (await refused(replace(alice, "nobody's", quantity="9")))[1] == "ORDER_NOT_FOUND"


async def test_what_happens_when_one_meets_ones_own(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    await alice.place(limit("SELL", "30000.00", "1", "older"))
    bid = limit("BUY", "30000.00", "0.4", "newer", self_trade_prevention=pb.SELF_TRADE_PREVENTION_DECREMENT)
    placed = await alice.place(bid)
    assert told(placed.order) == ("SELF_TRADE", "0", "0") and await alice.place(bid) == placed
    assert told((await alice.get(client_order_id="older")).order) == ("OPEN", "0", "0.6")
    both = limit("BUY", "30000.00", "0.6", "both", self_trade_prevention=pb.SELF_TRADE_PREVENTION_NONE)
    traded = await alice.place(both)
    assert told(traded.order) == ("FILLED", "0.6", "0") and len(traded.executions) == 1
