"""What clients send, judged field by field: every bad input names its field, and every good one is read exactly."""

from __future__ import annotations

from typing import Any

import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as matching
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import order_service_pb2 as pb
from clearbook.v1 import settlement_service_pb2 as settlement_pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.errors import Reason, Rejected
from services.order_gateway import group_wire, model, money_wire, terms_wire, wire
from services.order_gateway.model import (
    CancelCause,
    OrderState,
    Placement,
    SelfTradeMode,
    Terms,
    TimeInForce,
    Trigger,
)
from services.units import INT64_MAX
from tests.unit.gateway_values import BTC, MARKET, USD, order

MARKETS = {"BTC-USD": MARKET}
ASSETS = {"BTC": BTC, "USD": USD}

LIMIT: dict[str, Any] = {
    "client_order_id": "c1", "market": "BTC-USD", "side": 1, "type": 1, "price": "30000.00", "quantity": "0.01",
}  # fmt: skip
MARKET_BUY = LIMIT | {"type": 2, "price": ""}
MARKET_SELL = MARKET_BUY | {"side": 2}

AT = Timestamp(seconds=1_800_000_000, nanos=5)
BAD: list[tuple[dict[str, Any], str, str]] = [
    # (request, reason, field)
    (LIMIT | {"market": ""}, "INVALID_FIELD", "market"),
    (LIMIT | {"market": "BTC-EUR"}, "MARKET_NOT_FOUND", "market"),
    (LIMIT | {"market": "btc-usd"}, "MARKET_NOT_FOUND", "market"),
    (LIMIT | {"market": "x" * 10_000}, "MARKET_NOT_FOUND", "market"),
    (LIMIT | {"side": 0}, "INVALID_FIELD", "side"),
    (LIMIT | {"side": 99}, "INVALID_FIELD", "side"),
    (LIMIT | {"side": -1}, "INVALID_FIELD", "side"),
    (LIMIT | {"type": 0}, "INVALID_FIELD", "type"),
    (LIMIT | {"type": 99}, "INVALID_FIELD", "type"),
    (LIMIT | {"time_in_force": 99}, "INVALID_FIELD", "time_in_force"),
    (LIMIT | {"time_in_force": -3}, "INVALID_FIELD", "time_in_force"),
    (MARKET_BUY | {"time_in_force": 1}, "INVALID_FIELD", "time_in_force"),
    (LIMIT | {"client_order_id": "a b"}, "INVALID_FIELD", "client_order_id"),
    (LIMIT | {"client_order_id": "a\n"}, "INVALID_FIELD", "client_order_id"),
    (LIMIT | {"client_order_id": "a\0"}, "INVALID_FIELD", "client_order_id"),
    (LIMIT | {"client_order_id": "é"}, "INVALID_FIELD", "client_order_id"),
    (LIMIT | {"client_order_id": "x" * 65}, "INVALID_FIELD", "client_order_id"),
    (LIMIT | {"client_order_id": "x" * 100_000}, "INVALID_FIELD", "client_order_id"),
    (LIMIT | {"price": ""}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "0"}, "INVALID_PRICE", "price"),
    (LIMIT | {"price": "0.00"}, "INVALID_PRICE", "price"),
    (LIMIT | {"price": "-1"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "+1"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "30000.001"}, "INVALID_PRICE", "price"),
    (LIMIT | {"price": "NaN"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "Infinity"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "1e3"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "1E+9999999"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "１２"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "٣"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "1,000"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": " 1"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "1_000"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "0x10"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "."}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "1."}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": ".5"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "1.2.3"}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "9" * 41}, "INVALID_PRICE", "price"),
    (LIMIT | {"price": "9" * 42}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "9" * 1_000_000}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": str(10**40)}, "INVALID_PRICE", "price"),
    (LIMIT | {"price": str(10**41)}, "INVALID_FIELD", "price"),
    (LIMIT | {"price": "92233720368547758.08"}, "INVALID_PRICE", "price"),  # 2^63 ticks
    (LIMIT | {"quantity": ""}, "INVALID_FIELD", "quantity"),
    (LIMIT | {"quantity": "0"}, "INVALID_QUANTITY", "quantity"),
    (LIMIT | {"quantity": "0.00001"}, "INVALID_QUANTITY", "quantity"),
    (LIMIT | {"quantity": "-0.01"}, "INVALID_FIELD", "quantity"),
    (LIMIT | {"quantity": "nan"}, "INVALID_FIELD", "quantity"),
    (LIMIT | {"quantity": "1e-2"}, "INVALID_FIELD", "quantity"),
    (LIMIT | {"quantity": str(10**40)}, "INVALID_QUANTITY", "quantity"),
    (LIMIT | {"quantity": "０.１"}, "INVALID_FIELD", "quantity"),
    (LIMIT | {"quantity": "-Infinity"}, "INVALID_FIELD", "quantity"),
    (LIMIT | {"quantity": "922337203685477.5808"}, "INVALID_QUANTITY", "quantity"),  # 2^63 lots
    (LIMIT | {"price": "0.01"}, "NOTIONAL_TOO_SMALL", "quantity"),
    (LIMIT | {"price": "499.99"}, "NOTIONAL_TOO_SMALL", "quantity"),
    (LIMIT | {"quote_budget": "10"}, "INVALID_FIELD", "quote_budget"),
    (MARKET_SELL | {"quote_budget": "10"}, "INVALID_FIELD", "quote_budget"),
    (MARKET_BUY | {"price": "30000.00"}, "INVALID_FIELD", "price"),
    (MARKET_BUY | {"price": "0"}, "INVALID_FIELD", "price"),
    (MARKET_BUY | {"quote_budget": "0"}, "INVALID_FIELD", "quote_budget"),
    (MARKET_BUY | {"quote_budget": "-5"}, "INVALID_FIELD", "quote_budget"),
    (MARKET_BUY | {"quote_budget": "1.0000001"}, "INVALID_FIELD", "quote_budget"),
    (MARKET_BUY | {"quote_budget": "NaN"}, "INVALID_FIELD", "quote_budget"),
    (MARKET_BUY | {"quote_budget": "1e3"}, "INVALID_FIELD", "quote_budget"),
    (MARKET_BUY | {"quote_budget": "9" * 42}, "INVALID_FIELD", "quote_budget"),
    (MARKET_BUY | {"post_only": True}, "INVALID_FIELD", "post_only"),
    (LIMIT | {"post_only": True, "time_in_force": 2}, "INVALID_FIELD", "post_only"),
    (LIMIT | {"post_only": True, "time_in_force": 3}, "INVALID_FIELD", "post_only"),
    (MARKET_SELL | {"time_in_force": 4}, "INVALID_FIELD", "time_in_force"),
    (MARKET_SELL | {"time_in_force": 5}, "INVALID_FIELD", "time_in_force"),
    (LIMIT | {"time_in_force": 4}, "INVALID_EXPIRY", "expire_time"),
    (LIMIT | {"expire_time": AT}, "INVALID_EXPIRY", "expire_time"),
    (LIMIT | {"time_in_force": 4, "expire_time": Timestamp()}, "INVALID_EXPIRY", "expire_time"),
    (LIMIT | {"time_in_force": 4, "expire_time": Timestamp(seconds=-1)}, "INVALID_EXPIRY", "expire_time"),
    (LIMIT | {"time_in_force": 4, "expire_time": Timestamp(seconds=2**62)}, "INVALID_EXPIRY", "expire_time"),
    (LIMIT | {"time_in_force": 4, "expire_time": Timestamp(seconds=1, nanos=10**9)}, "INVALID_EXPIRY", "expire_time"),
    (LIMIT | {"trigger": 9}, "INVALID_FIELD", "trigger"),
    (LIMIT | {"trigger": 1, "trigger_price": "1", "trigger_source": 9}, "INVALID_FIELD", "trigger_source"),
    (LIMIT | {"trigger_source": 1}, "INVALID_TRIGGER", "trigger_source"),
    (LIMIT | {"trigger": 3, "trail": "1", "trigger_source": 2}, "INVALID_TRIGGER", "trigger_source"),
    (LIMIT | {"trigger": 1}, "INVALID_TRIGGER", "trigger_price"),
    (LIMIT | {"trigger_price": "30000"}, "INVALID_TRIGGER", "trigger_price"),
    (LIMIT | {"trigger": 3, "trail": "1", "trigger_price": "30000"}, "INVALID_TRIGGER", "trigger_price"),
    (LIMIT | {"trigger": 1, "trigger_price": "30000.001"}, "INVALID_PRICE", "trigger_price"),
    (LIMIT | {"trigger": 1, "trigger_price": "0"}, "INVALID_PRICE", "trigger_price"),
    (LIMIT | {"trigger": 1, "trigger_price": "-1"}, "INVALID_FIELD", "trigger_price"),
    (LIMIT | {"trigger": 1, "trigger_price": "NaN"}, "INVALID_FIELD", "trigger_price"),
    (LIMIT | {"trigger": 1, "trigger_price": "٣"}, "INVALID_FIELD", "trigger_price"),
    (LIMIT | {"trigger": 1, "trigger_price": str(10**40)}, "INVALID_PRICE", "trigger_price"),
    (LIMIT | {"trigger": -1}, "INVALID_FIELD", "trigger"),
    (LIMIT | {"trigger": 1, "trigger_price": "30000", "trail": "1"}, "INVALID_TRIGGER", "trail"),
    (LIMIT | {"trigger": 3, "trail": "0"}, "INVALID_PRICE", "trail"),
    (LIMIT | {"trigger": 3, "trail": "0.001"}, "INVALID_PRICE", "trail"),
    (LIMIT | {"trigger": 3}, "INVALID_TRIGGER", "trail"),
    (LIMIT | {"trail": "1"}, "INVALID_TRIGGER", "trail"),
    (LIMIT | {"trigger": 2, "trigger_price": "30000", "trail": "1"}, "INVALID_TRIGGER", "trail"),
    (LIMIT | {"trigger": 3, "trail": "1e1"}, "INVALID_FIELD", "trail"),
    (MARKET_BUY | {"trigger": 1, "trigger_price": "30000"}, "INVALID_FIELD", "quote_budget"),
    (LIMIT | {"display_quantity": "0.01"}, "INVALID_DISPLAY", "display_quantity"),
    (LIMIT | {"display_quantity": "0.001", "time_in_force": 2}, "INVALID_DISPLAY", "display_quantity"),
    (MARKET_SELL | {"display_quantity": "0.001"}, "INVALID_DISPLAY", "display_quantity"),
    (LIMIT | {"display_quantity": "0.02"}, "INVALID_DISPLAY", "display_quantity"),
    (LIMIT | {"display_quantity": "0"}, "INVALID_QUANTITY", "display_quantity"),
    (LIMIT | {"display_quantity": str(10**40)}, "INVALID_QUANTITY", "display_quantity"),
    (LIMIT | {"display_quantity": "0.00001"}, "INVALID_QUANTITY", "display_quantity"),
    (LIMIT | {"min_quantity": "0.0101"}, "INVALID_MINIMUM", "min_quantity"),
    (LIMIT | {"min_quantity": "0.01", "time_in_force": 3}, "INVALID_MINIMUM", "min_quantity"),
    (LIMIT | {"min_quantity": "0.01", "post_only": True}, "INVALID_MINIMUM", "min_quantity"),
    (LIMIT | {"min_quantity": str(10**40)}, "INVALID_QUANTITY", "min_quantity"),
    (LIMIT | {"min_quantity": "1e-3"}, "INVALID_FIELD", "min_quantity"),
    (LIMIT | {"min_quantity": "-1"}, "INVALID_FIELD", "min_quantity"),
    (LIMIT | {"self_trade_prevention": 6}, "INVALID_FIELD", "self_trade_prevention"),
    (LIMIT | {"self_trade_prevention": -1}, "INVALID_FIELD", "self_trade_prevention"),
    (LIMIT | {"post_only": True, "time_in_force": 3}, "INVALID_FIELD", "post_only"),
    (LIMIT | {"post_only_mode": 1}, "INVALID_FIELD", "post_only_mode"),
    (LIMIT | {"post_only_mode": 2}, "INVALID_FIELD", "post_only_mode"),
    (LIMIT | {"post_only": True, "post_only_mode": 3}, "INVALID_FIELD", "post_only_mode"),
]


