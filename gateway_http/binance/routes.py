"""The table of what can be asked: over REST by method and path, over the WebSocket API by name."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from gateway_http.binance.accounts import Accounts
from gateway_http.binance.asking import Asker
from gateway_http.binance.listen_keys import ListenKeys
from gateway_http.binance.market_data import MarketData
from gateway_http.binance.parameters import Params
from gateway_http.binance.trading import Trading

PREFIX: Final = "/api/v3/"

Public = Callable[[Params], Awaitable[Any]]
Private = Callable[[Params, Asker], Awaitable[Any]]


class Route(NamedTuple):
    """One thing that can be asked.

    Attributes:
        method: of HTTP.
        path: of its URL.
        name: its method's over the WebSocket API; "": it is not there.
        weight: what it counts for.
        public: what answers everybody.
        private: what answers those who say who they are.
        orders: how many orders it places.
    """

    method: str
    path: str
    name: str
    weight: int
    public: Public | None = None
    private: Private | None = None
    orders: int = 0


def table(data: MarketData, trading: Trading, accounts: Accounts, keys: ListenKeys) -> list[Route]:
    """All routes. The weights are Binance's, as far as they do not depend on parameters."""

    def public(path: str, name: str, weight: int, answer: Public) -> Route:
        return Route("GET", PREFIX + path, name, weight, public=answer)

    def private(method: str, path: str, name: str, weight: int, answer: Private, orders: int = 0) -> Route:
        return Route(method, PREFIX + path, name, weight, private=answer, orders=orders)

    return [
        public("ping", "ping", 1, data.ping),
        public("time", "time", 1, data.time),
        public("exchangeInfo", "exchangeInfo", 20, data.exchange_info),
        public("depth", "depth", 5, data.depth),
        public("trades", "trades.recent", 25, data.trades),
        public("historicalTrades", "trades.historical", 25, data.historical_trades),
        public("aggTrades", "trades.aggregate", 4, data.aggregate_trades),
        public("klines", "klines", 2, data.candles),
        public("uiKlines", "uiKlines", 2, data.candles),
        public("avgPrice", "avgPrice", 2, data.average_price),
        public("ticker/24hr", "ticker.24hr", 2, data.day),
        public("ticker/price", "ticker.price", 2, data.prices),
        public("ticker/bookTicker", "ticker.book", 2, data.quotes),
        private("POST", "order", "order.place", 1, trading.place, 1),
        private("POST", "order/test", "order.test", 1, trading.test),
        private("GET", "order", "order.status", 4, trading.find),
        private("DELETE", "order", "order.cancel", 1, trading.cancel),
        private("POST", "order/cancelReplace", "order.cancelReplace", 1, trading.cancel_replace, 1),
        private("GET", "openOrders", "openOrders.status", 6, accounts.open_orders),
        private("DELETE", "openOrders", "openOrders.cancelAll", 1, trading.cancel_all),
        private("GET", "allOrders", "allOrders", 20, accounts.all_orders),
        private("POST", "order/oco", "orderList.place", 1, trading.old_oco, 2),
        private("POST", "orderList/oco", "orderList.place.oco", 1, trading.oco, 2),
        private("POST", "orderList/oto", "orderList.place.oto", 1, trading.oto, 2),
        private("POST", "orderList/otoco", "orderList.place.otoco", 1, trading.otoco, 3),
        private("DELETE", "orderList", "orderList.cancel", 1, trading.cancel_list),
        private("GET", "account", "account.status", 20, accounts.account),
        private("GET", "account/commission", "account.commission", 20, accounts.commission),
        private("GET", "myTrades", "myTrades", 20, accounts.trades),
        private("POST", "userDataStream", "userDataStream.start", 2, keys.make),
        Route("PUT", f"{PREFIX}userDataStream", "userDataStream.ping", 2, public=keys.keep),
        Route("DELETE", f"{PREFIX}userDataStream", "userDataStream.stop", 2, public=keys.end),
    ]
