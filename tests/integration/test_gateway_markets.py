"""Markets through the gateway, at the real book: every state, every rule, and every cause for which an order ends."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import order_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.order_gateway.check import violations
from services.runtime.rpc import rejected_from
from tests import books, gateways
from tests.gateways import Client, Exchange, limit, market, market_state, refused
from tests.integration.test_trade_stream import Talk
from tests.ledgers import state

IOC: dict[str, Any] = {"time_in_force": pb.TIME_IN_FORCE_IOC}
FOK: dict[str, Any] = {"time_in_force": pb.TIME_IN_FORCE_FOK}
DAY: dict[str, Any] = {"time_in_force": pb.TIME_IN_FORCE_DAY}
PRE_OPEN, OPEN, HALTED, CLOSED = "PRE_OPEN", "OPEN", "HALTED", "CLOSED"


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path) as running:
        yield running
        assert violations(running.gateway.ledger) == []


async def make(running: Exchange, name: str) -> None:
    """The market has that state from now on."""
    await running.user("admin").administer("SetMarketState", market_state(name))


async def rule(running: Exchange, **rules: Any) -> None:
    """The market has those rules from now on, beside the others."""
    request = admin_pb.SetMarketRulesRequest(market="BTC-USD", **{"reason": "because", **rules})
    await running.user("admin").administer("SetMarketRules", request)


def known(running: Exchange) -> dict[str, Any]:
    """All that the gateway knows, but for how far it has read."""
    return state(running.gateway.ledger) | {"cursor": ""}


def told(order: pb.Order) -> str:
    """Where an order stands, or why it ended."""
    if order.state == pb.ORDER_STATE_CANCELED:
        return pb.CancelCause.Name(order.cancel_cause).removeprefix("CANCEL_CAUSE_")
    return pb.OrderState.Name(order.state).removeprefix("ORDER_STATE_")


async def test_a_day_of_a_market(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await make(exchange, PRE_OPEN)
    await alice.place(limit("BUY", "30100.00", "2", "bid"))
    await bob.place(limit("SELL", "29900.00", "1", "ask"))
    await bob.place(limit("SELL", "30100.00", "0.5", "more"))
    await alice.place(limit("BUY", "29000.00", "1", "today", **DAY))
    before = known(exchange)
    for request in (
        limit("BUY", "30100.00", "1", **IOC),
        limit("BUY", "30100.00", "1", **FOK),
        limit("BUY", "30100.00", "1", post_only=True),
        limit("BUY", "30100.00", "1", min_quantity="1"),
        market("SELL", "1"),
    ):
        answer = await refused(alice.place(request))
        assert answer == ("FAILED_PRECONDITION", "MARKET_IN_AUCTION", "market"), request
    assert known(exchange) == before
    await make(exchange, OPEN)
    bid = await alice.get(client_order_id="bid")
    assert [(item.price, item.quantity) for item in bid.executions] == [("30100.00", "1"), ("30100.00", "0.5")]
    orders = [(bob, "ask"), (bob, "more"), (alice, "bid"), (alice, "today")]
    assert [told((await who.get(client_order_id=name)).order) for who, name in orders] == [
        *("FILLED", "FILLED", "OPEN", "OPEN")
    ]
    for name in (HALTED, CLOSED, CLOSED):
        await make(exchange, name)
        assert await refused(alice.place(limit("BUY", "1.00", "1"))) == (
            "FAILED_PRECONDITION", f"MARKET_{name}", "market",
        )  # fmt: skip
        expected = "OPEN" if name == HALTED else "DAY_END"
        assert told((await alice.get(client_order_id="today")).order) == expected
    assert told((await alice.cancel(client_order_id="bid")).order) == "USER"
    await make(exchange, OPEN)
    assert told((await alice.place(limit("BUY", "29000.00", "1"))).order) == "OPEN"


BAD_STATES: list[tuple[dict[str, Any], str]] = [
    ({"state": 99}, "state"),
    ({"state": 2, "halted": True}, "halted"),
    ({"state": 2, "reason": ""}, "reason"),
    ({"state": 2, "reason": "x" * 201}, "reason"),
    ({"market": ""}, "market"),
]
BAD_RULES: list[tuple[dict[str, Any], str]] = [
    ({}, "quantity_min"),
    ({"quantity_min": "1", "reason": ""}, "reason"),
    ({"quantity_min": "0.000001"}, "quantity_min"),
    ({"quantity_max": "-1"}, "quantity_max"),
    ({"quantity_min": "2", "quantity_max": "1"}, "quantity_max"),
    ({"notional_min": "1e3"}, "notional_min"),
    ({"notional_max": "NaN"}, "notional_max"),
    ({"notional_min": "2", "notional_max": "1"}, "notional_max"),
    ({"price_band_basis_points": 10_000}, "price_band_basis_points"),
    ({"open_orders_max": 1_000_001}, "open_orders_max"),
    ({"reference_age_max_seconds": 86_401}, "reference_age_max_seconds"),
]
BAD_REFERENCES: list[tuple[dict[str, Any], tuple[str, str, str]]] = [
    ({"market": "BTC-EUR"}, ("NOT_FOUND", "MARKET_NOT_FOUND", "market")),
    ({"price": ""}, ("INVALID_ARGUMENT", "INVALID_FIELD", "price")),
    ({"price": "30000.001"}, ("INVALID_ARGUMENT", "INVALID_PRICE", "price")),
    ({"price": "0"}, ("INVALID_ARGUMENT", "INVALID_PRICE", "price")),
    ({"source": ""}, ("INVALID_ARGUMENT", "INVALID_FIELD", "source")),
    ({"source": "x" * 65}, ("INVALID_ARGUMENT", "INVALID_FIELD", "source")),
    ({"source": "a\nb"}, ("INVALID_ARGUMENT", "INVALID_FIELD", "source")),
    ({"observed_time": Timestamp(seconds=-1)}, ("INVALID_ARGUMENT", "INVALID_FIELD", "observed_time")),
    ({"observed_time": Timestamp(nanos=-1)}, ("INVALID_ARGUMENT", "INVALID_FIELD", "observed_time")),
    ({"observed_time": Timestamp(seconds=1)}, ("FAILED_PRECONDITION", "REFERENCE_OUTDATED", "")),
]
"""What differs from a request that is good, and the refusal."""


async def test_what_no_market_can_be(exchange: Exchange) -> None:
    before = known(exchange)
    for fields, field in BAD_STATES:
        request = admin_pb.SetMarketStateRequest(**{"market": "BTC-USD", "reason": "because", **fields})
        answer = await refused(exchange.user("admin").administer("SetMarketState", request))
        assert (answer[0], answer[2]) == ("INVALID_ARGUMENT", field), fields
    for fields, field in BAD_RULES:
        answer = await refused(rule(exchange, **fields))
        assert (answer[0], answer[2]) == ("INVALID_ARGUMENT", field), fields
    assert known(exchange) == before


def elsewhere(**fields: Any) -> admin_pb.SetReferencePriceRequest:
    """A price elsewhere."""
    given = {"market": "BTC-USD", "price": "30000.00", "source": "binance BTCUSDT", **fields}
    return admin_pb.SetReferencePriceRequest(**given)


async def test_a_reference_price_and_the_band_that_goes_by_it(tmp_path: Path) -> None:
    async with gateways.exchange(tmp_path) as exchange:
        alice, bob, admin = exchange.user("alice"), exchange.user("bob"), exchange.user("admin")
        await rule(exchange, price_band_basis_points=1_000)
        before = known(exchange)
        for fields, refusal in BAD_REFERENCES:
            assert await refused(admin.administer("SetReferencePrice", elsewhere(**fields))) == refusal, fields
        assert known(exchange) == before
        assert await refused(alice.administer("SetReferencePrice", elsewhere())) == ("PERMISSION_DENIED",) * 2 + ("",)
        future = Timestamp(seconds=2**35)  # no price lasts longer for it, and none after it is refused
        await admin.administer("SetReferencePrice", elsewhere(price="20000.00", observed_time=future))
        await admin.administer("SetReferencePrice", elsewhere())
        assert [entry.method for entry in await audited(admin)] == ["SetMarketRules"], "the journal has it"
        await bob.place(limit("SELL", "33000.00", "1"))
        await bob.place(limit("SELL", "33000.00", "1"))
    async with gateways.exchange(tmp_path) as exchange:  # it is remembered
        alice, admin = exchange.user("alice"), exchange.user("admin")
        for request, answer in (
            (limit("BUY", "33000.01", "1"), "PRICE_OUT_OF_BAND"),
            (limit("SELL", "26999.99", "1"), "PRICE_OUT_OF_BAND"),
            (limit("BUY", "27000.00", "1"), "OPEN"),
            (market("BUY", "1", quote_budget="40000"), "FILLED"),
        ):
            assert await previewed(alice, request) == await placed(alice, request) == answer, request
        await rule(exchange, reference_age_max_seconds=1)
        await until_stale(exchange)
        late = limit("BUY", "33000.01", "1")  # within a tenth of the last trade's
        assert await previewed(alice, late) == await placed(alice, late) == "FILLED"
        assert violations(exchange.gateway.ledger) == []


async def audited(admin: Client) -> list[admin_pb.AuditEntry]:
    """What the audit log says."""
    return list((await admin.administer("ListAuditEntries", admin_pb.ListAuditEntriesRequest())).entries)


async def previewed(client: Client, request: pb.PlaceOrderRequest) -> str:
    """Where an order would stand, or why it would be refused."""
    asked = pb.PreviewOrderRequest(order=request)
    answer = await client.orders.PreviewOrder(asked, metadata=client.metadata, timeout=15)
    return answer.refusal.reason or pb.OrderState.Name(answer.state).removeprefix("ORDER_STATE_")


async def placed(client: Client, request: pb.PlaceOrderRequest) -> str:
    """Where an order stands, or why it was refused."""
    try:
        return told((await client.place(request)).order)
    except grpc.aio.AioRpcError as error:
        reason = rejected_from(error)
        assert reason is not None
        return reason.name


async def until_stale(exchange: Exchange) -> None:
    """The book's clock moves at least every 0.9 s."""
    ledger = exchange.gateway.ledger
    book = ledger.books[ledger.markets_by_symbol["BTC-USD"].market_id]
    async with asyncio.timeout(15):
        while book.fresh_reference_ticks(ledger.time_ns):
            await asyncio.sleep(0.05)


