"""ccxt, unchanged, trades on Clearbook as if it were Binance: every kind of order, and what becomes of each."""

import time
from collections.abc import Callable
from typing import Any

import ccxt

from tests.clients.given import PAIR, SYMBOL, URL, credentials, nowhere


def client(user: str) -> Any:
    key, secret = credentials(user)
    options = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}
    made = ccxt.binance({"apiKey": key, "secret": secret, "options": options, "enableRateLimit": False})
    made.urls["api"] = nowhere(made.urls["api"]) | {"public": f"{URL}/api/v3", "private": f"{URL}/api/v3"}
    made.load_markets()
    return made


def fails(kind: type[Exception], call: Callable[..., Any], *args: Any) -> None:
    told: type[Exception] | None = None
    try:
        call(*args)
    except ccxt.BaseError as error:
        told = type(error)
    assert told is kind, (call.__name__, args, told)


def public(seller: Any) -> None:
    market = seller.markets[PAIR]
    assert (market["id"], market["precision"]["price"], market["precision"]["amount"]) == (SYMBOL, 0.01, 1e-05)
    assert abs(seller.fetch_time() - time.time() * 1000) < 10_000
    fails(ccxt.BadSymbol, seller.publicGetDepth, {"symbol": "NOSUCH"})


def orders(seller: Any, buyer: Any) -> None:
    resting = seller.create_order(PAIR, "limit", "sell", 0.5, 30000)
    assert (resting["status"], resting["filled"], resting["remaining"]) == ("open", 0, 0.5)
    assert seller.fetch_order_book(PAIR)["asks"] == [[30000, 0.5]]
    taken = buyer.create_order(PAIR, "market", "buy", 0.01)
    assert (taken["status"], taken["filled"], taken["cost"], taken["average"]) == ("closed", 0.01, 300, 30000)
    assert taken["trades"][0]["fee"]["currency"] == PAIR.partition("/")[0]
    spent = buyer.create_order(PAIR, "market", "buy", 0, None, {"cost": 300})
    assert (spent["status"], spent["filled"], spent["cost"]) == ("closed", 0.01, 300)
    part = seller.fetch_order(resting["id"], PAIR)
    assert (part["status"], part["filled"], part["clientOrderId"]) == ("open", 0.02, resting["clientOrderId"])
    fails(ccxt.OrderImmediatelyFillable, buyer.create_order, PAIR, "limit", "buy", 0.1, 30000, {"postOnly": True})
    at_once = buyer.create_order(PAIR, "limit", "buy", 0.05, 30000, {"timeInForce": "IOC"})
    assert (at_once["status"], at_once["timeInForce"]) == ("closed", "IOC")
    killed = buyer.create_order(PAIR, "limit", "buy", 100, 30000, {"timeInForce": "FOK"})
    assert (killed["status"], killed["filled"]) == ("expired", 0)
    fails(ccxt.InsufficientFunds, buyer.create_order, PAIR, "limit", "buy", 99999, 29000)
    fails(ccxt.InvalidOrder, buyer.privatePostOrder, {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT",
          "timeInForce": "GTC", "quantity": "0.000001", "price": "20000"})  # fmt: skip


def changes(buyer: Any) -> None:
    maker = buyer.create_order(PAIR, "limit", "buy", 0.1, 28000, {"postOnly": True})
    assert (maker["type"], maker["postOnly"]) == ("limit", True)
    moved = buyer.edit_order(maker["id"], PAIR, "limit", "buy", 0.2, 28800)
    assert (moved["status"], moved["price"], moved["amount"]) == ("open", 28800, 0.2)
    fails(ccxt.OrderNotFound, buyer.cancel_order, maker["id"], PAIR)
    fails(ccxt.OrderNotFound, buyer.fetch_order, "12345", PAIR)
    waiting = [
        buyer.create_order(PAIR, "limit", "buy", 0.1, 31000, {"stopPrice": 31000}),
        buyer.create_order(PAIR, "market", "buy", 0.1, None, {"stopPrice": 32000}),
        buyer.create_order(PAIR, "market", "sell", 0.01, None, {"stopLossPrice": 20000}),
        buyer.create_order(PAIR, "market", "sell", 0.01, None, {"takeProfitPrice": 40000}),
        buyer.create_order(PAIR, "limit", "buy", 0.1, 27000, {"icebergAmount": 0.01}),
    ]
    ids = {order["id"] for order in buyer.fetch_open_orders(PAIR)}
    assert ids == {order["id"] for order in [moved, *waiting]}
    assert buyer.fetch_order(waiting[0]["id"], PAIR)["stopPrice"] == 31000
    ended = buyer.cancel_order(moved["id"], PAIR)
    assert (ended["status"], ended["id"]) == ("canceled", moved["id"])
    assert len(buyer.cancel_all_orders(PAIR)) == len(waiting)
    assert not buyer.fetch_open_orders(PAIR)


