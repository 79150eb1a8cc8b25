"""Orders of all kinds through the gateway, at the real book: where they stand, what they hold, and what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import order_service_pb2 as pb

from services.errors import Rejected
from services.order_gateway import group_wire
from services.order_gateway.check import violations
from tests import gateways
from tests.gateways import Client, Exchange, limit, market, refused
from tests.unit.gateway_values import MARKET

STOP: dict[str, Any] = {"trigger": pb.TRIGGER_STOP, "trigger_price": "29900.00"}


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


async def test_a_replace_that_fails_uses_no_id_up(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = exchange.user("alice")
    await alice.place(limit("SELL", "30000.00", "60", "a"))
    with monkeypatch.context() as patched:
        patched.setattr("services.order_gateway.replaces.growth", None)
        assert (await refused(replace(alice, "a", quantity="5", new_client_order_id="b")))[1] == "INTERNAL"
    again = (await replace(alice, "a", quantity="5", new_client_order_id="b")).order
    assert (again.client_order_id, again.quantity) == ("b", "5")


async def test_replaces_on_their_way_do_not_undo_one_another(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")

    async def several(client: Client, *replaces: dict[str, str]) -> list[str]:
        request = pb.ReplaceOrdersRequest(orders=[pb.ReplaceOrderRequest(client_order_id="a", **r) for r in replaces])
        answer = await client.orders.ReplaceOrders(request, metadata=client.metadata, timeout=15)
        return [each.refusal.reason or f"{(o := each.replaced.order).price} x {o.quantity}" for each in answer.outcomes]

    await alice.place(limit("SELL", "30000.00", "60", "a"))
    assert await several(alice, {"price": "31000.00"}, {"quantity": "5"}, {"price": "32000.00"}) == [
        "31000.00 x 60", "31000.00 x 5", "32000.00 x 5"
    ]  # fmt: skip
    assert await several(alice, {"quantity": "3"}, {"quantity": "5"}) == ["32000.00 x 3", "32000.00 x 5"]
    await bob.place(limit("BUY", "20000.00", "1", "a"))
    assert await several(bob, {"price": "21000.00"}, {"quantity": "5"}, {"price": "21500.00"}) == [
        "21000.00 x 1", "21000.00 x 5", "21500.00 x 5"
    ], "enough is set aside for the one, whatever the other makes of it"  # fmt: skip
    assert exchange.gateway.ledger.balance(3, 2).reserved == 0


async def test_a_replaced_order_is_called_anew_and_is_found_by_all_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = limit("SELL", "30000.00", "3", "a"), limit("SELL", "32000.00", "1", "other")
    async with gateways.exchange(tmp_path) as exchange:
        alice = exchange.user("alice")
        placed = await alice.place(first)
        await alice.place(other)
        at_once = [replace(alice, "a", quantity="2", new_client_order_id="b") for _ in range(2)]
        renamed, same = await asyncio.gather(*at_once)
        assert renamed == same and told(renamed.order) == ("OPEN", "0", "2")
        assert (renamed.order.client_order_id, renamed.order.order_id) == ("b", placed.order.order_id)
        moved = await replace(alice, "b", price="31000.00", new_client_order_id="c")
        assert await replace(alice, "a", quantity="2", new_client_order_id="b") == moved, (
            "it came late, and changes nothing"
        )
        for names in ({"new_client_order_id": "other"}, {"new_client_order_id": "d", "quantity": "999"}):
            await refused(replace(alice, "c", **names))
        assert (await replace(alice, "c", new_client_order_id="d")).order.client_order_id == "d", (
            "a refusal uses no id up"
        )
        assert await alice.place(first) == placed, "sent again it is what was answered"
        for taken in ("b", "c", "d"):
            again = limit("SELL", "30000.00", "3", taken)
            assert (await refused(alice.place(again)))[1] == "CLIENT_ORDER_ID_REUSED"
        assert (await refused(replace(alice, "d", new_client_order_id="d")))[2] == "new_client_order_id"
        assert (await refused(replace(alice, "d", new_client_order_id="é")))[2] == "new_client_order_id"
    monkeypatch.setattr("services.order_gateway.ledger.ENDED_ORDERS_MAX", 0)
    async with gateways.exchange(tmp_path, fund=False) as exchange:
        alice = exchange.user("alice")
        for name in "abcd":
            assert (await alice.get(client_order_id=name)).order.client_order_id == "d", "the database knows"
        assert (await refused(alice.place(limit("SELL", "30000.00", "3", "b"))))[1] == "CLIENT_ORDER_ID_REUSED"
        assert (await refused(replace(alice, "other", new_client_order_id="b")))[1] == "CLIENT_ORDER_ID_REUSED"
        assert (await replace(alice, "d", price="31500.00", new_client_order_id="b")).order.price == "31000.00"
        assert await alice.place(first) == placed
        assert (await alice.cancel(client_order_id="a")).order.client_order_id == "d"
        assert (await replace(alice, "a", new_client_order_id="c")).order.state == pb.ORDER_STATE_CANCELED
        assert violations(exchange.gateway.ledger) == []


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
    found, token = [], ""
    for _ in range(2):
        request = pb.ListExecutionsRequest(page_size=1, page_token=token)
        page = await alice.orders.ListExecutions(request, metadata=alice.metadata, timeout=15)
        found += [(item.client_order_id, item.is_maker) for item in page.executions]
        token = page.next_page_token
    assert found == [("older", True), ("both", False)] and not token, "both sides of a trade, a page each"


async def group(client: Client, *exits: pb.PlaceOrderRequest, **entry: pb.PlaceOrderRequest) -> Any:
    request = pb.PlaceGroupRequest(exits=exits, **entry)
    return await client.orders.PlaceGroup(request, metadata=client.metadata, timeout=15)


TAKE = limit("SELL", "31000.00", "100", "take")
GUARD = market("SELL", "100", "guard", **STOP)


async def test_one_cancels_the_other(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    placed = await group(alice, TAKE, GUARD)
    assert [told(item.order) for item in placed.orders] == [("OPEN", "0", "100"), ("WAITING", "0", "0")]
    assert await group(alice, TAKE, GUARD) == placed, "sent again they are what was answered"
    assert (await refused(group(alice, TAKE, limit("SELL", "29000.00", "1", **STOP))))[1] == "CLIENT_ORDER_ID_REUSED"
    for linked in ("take", "guard"):
        assert (await refused(replace(alice, linked, quantity="1")))[1] == "ORDER_LINKED"
    await alice.place(limit("BUY", "20000.00", "0.1", "next"))  # numbered behind both
    await bob.place(limit("BUY", "31000.00", "0.4"))
    assert told((await alice.get(client_order_id="guard")).order) == ("LINKED", "0", "0")
    assert told((await alice.get(client_order_id="take")).order) == ("OPEN", "0.4", "99.6")


async def test_exits_wait_for_their_entry(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await bob.place(limit("SELL", "30000.00", "0.5"))
    entry = limit("BUY", "30000.00", "0.7", "entry")
    placed = await group(alice, limit("SELL", "31000.00", "0.7", "out"), entry=entry)
    assert [told(item.order)[:2] for item in placed.orders] == [("OPEN", "0.5"), ("WAITING", "0")]
    await alice.cancel(client_order_id="entry")
    out = (await alice.get(client_order_id="out")).order
    traded = (await alice.get(client_order_id="entry")).executions
    received = sum(Decimal(item.quantity) - Decimal(item.fee) for item in traded)
    assert out.state == pb.ORDER_STATE_OPEN and 0 <= received - Decimal(out.quantity) < Decimal("0.00001")


async def test_a_bracket_whose_entry_fills_at_once_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = limit("BUY", "30000.00", "1", "in", time_in_force=pb.TIME_IN_FORCE_IOC)
    long = limit("SELL", "31000.00", "1", "out"), market("SELL", "1", "guard", **STOP)
    sold = limit("SELL", "29000.00", "1", "short", time_in_force=pb.TIME_IN_FORCE_IOC)
    rises: dict[str, Any] = {"trigger": pb.TRIGGER_STOP, "trigger_price": "31000.00"}
    short = market("BUY", "1", "back", quote_budget="40000", **rises)
    async with gateways.exchange(tmp_path) as exchange:
        alice, bob = exchange.user("alice"), exchange.user("bob")
        await bob.place(limit("SELL", "30000.00", "1"))
        await bob.place(limit("BUY", "29000.00", "1"))
        placed = await group(alice, *long, entry=bought), await group(alice, short, entry=sold)
        assert [[told(item.order)[0] for item in each.orders] for each in placed] == [
            ["FILLED", "OPEN", "WAITING"], ["FILLED", "WAITING"]
        ]  # fmt: skip
        assert Decimal(placed[0].orders[1].order.quantity) < 1, "an exit has what the fee left"
        assert Decimal(placed[1].orders[1].order.quote_budget) < 29000
        assert (await group(alice, *long, entry=bought), await group(alice, short, entry=sold)) == placed
        other = limit("SELL", "31000.00", placed[0].orders[1].order.quantity, "out")
        assert (await refused(group(alice, other, long[1], entry=bought)))[1] == "CLIENT_ORDER_ID_REUSED"
    async with gateways.exchange(tmp_path, fund=False) as exchange:
        alice = exchange.user("alice")
        assert (await group(alice, *long, entry=bought), await group(alice, short, entry=sold)) == placed, "as stored"


@pytest.mark.parametrize(
    ("exits", "entry", "expected"),
    [
        ([TAKE], {}, ("INVALID_GROUP", "exits")),
        ([], {"entry": TAKE}, ("INVALID_GROUP", "exits")),
        ([TAKE, TAKE], {}, ("INVALID_GROUP", "exits")),
        ([GUARD, TAKE], {"entry": TAKE}, ("INVALID_GROUP", "exits")),
        ([GUARD, limit("BUY", "10.00", "1")], {}, ("INVALID_GROUP", "exits")),
        ([GUARD, limit("SELL", "1.001", "1")], {}, ("INVALID_PRICE", "exits[1].price")),
        ([market("BUY", "1")], {"entry": TAKE}, ("INVALID_FIELD", "exits[0].quote_budget")),
        ([TAKE], {"entry": limit("BUY", "10.00", "0")}, ("INVALID_QUANTITY", "entry.quantity")),
    ],
)
def test_what_does_not_go_together(exits: list[Any], entry: dict[str, Any], expected: tuple[str, str]) -> None:
    with pytest.raises(Rejected) as caught:
        group_wire.wanted(pb.PlaceGroupRequest(exits=exits, **entry), "", {"BTC-USD": MARKET})
    assert (caught.value.reason.name, caught.value.field) == expected


async def test_the_account_says_what_happens_among_its_own(exchange: Exchange) -> None:
    alice, names = exchange.user("alice"), pb.SelfTradePrevention.Name

    async def default(mode: Any = None) -> str:
        given: dict[str, Any] = {"metadata": alice.metadata, "timeout": 15}
        if mode is None:
            answer = await alice.orders.GetTradingDefaults(pb.GetTradingDefaultsRequest(), **given)
        else:
            request = pb.SetTradingDefaultsRequest(self_trade_prevention=mode)
            answer = await alice.orders.SetTradingDefaults(request, **given)
        return names(answer.self_trade_prevention).removeprefix("SELF_TRADE_PREVENTION_")

    assert await default() == "CANCEL_NEWEST"
    old = limit("SELL", "30000.00", "1", "older")
    first = await alice.place(old)
    assert await default(pb.SELF_TRADE_PREVENTION_CANCEL_OLDEST) == await default() == "CANCEL_OLDEST"
    assert await alice.place(old) == first, "sent again it is what was answered, whatever the default is now"
    said = await alice.place(
        limit("BUY", "30000.00", "1", "said", self_trade_prevention=pb.SELF_TRADE_PREVENTION_CANCEL_NEWEST)
    )
    assert told(said.order) == ("SELF_TRADE", "0", "0"), "an order may say it for itself"
    bid = limit("BUY", "30000.00", "1", "unsaid")
    unsaid = await alice.place(bid)
    assert told(unsaid.order) == ("OPEN", "0", "30000")
    assert unsaid.order.self_trade_prevention == pb.SELF_TRADE_PREVENTION_CANCEL_OLDEST
    assert told((await alice.get(client_order_id="older")).order) == ("SELF_TRADE", "0", "0")
    await default(pb.SELF_TRADE_PREVENTION_DECREMENT)
    assert await alice.place(bid) == unsaid
    for wrong in (pb.SELF_TRADE_PREVENTION_UNSPECIFIED, 99):
        assert (await refused(default(wrong)))[2] == "self_trade_prevention"


async def test_who_is_not_heard_of_has_nothing_open(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")

    async def cancel_after(seconds: int, market: str = "") -> Any:
        request = pb.CancelAfterRequest(seconds=seconds, market=market)
        return await alice.orders.CancelAfter(request, metadata=alice.metadata, timeout=15)

    await alice.place(limit("SELL", "30000.00", "1", "rests"))
    await alice.place(market("SELL", "1", "waits", **STOP))
    await bob.place(limit("SELL", "30000.00", "1", "bob's"))
    for seconds, name in ((-1, ""), (86_401, ""), (1, "NO-SUCH")):
        await refused(cancel_after(seconds, name))
    assert not (await cancel_after(0)).HasField("expire_time")
    at = (await cancel_after(1, "BTC-USD")).expire_time
    async for update in alice.stream():
        if not update.snapshot and update.orders:
            break
    ended = [(await alice.get(client_order_id=name)).order for name in ("rests", "waits")]
    assert [told(order) for order in ended] == [("CANCEL_AFTER", "0", "0")] * 2
    assert all(order.event_time.ToNanoseconds() >= at.ToNanoseconds() for order in ended)
    assert told((await bob.get(client_order_id="bob's")).order) == ("OPEN", "0", "1")


NONE, LESS = pb.SELF_TRADE_PREVENTION_NONE, pb.SELF_TRADE_PREVENTION_DECREMENT
OLDER = pb.SELF_TRADE_PREVENTION_CANCEL_OLDEST
FOK, IOC, DAY = pb.TIME_IN_FORCE_FOK, pb.TIME_IN_FORCE_IOC, pb.TIME_IN_FORCE_DAY
PREVIEWS: list[tuple[pb.PlaceOrderRequest, str, str]] = [
    # an order; where it stands then or why it ended, or its refusal; what it trades
    # bids 29950 × 1 and 29900 × 2; asks 30000 × 1, 30100 × 2 (the younger 1 is mine), 30200 × 3; last 30000
    (limit("BUY", "29800.00", "1"), "OPEN", ""),
    (limit("BUY", "30000.00", "1"), "FILLED", "1 @ 30000.00"),
    (limit("BUY", "30050.00", "1.5"), "OPEN", "1 @ 30000.00"),
    (limit("BUY", "30200.00", "3"), "SELF_TRADE", "1 @ 30000.00, 1 @ 30100.00"),
    (limit("BUY", "30200.00", "5.5", self_trade_prevention=NONE), "FILLED",
     "1 @ 30000.00, 2 @ 30100.00, 2.5 @ 30200.00"),
    (limit("BUY", "30200.00", "4", self_trade_prevention=OLDER), "FILLED",
     "1 @ 30000.00, 1 @ 30100.00, 2 @ 30200.00"),
    (limit("BUY", "30200.00", "4", self_trade_prevention=LESS), "FILLED",
     "1 @ 30000.00, 1 @ 30100.00, 1 @ 30200.00"),
    (limit("BUY", "30050.00", "1.5", time_in_force=IOC), "IOC", "1 @ 30000.00"),
    (limit("BUY", "30050.00", "1.5", time_in_force=FOK), "FOK", ""),
    (limit("SELL", "29900.00", "2.5", time_in_force=FOK), "FILLED", "1 @ 29950.00, 1.5 @ 29900.00"),
    (limit("SELL", "29950.00", "1", post_only=True), "POST_ONLY", ""),
    (limit("SELL", "29950.00", "1", post_only=True, post_only_mode=pb.POST_ONLY_MODE_REPRICE), "OPEN", ""),
    (limit("SELL", "29920.00", "2", min_quantity="1.5"), "MINIMUM", ""),
    (limit("SELL", "29920.00", "2", min_quantity="1", time_in_force=DAY), "OPEN", "1 @ 29950.00"),
    (limit("SELL", "29800.00", "1", trigger=pb.TRIGGER_STOP, trigger_price="29900.00"), "WAITING", ""),
    (limit("SELL", "29950.00", "1", trigger=pb.TRIGGER_STOP, trigger_price="30000.00"), "FILLED", "1 @ 29950.00"),
    (market("SELL", "3"), "FILLED", "1 @ 29950.00, 2 @ 29900.00"),
    (market("SELL", "3.5"), "IOC", "1 @ 29950.00, 2 @ 29900.00"),
    (market("BUY", "2"), "FILLED", "1 @ 30000.00, 1 @ 30100.00"),
    (market("BUY", "2", quote_budget="45000"), "BUDGET", "1 @ 30000.00, 0.49833 @ 30100.00"),
    (limit("SELL", "29950.001", "1"), "INVALID_PRICE", ""),
    (limit("SELL", "29950.00", "150"), "INSUFFICIENT_FUNDS", ""),
    (limit("SELL", "40000.00", "1"), "PRICE_OUT_OF_BAND", ""),
    (limit("SELL", "30000.00", "201"), "QUANTITY_TOO_LARGE", ""),
]  # fmt: skip


async def test_an_order_comes_to_what_its_preview_said(exchange: Exchange) -> None:
    alice, bob, root = exchange.user("alice"), exchange.user("bob"), exchange.user("admin")
    rules = admin_pb.SetMarketRulesRequest(
        market="BTC-USD", price_band_basis_points=1_000, quantity_max="200", reason="because"
    )
    await root.administer("SetMarketRules", rules)
    book = [("BUY", "29950.00", "1"), ("BUY", "29900.00", "2"), ("SELL", "30000.00", "1"), ("SELL", "30100.00", "1")]

    async def again() -> None:
        """Draws the book anew."""
        for client in (alice, bob):
            await client.orders.CancelAllOrders(pb.CancelAllOrdersRequest(), metadata=client.metadata, timeout=15)
        for client, rows in (
            (bob, [("SELL", "30000.00", "0.1")]),
            (alice, [("BUY", "30000.00", "0.1")]),
            (bob, book),
            (alice, [("SELL", "30100.00", "1")]),
            (bob, [("SELL", "30200.00", "3")]),
        ):
            request = pb.PlaceOrdersRequest(orders=[limit(*row) for row in rows])
            await client.orders.PlaceOrders(request, metadata=client.metadata, timeout=15)

    await again()
    for request, becomes, trades in PREVIEWS:
        seen = await alice.orders.PreviewOrder(
            pb.PreviewOrderRequest(order=request), metadata=alice.metadata, timeout=15
        )
        if seen.HasField("refusal"):
            assert (seen.refusal.reason, "") == (becomes, trades), request
            assert (await refused(alice.place(request)))[1] == becomes, request
            continue
        shown = ", ".join(f"{fill.quantity} @ {fill.price}" for fill in seen.fills)
        placed = await alice.place(request)
        state, filled, locked = told(placed.order)
        assert (state, shown) == (becomes, trades), request
        if request.trigger != pb.TRIGGER_STOP or state == "WAITING":
            assert placed.order.quote_budget == seen.quote_budget
        preview = pb.Order(state=seen.state, cancel_cause=seen.cancel_cause, filled_quantity=seen.filled_quantity)
        assert told(preview)[:2] == (state, filled), request
        assert (seen.filled_quote, seen.locked, seen.price) == (placed.order.filled_quote, locked, placed.order.price)
        assert Decimal(seen.fee) == sum((Decimal(taken.fee) for taken in placed.executions), Decimal(0)), request
        if seen.fills or placed.order.state == pb.ORDER_STATE_OPEN:
            await again()