RULES = {"quantity_min": "0.1", "quantity_max": "5", "notional_min": "5000", "notional_max": "120000"}
REFUSED: list[tuple[pb.PlaceOrderRequest, str, str]] = [
    (market("SELL", "0.09"), "QUANTITY_TOO_SMALL", "quantity"),
    (limit("BUY", "30000.00", "5.1"), "QUANTITY_TOO_LARGE", "quantity"),
    (market("SELL", "5.1"), "QUANTITY_TOO_LARGE", "quantity"),
    (limit("BUY", "30000.00", "0.1"), "NOTIONAL_TOO_SMALL", "quantity"),
    (limit("BUY", "30000.00", "4.1"), "NOTIONAL_TOO_LARGE", "quantity"),
    (market("BUY", "1", quote_budget="120000.01"), "NOTIONAL_TOO_LARGE", "quote_budget"),
    (limit("BUY", "33000.01", "1"), "PRICE_OUT_OF_BAND", "price"),
    (limit("SELL", "26999.99", "1"), "PRICE_OUT_OF_BAND", "price"),
    (limit("BUY", "30000.00", "1", time_in_force=4, expire_time=Timestamp(seconds=1)), "INVALID_EXPIRY", "expire_time"),
]


async def test_rules_and_what_they_refuse(exchange: Exchange, tmp_path: Path) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await bob.place(limit("BUY", "30000.00", "1"))
    await alice.place(limit("SELL", "30000.00", "1"))
    await rule(exchange, **RULES, price_band_basis_points=1_000, open_orders_max=2)
    before = known(exchange)
    for request, reason, field in REFUSED:
        assert (await refused(alice.place(request)))[1:] == (reason, field), request
    assert known(exchange) == before

    at_once = [alice.place(limit("BUY", "29000.00", "1", f"b{number}")) for number in range(5)]
    found = await asyncio.gather(*at_once, return_exceptions=True)
    placed = [item for item in found if not isinstance(item, BaseException)]
    assert len(placed) == 2, "those on their way count"
    assert await refused(alice.place(limit("BUY", "29000.00", "1"))) == (
        "RESOURCE_EXHAUSTED", "TOO_MANY_OPEN_ORDERS", "market",
    )  # fmt: skip
    batch = pb.PlaceOrdersRequest(orders=[limit("SELL", "31000.00", "1", f"s{number}") for number in range(3)])
    outcomes = (await bob.orders.PlaceOrders(batch, metadata=bob.metadata, timeout=15)).outcomes
    assert [item.refusal.reason for item in outcomes] == ["", "", "TOO_MANY_OPEN_ORDERS"]
    assert told((await alice.place(market("BUY", "1", quote_budget="40000"))).order) == "FILLED", "nothing of it stays"
    await alice.place(limit("BUY", "2000.00", "1", market="ETH-USD"))
    replacing = pb.ReplaceOrderRequest(client_order_id=placed[0].order.client_order_id, quantity="0.1")
    replaced = alice.orders.ReplaceOrder(replacing, metadata=alice.metadata, timeout=15)
    assert (await refused(replaced))[1:] == ("NOTIONAL_TOO_SMALL", "quantity")

    await rule(exchange, open_orders_max=0, reason="all may quote")
    assert told((await alice.place(limit("BUY", "29000.00", "1"))).order) == "OPEN"
    assert (await refused(alice.place(REFUSED[0][0])))[1] == "QUANTITY_TOO_SMALL", "the other rules are as they were"
    newest = admin_pb.ListAuditEntriesRequest(page_size=1)
    (entry,) = (await exchange.user("admin").administer("ListAuditEntries", newest)).entries
    assert (entry.method, entry.outcome) == ("SetMarketRules", "OK") and "all may quote" in entry.request
    with sqlite3.connect(tmp_path / "book.sqlite") as journal:
        rows = journal.execute("SELECT commands FROM journal").fetchall()
    assert any(b"all may quote" in commands for (commands,) in rows), "why is journaled"


