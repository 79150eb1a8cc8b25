"""What orders can ask for over REST: the documented body with terms, and bodies that are messages of the gRPC API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clearbook.v1 import order_service_pb2 as pb
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from gateway_http import accounts, orders, wire
from gateway_http.errors import OF_PROTO, problem
from gateway_http.json_proto import request_in
from gateway_http.openapi import completed
from gateway_http.orders_described import PATHS
from gateway_http.proto_json import json_value
from services.errors import Reason, Rejected

DOCUMENTED = {
    "order_id": "mine", "user_id": "u", "pair": "BTC-USD", "order_type": "limit", "side": "buy", "price": "1",
    "amount": "2",
}  # fmt: skip
PLACED = {
    "client_order_id": "mine", "market": "BTC-USD", "type": "ORDER_TYPE_LIMIT", "side": "SIDE_BUY", "price": "1",
    "quantity": "2",
}  # fmt: skip
AT_MARKET = {"type": "ORDER_TYPE_MARKET", "price": ""}


def body(changes: dict[str, Any]) -> bytes:
    return json.dumps(DOCUMENTED | changes).encode()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"order_type": "limit_maker"}, {"post_only": True}),
        ({"order_type": "stop_loss", "trigger_price": 0.5},
         AT_MARKET | {"trigger": "TRIGGER_STOP", "trigger_price": "0.5"}),
        ({"order_type": "stop_loss_limit", "trigger_price": "3"}, {"trigger": "TRIGGER_STOP", "trigger_price": "3"}),
        ({"order_type": "take_profit", "trigger_price": 1e-7},
         AT_MARKET | {"trigger": "TRIGGER_TAKE_PROFIT", "trigger_price": "0.0000001"}),
        ({"order_type": "take_profit_limit", "trigger_price": "3", "trigger_source": "quote"},
         {"trigger": "TRIGGER_TAKE_PROFIT", "trigger_price": "3", "trigger_source": "TRIGGER_SOURCE_QUOTE"}),
        ({"order_type": "trailing_stop", "trail": 10, "quote_budget": "99"},
         AT_MARKET | {"trigger": "TRIGGER_TRAILING", "trail": "10", "quote_budget": "99"}),
        ({"order_type": "trailing_stop_limit", "trail": "10"}, {"trigger": "TRIGGER_TRAILING", "trail": "10"}),
        ({"display_quantity": 0.1, "min_quantity": None}, {"display_quantity": "0.1"}),
        ({"time_in_force": "ioc", "min_quantity": 1}, {"time_in_force": "TIME_IN_FORCE_IOC", "min_quantity": "1"}),
        ({"time_in_force": "day"}, {"time_in_force": "TIME_IN_FORCE_DAY"}),
        ({"time_in_force": "gtd", "expire_time": "2030-01-01T00:00:00.5Z"},
         {"time_in_force": "TIME_IN_FORCE_GTD", "expire_time": "2030-01-01T00:00:00.500Z"}),
        ({"post_only": True, "post_only_mode": "reprice"},
         {"post_only": True, "post_only_mode": "POST_ONLY_MODE_REPRICE"}),
        ({"self_trade_prevention": "cancel_oldest"}, {"self_trade_prevention": "SELF_TRADE_PREVENTION_CANCEL_OLDEST"}),
        ({"self_trade_prevention": None, "trigger_source": None}, {}),
    ],
)  # fmt: skip
def test_the_documented_order_with_terms(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    asked = ParseDict(PLACED | expected, pb.PlaceOrderRequest())
    assert wire.order_from(body(changes)) == (asked, "u")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"order_type": "stop"}, "order_type"),
        ({"order_type": "LIMIT"}, "order_type"),
        ({"time_in_force": "GTC"}, "time_in_force"),
        ({"time_in_force": "unspecified"}, "time_in_force"),
        ({"post_only": "yes"}, "post_only"),
        ({"post_only_mode": ""}, "post_only_mode"),
        ({"self_trade_prevention": 3}, "self_trade_prevention"),
        ({"expire_time": "tomorrow"}, "expire_time"),
        ({"expire_time": 1900000000000}, "expire_time"),
        ({"trigger_price": True}, "trigger_price"),
        ({"trail": [1]}, "trail"),
        ({"display_quantity": {"a": 1}}, "display_quantity"),
        ({"stopPrice": "3"}, "stopPrice"),
    ],
)
def test_wrong_terms_are_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as caught:
        wire.order_from(body(changes))
    assert (caught.value.reason, caught.value.field) == (Reason.INVALID_FIELD, field)


def test_a_form_has_flags_as_words() -> None:
    form = b"order_id=mine&user_id=u&pair=BTC-USD&order_type=limit&side=buy&price=1&amount=2&post_only=true&timestamp=5"
    asked = ParseDict(PLACED | {"post_only": True}, pb.PlaceOrderRequest())
    assert wire.order_from(wire.form_order(form)) == (asked, "u")


MESSAGES: list[tuple[type[Message], dict[str, Any]]] = [
    (pb.CancelOrderRequest, {"order_id": "72057662757404692"}),
    (pb.CancelAfterRequest, {"seconds": 60, "market": "BTC-USD"}),
    (pb.ListOrdersRequest, {"open_only": True, "page_size": 5, "start_time": "2030-01-01T00:00:00Z"}),
    (
        pb.PlaceOrdersRequest,
        {"orders": [PLACED, {}, PLACED | {"post_only": True, "time_in_force": "TIME_IN_FORCE_GTC"}]},
    ),
    (pb.PlaceGroupRequest, {"entry": PLACED, "exits": [PLACED, PLACED | {"trigger": "TRIGGER_STOP"}]}),
    (pb.PlaceGroupRequest, {"entry": {}}),
    (pb.CancelAllOrdersRequest, {}),
]


@pytest.mark.parametrize(("kind", "fields"), MESSAGES)
def test_bodies_are_what_protobuf_makes_of_them(kind: type[Message], fields: dict[str, Any]) -> None:
    request, user = request_in(kind, json.dumps(fields | {"user_id": "u"}).encode())
    assert (request, user) == (ParseDict(fields, kind()), "u")
    assert request_in(kind, json.dumps(json_value(request) | {"user_id": "u"}).encode())[0] == request, "back and forth"


def test_bodies_may_be_written_shorter() -> None:
    short = (
        b'{"user_id": "u", "orders": [{"side": "buy", "type": "Limit", "price": 30000.00, "quantity": 1e-3,'
        b' "market": null}]}'
    )
    order = pb.PlaceOrderRequest(side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT, price="30000.00", quantity="0.001")
    assert request_in(pb.PlaceOrdersRequest, short)[0] == pb.PlaceOrdersRequest(orders=[order])


@pytest.mark.parametrize(
    ("kind", "raw", "reason", "field"),
    [
        (pb.CancelOrderRequest, b"", Reason.MALFORMED_REQUEST, ""),
        (pb.CancelOrderRequest, b"[]", Reason.MALFORMED_REQUEST, ""),
        (pb.CancelOrderRequest, b'{"user_id": "u", "order_id": NaN}', Reason.MALFORMED_REQUEST, ""),
        (pb.CancelOrderRequest, b"{}", Reason.INVALID_FIELD, "user_id"),
        (pb.CancelOrderRequest, b'{"user_id": "\xff"}', Reason.INVALID_FIELD, "user_id"),
        (pb.CancelOrderRequest, b'{"user_id": "u", "order_id": "\xff"}', Reason.INVALID_FIELD, "order_id"),
        (pb.CancelOrderRequest, b'{"user_id": 5}', Reason.INVALID_FIELD, "user_id"),
        (pb.CancelOrderRequest, b'{"user_id": "u", "colour": 1}', Reason.INVALID_FIELD, "colour"),
        (pb.CancelOrderRequest, b'{"user_id": "u", "order_id": true}', Reason.INVALID_FIELD, "order_id"),
        (pb.CancelOrderRequest, b'{"user_id": "u", "order_id": {}}', Reason.INVALID_FIELD, "order_id"),
        (pb.CancelAfterRequest, b'{"user_id": "u", "seconds": 2147483648}', Reason.INVALID_FIELD, "seconds"),
        (pb.CancelAfterRequest, b'{"user_id": "u", "seconds": 1.5}', Reason.INVALID_FIELD, "seconds"),
        (pb.CancelAfterRequest, b'{"user_id": "u", "seconds": "\xd9\xa3"}', Reason.INVALID_FIELD, "seconds"),
        (pb.ListOrdersRequest, b'{"user_id": "u", "open_only": 1}', Reason.INVALID_FIELD, "open_only"),
        (pb.ListOrdersRequest, b'{"user_id": "u", "start_time": "now"}', Reason.INVALID_FIELD, "start_time"),
        (pb.ListOrdersRequest, b'{"user_id": "u", "start_time": 5}', Reason.INVALID_FIELD, "start_time"),
        (pb.PlaceOrdersRequest, b'{"user_id": "u", "orders": {}}', Reason.INVALID_FIELD, "orders"),
        (pb.PlaceOrdersRequest, b'{"user_id": "u", "orders": [{}, 5]}', Reason.INVALID_FIELD, "orders[1]"),
        (pb.PlaceOrdersRequest, b'{"user_id": "u", "orders": [{"side": "hold"}]}',
         Reason.INVALID_FIELD, "orders[0].side"),
        (pb.PlaceOrdersRequest, b'{"user_id": "u", "orders": [{"side": "unspecified"}]}',
         Reason.INVALID_FIELD, "orders[0].side"),
        (pb.PlaceOrdersRequest, b'{"user_id": "u", "orders": [{}, {"price": 1e99}]}',
         Reason.INVALID_FIELD, "orders[1].price"),
        (pb.PlaceGroupRequest, b'{"user_id": "u", "entry": {"colour": 1}}', Reason.INVALID_FIELD, "entry.colour"),
        (pb.PlaceGroupRequest, b'{"user_id": "u", "entry": []}', Reason.INVALID_FIELD, "entry"),
    ],
)  # fmt: skip
def test_wrong_bodies_are_named(kind: type[Message], raw: bytes, reason: Reason, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        request_in(kind, raw)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_refusals_of_messages_keep_their_names() -> None:
    refusal = Rejected(Reason.INVALID_FIELD, "market is missing", "market")
    assert json.loads(problem(refusal, "r1", OF_PROTO)[1])["field"] == "market"
    denied = Rejected(Reason.PERMISSION_DENIED, "not of the user in x-clearbook-user", "x-clearbook-user")
    said = json.loads(problem(denied, "r1", OF_PROTO)[1])
    assert (said["field"], said["message"]) == ("user_id", "not of the user in user_id")


def test_bodies_are_described() -> None:
    content = PATHS["/api/v1/orders/group"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    exits = content["properties"]["exits"]
    assert content["required"] == ["user_id"]
    assert exits["type"] == ["array", "null"]
    assert exits["items"] == {"$ref": "#/components/schemas/PlaceOrderRequest"}
    order = completed({"paths": {}})["components"]["schemas"]["PlaceOrderRequest"]["properties"]
    assert order["side"]["enum"] == ["SIDE_BUY", "SIDE_SELL", "buy", "sell", None]
    assert order["expire_time"] == {"type": ["string", "null"], "format": "date-time"}


def test_what_is_sent_again_by_itself_when_its_answer_was_lost() -> None:
    again = {route.method.name for route in (orders.ROUTES | accounts.ROUTES).values() if route.repeatable}
    reads = {"GetOrder", "ListOrders", "ListExecutions", "PreviewOrder", "GetTradingDefaults"}
    reads |= {"ListBalances", "GetFees", "ListTransfers", "ListLedgerEntries", "GetSession", "GetLiabilityProof"}
    reads |= {"ListWithdrawalRules", "GetWithdrawalAddresses"}
    once = {"PlaceOrder", "CreateTransfer", "CreateWithdrawal"}
    assert again - reads == once, "these have the client's id; a later replace would be undone"