def refusal(call: Any, *args: Any, **more: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        call(*args, **more)
    assert len(caught.value.message) < 300, "what is shown of the input is bounded"
    return caught.value.reason.name, caught.value.field


@pytest.mark.parametrize(("fields", "reason", "field"), BAD, ids=lambda value: str(value)[:60])
def test_bad_orders(fields: dict[str, Any], reason: str, field: str) -> None:
    assert refusal(wire.placement, pb.PlaceOrderRequest(**fields), MARKETS) == (reason, field)


WORDS: list[tuple[dict[str, Any], str]] = [
    # (request, what somebody is told who has never seen these fields)
    ({"time_in_force": 4}, "expire_time is missing: GTD needs one"),
    ({"expire_time": AT}, "expire_time is for GTD only"),
    ({"trigger": 1}, "trigger_price is missing: STOP or TAKE_PROFIT needs one"),
    ({"trigger_price": "30000"}, "trigger_price is for STOP or TAKE_PROFIT only"),
    ({"trigger": 3}, "trail is missing: TRAILING needs one"),
    ({"trail": "1"}, "trail is for TRAILING only"),
]


@pytest.mark.parametrize(("fields", "message"), WORDS)
def test_a_refusal_says_what_to_do(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Rejected) as caught:
        wire.placement(pb.PlaceOrderRequest(**LIMIT, **fields), MARKETS)
    assert caught.value.message == message


def test_two_exits_without_a_trigger_are_told_why() -> None:
    exits = [pb.PlaceOrderRequest(**LIMIT | {"client_order_id": name}) for name in "ab"]
    with pytest.raises(Rejected, match="at most one of exits may be without a trigger"):
        group_wire.wanted(pb.PlaceGroupRequest(exits=exits), "made", MARKETS)


TERM_FIELDS = frozenset(
    {"trigger", "trigger_source", "trail", "display_quantity", "expire_time", "min_quantity"}
    | {"self_trade_prevention", "post_only_mode"}
)
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK


def said(**terms: Any) -> Terms:
    """Terms that leave to the account what happens among its own orders."""
    return Terms(SelfTradeMode.BY_ACCOUNT, **terms)


GOOD: list[tuple[dict[str, Any], Placement]] = [
    (LIMIT, Placement(MARKET, True, True, GTC, False, 3_000_000, 100, None)),
    (LIMIT | {"time_in_force": 1}, Placement(MARKET, True, True, GTC, False, 3_000_000, 100, None)),
    (LIMIT | {"time_in_force": 2}, Placement(MARKET, True, True, IOC, False, 3_000_000, 100, None)),
    (LIMIT | {"time_in_force": 3, "side": 2}, Placement(MARKET, False, True, FOK, False, 3_000_000, 100, None)),
    (LIMIT | {"post_only": True}, Placement(MARKET, True, True, GTC, True, 3_000_000, 100, None)),
    (LIMIT | {"price": "030000", "quantity": "0.0100000"}, Placement(MARKET, True, True, GTC, False, 3_000_000, 100,
                                                                     None)),
    (LIMIT | {"client_order_id": ""}, Placement(MARKET, True, True, GTC, False, 3_000_000, 100, None)),
    (LIMIT | {"price": "500"}, Placement(MARKET, True, True, GTC, False, 50_000, 100, None)),
    (LIMIT | {"price": "92233720368547758.07"}, Placement(MARKET, True, True, GTC, False, INT64_MAX, 100, None)),
    (MARKET_BUY, Placement(MARKET, True, False, IOC, False, 0, 100, None)),
    (MARKET_BUY | {"time_in_force": 3}, Placement(MARKET, True, False, FOK, False, 0, 100, None)),
    (MARKET_BUY | {"quote_budget": "1.5"}, Placement(MARKET, True, False, IOC, False, 0, 100, 1_500_000)),
    (MARKET_SELL, Placement(MARKET, False, False, IOC, False, 0, 100, None)),
    (MARKET_SELL | {"quantity": "0.0001"}, Placement(MARKET, False, False, IOC, False, 0, 1, None)),
    (LIMIT | {"self_trade_prevention": 1}, Placement(MARKET, True, True, GTC, False, 3_000_000, 100, None, Terms())),
    *((LIMIT | fields, Placement(MARKET, True, True, tif, post_only, 3_000_000, 100, None, terms)) for fields, tif,
      post_only, terms in (
        ({"time_in_force": 5}, TimeInForce.DAY, False, None),
        ({"time_in_force": 4, "expire_time": AT}, TimeInForce.GTD, False, said(expires_ns=1_800_000_000 * 10**9 + 5)),
        ({"trigger": 1, "trigger_price": "31000"}, GTC, False, said(trigger=Trigger.STOP, trigger_ticks=3_100_000)),
        ({"trigger": 2, "trigger_price": "29000", "trigger_source": 2}, GTC, False,
         said(trigger=Trigger.TAKE_PROFIT, trigger_on_quote=True, trigger_ticks=2_900_000)),
        ({"trigger": 3, "trail": "0.50", "trigger_source": 1}, GTC, False,
         said(trigger=Trigger.TRAILING, trail_ticks=50)),
        ({"display_quantity": "0.001"}, GTC, False, said(display_lots=10)),
        ({"min_quantity": "0.01", "time_in_force": 2}, IOC, False, said(minimum_lots=100)),
        ({"self_trade_prevention": 5}, GTC, False, Terms(SelfTradeMode.ALLOW)),
        ({"post_only": True, "post_only_mode": 1}, GTC, True, None),
        ({"post_only": True, "post_only_mode": 2, "time_in_force": 5}, TimeInForce.DAY, True, said(reprice=True)),
    )),
    (MARKET_BUY | {"quote_budget": "1.5", "trigger": 1, "trigger_price": "1"},
     Placement(MARKET, True, False, IOC, False, 0, 100, 1_500_000, said(trigger=Trigger.STOP, trigger_ticks=100))),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), GOOD, ids=lambda value: str(value)[:60])
