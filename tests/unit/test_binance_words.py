"""What Binance's clients say and are told, without a server: numbers, parameters, symbols, orders, refusals, pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import order_service_pb2 as pb

from gateway_http.binance import numbers
from gateway_http.binance.asking import Caller
from gateway_http.binance.exchange import why
from gateway_http.binance.market_data import now_ms
from gateway_http.binance.market_words import INTERVALS, filters
from gateway_http.binance.order_requests import PLAIN, Names, order_request
from gateway_http.binance.order_words import PREVENTIONS, order_words, placed_words, status_of, type_of
from gateway_http.binance.pages import ITEMS_READ_MAX, oldest_first
from gateway_http.binance.parameters import Params, given
from gateway_http.binance.refusals import FIELDS, WORDS, Refused, in_words
from gateway_http.binance.symbols import Symbols
from gateway_http.binance.usage import COUNTED_MAX, Usage
from gateway_http.signing import SignedRequest
from services.errors import Reason, Rejected

MARKET = book_pb.Market(
    market="BTC-USD", base_asset="BTC", quote_asset="USD", tick_size="0.01", lot_size="0.00001", notional_min="5"
)
LIMIT = {"symbol": "BTCUSD", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.5", "price": "30000"}
STOP = {"side": "SELL", "type": "STOP_LOSS", "quantity": "0.5", "stopPrice": "20000"}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (numbers.padded(""), "0.00000000"),
        (numbers.padded("0"), "0.00000000"),
        (numbers.padded("12.5"), "12.50000000"),
        (numbers.padded("0.123456789012"), "0.123456789012"),
        (numbers.product("30000.01", "0.00001"), "0.3000001000".removesuffix("00")),
        (numbers.product("0.000001", "0.000001"), "0.000000000001"),
        (numbers.total("1.5", "0.25", "10"), "11.75000000"),
        (numbers.total(), "0.00000000"),
        (numbers.difference("1", "1.5"), "-0.50000000"),
        (numbers.difference("3", "1.5"), "1.50000000"),
        (numbers.quotient("1", "3"), "0.33333333"),
        (numbers.quotient("1", "0"), "0.00000000"),
        (numbers.quotient("2000", "1000000"), "0.00200000"),
        (numbers.whole_steps("0.0123456", "0.00001"), "0.01234000"),
        (numbers.whole_steps("7", "3"), "6.00000000"),
        (numbers.multiplier(500), "1.05000000"),
        (numbers.multiplier(-500), "0.95000000"),
        (numbers.multiplier(-20_000), "0.00000000"),
        (numbers.decimals_of("0.01"), 2),
        (numbers.decimals_of("1"), 0),
    ],
)
def test_numbers(made: Any, expected: Any) -> None:
    assert made == expected


def test_every_reason_has_a_word() -> None:
    assert set(WORDS) == set(Reason)
    for reason in Reason:
        told = in_words(Rejected(reason, "why", "price"))
        assert told.code < 0
        assert told.message
        assert (told.status in {429, 503}) <= (told.retry_after_seconds > 0), reason


@pytest.mark.parametrize("field", FIELDS)
def test_fields_that_are_called_otherwise_exist(field: str) -> None:
    asked = (pb.PlaceOrderRequest, pb.GetOrderRequest, pb.ListOrdersRequest)
    assert any(field in kind.DESCRIPTOR.fields_by_name for kind in asked)
    assert FIELDS[field] in in_words(Rejected(Reason.INVALID_FIELD, "no", field)).message


def read(name: str, how: str, **more: Any) -> Callable[[Params], Any]:
    return lambda params: getattr(params, how)(name, **more)


@pytest.mark.parametrize(
    ("text", "reads", "expected"),
    [
        ("a=1", read("a", "text"), "1"),
        ("", read("a", "text"), -1102),
        ("a=", read("a", "text"), -1105),
        ("a=1&a=2", read("a", "text"), -1101),
        ("a=1&b=2", read("a", "text"), -1104),
        ("a=1&timestamp=2&recvWindow=3&signature=4", read("a", "text"), "1"),
        ("a=%FF", read("a", "text"), -1100),
        ("a=0.5", read("a", "decimal"), "0.5"),
        ("", read("a", "decimal"), ""),
        *[(f"a={bad}", read("a", "decimal"), -1100) for bad in ("-1", "1e5", ".5", "5.", "NaN", "%D9%A1", "1%20")],
        ("a=7", read("a", "integer", most=9), 7),
        ("a=10", read("a", "integer", most=9), -1130),
        ("a=-1", read("a", "integer"), -1100),
        ("a=99999999999999999999", read("a", "integer"), -1100),
        ("a=true", read("a", "flag"), True),
        ("a=yes", read("a", "flag"), -1130),
        ("a=Z", read("a", "choice", words={"Y": 1}, default=0), -1130),
        ("a=Y", read("a", "choice", words={"Y": 1}, default=0), 1),
        ('a=["X","Y"]', read("a", "texts"), ["X", "Y"]),
        ("a=[]", read("a", "texts"), -1130),
        ("a=X", read("a", "texts"), -1130),
        ("a=my.id-1:/_", read("a", "client_order_id"), "my.id-1:/_"),
        (f"a={'x' * 37}", read("a", "client_order_id"), -1100),
        ("a=x%20y", read("a", "client_order_id"), -1100),
        ("a=1", lambda params: params.refuse("a", "no"), -1106),
        ("limit=5000", lambda params: params.limit(500, 1000), 1000),
        ("limit=0", lambda params: params.limit(500, 1000), -1130),
        ("", lambda params: params.limit(500, 1000), 500),
    ],
)
def test_parameters(text: str, reads: Callable[[Params], Any], expected: Any) -> None:
    def found() -> Any:
        params = Params(given(text.encode(), b""))
        value = reads(params)
        params.done()
        return value

    if not isinstance(expected, int) or isinstance(expected, bool) or expected >= 0:
        assert found() == expected
        return
    with pytest.raises(Refused) as caught:
        found()
    assert caught.value.code == expected


def test_symbols_that_would_be_shared_keep_their_dash() -> None:
    symbols = Symbols(book_pb.Market(market=name) for name in ("BTC-USD", "A-BC", "AB-C"))
    assert list(symbols.markets) == ["BTCUSD", "A-BC", "AB-C"]
    assert symbols.market("BTCUSD").market == "BTC-USD"
    assert (symbols.symbol("BTC-USD"), symbols.symbol("AB-C"), symbols.symbol("NEW-USD")) == (
        "BTCUSD",
        "AB-C",
        "NEWUSD",
    )
    assert symbols.of_stream("btcusd") == "BTCUSD"
    for unknown, code in (("ABC", -1121), ("BTC-USD", -1121), ("btcusd", -1121), ("", -1102), ("x" * 99, -1100)):
        with pytest.raises(Refused) as caught:
            symbols.market(unknown)
        assert caught.value.code == code


def order(**fields: Any) -> pb.Order:
    made = {"order_id": "72057662757404692", "market": "BTC-USD", "side": pb.SIDE_BUY, "state": pb.ORDER_STATE_OPEN}
    return pb.Order(**{"type": pb.ORDER_TYPE_LIMIT, "time_in_force": pb.TIME_IN_FORCE_GTC, **made, **fields})


@pytest.mark.parametrize(
    ("fields", "kind", "status"),
    [
        ({}, "LIMIT", "NEW"),
        ({"filled_quantity": "0"}, "LIMIT", "NEW"),
        ({"filled_quantity": "0.1"}, "LIMIT", "PARTIALLY_FILLED"),
        ({"post_only": True}, "LIMIT_MAKER", "NEW"),
        ({"type": pb.ORDER_TYPE_MARKET, "state": pb.ORDER_STATE_FILLED}, "MARKET", "FILLED"),
        ({"trigger": pb.TRIGGER_STOP, "state": pb.ORDER_STATE_WAITING}, "STOP_LOSS_LIMIT", "NEW"),
        ({"trigger": pb.TRIGGER_STOP, "type": pb.ORDER_TYPE_MARKET}, "STOP_LOSS", "NEW"),
        ({"trigger": pb.TRIGGER_TRAILING, "type": pb.ORDER_TYPE_MARKET}, "STOP_LOSS", "NEW"),
        ({"trigger": pb.TRIGGER_TAKE_PROFIT}, "TAKE_PROFIT_LIMIT", "NEW"),
        ({"state": pb.ORDER_STATE_WAITING}, "LIMIT", "PENDING_NEW"),
    ],
)
def test_orders(fields: dict[str, Any], kind: str, status: str) -> None:
    assert (type_of(order(**fields)), status_of(order(**fields))) == (kind, status)
    words = order_words(order(**fields), Symbols([MARKET]))
    assert words["orderId"] == 72057662757404692
    assert words["symbol"] == "BTCUSD"
    assert words["isWorking"] is (fields.get("state") != pb.ORDER_STATE_WAITING)


@pytest.mark.parametrize("cause", pb.CancelCause.values())
def test_every_end_is_told(cause: pb.CancelCause.ValueType) -> None:
    words = {"USER": "CANCELED", "LINKED": "CANCELED", "CANCEL_AFTER": "CANCELED", "OPERATOR": "CANCELED"}
    words |= {"DISCONNECT": "CANCELED", "SELF_TRADE": "EXPIRED_IN_MATCH"}
    name = pb.CancelCause.Name(cause).removeprefix("CANCEL_CAUSE_")
    ended = order(state=pb.ORDER_STATE_CANCELED, cancel_cause=cause)
    assert status_of(ended) == words.get(name, "EXPIRED")


def test_what_is_placed_is_told_in_three_lengths() -> None:
    placed = pb.PlaceOrderResponse(
        order=order(), executions=[pb.Execution(trade_id=7, price="1", quantity="2", fee="3")]
    )
    short, middle, full = (placed_words(placed, Symbols([MARKET]), detail) for detail in ("ACK", "RESULT", "FULL"))
    assert short.keys() < middle.keys() < full.keys()
    assert "status" not in short
    assert full["fills"][0]["tradeId"] == 7


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (LIMIT, {"price": "30000", "quantity": "0.5", "time_in_force": pb.TIME_IN_FORCE_GTC}),
        (LIMIT | {"newClientOrderId": "me"}, {"client_order_id": "me"}),
        (LIMIT | {"icebergQty": "0.1"}, {"display_quantity": "0.1"}),
        *[
            (LIMIT | {"selfTradePreventionMode": name}, {"self_trade_prevention": value})
            for name, value in PREVENTIONS.items()
        ],
        ({"side": "SELL", "type": "MARKET", "quantity": "1"}, {"type": pb.ORDER_TYPE_MARKET, "quote_budget": ""}),
        (
            {"side": "BUY", "type": "MARKET", "quoteOrderQty": "1000"},
            {"quote_budget": "1000", "quantity": "0.03333000"},
        ),
        ({"side": "BUY", "type": "LIMIT_MAKER", "quantity": "1", "price": "2"}, {"post_only": True}),
        (STOP, {"trigger": pb.TRIGGER_STOP, "trigger_price": "20000", "type": pb.ORDER_TYPE_MARKET}),
        (STOP | {"side": "BUY"}, {"quote_budget": "10500.00000000"}),
        (
            STOP | {"type": "TAKE_PROFIT_LIMIT", "price": "21000", "timeInForce": "FOK"},
            {"trigger": pb.TRIGGER_TAKE_PROFIT, "price": "21000", "time_in_force": pb.TIME_IN_FORCE_FOK},
        ),
        (LIMIT | {"type": "OTHER"}, -1130),
        (LIMIT | {"side": "HOLD"}, -1130),
        (LIMIT | {"timeInForce": "GTX"}, -1130),
        (LIMIT | {"selfTradePreventionMode": "ALL"}, -1130),
        *[({name: value for name, value in LIMIT.items() if name != absent}, -1102)
          for absent in ("type", "side", "timeInForce", "price", "quantity")],
        (LIMIT | {"stopPrice": "1"}, -1106),
        (LIMIT | {"trailingDelta": "100"}, -1106),
        (LIMIT | {"quoteOrderQty": "100"}, -1106),
        (LIMIT | {"price": "1e9"}, -1100),
        ({"side": "BUY", "type": "MARKET", "quantity": "1", "price": "2"}, -1106),
        ({"side": "BUY", "type": "MARKET", "quantity": "1", "quoteOrderQty": "2"}, -1106),
        ({"side": "SELL", "type": "MARKET", "quoteOrderQty": "2"}, -1106),
        ({"side": "BUY", "type": "MARKET"}, -1102),
        ({"side": "BUY", "type": "STOP_LOSS", "quantity": "1"}, -1102),
        ({"side": "BUY", "type": "LIMIT_MAKER", "quantity": "1", "price": "2", "timeInForce": "GTC"}, -1106),
    ],
)  # fmt: skip
def test_order_requests(fields: dict[str, str], expected: dict[str, Any] | int) -> None:
    if isinstance(expected, int):
        with pytest.raises(Refused) as caught:
            order_request(Params(fields), MARKET, best_ask="30000.00")
        assert caught.value.code == expected
        return
    made = order_request(Params(fields), MARKET, best_ask="30000.00")
    assert {name: getattr(made, name) for name in expected} == expected


def test_names_in_a_list_of_orders() -> None:
    names = Names.of("pendingAbove", side="pendingSide", quantity="pendingQuantity")
    assert names.type == "pendingAboveType"
    assert names.stop == "pendingAboveStopPrice"
    assert names.client_order_id == "pendingAboveClientOrderId"
    assert (names.side, names.quantity) == ("pendingSide", "pendingQuantity")
    assert Names.of("working").quantity == "workingQuantity"
    assert PLAIN.client_order_id == "newClientOrderId"


def test_nothing_to_buy_with_an_amount_of_the_quote() -> None:
    with pytest.raises(Refused) as caught:
        order_request(Params({"side": "BUY", "type": "MARKET", "quoteOrderQty": "1000"}), MARKET)
    assert caught.value.code == -2010


@pytest.mark.parametrize(
    ("limit", "first", "expected", "pages_read"),
    [
        (3, None, [7, 8, 9], 1),
        (5, None, [5, 6, 7, 8, 9], 2),
        (100, None, list(range(10)), 3),
        (3, 0, [0, 1, 2], 3),
        (3, 5, [5, 6, 7], 2),
        (100, 6, [6, 7, 8, 9], 1),
        (100, 10, [], 1),
    ],
)
async def test_pages(limit: int, first: int | None, expected: list[int], pages_read: int) -> None:
    pages = {"": ([9, 8, 7, 6], "1"), "1": ([5, 4, 3, 2], "2"), "2": ([1, 0], "")}
    read: list[str] = []

    async def page(token: str) -> tuple[Sequence[int], str]:
        read.append(token)
        return pages[token]

    assert await oldest_first(page, limit, lambda item: item, first) == expected
    assert len(read) <= pages_read + (first is not None)


async def test_pages_have_an_end() -> None:
    async def page(_token: str) -> tuple[Sequence[int], str]:
        return range(1, ITEMS_READ_MAX + 1), "more"

    with pytest.raises(Refused) as caught:
        await oldest_first(page, 10, lambda item: item, 0)
    assert caught.value.code == -1127


def test_filters_say_what_the_rules_say() -> None:
    plain = {entry["filterType"]: entry for entry in filters(MARKET)}
    assert plain.keys() == {"PRICE_FILTER", "LOT_SIZE", "NOTIONAL"}
    assert plain["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert plain["LOT_SIZE"]["maxQty"] == "92233720368547.75807000"
    assert plain["NOTIONAL"]["minNotional"] == "5.00000000"
    ruled = book_pb.Market()
    ruled.CopyFrom(MARKET)
    ruled.rules.CopyFrom(
        book_pb.MarketRules(quantity_max="2", notional_max="9", price_band_basis_points=250, open_orders_max=7)
    )
    found = {entry["filterType"]: entry for entry in filters(ruled)}
    assert found["LOT_SIZE"]["maxQty"] == "2.00000000"
    assert found["NOTIONAL"]["maxNotional"] == "9.00000000"
    assert found["PERCENT_PRICE_BY_SIDE"]["bidMultiplierUp"] == "1.02500000"
    assert found["MAX_NUM_ORDERS"]["maxNumOrders"] == 7


def test_all_intervals_are_ours() -> None:
    assert set(INTERVALS.values()) == set(book_pb.CandleInterval.values()) - {0}


def test_usage_begins_anew_with_each_span() -> None:
    usage = Usage()
    assert usage.asked("a", 20, 0)["x-mbx-used-weight-1m"] == "20"
    assert usage.asked("a", 5, 59_999)["x-mbx-used-weight-1m"] == "25"
    assert usage.asked("b", 1, 59_999)["x-mbx-used-weight-1m"] == "1"
    assert usage.asked("a", 5, 60_000)["x-mbx-used-weight-1m"] == "5"
    assert usage.placed("k", 2, 9_999) == {"x-mbx-order-count-10s": "2", "x-mbx-order-count-1d": "2"}
    assert usage.placed("k", 1, 10_000) == {"x-mbx-order-count-10s": "1", "x-mbx-order-count-1d": "3"}
    for number in range(COUNTED_MAX + 10):
        usage.asked(str(number), 1, 120_000)
    assert usage.asked("one more", 3, 120_000)["x-mbx-used-weight-1m"] == "3"
    assert usage.asked("one more", 3, 120_000)["x-mbx-used-weight-1m"] == "3"


@pytest.mark.parametrize(
    ("key", "signature", "age_ms", "window", "code"),
    [
        ("", "s", 0, "", -2014),
        ("k", "", 0, "", -1102),
        ("k", "s", None, "", -1102),
        ("k", "s", 0, "", -2015),
        ("k", "s", 4_000, "5000", -2015),
        ("k", "s", 6_000, "5000", -1021),
        ("k", "s", 6_000, "", -1021),
        ("k", "s", 6_000, "10000", -2015),
        ("k", "s", -5_000, "", -1021),
    ],
)
def test_why_a_signature_was_refused(key: str, signature: str, age_ms: int | None, window: str, code: int) -> None:
    stamped = ("" if age_ms is None else str(now_ms() - age_ms), window)
    caller = Caller({}, "", {}, SignedRequest(key, b"", signature, 0), stamped)
    assert why(Rejected(Reason.UNAUTHENTICATED), caller).code == code
