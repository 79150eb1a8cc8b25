"""The documented JSON, byte for byte and number for number."""

import json

import pytest
from clearbook.v1 import order_service_pb2 as orders

from gateway_http import accounts, wire
from gateway_http.errors import problem
from gateway_http.orders import ROUTES
from gateway_http.orders_described import PATHS
from services.errors import Reason, Rejected

DOCUMENTED = (
    b'{"order_id": "unique-order-id-123", "user_id": "user-abc", "pair": "BTC-USD", "order_type": "limit",'
    b' "side": "buy", "price": 30000.00, "amount": 0.001}'
)


def body(**changes: str) -> bytes:
    """The documented body with raw JSON in some fields; "" leaves a field out."""
    fields = {key: json.dumps(value) for key, value in json.loads(DOCUMENTED).items()} | changes
    return ("{" + ",".join(f'"{key}":{value}' for key, value in fields.items() if value) + "}").encode()


def test_the_documented_body() -> None:
    request, user = wire.order_from(DOCUMENTED)
    assert user == "user-abc"
    assert request == orders.PlaceOrderRequest(
        client_order_id="unique-order-id-123",
        market="BTC-USD",
        side=orders.SIDE_BUY,
        type=orders.ORDER_TYPE_LIMIT,
        price="30000.00",
        quantity="0.001",
    )


def test_price_is_ignored_for_market_orders() -> None:
    request, _ = wire.order_from(body(order_type='"market"', price='{"what": "ever"}'))
    assert (request.type, request.price) == (orders.ORDER_TYPE_MARKET, "")


NUMBERS = [
    ("30000.00", "30000.00"),
    ("0", "0"),
    ("-1", "-1"),
    ('"0.10"', "0.10"),
    ('"1e5"', "1e5"),  # a string goes as it is: order_gateway refuses it, naming the field
    ("1e-05", "0.00001"),
    ("1E-5", "0.00001"),
    ("1.5e3", "1500"),
    ("1.2345e2", "123.45"),
    ("123.45e-2", "1.2345"),
    ("1e+2", "100"),
    ("0.12345678901234567890123", "0.12345678901234567890123"),
    ("100000000000000000000000001", "100000000000000000000000001"),
]


@pytest.mark.parametrize(("raw", "text"), NUMBERS)
def test_numbers_are_exact(raw: str, text: str) -> None:
    assert wire.order_from(body(amount=raw))[0].quantity == text


BAD = [
    (b"", "MALFORMED_REQUEST", ""),
    (b"{", "MALFORMED_REQUEST", ""),
    (b"nonsense", "MALFORMED_REQUEST", ""),
    (b"\xff\xfe", "MALFORMED_REQUEST", ""),
    (b"[" * 10_000, "MALFORMED_REQUEST", ""),
    (b"[]", "MALFORMED_REQUEST", ""),
    (b'"order"', "MALFORMED_REQUEST", ""),
    (b"null", "MALFORMED_REQUEST", ""),
    (body(amount="NaN"), "MALFORMED_REQUEST", ""),
    (body(amount="Infinity"), "MALFORMED_REQUEST", ""),
    (body(amount="01"), "MALFORMED_REQUEST", ""),
    (body(amount="1."), "MALFORMED_REQUEST", ""),
    (body(amount="0x10"), "MALFORMED_REQUEST", ""),
    (body(price=""), "INVALID_FIELD", "price"),
    (body(price='"?"').replace(b"?", b"\xff"), "INVALID_FIELD", "price"),
    (body(price="null"), "INVALID_FIELD", "price"),
    (body(price="true"), "INVALID_FIELD", "price"),
    (body(price="[1]"), "INVALID_FIELD", "price"),
    (body(price='{"a": 1}'), "INVALID_FIELD", "price"),
    (body(price="1e999999999"), "INVALID_FIELD", "price"),
    (body(price="1e41"), "INVALID_FIELD", "price"),
    (body(price="1e-41"), "INVALID_FIELD", "price"),
    (body(price="1" * 65), "INVALID_FIELD", "price"),
    (body(amount=""), "INVALID_FIELD", "amount"),
    (body(amount="null"), "INVALID_FIELD", "amount"),
    (body(order_id=""), "INVALID_FIELD", "order_id"),
    (body(order_id='""'), "INVALID_FIELD", "order_id"),
    (body(order_id="7"), "INVALID_FIELD", "order_id"),
    (body(user_id=""), "INVALID_FIELD", "user_id"),
    (body(user_id='""'), "INVALID_FIELD", "user_id"),
    (body(user_id="null"), "INVALID_FIELD", "user_id"),
    (body(pair=""), "INVALID_FIELD", "pair"),
    (body(pair="[]"), "INVALID_FIELD", "pair"),
    (body(order_type=""), "INVALID_FIELD", "order_type"),
    (body(order_type='"stop"'), "INVALID_FIELD", "order_type"),
    (body(order_type='"LIMIT"'), "INVALID_FIELD", "order_type"),
    (body(side=""), "INVALID_FIELD", "side"),
    (body(side='"hold"'), "INVALID_FIELD", "side"),
    (body(side="1"), "INVALID_FIELD", "side"),
    (body(ammount="1"), "INVALID_FIELD", "ammount"),
]