def test_good_orders(fields: dict[str, Any], expected: Placement) -> None:
    read = wire.placement(pb.PlaceOrderRequest(**fields), MARKETS)
    assert read == expected
    read = read.resolved(SelfTradeMode.CANCEL_NEWEST)
    if read.terms is not None:
        message = pb.Order()
        terms_wire.tell(message, order(terms=read.terms, post_only=read.post_only), MARKET)
        told = {name: getattr(message, name) for name in fields if name in TERM_FIELDS}
        assert {name: value for name, value in fields.items() if name in TERM_FIELDS} == told, "told as it was asked"
        data = wire.submit_request([(7, model.PlaceOrder(1001, read, 0, "c1", 0, 0))])
        commands = matching.SubmitRequest.FromString(data).commands
        assert terms_wire.read(commands[0].place_order.terms) == read.terms


CONTENTS: list[tuple[dict[str, Any], bool]] = [
    # Sent again like this, is it the same order as LIMIT?
    ({}, True),
    ({"price": "30000", "quantity": "0.010"}, True),
    ({"time_in_force": 1}, True),
    ({"price": "30000.01"}, False),
    ({"quantity": "0.0101"}, False),
    ({"side": 2}, False),
    ({"time_in_force": 2}, False),
    ({"post_only": True}, False),
    ({"type": 2, "price": ""}, False),
]


