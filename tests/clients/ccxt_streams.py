"""ccxt.pro, unchanged, watches Clearbook as if it were Binance while two users trade there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import ccxt.pro

from tests.clients.given import PAIR, STREAMS, URL, credentials, nowhere

SECONDS_MAX = 30.0


async def client(user: str) -> Any:
    key, secret = credentials(user)
    options = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}
    made = ccxt.pro.binance({"apiKey": key, "secret": secret, "options": options, "enableRateLimit": False})
    made.urls["api"] = nowhere(made.urls["api"]) | {"public": f"{URL}/api/v3", "private": f"{URL}/api/v3"}
    made.urls["api"]["ws"] |= {"spot": f"{STREAMS}/ws"}
    made.urls["api"]["ws"]["ws-api"] |= {"spot": f"{STREAMS}/ws-api/v3"}
    await made.load_markets()
    return made


async def until(holds: Callable[[Any], object], watch: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """What is watched, as soon as it is as it should be."""
    async with asyncio.timeout(SECONDS_MAX):
        while not holds(seen := await watch(*args)):
            pass
    return seen


async def trade(seller: Any, buyer: Any) -> None:
    """Rests, trades in part, is canceled; then again, until everybody has seen something."""
    for step in range(100):
        order = await seller.create_order(PAIR, "limit", "sell", 0.2, 30000 + step)
        await buyer.create_order(PAIR, "limit", "buy", 0.1, 30000 + step)
        await asyncio.sleep(0.3)  # a book told every 100 ms shows what is there for longer
        await seller.cancel_order(order["id"], PAIR)


async def watch(seller: Any, buyer: Any) -> None:
    base = PAIR.partition("/")[0]
    _, _, trades, orders, mine, balance, ticker, candles, quotes = await asyncio.gather(
        buyer.watch_order_book(PAIR),
        until(
            lambda book: [size for price, size in book["asks"] if price >= 30000] == [0.1],
            seller.watch_order_book,
            PAIR,
        ),
        until(len, seller.watch_trades, PAIR),
        until(lambda orders: any(order["status"] == "canceled" for order in orders), seller.watch_orders, PAIR),
        until(len, buyer.watch_my_trades, PAIR),
        until(lambda balance: balance.get(base, {}).get("free", 0) > 0, buyer.watch_balance),
        until(lambda ticker: ticker["last"], seller.watch_ticker, PAIR),
        until(len, seller.watch_ohlcv, PAIR, "1m"),
        until(lambda quotes: quotes[PAIR]["ask"], seller.watch_bids_asks, [PAIR]),
    )
    assert (trades[-1]["amount"], trades[-1]["side"], trades[-1]["symbol"]) == (0.1, "buy", PAIR)
    assert {order["symbol"] for order in orders} == {PAIR}
    assert (mine[-1]["amount"], mine[-1]["takerOrMaker"], mine[-1]["fee"]["currency"]) == (0.1, "taker", base)
    assert balance[base]["used"] == 0
    assert ticker["last"] >= 30000
    assert candles[-1][5] > 0
    assert quotes[PAIR]["askVolume"] > 0


async def over_the_socket(buyer: Any) -> None:
    """Orders over the WebSocket API."""
    order = await buyer.create_order_ws(PAIR, "limit", "buy", 0.05, 20000)
    assert order["status"] == "open"
    assert (await buyer.fetch_order_ws(order["id"], PAIR))["price"] == 20000
    assert [each["id"] for each in await buyer.fetch_open_orders_ws(PAIR)] == [order["id"]]
    assert (await buyer.cancel_order_ws(order["id"], PAIR))["status"] == "canceled"


async def main() -> None:
    seller, buyer = await client("seller"), await client("buyer")
    try:
        trading = asyncio.create_task(trade(seller, buyer))
        await watch(seller, buyer)
        trading.cancel()
        await asyncio.wait([trading])
        await seller.cancel_all_orders(PAIR) if await seller.fetch_open_orders(PAIR) else None
        await over_the_socket(buyer)
        tickers = await buyer.fetch_tickers([PAIR])
        assert tickers[PAIR]["baseVolume"] > 0
        assert (await buyer.fetch_ticker(PAIR))["last"] >= 30000
        assert (await buyer.fetch_ohlcv(PAIR, "1m"))[-1][5] > 0
        assert PAIR in await buyer.fetch_bids_asks()
        assert (await buyer.fetch_last_prices([PAIR]))[PAIR]["price"] >= 30000
    finally:
        await seller.close()
        await buyer.close()


if __name__ == "__main__":
    asyncio.run(main())