# Why orders end: each cause by what the public API offers. Each leaves nothing open.


async def by_user(exchange: Exchange, alice: Client, bob: Client) -> str:
    await alice.place(limit("BUY", "29000.00", "1", "x"))
    return told((await alice.cancel(client_order_id="x")).order)


async def by_ioc(exchange: Exchange, alice: Client, bob: Client) -> str:
    return told((await alice.place(limit("BUY", "1.00", "1", **IOC))).order)


async def by_fok(exchange: Exchange, alice: Client, bob: Client) -> str:
    return told((await alice.place(limit("BUY", "1.00", "1", **FOK))).order)


async def by_post_only(exchange: Exchange, alice: Client, bob: Client) -> str:
    await bob.place(limit("SELL", "30000.00", "1"))
    return told((await alice.place(limit("BUY", "30000.00", "1", post_only=True))).order)


async def by_self_trade(exchange: Exchange, alice: Client, bob: Client) -> str:
    await alice.place(limit("SELL", "30000.00", "1"))
    return told((await alice.place(limit("BUY", "30000.00", "1"))).order)


async def by_budget(exchange: Exchange, alice: Client, bob: Client) -> str:
    await bob.place(limit("SELL", "30000.00", "1"))
    return told((await alice.place(market("BUY", "1", quote_budget="3000.1"))).order)