@pytest.mark.parametrize(("change", "same"), CONTENTS, ids=str)
def test_which_content_is_the_same(change: dict[str, Any], same: bool) -> None:
    asked = wire.placement(pb.PlaceOrderRequest(**LIMIT | change), MARKETS)
    assert asked.describes(order()) is same


@pytest.mark.parametrize(("budget", "same"), [("", True), ("315", True), ("315.000", True), ("316", False)])
def test_a_budget_left_open_fits_what_was_worked_out(budget: str, same: bool) -> None:
    placed = order(limit=False, time_in_force=IOC, price_ticks=0, budget=315_000_000, state=OrderState.FILLED)
    asked = wire.placement(pb.PlaceOrderRequest(**MARKET_BUY | {"quote_budget": budget}), MARKETS)
    assert asked.describes(placed) is same


NAMES: list[tuple[dict[str, str], int | str | tuple[str, str]]] = [
    ({"order_id": "7"}, 7),
    ({"order_id": str(INT64_MAX)}, INT64_MAX),
    ({"client_order_id": "c1"}, "c1"),
    ({}, ("INVALID_FIELD", "order_id")),
    ({"order_id": "7", "client_order_id": "c1"}, ("INVALID_FIELD", "order_id")),
    ({"order_id": "0"}, ("INVALID_FIELD", "order_id")),
    ({"order_id": "-7"}, ("INVALID_FIELD", "order_id")),
    ({"order_id": "07"}, ("INVALID_FIELD", "order_id")),
    ({"order_id": "7.0"}, ("INVALID_FIELD", "order_id")),
    ({"order_id": "٣"}, ("INVALID_FIELD", "order_id")),
    ({"order_id": str(INT64_MAX + 1)}, ("INVALID_FIELD", "order_id")),
    ({"order_id": "9" * 10_000}, ("INVALID_FIELD", "order_id")),
    ({"client_order_id": "a b"}, ("INVALID_FIELD", "client_order_id")),
]