def lists_of_orders(seller: Any) -> None:
    asked = {"symbol": SYMBOL, "side": "SELL", "quantity": "0.1", "aboveType": "LIMIT_MAKER", "abovePrice": "33000",
             "belowType": "STOP_LOSS", "belowStopPrice": "21000", "aboveClientOrderId": "above-1"}  # fmt: skip
    made = seller.privatePostOrderListOco(asked)
    assert (made["contingencyType"], len(made["orders"])) == ("OCO", 2)
    old = {"symbol": SYMBOL, "side": "SELL", "quantity": "0.1", "price": "33000", "stopPrice": "21000",
           "stopLimitPrice": "20900", "stopLimitTimeInForce": "GTC"}  # fmt: skip
    assert len(seller.privatePostOrderOco(old)["orderReports"]) == 2
    entry = {"workingType": "LIMIT", "workingSide": "SELL", "workingPrice": "35000", "workingQuantity": "0.1",
             "workingTimeInForce": "GTC", "symbol": SYMBOL, "pendingSide": "BUY", "pendingQuantity": "0.1"}  # fmt: skip
    one = entry | {"pendingType": "LIMIT", "pendingPrice": "20000", "pendingTimeInForce": "GTC"}
    assert seller.privatePostOrderListOto(one)["contingencyType"] == "OTO"
    two = entry | {"pendingAboveType": "STOP_LOSS_LIMIT", "pendingAbovePrice": "40100",
                   "pendingAboveStopPrice": "40000",
                   "pendingAboveTimeInForce": "GTC", "pendingBelowType": "LIMIT_MAKER",
                   "pendingBelowPrice": "20000"}  # fmt: skip
    assert len(seller.privatePostOrderListOtoco(two)["orders"]) == 3
    ended = seller.privateDeleteOrderList({"symbol": SYMBOL, "orderListId": made["orderListId"]})
    assert ended["listOrderStatus"] == "ALL_DONE"
    assert seller.fetch_order(None, PAIR, {"origClientOrderId": "above-1"})["status"] == "canceled"
    seller.cancel_all_orders(PAIR)
    assert seller.create_order(PAIR, "limit", "sell", 0.1, 30000, {"test": True})["id"] is None
    assert not seller.fetch_open_orders(PAIR)


def history(buyer: Any) -> None:
    trades = buyer.fetch_my_trades(PAIR)
    assert [trade["amount"] for trade in trades] == [0.01, 0.01, 0.05]
    assert buyer.fetch_my_trades(PAIR, trades[1]["timestamp"])[0]["timestamp"] >= trades[1]["timestamp"]
    later = buyer.fetch_my_trades(PAIR, None, None, {"fromId": trades[1]["id"]})
    assert [trade["id"] for trade in later] == [trade["id"] for trade in trades[1:]]
    everything = buyer.fetch_orders(PAIR)
    assert everything == sorted(everything, key=lambda order: int(order["id"]))
    assert {order["status"] for order in everything} == {"closed", "canceled", "expired"}
    assert [order["id"] for order in buyer.fetch_orders(PAIR, None, 2)] == [order["id"] for order in everything[-2:]]
    assert {trade["amount"] for trade in buyer.fetch_trades(PAIR)} == {0.01, 0.05}
    base, quote = PAIR.split("/")
    balance = buyer.fetch_balance()
    assert balance[base]["used"] == balance[quote]["used"] == 0
    assert balance[base]["free"] == round(0.07 * (1 - 0.002), 8)
    rates = buyer.privateGetAccountCommission({"symbol": SYMBOL})["standardCommission"]
    assert (rates["maker"], rates["taker"]) == ("0.00100000", "0.00200000")


def wrong_credentials() -> None:
    one = client("buyer")
    one.secret = "wrong"
    fails(ccxt.AuthenticationError, one.fetch_balance)
    late = client("buyer")
    late.nonce = lambda: int(time.time() * 1000) - 60_000
    fails(ccxt.InvalidNonce, late.fetch_balance)


if __name__ == "__main__":
    one, other = client("seller"), client("buyer")
    public(one)
    orders(one, other)
    changes(other)
    lists_of_orders(one)
    history(other)
    wrong_credentials()
