"""The API that Binance's clients speak, to the letter: what they do not ask for, do wrongly, or would not notice."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
import pytest
from clearbook.v1 import account_service_pb2 as accounts
from clearbook.v1 import book_service_pb2 as pb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from clearbook.book import LocalBook
from clearbook.client import Client
from services.cli.clients import user
from tests.e2e.conftest import Traded
from tests.e2e.test_required_mode import Key
from tests.suite import Clients, Suite

SECONDS_MAX = 20.0
LOAD_SECONDS = 300.0 if os.environ.get("CLEARBOOK_SOAK") == "1" else 4.0


@pytest.fixture(scope="module")
def suite(embedded: Suite) -> Suite:
    return embedded


class Signer:
    """Somebody's key, and requests signed with it."""

    def __init__(self, http: httpx.AsyncClient, key: Key) -> None:
        self._http, self.key = http, key

    async def ask(self, method: str, path: str, **params: Any) -> httpx.Response:
        stamped = {**params, "timestamp": params.get("timestamp", time.time_ns() // 10**6)}
        query = str(httpx.QueryParams(stamped))
        signature = httpx.QueryParams({"signature": self.key.sign(query.encode())})
        headers = {"X-MBX-APIKEY": self.key.key_id}
        return await self._http.request(method, f"/api/v3/{path}?{query}&{signature}", headers=headers)

    async def done(self, method: str, path: str, **params: Any) -> Any:
        answer = await self.ask(method, path, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def signer(http: httpx.AsyncClient, clients: Clients, name: str, kind: str = "HMAC_SHA256") -> Signer:
    private = Ed25519PrivateKey.generate() if kind == "ED25519" else None
    asked = accounts.CreateApiKeyRequest(
        kind=accounts.KeyKind.Value(f"KEY_KIND_{kind}"),
        scopes=[accounts.SCOPE_TRADE],
        public_key=private.public_key().public_bytes_raw() if private else b"",
    )
    made = await clients.accounts.CreateApiKey(asked, metadata=user(name), timeout=20)
    return Signer(http, Key(name, made.key.key_id, made.secret, private))


@pytest.fixture
async def seller(http: httpx.AsyncClient, clients: Clients, market: Traded) -> Signer:
    return await signer(http, clients, market.seller)


@pytest.fixture
async def buyer(http: httpx.AsyncClient, clients: Clients, market: Traded) -> Signer:
    return await signer(http, clients, market.buyer, "ED25519")


@pytest.fixture
def symbol(market: Traded) -> str:
    return market.pair.replace("-", "")


@asynccontextmanager
async def socket(suite: Suite, path: str) -> AsyncIterator[ClientConnection]:
    async with connect(f"{suite.http.replace('http', 'ws', 1)}{path}") as made:
        yield made


async def heard(made: ClientConnection) -> Any:
    async with asyncio.timeout(SECONDS_MAX):
        return json.loads(await made.recv())


async def all_heard(made: ClientConnection) -> None:
    """Listens until the other side closes: raises ConnectionClosed."""
    while True:
        await heard(made)


async def asked(made: ClientConnection, method: str, params: Any, number: int = 1) -> Any:
    await made.send(json.dumps({"id": number, "method": method, "params": params}))
    return await heard(made)


def limit(symbol: str, side: str, price: object, quantity: object = "0.1", **more: Any) -> dict[str, Any]:
    order = {"symbol": symbol, "side": side, "type": "LIMIT", "timeInForce": "GTC"}
    return order | {"price": str(price), "quantity": str(quantity)} | more


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v3/nothing", 404, -1020),
        ("PATCH", "/api/v3/order", 405, -1020),
        ("GET", "/api/v3/depth", 400, -1102),
        ("GET", "/api/v3/depth?symbol=NOSUCH", 400, -1121),
        ("GET", "/api/v3/depth?symbol=BTCUSD&limit=x", 400, -1100),
        ("GET", "/api/v3/depth?symbol=BTCUSD&colour=red", 400, -1104),
        ("GET", "/api/v3/depth?symbol=BTCUSD&symbol=BTCUSD", 400, -1101),
        ("GET", "/api/v3/klines?symbol=BTCUSD&interval=7m", 400, -1120),
        ("GET", "/api/v3/klines?symbol=BTCUSD&interval=1m&timeZone=5", 400, -1130),
        ("GET", "/api/v3/ticker/price?symbol=BTCUSD&symbols=%5B%22BTCUSD%22%5D", 400, -1128),
        ("GET", "/api/v3/account", 401, -2015),
        ("GET", "/api/v3/account?timestamp=1&signature=00", 401, -2014),
        ("PUT", "/api/v3/userDataStream?listenKey=nobodys", 400, -1125),
    ],
)
async def test_refusals(http: httpx.AsyncClient, method: str, path: str, status: int, code: int) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["msg"]
    assert answer.headers.get("allow") == ("POST, GET, DELETE" if status == 405 else None)


async def test_a_signature_is_good_once_and_for_what_it_covers(seller: Signer, http: httpx.AsyncClient) -> None:
    answer = await seller.ask("GET", "account")
    assert answer.json()["canTrade"] is True
    assert int(answer.headers["x-mbx-used-weight-1m"]) >= 20
    again = await http.get(str(answer.request.url), headers={"X-MBX-APIKEY": seller.key.key_id})
    assert (again.status_code, again.json()["code"]) == (401, -2015)
    url = str(answer.request.url).replace("account?", "account?omitZeroBalances=true&")
    changed = await http.get(url, headers={"X-MBX-APIKEY": seller.key.key_id})
    assert changed.json()["code"] == -2015
    old = await seller.ask("GET", "account", timestamp=time.time_ns() // 10**6 - 6_000)
    assert (old.status_code, old.json()["code"]) == (400, -1021)
    unsigned = await http.post("/api/v3/userDataStream", headers={"X-MBX-APIKEY": seller.key.key_id})
    assert unsigned.json()["code"] == -1102, "the id of a key is no secret: it opens nothing"


async def test_orders_by_form_and_their_counts(
    seller: Signer, buyer: Signer, http: httpx.AsyncClient, symbol: str
) -> None:
    form = httpx.QueryParams(
        limit(symbol, "SELL", 30000, newOrderRespType="ACK") | {"timestamp": time.time_ns() // 10**6}
    )
    signed = f"{form}&signature={seller.key.sign(str(form).encode())}"
    headers = {"X-MBX-APIKEY": seller.key.key_id, "content-type": "application/x-www-form-urlencoded"}
    answer = await http.post("/api/v3/order", content=signed, headers=headers)
    assert answer.json().keys() == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
    assert (answer.headers["x-mbx-order-count-10s"], answer.headers["x-mbx-order-count-1d"]) == ("1", "1")
    as_json = await http.post("/api/v3/order", json={}, headers={"X-MBX-APIKEY": seller.key.key_id})
    assert (as_json.status_code, as_json.json()["code"]) == (415, -1100)
    twice = limit(symbol, "BUY", 29000, newClientOrderId="mine")
    assert (await buyer.done("POST", "order", **twice))["status"] == "NEW"
    assert (await buyer.ask("POST", "order", **twice | {"price": "28000"})).json()["code"] == -2010
    other = await buyer.ask("GET", "order", symbol="BTCUSD", origClientOrderId="mine")
    assert other.json()["code"] == -2013, "it is of another market"
    replaced = await buyer.ask(
        "POST", "order/cancelReplace", **limit(symbol, "BUY", "0.001"), cancelReplaceMode="STOP_ON_FAILURE",
        cancelOrigClientOrderId="mine",
    )  # fmt: skip
    words = replaced.json()
    assert (replaced.status_code, words["code"], words["data"]["cancelResult"]) == (409, -2021, "SUCCESS")
    assert words["data"]["newOrderResponse"] == {"code": -1013, "msg": "Filter failure: PRICE_FILTER"}
    again = await buyer.ask(
        "POST", "order/cancelReplace", **limit(symbol, "BUY", 28000), cancelReplaceMode="STOP_ON_FAILURE",
        cancelOrigClientOrderId="mine",
    )  # fmt: skip
    assert (again.json()["code"], again.json()["data"]["newOrderResult"]) == (-2022, "NOT_ATTEMPTED")


async def come_and_go(seller: Signer, symbol: str) -> None:
    """Orders come and go as fast as one user can send them: of each round some stay until the next."""
    until, number, stayed = time.monotonic() + LOAD_SECONDS, 0, list[dict[str, Any]]()
    while time.monotonic() < until:
        made = [seller.done("POST", "order", **limit(symbol, "SELL", 30000 + (number + each) % 7)) for each in range(8)]
        orders = await asyncio.gather(*made)
        gone, stayed = orders[::2] + stayed, orders[1::2]
        await asyncio.gather(
            *(seller.done("DELETE", "order", symbol=symbol, orderId=order["orderId"]) for order in gone)
        )
        number += 1


async def follow(suite: Suite, pair: str, kept: list[LocalBook]) -> None:
    """Keeps our own client's book, until canceled."""
    async with Client(market_data=suite.publisher) as client, aclosing(client.follow_book(pair)) as books:
        async for book in books:
            kept[:] = [book]


async def test_a_book_kept_by_the_published_procedure_has_no_gap(
    suite: Suite, market: Traded, http: httpx.AsyncClient, seller: Signer, symbol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffer, snapshot, drop, check U and u, under load; beside it our client's book. CLEARBOOK_SOAK=1: 5 minutes."""
    snapshots, ours = list[int](), list[LocalBook]()

    class Counted(LocalBook):
        def _replace(self, snapshot: pb.BookSnapshot) -> None:
            snapshots.append(snapshot.sequence)
            super()._replace(snapshot)

    monkeypatch.setattr("clearbook.client.LocalBook", Counted)
    following = asyncio.create_task(follow(suite, market.pair, ours))
    async with socket(suite, f"/ws/{symbol.lower()}@depth@100ms") as stream:
        loading = asyncio.create_task(come_and_go(seller, symbol))
        buffered = [await heard(stream) for _ in range(3)]
        snapshot = (await http.get("/api/v3/depth", params={"symbol": symbol, "limit": 5000})).json()
        book = {side: dict(snapshot[name]) for side, name in (("b", "bids"), ("a", "asks"))}
        last, applied = snapshot["lastUpdateId"], 0
        while True:
            event = buffered.pop(0) if buffered else await heard(stream)
            if event["u"] > last:
                assert event["U"] <= last + 1 <= event["u"] if not applied else event["U"] == last + 1
                for side, levels in book.items():
                    levels |= dict(event[side])
                last, applied = event["u"], applied + 1
            if loading.done():
                now = (await http.get("/api/v3/depth", params={"symbol": symbol, "limit": 5000})).json()
                if now["lastUpdateId"] == last:
                    break
        await loading
    kept = {price: size for price, size in book["a"].items() if Decimal(size)}
    assert kept == dict(now["asks"])
    assert len(kept) > 1
    async with asyncio.timeout(SECONDS_MAX):
        while ours[0].sequence < last:
            await asyncio.sleep(0.01)
    following.cancel()
    assert {Decimal(price): Decimal(size) for price, size in ours[0].asks} == {
        Decimal(price): Decimal(size) for price, size in kept.items()
    }
    assert len(snapshots) == 1, "it has never had to begin again"
    assert applied > LOAD_SECONDS * 4


async def test_subscriptions(suite: Suite, seller: Signer, symbol: str) -> None:
    names = [f"{symbol.lower()}@trade", f"{symbol.lower()}@bookTicker"]
    async with socket(suite, "/ws") as stream:
        assert await asked(stream, "SUBSCRIBE", names[:1]) == {"result": None, "id": 1}
        assert await asked(stream, "LIST_SUBSCRIPTIONS", []) == {"result": names[:1], "id": 1}
        for method, params in (
            ("SUBSCRIBE", ["nosuch@trade"]), ("SUBSCRIBE", [1]), ("OTHER", []), ("SET_PROPERTY", ["combined"]),
        ):  # fmt: skip
            assert (await asked(stream, method, params, 7))["error"]["code"] == 2
        told = (await asked(stream, "SUBSCRIBE", [names[0].upper()], 8))["error"]["msg"]
        assert (
            told == f"Invalid request: no such stream '{names[0].upper()}': they are like btcusdt@trade, in lower case"
        )
        await stream.send("no JSON")
        assert (await heard(stream))["error"]["code"] == 2
        assert (await asked(stream, "SET_PROPERTY", ["combined", True]))["result"] is None
        assert (await asked(stream, "GET_PROPERTY", ["combined"]))["result"] is True
        first = await asked(stream, "SUBSCRIBE", names[1:])
        assert (first["stream"], first["data"]["a"]) == (names[1], "0.00000000"), "what is true now comes first"
        assert (await heard(stream))["id"] == 1
        order = await seller.done("POST", "order", **limit(symbol, "SELL", 30000))
        assert (await heard(stream))["data"]["a"] == "30000.00000000"
        assert (await asked(stream, "UNSUBSCRIBE", names))["result"] is None
        await seller.done("DELETE", "order", symbol=symbol, orderId=order["orderId"])
        assert (await asked(stream, "LIST_SUBSCRIPTIONS", []))["result"] == [], "nothing came between"
    async with socket(suite, "/ws/nosuch@trade") as stream:
        with pytest.raises(ConnectionClosed) as caught:
            await heard(stream)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008


async def test_a_listen_key_is_a_secret_that_ends(
    suite: Suite, seller: Signer, http: httpx.AsyncClient, symbol: str
) -> None:
    key = (await seller.done("POST", "userDataStream"))["listenKey"]
    assert (await seller.done("POST", "userDataStream"))["listenKey"] == key, "one for each API key"
    async with socket(suite, f"/ws/{key}") as stream, socket(suite, f"/stream?streams={key}") as combined:
        order = await seller.done("POST", "order", **limit(symbol, "SELL", 30000))
        event = await heard(stream)
        assert (event["e"], event["x"], event["i"]) == ("executionReport", "NEW", order["orderId"])
        named = await heard(combined)
        assert (named["stream"], named["data"]["x"], named["data"]["i"]) == (key, "NEW", order["orderId"])
        assert (await heard(stream))["B"][0]["l"] == "0.10000000"
        assert (await http.put("/api/v3/userDataStream", params={"listenKey": key})).json() == {}
        assert (await http.delete("/api/v3/userDataStream", params={"listenKey": key})).json() == {}
        with pytest.raises(ConnectionClosed) as caught:
            await all_heard(stream)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
    assert (await http.put("/api/v3/userDataStream", params={"listenKey": key})).json()["code"] == -1125
    async with socket(suite, f"/ws/{key}") as stream:
        with pytest.raises(ConnectionClosed):
            await heard(stream)
    for name in ("http", "gateway"):
        assert key not in (suite.folder / f"{name}.log").read_text(errors="replace")


async def test_a_session_and_its_end(suite: Suite, buyer: Signer, clients: Clients, symbol: str) -> None:
    async with socket(suite, "/ws-api/v3") as api:
        assert (await asked(api, "ping", {}))["result"] == {}
        assert (await asked(api, "nothing", {}))["error"]["code"] == -1020
        refused = await asked(api, "userDataStream.subscribe", {})
        assert (refused["status"], refused["error"]["code"]) == (401, -2015)
        logon = await asked(api, "session.logon", buyer.key.logon())
        assert (logon["result"]["apiKey"], logon["rateLimits"][0]["rateLimitType"]) == (
            buyer.key.key_id,
            "REQUEST_WEIGHT",
        )
        now = time.time_ns() // 10**6
        placed = await asked(api, "order.place", limit(symbol, "BUY", 20000) | {"timestamp": now})
        assert placed["result"]["status"] == "NEW"
        assert (await asked(api, "userDataStream.subscribe", {}))["result"] == {"subscriptionId": 0}
        canceled = {"symbol": symbol, "orderId": placed["result"]["orderId"]}
        await api.send(json.dumps({"id": "end", "method": "order.cancel", "params": canceled}))
        said = [await heard(api) for _ in range(3)]  # the answer and the events come in whatever order
        assert [each["result"]["status"] for each in said if "id" in each] == ["CANCELED"]
        assert [each["event"]["e"] for each in said if "event" in each] == [
            "executionReport",
            "outboundAccountPosition",
        ]
        revoke = accounts.RevokeApiKeyRequest(key_id=buyer.key.key_id)
        await clients.accounts.RevokeApiKey(revoke, metadata=user(buyer.key.user), timeout=20)
        async with asyncio.timeout(SECONDS_MAX):
            while (await heard(api)).get("event", {}).get("e") != "eventStreamTerminated":
                pass
        assert (await asked(api, "session.status", {}))["result"]["apiKey"] is None
        assert (await asked(api, "account.status", {}))["error"]["code"] == -2015