@pytest.mark.parametrize(("fields", "expected"), NAMES, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("message", [pb.GetOrderRequest, pb.CancelOrderRequest])
def test_names_of_orders(message: Any, fields: dict[str, str], expected: int | str | tuple[str, str]) -> None:
    if isinstance(expected, tuple):
        assert refusal(wire.order_name, message(**fields)) == expected
    else:
        assert wire.order_name(message(**fields)) == expected


ADMIN: list[tuple[Any, Any, str, str]] = [
    (wire.new_asset, admin_pb.CreateAssetRequest(), "INVALID_FIELD", "symbol"),
    (wire.new_asset, admin_pb.CreateAssetRequest(symbol="btc"), "INVALID_FIELD", "symbol"),
    (wire.new_asset, admin_pb.CreateAssetRequest(symbol="A-B"), "INVALID_FIELD", "symbol"),
    (wire.new_asset, admin_pb.CreateAssetRequest(symbol="A" * 17), "INVALID_FIELD", "symbol"),
    (wire.new_asset, admin_pb.CreateAssetRequest(symbol="X", decimals=37), "INVALID_FIELD", "decimals"),
    (wire.new_market, {"market": "BTCUSD"}, "INVALID_FIELD", "market"),
    (wire.new_market, {"market": "BTC-"}, "INVALID_FIELD", "market"),
    (wire.new_market, {"market": "BTC-USD-X"}, "INVALID_FIELD", "market"),
    (wire.new_market, {"market": "BTC-BTC"}, "INVALID_FIELD", "market"),
    (wire.new_market, {"market": "BTC-EUR"}, "ASSET_NOT_FOUND", "market"),
    (wire.new_market, {"tick_size": ""}, "INVALID_FIELD", "tick_size"),
    (wire.new_market, {"tick_size": "0"}, "INVALID_FIELD", "tick_size"),
    (wire.new_market, {"tick_size": "1e-2"}, "INVALID_FIELD", "tick_size"),
    (wire.new_market, {"lot_size": "x"}, "INVALID_FIELD", "lot_size"),
    (wire.new_market, {"lot_size": "0.00001"}, "INVALID_MARKET", ""),
    (wire.new_market, {"notional_min": "-1"}, "INVALID_FIELD", "notional_min"),
    (wire.new_market, {"notional_min": "0.0000001"}, "INVALID_FIELD", "notional_min"),
    (money_wire.grant, {"transfer_id": ""}, "INVALID_FIELD", "transfer_id"),
    (money_wire.grant, {"transfer_id": "x" * 65}, "INVALID_FIELD", "transfer_id"),
    (money_wire.grant, {"transfer_id": "é"}, "INVALID_FIELD", "transfer_id"),
    (money_wire.grant, {"asset": ""}, "INVALID_FIELD", "asset"),
    (money_wire.grant, {"asset": "EUR"}, "ASSET_NOT_FOUND", "asset"),
    (money_wire.grant, {"amount": "0"}, "INVALID_FIELD", "amount"),
    (money_wire.grant, {"amount": "1.123456789"}, "INVALID_FIELD", "amount"),
]


@pytest.mark.parametrize(
    ("read", "fields", "reason", "field"), ADMIN, ids=lambda value: getattr(value, "__name__", str(value)[:60])
)
def test_bad_requests_of_operators(read: Any, fields: Any, reason: str, field: str) -> None:
    if read is wire.new_asset:
        found = refusal(read, fields)
    elif read is wire.new_market:
        good = {"market": "BTC-USD", "tick_size": "0.01", "lot_size": "0.0001"}
        found = refusal(read, admin_pb.CreateMarketRequest(**good | fields), ASSETS)
    else:
        good = {"transfer_id": "t 1", "user": "bob", "asset": "BTC", "amount": "1", "reason": "why"}
        found = refusal(read, admin_pb.GrantFundsRequest(**good | fields), ASSETS)
    assert found == (reason, field)


def test_good_requests_of_operators() -> None:
    assert wire.new_asset(admin_pb.CreateAssetRequest(symbol="SOL")) == model.CreateAsset("SOL", 18)
    assert wire.new_asset(admin_pb.CreateAssetRequest(symbol="SOL", decimals=0)) == model.CreateAsset("SOL", 0)
    asked = admin_pb.CreateMarketRequest(market="BTC-USD", tick_size="0.010", lot_size="0.0001", notional_min="5.0")
    made = wire.new_market(asked, ASSETS)
    assert (made.tick, made.lot, made.notional_min) == (MARKET.tick, MARKET.lot, MARKET.notional_min)
    zero = admin_pb.CreateMarketRequest(market="BTC-USD", tick_size="1", lot_size="1", notional_min="0")
    assert wire.new_market(zero, ASSETS).notional_min == 0
    given = admin_pb.GrantFundsRequest(transfer_id="t 1", user="bob", asset="BTC", amount="1.5", reason="why")
    assert money_wire.grant(given, ASSETS) == (BTC, 150_000_000, "why")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "settlement_sequence"),
        ({"settlement_sequence": 1, "transfer_id": "t"}, "settlement_sequence"),
        ({"settlement_sequence": 1, "market": "BTC-USD", "trade_id": 1}, "settlement_sequence"),
        ({"market": "BTC-USD"}, "trade_id"),
        ({"trade_id": 1}, "market"),
    ],
)
def test_names_of_settlements(fields: dict[str, Any], field: str) -> None:
    request = settlement_pb.GetSettlementRequest(**fields)
    assert refusal(wire.check_settlement_name, request) == ("INVALID_FIELD", field)


