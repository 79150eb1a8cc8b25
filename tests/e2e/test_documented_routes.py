"""The documented REST and WebSocket routes against the running exchange, byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest
from clearbook.v1 import order_service_pb2 as orders
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway_http.openapi import PATHS
from tests.e2e.conftest import Traded
from tests.suite import Clients, Suite, fresh, user

FRAME_SECONDS_MAX = 10.0
DOCUMENTED = (
    b'{"order_id": "unique-order-id-123", "user_id": "user-abc", "pair": "BTC-USD", "order_type": "limit",'
    b' "side": "buy", "price": 30000.00, "amount": 0.001}'
)
ACCEPTED = b'{"message":"Order submitted successfully","order_id":"%s"}'


def body(market: Traded, who: str, side: str, price: str, amount: str, **more: str) -> bytes:
    """An order whose numbers are written as given. A price of "" makes it a market order."""
    kind = "limit" if price else "market"
    fields = {"order_id": fresh("order"), "user_id": who, "pair": market.pair, "order_type": kind, "side": side}
    numbers = (f',"price":{price}' if price else "") + f',"amount":{amount}'
    return (json.dumps(fields | more)[:-1] + numbers + "}").encode()


async def post(http: httpx.AsyncClient, content: bytes) -> httpx.Response:
    return await http.post("/api/v1/order", content=content, headers={"content-type": "application/json"})


async def place(http: httpx.AsyncClient, content: bytes) -> None:
    answer = await post(http, content)
    assert answer.status_code == 200, answer.text
    assert answer.content == ACCEPTED % json.loads(content)["order_id"].encode()


async def book(http: httpx.AsyncClient, pair: str, query: str = "") -> bytes:
    """The order book; it is a projection, so ask until it is as expected where that matters."""
    answer = await http.get(f"/api/v1/orderbook/{pair}{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.content


async def book_becomes(http: httpx.AsyncClient, pair: str, expected: bytes, query: str = "") -> None:
    found = b""
    try:
        async with asyncio.timeout(FRAME_SECONDS_MAX):
            while (found := await book(http, pair, query)) != expected:
                await asyncio.sleep(0.02)
    except TimeoutError:
        assert found == expected


async def frame(socket: ClientConnection) -> str:
    async with asyncio.timeout(FRAME_SECONDS_MAX):
        received = await socket.recv()
    assert isinstance(received, str)
    return received


def url(suite: Suite, query: str = "") -> str:
    return f"ws://{suite.plan.http}/ws/marketdata{query}"


async def test_the_documented_order(suite: Suite, http: httpx.AsyncClient, clients: Clients) -> None:
    level = '{"price":30000.00,"amount":0.001}'
    async with connect(url(suite)) as socket:
        assert level not in await frame(socket), "somebody else's order stands in BTC-USD at 30000.00"
        answer = await post(http, DOCUMENTED)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.content == ACCEPTED % b"unique-order-id-123"
        update = await frame(socket)
    assert update.startswith('{"type":"orderbook_update","data":{"bids":[')
    assert level in update
    assert level.encode() in await book(http, "BTC-USD")
    cancel = orders.CancelOrderRequest(client_order_id="unique-order-id-123")
    await clients.orders.CancelOrder(cancel, metadata=user("user-abc"), timeout=10)


async def test_books_show_exact_numbers_best_first(http: httpx.AsyncClient, market: Traded) -> None:
    await book_becomes(http, market.pair, b'{"bids":[],"asks":[]}')
    for price, amount in (("30001", "1.0"), ("30000.50", "0.003"), ("30000.5", "0.00001"), ("30002.01", "2e-2")):
        await place(http, body(market, market.seller, "sell", price, amount))
    for price, amount in (("29999.50", "0.005"), ("29999.49", "0.1"), ("29999.51", "1E-5")):
        await place(http, body(market, market.buyer, "buy", price, amount))
    bids = [(b"29999.51", b"0.00001"), (b"29999.50", b"0.005"), (b"29999.49", b"0.1")]
    asks = [(b"30000.50", b"0.00301"), (b"30001.00", b"1"), (b"30002.01", b"0.02")]
    await book_becomes(http, market.pair, book_of(bids, asks))
    await book_becomes(http, market.pair, book_of(bids[:2], asks[:2]), "?depth=2")


def book_of(bids: Iterable[tuple[bytes, bytes]], asks: Iterable[tuple[bytes, bytes]]) -> bytes:
    def side(levels: Iterable[tuple[bytes, bytes]]) -> bytes:
        return b"[" + b",".join(b'{"price":%s,"amount":%s}' % level for level in levels) + b"]"

    return b'{"bids":' + side(bids) + b',"asks":' + side(asks) + b"}"


async def test_twenty_levels_unless_asked(suite: Suite, http: httpx.AsyncClient, market: Traded) -> None:
    prices = [f"100.{cents:02d}" for cents in range(25)]
    for price in prices:
        await place(http, body(market, market.seller, "sell", price, "1"))
    asks = [(price.encode(), b"1") for price in prices]
    await book_becomes(http, market.pair, book_of([], asks[:20]))
    await book_becomes(http, market.pair, book_of([], asks), "?depth=5000")
    async with connect(url(suite, f"?pair={market.pair}")) as socket:
        assert await frame(socket) == update([], asks[:20])


def update(bids: Iterable[tuple[bytes, bytes]], asks: Iterable[tuple[bytes, bytes]]) -> str:
    return f'{{"type":"orderbook_update","data":{book_of(bids, asks).decode()}}}'


async def test_the_socket_tells_of_every_change(suite: Suite, http: httpx.AsyncClient, market: Traded) -> None:
    async with connect(url(suite, f"?pair={market.pair}")) as socket:
        assert await frame(socket) == update([], [])
        await place(http, body(market, market.seller, "sell", "30000.50", "0.003"))
        await place(http, body(market, market.buyer, "buy", "29999.50", "0.005"))
        await place(http, body(market, market.buyer, "buy", "", "0.001"))
        await place(http, body(market, market.seller, "sell", "", "0.005"))
        bid = (b"29999.50", b"0.005")
        assert [await frame(socket) for _ in range(4)] == [
            update([], [(b"30000.50", b"0.003")]),
            update([bid], [(b"30000.50", b"0.003")]),
            update([bid], [(b"30000.50", b"0.002")]),
            update([], [(b"30000.50", b"0.002")]),
        ]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await socket.recv()


async def test_the_socket_tells_every_so_often_if_asked(suite: Suite, http: httpx.AsyncClient, market: Traded) -> None:
    async with connect(url(suite, f"?pair={market.pair}&conflation=1_second&slow_reader=disconnect")) as socket:
        assert await frame(socket) == update([], [])
        orders = [body(market, market.seller, "sell", f"30000.{cents:02}", "0.003") for cents in range(10)]
        await asyncio.gather(*(place(http, order) for order in orders))
        all_of_them, told = update([], [(f"30000.{cents:02}".encode(), b"0.003") for cents in range(10)]), 1
        while await frame(socket) != all_of_them:
            told += 1
        assert told < len(orders)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("pair=NO-SUCH", "no such market: NO-SUCH; ListMarkets (GET /api/v1/markets) has them all"),
        ("conflation=2s", "conflation is one of 100_milliseconds, 1_second"),
        ("slow_reader=wait", "slow_reader is one of conflate, disconnect"),
    ],
)
async def test_what_is_not_there_closes_the_socket(suite: Suite, query: str, reason: str) -> None:
    async with connect(url(suite, f"?{query}")) as socket:
        with pytest.raises(ConnectionClosed):
            await frame(socket)
        assert (socket.close_code, socket.close_reason) == (1008, reason)


async def test_the_same_order_twice_is_one_order(http: httpx.AsyncClient, market: Traded) -> None:
    order = body(market, market.seller, "sell", "30000.00", "0.001", order_id="mine")
    for content in (order, order, order.replace(b"30000.00", b"3e4")):  # the same number, written otherwise
        await place(http, content)
    await book_becomes(http, market.pair, book_of([], [(b"30000.00", b"0.001")]))
    other = await post(http, order.replace(b"0.001", b"0.002"))
    assert_problem(other, 409, "CLIENT_ORDER_ID_REUSED", "order_id")
    await place(http, body(market, market.buyer, "buy", "1", "1", order_id="mine"))  # another user's id is another id


async def test_many_at_once_with_one_id_are_one_order(http: httpx.AsyncClient, market: Traded) -> None:
    order = body(market, market.seller, "sell", "30000.00", "0.001")
    answers = await asyncio.gather(*(post(http, order) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    await book_becomes(http, market.pair, book_of([], [(b"30000.00", b"0.001")]))


def assert_problem(answer: httpx.Response, status: int, code: str, field: str | None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    problem: dict[str, Any] = answer.json()
    assert list(problem) == ["code", "message", "field", "request_id"]
    assert (problem["code"], problem["field"]) == (code, field)
    assert problem["message"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


ORDER = {"order_id": "x", "user_id": "u", "pair": "BTC-USD", "order_type": "limit", "side": "buy"}
NUMBERS: dict[str, Any] = {"price": 30000, "amount": 1}


def changed(**fields: Any) -> bytes:
    return json.dumps({key: value for key, value in (ORDER | NUMBERS | fields).items() if value is not None}).encode()


REFUSED: dict[str, tuple[bytes, int, str, str | None]] = {
    "unknown pair": (changed(pair="NO-SUCH"), 404, "MARKET_NOT_FOUND", "pair"),
    "missing price": (changed(price=None), 422, "INVALID_FIELD", "price"),
    "missing amount": (changed(amount=None), 422, "INVALID_FIELD", "amount"),
    "missing user": (changed(user_id=None), 422, "INVALID_FIELD", "user_id"),
    "bad user": (changed(user_id="no spaces"), 422, "INVALID_FIELD", "user_id"),
    "a user that no header can carry": (changed(user_id="é\n"), 422, "INVALID_FIELD", "user_id"),
    "system's user": (changed(user_id="faucet"), 403, "PERMISSION_DENIED", "user_id"),
    "bad order id": (changed(order_id="a b"), 422, "INVALID_FIELD", "order_id"),
    "long order id": (changed(order_id="a" * 65), 422, "INVALID_FIELD", "order_id"),
    "unknown side": (changed(side="hold"), 422, "INVALID_FIELD", "side"),
    "unknown type": (changed(order_type="stop"), 422, "INVALID_FIELD", "order_type"),
    "unknown field": (changed(colour="red"), 422, "INVALID_FIELD", "colour"),
    "price off the grid": (changed(price=30000.001), 422, "INVALID_PRICE", "price"),
    "price zero": (changed(price=0), 422, "INVALID_PRICE", "price"),
    "price below zero": (changed(price=-1), 422, "INVALID_FIELD", "price"),
    "price beyond int64": (changed(price=10**30), 422, "INVALID_PRICE", "price"),
    "amount off the grid": (changed(amount=0.000001), 422, "INVALID_QUANTITY", "amount"),
    "amount as a word": (changed(amount="lots"), 422, "INVALID_FIELD", "amount"),
    "insufficient funds": (changed(amount=10**6), 422, "INSUFFICIENT_FUNDS", None),
    "malformed": (b'{"order_id": ', 400, "MALFORMED_REQUEST", None),
    "not a number": (changed().replace(b"30000", b"NaN"), 400, "MALFORMED_REQUEST", None),
    "no object": (b"[]", 400, "MALFORMED_REQUEST", None),
    "nothing": (b"", 400, "MALFORMED_REQUEST", None),
    "not UTF-8": (b"\xff", 400, "MALFORMED_REQUEST", None),
    "too large": (b" " * 16_385, 413, "TOO_LARGE", None),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refusals(http: httpx.AsyncClient, case: str) -> None:
    content, status, code, field = REFUSED[case]
    assert_problem(await post(http, content), status, code, field)


async def test_too_large_without_a_length(http: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 1_024

    assert_problem(await http.post("/api/v1/order", content=chunks()), 413, "TOO_LARGE", None)


ROUTES = [
    ("GET", "/api/v1/orderbook/NO-SUCH", 404, "MARKET_NOT_FOUND", "pair"),
    ("GET", "/api/v1/orderbook/BTC-USD?depth=0", 422, "INVALID_FIELD", "depth"),
    ("GET", "/api/v1/orderbook/BTC-USD?depth=5001", 422, "INVALID_FIELD", "depth"),
    ("GET", "/api/v1/orderbook/BTC-USD?depth=many", 422, "INVALID_FIELD", "depth"),
    ("GET", "/api/v1/orderbook", 404, "ROUTE_NOT_FOUND", None),
    ("GET", "/nothing", 404, "ROUTE_NOT_FOUND", None),
    ("GET", "/", 404, "ROUTE_NOT_FOUND", None),
    ("GET", "/ws/marketdata", 426, "UPGRADE_REQUIRED", None),
    ("GET", "/ws/btcusd@trade", 426, "UPGRADE_REQUIRED", None),
    ("GET", "/ws-api/v3", 426, "UPGRADE_REQUIRED", None),
    ("GET", "/api/v1/order", 405, "METHOD_NOT_ALLOWED", None),
    ("DELETE", "/api/v1/orderbook/BTC-USD", 405, "METHOD_NOT_ALLOWED", None),
]


@pytest.mark.parametrize(("method", "path", "status", "code", "field"), ROUTES)
async def test_refused_routes(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str, field: str | None
) -> None:
    assert_problem(await http.request(method, path), status, code, field)


async def test_the_request_id_is_the_callers_if_it_is_clean(http: httpx.AsyncClient) -> None:
    mine = await http.get("/nothing", headers={"x-request-id": "mine-1"})
    assert assert_problem(mine, 404, "ROUTE_NOT_FOUND", None)["request_id"] == "mine-1"
    given = ['"quoted"', "a" * 65, ""]
    for text in given:
        answer = await http.get("/healthz", headers={"x-request-id": text})
        assert answer.headers["x-request-id"] not in given
    assert mine.headers.get_list("x-request-id") == ["mine-1"]


async def test_operators_routes(http: httpx.AsyncClient) -> None:
    alive, ready, metrics = [await http.get(path) for path in ("/healthz", "/readyz", "/metrics")]
    assert (alive.status_code, alive.text) == (200, "ok\n")
    assert (ready.status_code, ready.text) == (200, "ready\n")
    assert metrics.status_code == 200
    assert 'clearbook_http_requests_total{route="/healthz",status="200"}' in metrics.text


async def test_the_documentation_is_served(http: httpx.AsyncClient) -> None:
    described = (await http.get("/openapi.json")).json()
    assert described["paths"].keys() == PATHS.keys() | {
        *("/api/v1/markets", "/api/v1/orderbook/{pair}", "/healthz", "/readyz", "/metrics"),
    }
    example = described["paths"]["/api/v1/order"]["post"]["requestBody"]["content"]["application/json"]
    assert example["example"] == json.loads(DOCUMENTED)
    assert "swagger" in (await http.get("/docs")).text.lower()


async def test_every_service_exposes_metrics(suite: Suite) -> None:
    async with httpx.AsyncClient() as client:
        for place, name in enumerate(("book", "publisher", "gateway", "settler")):
            answer = await client.get(f"http://127.0.0.1:{suite.plan.metrics_port + place}/metrics")
            assert answer.status_code == 200, name
            assert "clearbook_" in answer.text, name