async def by_minimum(exchange: Exchange, alice: Client, bob: Client) -> str:
    return told((await alice.place(limit("BUY", "1.00", "1", min_quantity="0.5"))).order)


async def by_group(exchange: Exchange, alice: Client, bob: Client) -> str:
    stop = limit("SELL", "20000.00", "1", "stop", trigger=pb.TRIGGER_STOP, trigger_price="20000.00")
    request = pb.PlaceGroupRequest(exits=[limit("SELL", "40000.00", "1", "take"), stop])
    await alice.orders.PlaceGroup(request, metadata=alice.metadata, timeout=15)
    await alice.cancel(client_order_id="take")
    return told((await alice.get(client_order_id="stop")).order)


async def by_band(exchange: Exchange, alice: Client, bob: Client) -> str:
    await bob.place(limit("SELL", "30000.00", "0.1"))
    await bob.place(limit("SELL", "31000.00", "0.1"))
    await rule(exchange, price_band_basis_points=100)
    placed = await alice.place(market("BUY", "0.2", quote_budget="10000"))
    await rule(exchange, price_band_basis_points=0)
    return told(placed.order)


async def by_operator(exchange: Exchange, alice: Client, bob: Client) -> str:
    admin, frozen = exchange.user("admin"), exchange.user("carol")
    await frozen.place(limit("BUY", "29000.00", "1", "x"))
    request = admin_pb.FreezeAccountRequest(user="carol", reason="because", cancel_orders=True)
    assert (await admin.administer("FreezeAccount", request)).canceled_orders == 1
    return told((await frozen.get(client_order_id="x")).order)