@pytest.mark.parametrize(
    "fields", [{"settlement_sequence": 1}, {"market": "BTC-USD", "trade_id": 1}, {"transfer_id": "t"}]
)
def test_good_names_of_settlements(fields: dict[str, Any]) -> None:
    wire.check_settlement_name(settlement_pb.GetSettlementRequest(**fields))


def test_the_numbers_of_all_three_enums_are_the_same() -> None:
    """Ours are written into both protos as they are."""
    for ours, prefix, enum in ((TimeInForce, "TIME_IN_FORCE", "TimeInForce"), (OrderState, "ORDER_STATE", "OrderState"),
                               (CancelCause, "CANCEL_CAUSE", "CancelCause")):  # fmt: skip
        for item in ours:
            name = f"{prefix}_{item.name if item.value else 'UNSPECIFIED'}"
            assert getattr(pb, enum).Value(name) == getattr(journal, enum).Value(name) == item.value
        assert len(getattr(pb, enum).keys()) == len(ours) + (0 in getattr(pb, enum).values() and 0 not in list(ours))


def test_an_order_as_clients_see_it() -> None:
    value = order(
        filled_lots=40, filled_quote=120_000_000, lock=180_000_000, create_ns=1_500_000_001, event_ns=2 * 10**9
    )
    shown = wire.order(value, MARKET)
    assert (shown.price, shown.quantity, shown.filled_quantity) == ("30000.00", "0.01", "0.004")
    assert (shown.filled_quote, shown.locked, shown.quote_budget) == ("120", "180", "")
    assert (shown.create_time.seconds, shown.create_time.nanos, shown.event_time.seconds) == (1, 500_000_001, 2)
    sell = wire.order(order(buys=False, lock=123, limit=False, price_ticks=0), MARKET)
    assert (sell.locked, sell.price) == ("0.00000123", ""), "a sell locks base"


