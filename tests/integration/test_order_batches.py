"""Several orders in one call: each judged by itself and found again by its id, in order, and all ended at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clearbook.v1 import order_service_pb2 as pb

from services.order_gateway import batch_wire
from services.order_gateway.check import violations
from tests import gateways
from tests.gateways import Client, Exchange, limit, market, refused

IOC = {"time_in_force": pb.TIME_IN_FORCE_IOC}


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path) as running:
        yield running
        assert violations(running.gateway.ledger) == []


async def place(client: Client, *orders: pb.PlaceOrderRequest) -> list[pb.PlaceOrderOutcome]:
    request = pb.PlaceOrdersRequest(orders=orders)
    answer = await client.orders.PlaceOrders(request, metadata=client.metadata, timeout=15)
    return list(answer.outcomes)


async def cancel(client: Client, *names: dict[str, str]) -> list[pb.CancelOrderOutcome]:
    request = pb.CancelOrdersRequest(orders=[pb.CancelOrderRequest(**name) for name in names])
    answer = await client.orders.CancelOrders(request, metadata=client.metadata, timeout=15)
    return list(answer.outcomes)


async def cancel_all(client: Client, **fields: Any) -> pb.CancelAllOrdersResponse:
    request = pb.CancelAllOrdersRequest(**fields)
    return await client.orders.CancelAllOrders(request, metadata=client.metadata, timeout=15)  # type: ignore[no-any-return]


def told(outcome: Any) -> tuple[str, str]:
    """(state and what was filled) of an order, (reason, field) of a refusal."""
    if outcome.HasField("refusal"):
        return outcome.refusal.reason, outcome.refusal.field
    order = getattr(outcome, outcome.WhichOneof("outcome")).order
    return pb.OrderState.Name(order.state).removeprefix("ORDER_STATE_"), order.filled_quantity


ITEMS: list[tuple[pb.PlaceOrderRequest, tuple[str, str]]] = [
    # in one call, in this order; alice has 100 BTC, bob bids for 0.3 of them
    (limit("SELL", "30000.00", "60", "a"), ("OPEN", "0.3")),
    (limit("SELL", "30000.00", "60", "b"), ("INSUFFICIENT_FUNDS", "")),
    (limit("SELL", "30000.00", "40", "c"), ("OPEN", "0")),
    (limit("SELL", "30000.00", "0.00001", "d"), ("INSUFFICIENT_FUNDS", "")),
    (limit("SELL", "30000.00", "60", "a"), ("OPEN", "0.3")),
    (limit("SELL", "30000.01", "60", "a"), ("CLIENT_ORDER_ID_REUSED", "client_order_id")),
    (limit("SELL", "30000.001", "1", "e"), ("INVALID_PRICE", "price")),
    (limit("SELL", "", "1", "f"), ("INVALID_FIELD", "price")),
    (limit("SELL", "1.00", "1", "g", market="NO-SUCH"), ("MARKET_NOT_FOUND", "market")),
    (limit("SELL", "1.00", "1", "not an id"), ("INVALID_FIELD", "client_order_id")),
    (pb.PlaceOrderRequest(), ("INVALID_FIELD", "market")),
    (limit("BUY", "20000.00", "1", "h", **IOC), ("CANCELED", "0")),
    (market("BUY", "0.1", "i", quote_budget="9000"), ("CANCELED", "0")),  # its own offers are the only ones: SELF_TRADE
    (limit("BUY", "20000.00", "1", "j"), ("OPEN", "0")),
]


async def test_each_order_is_judged_by_itself_and_found_again(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await bob.place(limit("BUY", "30000.00", "0.3"))
    outcomes = await place(alice, *(order for order, _ in ITEMS))
    assert [told(outcome) for outcome in outcomes] == [expected for _, expected in ITEMS]
    first = outcomes[0].placed
    assert [e.quantity for e in first.executions] == ["0.3"] and outcomes[4].placed == first
    refusal = outcomes[1].refusal
    assert (refusal.code, refusal.message) == (9, "BTC: 40 available, 60 needed")
    await bob.place(limit("BUY", "30000.00", "1"))
    second = await place(alice, *(order for order, _ in ITEMS))
    assert [told(outcome) for outcome in second] == [expected for _, expected in ITEMS]
    assert [outcome.placed for outcome in second] == [outcome.placed for outcome in outcomes], "nothing new"
    again, other = await place(alice, ITEMS[0][0], limit("SELL", "1.00", "1", "c"))
    assert again == outcomes[0] and other.refusal.reason == "CLIENT_ORDER_ID_REUSED"
    assert len((await alice.list()).orders) == 5


async def test_one_call_is_one_row_of_the_journal(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    await alice.balances()
    orders = [limit("SELL", f"{30_000 + number}.00", "0.01") for number in range(batch_wire.ORDERS_PER_CALL_MAX)]
    outcomes = await place(alice, *orders)
    assert [outcome.placed.order.price for outcome in outcomes] == [order.price for order in orders]
    assert len({outcome.placed.order.create_time.ToNanoseconds() for outcome in outcomes}) == 1
    numbers = [int(outcome.placed.order.order_id) for outcome in outcomes]
    assert numbers == list(range(numbers[0], numbers[0] + len(orders))), "in the order given"


async def test_ids_that_only_the_database_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.order_gateway.ledger.ENDED_ORDERS_MAX", 0)
    orders = [limit("SELL", "30000.00", "0.1", f"ended-{number}", **IOC) for number in range(20)]
    orders += [limit("SELL", "30000.00", "0.1", "open")]
    async with gateways.exchange(tmp_path) as exchange:
        outcomes = await place(exchange.user("alice"), *orders)
    async with gateways.exchange(tmp_path, fund=False) as exchange:
        alice = exchange.user("alice")
        new, other = limit("SELL", "30000.00", "0.2", "new"), limit("SELL", "30000.00", "0.2", "ended-3")
        found = await place(alice, *orders, new, new, other)
        assert found[:-3] == outcomes
        assert [told(outcome)[0] for outcome in found[-3:]] == ["OPEN", "OPEN", "CLIENT_ORDER_ID_REUSED"]
        assert found[-2] == found[-3]
        ended = await cancel(alice, {"client_order_id": "ended-3"}, {"client_order_id": "new"})
        assert [told(outcome)[0] for outcome in ended] == ["ORDER_ENDED", "CANCELED"]


async def test_executions_of_one_call_are_bounded(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_wire, "EXECUTIONS_PER_CALL_MAX", 3)
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await place(bob, *(limit("BUY", "30000.00", "0.1") for _ in range(6)))
    outcomes = await place(alice, *(limit("SELL", "30000.00", "0.2") for _ in range(3)))
    assert [(told(outcome)[1], len(outcome.placed.executions)) for outcome in outcomes] == [
        ("0.2", 2), ("0.2", 1), ("0.2", 0),
    ]  # fmt: skip


async def test_cancels(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    theirs = (await bob.place(limit("SELL", "30000.00", "0.1", "theirs"))).order
    mine = await place(alice, *(limit("SELL", "30000.00", "0.1", name) for name in "abc"))
    names: list[tuple[dict[str, str], tuple[str, str]]] = [
        ({"order_id": mine[0].placed.order.order_id}, ("CANCELED", "0")),
        ({"client_order_id": "b"}, ("CANCELED", "0")),
        ({"client_order_id": "b"}, ("ORDER_ENDED", "")),
        ({"order_id": "12345"}, ("ORDER_NOT_FOUND", "")),
        ({"order_id": theirs.order_id}, ("ORDER_NOT_FOUND", "")),
        ({"client_order_id": "theirs"}, ("ORDER_NOT_FOUND", "")),
        ({"order_id": "x"}, ("INVALID_FIELD", "order_id")),
        ({}, ("INVALID_FIELD", "order_id")),
        ({"client_order_id": "c"}, ("CANCELED", "0")),
    ]
    outcomes = await cancel(alice, *(name for name, _ in names))
    assert [told(outcome) for outcome in outcomes] == [expected for _, expected in names]
    assert outcomes[0].canceled.order.cancel_cause == pb.CANCEL_CAUSE_USER
    assert (await alice.balances())["BTC"] == ("100", "100", "0")
    assert (await bob.get(order_id=theirs.order_id)).order == theirs


async def test_all_at_once(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_wire, "CANCELED_SHOWN_MAX", 3)
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await bob.place(limit("SELL", "31000.00", "0.1", "theirs"))

    other = limit("SELL", "2000.00", "0.1", market="ETH-USD")
    some = [*(limit("SELL", f"3000{n}.00", "0.1") for n in range(5)), limit("BUY", "20000.00", "0.1"), other]
    for fields, canceled, shown in (
        ({}, 7, ["30000.00", "30001.00", "30002.00"]),
        ({"market": "ETH-USD"}, 1, ["2000.00"]),
        ({"side": pb.SIDE_BUY}, 1, ["20000.00"]),
        ({"market": "BTC-USD", "side": pb.SIDE_SELL}, 5, ["30000.00", "30001.00", "30002.00"]),
        ({"market": "ETH-USD", "side": pb.SIDE_BUY}, 0, []),
    ):
        await place(alice, *some)
        answer = await cancel_all(alice, **fields)
        assert (answer.canceled_count, [order.price for order in answer.orders]) == (canceled, shown), fields
        assert all(order.state == pb.ORDER_STATE_CANCELED for order in answer.orders)
        left = (await cancel_all(alice)).canceled_count
        assert left == 7 - canceled
    assert (await refused(cancel_all(alice, market="NO-SUCH")))[1] == "MARKET_NOT_FOUND"
    assert (await refused(cancel_all(alice, side=99)))[1:] == ("INVALID_FIELD", "side")
    placing = asyncio.gather(*(alice.place(limit("SELL", "30000.00", "0.1")) for _ in range(5)))
    await asyncio.sleep(0)  # they are written, and not answered
    assert (await cancel_all(alice)).canceled_count == 5
    await placing
    await place(alice, *[limit("SELL", "30000.00", "0.01")] * 300)
    assert (await cancel_all(alice)).canceled_count == 300, "more than one command of the book ends"
    assert [order.client_order_id for order in (await bob.list(open_only=True)).orders] == ["theirs"]


async def test_what_is_too_much_for_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_wire, "BYTES_PER_CALL_MAX", 2_000)
    async with gateways.exchange(tmp_path, limit_account_orders="1/20") as exchange:
        alice = exchange.user("alice")
        one, named = limit("SELL", "30000.00", "0.1"), {"client_order_id": "x"}
        for call, answer in (
            (lambda: place(alice), ("INVALID_ARGUMENT", "INVALID_FIELD", "orders")),
            (lambda: cancel(alice), ("INVALID_ARGUMENT", "INVALID_FIELD", "orders")),
            (lambda: cancel(alice, *[named] * 501), ("RESOURCE_EXHAUSTED", "TOO_LARGE", "orders")),
            (lambda: cancel(alice, *[{"order_id": "1" * 300}] * 7), ("RESOURCE_EXHAUSTED", "TOO_LARGE", "orders")),
            (lambda: place(alice, *[one] * 21), ("RESOURCE_EXHAUSTED", "TOO_LARGE", "")),
            (lambda: place(alice, *[one] * 12), None),
            (lambda: place(alice, *[one] * 12), ("RESOURCE_EXHAUSTED", "RATE_LIMITED", "")),
        ):
            if answer is None:
                assert len(await call()) == 12
            else:
                assert await refused(call()) == answer
        assert len((await alice.list()).orders) == 12, "all of a call, or none"


async def test_to_cancel_all_counts_for_many_requests(tmp_path: Path) -> None:
    async with gateways.exchange(tmp_path, limit_account_requests="1/30") as exchange:
        alice, bob = exchange.user("alice"), exchange.user("bob")
        await cancel_all(alice)
        assert (await refused(cancel_all(alice)))[1] == "RATE_LIMITED", "the book looks through everybody's orders"
        assert len(await cancel(alice, *[{"client_order_id": "x"}] * 10)) == 10, "there is room for others yet"
        await cancel_all(bob)
