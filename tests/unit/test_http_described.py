"""The OpenAPI document says what is served: every route, with examples that are what they say, and no loose end."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from gateway_http import accounts, orders
from gateway_http.binance.described import PARAMETERS, TABLE
from gateway_http.binance.routes import PREFIX, table
from gateway_http.examples import EXAMPLES
from gateway_http.json_proto import query_in, request_in
from gateway_http.market_routes import LOOKS
from gateway_http.openapi import PATHS, completed
from gateway_http.proto_json import json_value
from services.errors import Reason, Rejected

METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for method in (
        *(route.method for route in (orders.ROUTES | accounts.ROUTES).values()),
        *(look.method for look in LOOKS),
    )
}


@pytest.mark.parametrize("name", METHODS)
def test_examples_are_what_they_say(name: str) -> None:
    method, example = METHODS[name], EXAMPLES[name]
    body = json.dumps({"user_id": "u"} | example.asked).encode()
    assert request_in(GetMessageClass(method.input_type), body)[1] == "u"
    answer = ParseDict(example.answered, GetMessageClass(method.output_type)())
    assert json_value(answer) == example.answered, "as it is written, every default left out"


def test_nothing_is_referred_to_that_is_not_there() -> None:
    document = completed({"paths": {}})
    text = json.dumps(document)
    references = set(re.findall(r'"\$ref": "#/components/(\w+)/(\w+)"', text))
    assert len(references) > 20
    assert not [name for kind, name in references if name not in document["components"][kind]]


def test_all_that_binances_clients_may_ask_is_described() -> None:
    nothing: Any = type("Anything", (), {"__getattr__": lambda *_: None})()
    served = {(route.method, route.path) for route in table(nothing, nothing, nothing, nothing)}
    assert served == {(method, PREFIX + path) for method, path in TABLE}
    named = {name for told in TABLE.values() for name in told.needs + told.takes}
    assert named <= PARAMETERS.keys()


def test_each_operation_has_a_name_of_its_own_and_an_example_of_its_answer() -> None:
    operations = [operation for path in PATHS.values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    answers = [operation["responses"]["200"]["content"]["application/json"] for operation in operations]
    assert all("example" in answer for answer in answers)


Given = list[tuple[str, str]]

QUERIES: list[tuple[str, Given, dict[str, Any]]] = [
    ("GetOrderBook", [("market", "BTC-USD"), ("depth", "5"), ("detail", "l3")],
     {"depth": 5, "detail": "BOOK_DETAIL_L3"}),
    ("GetOrderBook", [("market", "BTC-USD"), ("price_group", "10")], {"price_group": "10"}),
    ("ListTrades", [("market", "BTC-USD"), ("oldest_first", "true"), ("from_trade_id", "18446744073709551615")],
     {"oldest_first": True, "from_trade_id": "18446744073709551615"}),
    ("ListTrades", [("market", "BTC-USD"), ("from_time", "2026-11-23T01:14:20.5Z")],
     {"from_time": "2026-11-23T01:14:20.500Z"}),
    ("ListCandles", [("market", "BTC-USD"), ("interval", "CANDLE_INTERVAL_1_DAY")],
     {"interval": "CANDLE_INTERVAL_1_DAY"}),
    ("ListTickers", [("markets", "BTC-USD"), ("markets", "ETH-USD")], {"markets": ["BTC-USD", "ETH-USD"]}),
    ("ListTickers", [], {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "expected"), QUERIES)
def test_queries_are_fields_of_the_request(name: str, given: Given, expected: dict[str, Any]) -> None:
    found = json_value(query_in(GetMessageClass(METHODS[name].input_type), given))
    assert found == ({"market": "BTC-USD"} if name != "ListTickers" else {}) | expected


WRONG: list[tuple[str, Given, Reason, str]] = [
    ("GetOrderBook", [("depth", "many")], Reason.INVALID_FIELD, "depth"),
    ("GetOrderBook", [("depth", "")], Reason.INVALID_FIELD, "depth"),
    ("GetOrderBook", [("depth", "2147483648")], Reason.INVALID_FIELD, "depth"),
    ("GetOrderBook", [("depth", "٣")], Reason.INVALID_FIELD, "depth"),
    ("GetOrderBook", [("detail", "l4")], Reason.INVALID_FIELD, "detail"),
    ("GetOrderBook", [("colour", "red")], Reason.INVALID_FIELD, "colour"),
    ("GetOrderBook", [("market", "A"), ("market", "B")], Reason.MALFORMED_REQUEST, "market"),
    ("ListTrades", [("from_trade_id", "-1")], Reason.INVALID_FIELD, "from_trade_id"),
    ("ListTrades", [("oldest_first", "1")], Reason.INVALID_FIELD, "oldest_first"),
    ("ListTrades", [("oldest_first", "null")], Reason.INVALID_FIELD, "oldest_first"),
    ("ListTrades", [("from_time", "yesterday")], Reason.INVALID_FIELD, "from_time"),
]


@pytest.mark.parametrize(("name", "given", "reason", "field"), WRONG)
def test_wrong_queries_are_named(name: str, given: Given, reason: Reason, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        query_in(GetMessageClass(METHODS[name].input_type), given)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_a_wrong_time_is_told_what_times_look_like() -> None:
    with pytest.raises(Rejected, match="from_time is no time of RFC 3339, like 2026-11-24T12:00:00Z"):
        query_in(GetMessageClass(METHODS["ListTrades"].input_type), [("from_time", "yesterday")])