@pytest.mark.parametrize(("raw", "reason", "field"), BAD)
def test_bad_bodies_name_what_is_wrong(raw: bytes, reason: str, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        wire.order_from(raw)
    assert (caught.value.reason.name, caught.value.field) == (reason, field)


def test_answers_byte_for_byte() -> None:
    assert wire.accepted('id "1"') == b'{"message":"Order submitted successfully","order_id":"id \\"1\\""}'
    book = wire.order_book([("29999.50", "0.005")], [("30000.50", "0.003"), ("30001.00", "1")])
    assert book == (
        '{"bids":[{"price":29999.50,"amount":0.005}],'
        '"asks":[{"price":30000.50,"amount":0.003},{"price":30001.00,"amount":1}]}'
    )
    assert wire.order_book_update([], []) == '{"type":"orderbook_update","data":{"bids":[],"asks":[]}}'


ERRORS = [
    (Rejected(Reason.MARKET_NOT_FOUND, "no such market: X", "market"), 404, "pair"),
    (Rejected(Reason.INVALID_QUANTITY, "bad", "quantity"), 422, "amount"),
    (Rejected(Reason.CLIENT_ORDER_ID_REUSED, "", "client_order_id"), 409, "order_id"),
    (Rejected(Reason.UNAUTHENTICATED), 401, None),
    (Rejected(Reason.PERMISSION_DENIED), 403, None),
    (Rejected(Reason.OVERLOADED), 429, None),
    (Rejected(Reason.RATE_LIMITED, "wait", retry_after_seconds=9), 429, None),
    (Rejected(Reason.NOT_TAKEN), 503, None),
    (Rejected(Reason.MALFORMED_REQUEST), 400, None),
]


@pytest.mark.parametrize(("rejected", "status", "field"), ERRORS)
def test_errors_have_one_shape(rejected: Rejected, status: int, field: str | None) -> None:
    code, raw, headers = problem(rejected, "r1")
    assert code == status
    assert json.loads(raw) == {
        "code": rejected.reason.name,
        "message": rejected.message.replace("client_order_id", "order_id"),
        "field": field,
        "request_id": "r1",
    } | ({"retry_after": rejected.retry_after_seconds} if rejected.retry_after_seconds else {})
    assert headers.get("retry-after") == (str(rejected.retry_after_seconds) if status in {429, 503} else None)


@pytest.mark.parametrize("reason", list(Reason))
def test_whoever_may_come_again_is_told_when(reason: Reason) -> None:
    status, _, headers = problem(Rejected(reason), "r1")
    assert ("retry-after" in headers) == (status in {429, 503})


@pytest.mark.parametrize(
    ("field", "message", "expected"),
    [
        ("client_order_id", "client_order_id must be short", "order_id must be short"),
        ("client_order_id", "this client_order_id was used", "this order_id was used"),
        ("x-clearbook-user", "the credential is not of the user in x-clearbook-user",
         "the credential is not of the user in user_id"),
        ("", "metadata x-clearbook-user is missing", "metadata user_id is missing"),
        ("quantity", "quantity is not a multiple of the lot size", "amount is not a multiple of the lot size"),
        ("quantity", "price x quantity is below 5 USD", "price x amount is below 5 USD"),
        ("market", "market is missing", "pair is missing"),
        ("market", "no such market: 'X'", "no such market: 'X'"),
        ("price", "price must have at most 2 decimals", "price must have at most 2 decimals"),
    ],
)  # fmt: skip
def test_texts_name_what_the_caller_typed(field: str, message: str, expected: str) -> None:
    assert json.loads(problem(Rejected(Reason.INVALID_FIELD, message, field), "r1")[1])["message"] == expected


OF_THE_ADDRESS = {Reason.METHOD_NOT_ALLOWED, Reason.UPGRADE_REQUIRED}
"""Whoever reads the description of a route does not meet them."""


def test_the_routes_of_orders_are_described_with_all_answers_that_there_can_be() -> None:
    assert PATHS.keys() == (ROUTES | accounts.ROUTES).keys()
    possible = {str(reason.http_status) for reason in set(Reason) - OF_THE_ADDRESS} | {"200"}
    assert {path: set(described["post"]["responses"]) for path, described in PATHS.items()} == dict.fromkeys(
        PATHS, possible
    )
