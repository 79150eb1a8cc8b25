"""Orders of all kinds over REST against the running exchange: each route does what its RPC does."""

from __future__ import annotations

from typing import Any

import httpx

from tests.e2e.conftest import Traded


class Trader:
    """Asks as one user."""

    def __init__(self, http: httpx.AsyncClient, user: str) -> None:
        self._http, self._user = http, user

    async def post(self, path: str, **fields: Any) -> dict[str, Any]:
        answer = await self._http.post(f"/api/v1/{path}", json={"user_id": self._user} | fields)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def refused(self, path: str, **fields: Any) -> tuple[int, str, str]:
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