async def by_disconnect(exchange: Exchange, alice: Client, bob: Client) -> str:
    talk = Talk(alice)
    await talk.ask(1, limit("BUY", "29000.00", "1", "left"), cancel_on_disconnect=True)
    order_id = int((await alice.get(client_order_id="left")).order.order_id)
    talk.call.cancel()
    await books.eventually(lambda: order_id not in exchange.gateway.ledger.open)
    return told((await alice.get(client_order_id="left")).order)


async def by_day_end(exchange: Exchange, alice: Client, bob: Client) -> str:
    await alice.place(limit("BUY", "29000.00", "1", "day", **DAY))
    await make(exchange, CLOSED)
    await make(exchange, OPEN)
    return told((await alice.get(client_order_id="day")).order)


async def by_market(exchange: Exchange, alice: Client, bob: Client) -> str:
    entry = limit("BUY", "30000.00", "1", "entry")
    request = pb.PlaceGroupRequest(entry=entry, exits=[limit("SELL", "40000.00", "1", "exit")])
    await alice.orders.PlaceGroup(request, metadata=alice.metadata, timeout=15)
    await bob.place(limit("SELL", "30000.00", "0.5"))
    await make(exchange, HALTED)
    await alice.cancel(client_order_id="entry")
    await make(exchange, OPEN)
    return told((await alice.get(client_order_id="exit")).order)


async def by_time(exchange: Exchange, alice: Client, bob: Client) -> str:
    soon = Timestamp()
    soon.FromNanoseconds(time.time_ns() + 300_000_000)
    order = limit("BUY", "29000.00", "1", "gtd", time_in_force=pb.TIME_IN_FORCE_GTD, expire_time=soon)
    order_id = int((await alice.place(order)).order.order_id)
    await books.eventually(lambda: order_id not in exchange.gateway.ledger.open)
    return told((await alice.get(client_order_id="gtd")).order)


async def by_silence(exchange: Exchange, alice: Client, bob: Client) -> str:
    order_id = int((await alice.place(limit("BUY", "29000.00", "1", "quiet"))).order.order_id)
    await alice.orders.CancelAfter(pb.CancelAfterRequest(seconds=1), metadata=alice.metadata, timeout=15)
    await books.eventually(lambda: order_id not in exchange.gateway.ledger.open)
    return told((await alice.get(client_order_id="quiet")).order)


CAUSES: dict[str, Callable[[Exchange, Client, Client], Awaitable[str]]] = {
    "USER": by_user,
    "IOC": by_ioc,
    "FOK": by_fok,
    "POST_ONLY": by_post_only,
    "SELF_TRADE": by_self_trade,
    "BUDGET": by_budget,
    "EXPIRED": by_time,
    "MINIMUM": by_minimum,
    "LINKED": by_group,
    "BAND": by_band,
    "CANCEL_AFTER": by_silence,
    "OPERATOR": by_operator,
    "DISCONNECT": by_disconnect,
    "DAY_END": by_day_end,
    "MARKET": by_market,
}


async def test_every_cause(exchange: Exchange) -> None:
    causes = {name.removeprefix("CANCEL_CAUSE_") for name in pb.CancelCause.keys()}  # noqa: SIM118 - an enum wrapper
    assert CAUSES.keys() == causes - {"UNSPECIFIED"}
    alice, bob = exchange.user("alice"), exchange.user("bob")
    for cause, way in CAUSES.items():
        assert await way(exchange, alice, bob) == cause
        for client in (alice, bob):
            await client.orders.CancelAllOrders(pb.CancelAllOrdersRequest(), metadata=client.metadata, timeout=15)
