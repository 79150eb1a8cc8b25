"""Binance's own SDK, unchanged: REST, the WebSocket API, and market streams."""

import asyncio
from typing import Any

from binance_sdk_spot.spot import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
    Spot,
)

from tests.clients.given import STREAMS, SYMBOL, URL, credentials

SECONDS_MAX = 20.0
LIMIT: dict[str, Any] = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "time_in_force": "GTC", "quantity": 0.01}


def client() -> Any:
    key, secret = credentials("buyer")
    return Spot(
        config_rest_api=ConfigurationRestAPI(api_key=key, api_secret=secret, base_path=URL),
        config_ws_api=ConfigurationWebSocketAPI(api_key=key, api_secret=secret, stream_url=f"{STREAMS}/ws-api/v3"),
        config_ws_streams=ConfigurationWebSocketStreams(stream_url=STREAMS),
    )


def rest(spot: Any) -> None:
    api = spot.rest_api
    assert api.exchange_info(symbol=SYMBOL).data().symbols[0].status == "TRADING"
    answer = api.new_order(**LIMIT, price=20000)
    placed = answer.data()
    assert placed.status == "NEW"
    counts = {(limit.rateLimitType, limit.interval): limit.count for limit in answer.rate_limits}
    assert counts["ORDERS", "SECOND"] == 1
    assert counts["REQUEST_WEIGHT", "MINUTE"] > 0
    api.order_test(**LIMIT, price=20000)
    assert [order.order_id for order in api.get_open_orders(symbol=SYMBOL).data()] == [placed.order_id]
    assert api.get_order(SYMBOL, order_id=placed.order_id).data().price == "20000.00000000"
    assert len(api.depth(SYMBOL).data().bids) == 1
    assert api.get_account().data().can_trade
    assert len(api.delete_open_orders(SYMBOL).data()) == 1


async def sockets(spot: Any) -> None:
    api = await spot.websocket_api.create_connection()
    placed = (await api.order_place(**LIMIT, price=20000)).data().result
    assert placed.status == "NEW"
    assert len((await api.open_orders_status(symbol=SYMBOL)).data().result) == 1
    streams = await spot.websocket_streams.create_connection()
    seen: asyncio.Queue[Any] = asyncio.Queue()
    stream = await streams.partial_book_depth(symbol=SYMBOL.lower(), levels=5)
    stream.on("message", seen.put_nowait)
    await api.open_orders_cancel_all(symbol=SYMBOL)
    async with asyncio.timeout(SECONDS_MAX):
        while (await seen.get()).bids:
            pass
    await streams.close_connection(close_session=True)
    await api.close_connection(close_session=True)


if __name__ == "__main__":
    made = client()
    rest(made)
    asyncio.run(sockets(made))
