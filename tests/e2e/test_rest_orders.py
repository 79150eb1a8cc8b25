"""Orders of all kinds over REST against the running exchange: each route does what its RPC does."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Traded

TOLD_SECONDS_MAX = 10.0


class Trader:
    """Asks as one user."""

    def __init__(self, http: httpx.AsyncClient, user: str) -> None:
        self._http, self._user = http, user

    async def post(self, path: str, **fields: Any) -> dict[str, Any]:
        answer = await self._http.post(f"/api/v1/{path}", json={"user_id": self._user} | fields)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def refused(self, path: str, **fields: Any) -> tuple[int, str, str | None]:
        answer = await self._http.post(f"/api/v1/{path}", json={"user_id": self._user} | fields)
        problem = answer.json()
        return answer.status_code, problem["code"], problem["field"]


async def test_orders_from_the_first_to_the_last(http: httpx.AsyncClient, market: Traded) -> None:
    seller = Trader(http, market.seller)
    limit = {"market": market.pair, "side": "sell", "type": "limit", "quantity": 0.01}
    batch = await seller.post(
        "orders",
        orders=[
            limit | {"client_order_id": "rest-1", "price": 31000.00},
            limit | {"client_order_id": "rest-2", "price": 0},
            limit | {"client_order_id": "rest-3", "price": "31000.50", "display_quantity": 0.004},
        ],
    )
    kinds = [next(iter(outcome)) for outcome in batch["outcomes"]]
    assert kinds == ["placed", "refusal", "placed"]
    assert batch["outcomes"][1]["refusal"]["field"] == "price"
    assert batch["outcomes"][2]["placed"]["order"]["display_quantity"] == "0.004"

    replaced = await seller.post("order/replace", client_order_id="rest-1", quantity=0.005)
    assert replaced["order"]["quantity"] == "0.005"
    moved = await seller.post("orders/replace", orders=[{"client_order_id": "rest-3", "price": 32000}])
    assert moved["outcomes"][0]["replaced"]["order"]["price"] == "32000.00"
    assert (await seller.post("order/cancel", client_order_id="rest-1"))["order"]["cancel_cause"] == "CANCEL_CAUSE_USER"
    gone = await seller.post("orders/cancel", orders=[{"client_order_id": "rest-3"}, {"client_order_id": "none"}])
    assert [next(iter(outcome)) for outcome in gone["outcomes"]] == ["canceled", "refusal"]

    exits = [
        limit | {"client_order_id": "rest-4", "price": 33000},
        {"market": market.pair, "side": "sell", "type": "market", "quantity": 0.01, "client_order_id": "rest-5",
         "trigger": "stop", "trigger_price": 20000},
    ]  # fmt: skip
    group = await seller.post("orders/group", exits=exits)
    assert [one["order"]["state"] for one in group["orders"]] == ["ORDER_STATE_OPEN", "ORDER_STATE_WAITING"]
    preview = await seller.post("order/preview", order=limit | {"price": 34000})
    assert (preview["state"], preview["needed"], preview["locked_asset"]) == ("ORDER_STATE_OPEN", "0.01", market.base)
    assert await seller.post("orders/defaults", self_trade_prevention="cancel_oldest") == (
        await seller.post("orders/defaults/query")
    )
    assert await seller.post("orders/cancel-after", seconds=60, market=market.pair)
    assert not await seller.post("orders/cancel-after", seconds=0, market=market.pair)
    ended = await seller.post("orders/cancel-all", market=market.pair, side="sell")
    assert ended["canceled_count"] >= 1, "its linked one ends with it, or is canceled too"

    found = await seller.post("order/query", client_order_id="rest-4")
    assert found["order"]["state"] == "ORDER_STATE_CANCELED"
    listed = await seller.post("orders/query", market=market.pair, page_size=2)
    assert {order["client_order_id"]: order["state"] for order in listed["orders"]} == dict.fromkeys(
        ("rest-4", "rest-5"), "ORDER_STATE_CANCELED"
    )
    assert await seller.post("executions/query", market=market.pair) == {}
    assert await seller.refused("orders/group", exits=[exits[0] | {"price": "x"}, exits[1]]) == (
        422, "INVALID_FIELD", "exits[0].price",
    )  # fmt: skip
    assert await seller.refused("orders", orders=[]) == (422, "INVALID_FIELD", "orders")
    assert await seller.refused("order/cancel", market="X") == (422, "INVALID_FIELD", "market")


async def test_the_documented_order_takes_terms(http: httpx.AsyncClient, market: Traded) -> None:
    seller = Trader(http, market.seller)
    order = {"pair": market.pair, "side": "sell", "amount": 0.01, "order_id": "rest-6", "order_type": "stop_loss_limit"}
    assert await seller.refused("order", **order, price=20000) == (422, "INVALID_TRIGGER", "trigger_price")
    assert await seller.post("order", **order, price=20000, trigger_price=20100, time_in_force="day")
    placed = (await seller.post("order/query", client_order_id="rest-6"))["order"]
    assert (placed["state"], placed["trigger"], placed["time_in_force"]) == (
        "ORDER_STATE_WAITING", "TRIGGER_STOP", "TIME_IN_FORCE_DAY",
    )  # fmt: skip
    listed = (await http.get("/api/v1/markets")).json()["markets"]
    assert {"market": market.pair, "state": "MARKET_STATE_OPEN"}.items() <= next(
        each for each in listed if each["market"] == market.pair
    ).items()


async def test_what_everybody_may_ask(http: httpx.AsyncClient, market: Traded) -> None:
    async def read(path: str) -> Any:
        answer = await http.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    limit = {"market": market.pair, "type": "limit", "price": "31000.50"}
    await Trader(http, market.seller).post("orders", orders=[limit | {"side": "sell", "quantity": "0.003"}])
    for _ in range(2):
        await Trader(http, market.buyer).post("orders", orders=[limit | {"side": "buy", "quantity": "0.001"}])
    async with asyncio.timeout(TOLD_SECONDS_MAX):  # market data is a projection
        while len((trades := await read(f"trades/{market.pair}")).get("trades", [])) < 2:
            await asyncio.sleep(0.02)
    assert [trade["trade_id"] for trade in trades["trades"]] == ["2", "1"]
    first = await read(f"trades/{market.pair}?oldest_first=true&page_size=1")
    assert [trade["trade_id"] for trade in first["trades"]] == ["1"]
    token = first["next_page_token"]
    second = await read(f"trades/{market.pair}?oldest_first=true&page_size=1&page_token={token}")
    assert [trade["trade_id"] for trade in second["trades"]] == ["2"]
    newer = await read(f"trades/{market.pair}?oldest_first=true&from_time={second['trades'][0]['event_time']}")
    assert newer["trades"] == second["trades"]
    levels = [{"price": "31010.00", "quantity": "0.001"}]
    assert (await read(f"book/{market.pair}?price_group=10&depth=5"))["asks"] == levels
    assert [order["quantity"] for order in (await read(f"book/{market.pair}?detail=l3"))["ask_orders"]] == ["0.001"]
    ticker = (await read(f"ticker/{market.pair}"))["ticker"]
    assert (ticker["last_price"], ticker["volume"]) == ("31000.50", "0.002")
    assert [each["market"] for each in (await read(f"tickers?markets={market.pair}&markets=BTC-USD"))["tickers"]] == (
        sorted(["BTC-USD", market.pair])
    )
    candle = (await read(f"candles/{market.pair}?interval=1_day"))["candles"][0]
    assert (candle["close"], candle["volume"]) == ("31000.50", "0.002")
    settlement = (await read(f"settlement?market={market.pair}&trade_id=1"))["settlement"]
    assert (settlement["kind"], settlement["trade_id"]) == ("SETTLEMENT_KIND_TRADE", "1")


REFUSED_LOOKS = [
    ("trades/NO-SUCH", 404, "MARKET_NOT_FOUND", "market"),
    ("book/BTC-USD?depth=-1", 422, "INVALID_FIELD", "depth"),
    ("book/BTC-USD?detail=l3&price_group=10", 422, "INVALID_FIELD", "price_group"),
    ("book/BTC-USD?market=ETH-USD", 400, "MALFORMED_REQUEST", "market"),
    ("trades/BTC-USD?page_token=x", 422, "INVALID_FIELD", "page_token"),
    ("trades/BTC-USD?colour=%zz%ff", 400, "MALFORMED_REQUEST", None),
    ("candles/BTC-USD", 422, "INVALID_FIELD", "interval"),
    ("settlement", 422, "INVALID_FIELD", "settlement_sequence"),
    ("settlement?market=BTC-USD&trade_id=18446744073709551615", 422, "INVALID_FIELD", "trade_id"),
]


@pytest.mark.parametrize(("path", "status", "code", "field"), REFUSED_LOOKS)
async def test_looks_are_refused_as_over_grpc(
    http: httpx.AsyncClient, path: str, status: int, code: str, field: str | None
) -> None:
    answer = await http.get(f"/api/v1/{path}")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (status, code, field)


async def test_accounts(http: httpx.AsyncClient, market: Traded) -> None:
    seller = Trader(http, market.seller)
    balances = await seller.post("balances/query")
    assert {"asset": market.base, "total": "1000", "available": "1000", "held": "0"}.items() <= next(
        each for each in balances["balances"] if each["asset"] == market.base
    ).items()
    assert (await seller.post("session/query"))["user"] == market.seller
    assert (await seller.post("fees/query"))["volume_asset"] == "USD"
    gift = {"transfer_id": f"gift-{market.base}", "to_user": market.buyer, "asset": market.base, "amount": 0.5}
    sent = await seller.post("transfers", **gift)
    assert (sent["transfer"]["kind"], sent["transfer"]["amount"]) == ("TRANSFER_KIND_SENT", "0.5")
    assert await seller.post("transfers", **gift) == sent, "once for its transfer_id"
    listed = await Trader(http, market.buyer).post("transfers/query", kind="received")
    assert [each["amount"] for each in listed["transfers"]] == ["0.5"]
    out = {"transfer_id": "out", "asset": market.base, "amount": "1", "address": f"0x{'3c' * 20}"}
    assert (await seller.post("withdrawals", **out))["transfer"]["state"] == "TRANSFER_STATE_REQUESTED"
    assert (await seller.post("withdrawals/cancel", transfer_id="out"))["transfer"][
        "state"
    ] == "TRANSFER_STATE_CANCELED"
    assert await seller.post("withdrawals/rules/query") == {}
    listed = await seller.post("withdrawals/addresses/add", address=out["address"])
    assert listed["addresses"]["addresses"][0]["address"] == out["address"]
    assert (await seller.post("withdrawals/addresses/only", only=True))["addresses"]["only"]
    assert await seller.refused("withdrawals", **out | {"transfer_id": "out-2"}) == (422, "ADDRESS_TOO_NEW", "address")
    await seller.post("withdrawals/addresses/remove", address=out["address"])
    assert (await seller.post("withdrawals/addresses/query"))["addresses"] == {"only": True}
    assert await seller.refused("withdrawals", **out | {"transfer_id": "out-3"}) == (
        422,
        "ADDRESS_NOT_ALLOWED",
        "address",
    )
    postings = await seller.post("ledger/query", asset=market.base)
    assert [each["amount"] for each in postings["entries"]] == ["-0.5", "1000"]
    assert await seller.refused("transfers", **gift | {"transfer_id": "other", "amount": "2000"}) == (
        422, "INSUFFICIENT_FUNDS", None,
    )  # fmt: skip