def test_an_unknown_kind_of_event_stops_the_process() -> None:
    """A journal newer than this gateway must not be folded half."""
    batch = journal.EventBatch(events=[journal.Event(journal_sequence=1)])
    with pytest.raises(AssertionError, match="too old"):
        wire.event_row(matching.StreamEventsResponse(events=batch.SerializeToString()))


def test_reasons_have_the_codes_that_the_protos_promise() -> None:
    promised = {
        "INVALID_ARGUMENT": ("INVALID_FIELD", "INVALID_PRICE", "INVALID_QUANTITY", "NOTIONAL_TOO_SMALL"),
        "NOT_FOUND": ("MARKET_NOT_FOUND", "ORDER_NOT_FOUND"),
        "FAILED_PRECONDITION": ("INSUFFICIENT_FUNDS", "MARKET_HALTED", "ORDER_ENDED", "EMPTY_BOOK"),
        "ALREADY_EXISTS": ("CLIENT_ORDER_ID_REUSED", "ALREADY_EXISTS"),
        "UNAVAILABLE": ("NOT_TAKEN", "FAUCET_EMPTY"),
        "PERMISSION_DENIED": ("PERMISSION_DENIED",),
    }
    for code, reasons in promised.items():
        assert {Reason[name].grpc_code for name in reasons} == {code}
