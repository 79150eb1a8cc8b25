"""python-binance, unchanged: its client, its user socket, its depth cache, and what its WebSocket API does."""

import asyncio
from typing import Any

from binance import AsyncClient, BinanceSocketManager, DepthCacheManager
from binance.exceptions import BinanceAPIException
from binance.ws.reconnecting_websocket import ReconnectingWebsocket

from tests.clients.given import NOWHERE, STREAMS, SYMBOL, URL, credentials

SECONDS_MAX = 20.0


async def client(user: str) -> Any:
    for owner in (AsyncClient, BinanceSocketManager):
        for name in [name for name in dir(owner) if name.endswith("_URL")]:
            setattr(owner, name, NOWHERE)
    AsyncClient.API_URL = f"{URL}/api"
    AsyncClient.WS_API_URL = f"{STREAMS}/ws-api/v3"
    BinanceSocketManager.STREAM_URL = f"{STREAMS}/"
    ReconnectingWebsocket.TIMEOUT = 1  # how often, in seconds, a silent socket looks whether it is to close
    key, secret = credentials(user)
    return await AsyncClient.create(key, secret)


async def public(one: Any) -> None:
    assert (await one.get_symbol_info(SYMBOL))["status"] == "TRADING"
    assert (await one.get_order_book(symbol=SYMBOL))["asks"] == []
    assert await one.get_recent_trades(symbol=SYMBOL) == []
    assert (await one.get_symbol_ticker(symbol=SYMBOL))["symbol"] == SYMBOL


async def history(one: Any) -> None:
    trades = await one.get_recent_trades(symbol=SYMBOL)
    assert await one.get_historical_trades(symbol=SYMBOL, fromId=trades[1]["id"]) == trades[1:]
    later = await one.get_aggregate_trades(symbol=SYMBOL, startTime=trades[-1]["time"])
    assert later[-1]["a"] == trades[-1]["id"]
    assert sum(candle[8] for candle in await one.get_klines(symbol=SYMBOL, interval="1m")) == len(trades)
    assert (await one.get_ticker(symbol=SYMBOL))["count"] == len(trades)
    assert (await one.get_avg_price(symbol=SYMBOL))["price"] > "3"
    assert (await one.get_orderbook_ticker(symbol=SYMBOL))["askPrice"]


async def book_and_account(seller: Any, buyer: Any) -> None:
    """The depth cache is the book, and the user socket tells all that becomes of orders, in its order."""
    manager = BinanceSocketManager(seller)
    names = [f"{SYMBOL.lower()}@trade", f"{SYMBOL.lower()}@depth5@100ms"]
    async with (
        manager.user_socket() as account,
        DepthCacheManager(seller, SYMBOL, ws_interval=100) as cache,
        manager.multiplex_socket(names) as streams,
    ):
        seen: dict[str, Any] = {}

        async def read_streams() -> None:
            while len(seen) < len(names):
                message = await streams.recv()
                seen[message["stream"]] = message["data"]

        reading = asyncio.create_task(read_streams())
        first = await seller.order_limit_sell(symbol=SYMBOL, quantity="0.5", price="30000")
        for price in ("30001", "30002", "30003"):
            await seller.order_limit_sell(symbol=SYMBOL, quantity="0.1", price=price)
            await buyer.order_limit_buy(symbol=SYMBOL, quantity="0.1", price="30000")
        await seller.cancel_order(symbol=SYMBOL, orderId=first["orderId"])
        expected = {(30001.0, 0.1), (30002.0, 0.1), (30003.0, 0.1)}
        async with asyncio.timeout(SECONDS_MAX):
            while {tuple(level) for level in (await cache.recv()).get_asks()} != expected:
                pass
            await reading
            steps: list[str] = []
            while steps[-1:] != ["CANCELED"]:
                event = await account.recv()
                if event["e"] == "executionReport" and event["i"] == first["orderId"]:
                    steps.append(event["x"])
        assert steps == ["NEW", "TRADE", "TRADE", "TRADE", "CANCELED"]
        assert seen[names[0]]["e"] == "trade"
        assert "lastUpdateId" in seen[names[1]]


async def over_the_socket(one: Any) -> None:
    order = await one.ws_create_order(
        symbol=SYMBOL, side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.01", price="100"
    )
    assert (await one.ws_get_order(symbol=SYMBOL, orderId=order["orderId"]))["status"] == "NEW"
    assert (await one.ws_cancel_order(symbol=SYMBOL, orderId=order["orderId"]))["status"] == "CANCELED"
    assert (await one.ws_get_account())["canTrade"]


async def main() -> None:
    seller, buyer = await client("seller"), await client("buyer")
    try:
        await public(seller)
        await book_and_account(seller, buyer)
        await history(buyer)
        await over_the_socket(buyer)
        refused = 0
        try:
            await buyer.stream_get_listen_key()
        except BinanceAPIException as error:
            refused = error.code
        assert refused == -1102, "a listen key has to be asked for with a signature"
    finally:
        await seller.close_connection()
        await buyer.close_connection()


if __name__ == "__main__":
    asyncio.run(main())
