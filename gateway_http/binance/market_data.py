"""What everybody may ask: the exchange, its markets, books, trades, candles and tickers."""

import time
from typing import Any, Final

from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import book_service_pb2_grpc as services
from google.protobuf.timestamp_pb2 import Timestamp

from gateway_http.binance.market_words import (
    INTERVALS,
    aggregate_words,
    candle_words,
    market_words,
    ticker_words,
    trade_words,
)
from gateway_http.binance.markets import Markets
from gateway_http.binance.numbers import padded, quotient, total
from gateway_http.binance.parameters import Params
from gateway_http.binance.refusals import BAD_COMBINATION, BAD_INTERVAL, Refused, not_valid
from gateway_http.book_service import LOOK_UP_SECONDS_MAX, asked
from gateway_http.feeds import Feeds

DEPTH_DEFAULT, DEPTH_MAX = 100, 5_000
TRADES_DEFAULT, TRADES_MAX = 500, 1_000
CANDLES_DEFAULT, CANDLES_MAX = 500, 1_000
AVERAGE_MINUTES: Final = 5
MILLISECONDS_MAX: Final = 253_402_300_799_000
"""The end of the year 9999: protobuf's times end there."""
NS_PER_MS: Final = 10**6
MS_PER_MINUTE: Final = 60_000
ZONE: Final = "0"
UTC: Final = frozenset({"0", "00:00", "+0", "+00:00", "-00:00"})

Words = dict[str, Any]


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // NS_PER_MS


def stamp(milliseconds: int) -> Timestamp:
    """A time of the wire."""
    made = Timestamp()
    made.FromMilliseconds(milliseconds)
    return made


class MarketData:
    """Answers from BookService, and from the books that the shim keeps."""

    def __init__(
        self, stub: "services.BookServiceAsyncStub", markets: Markets, feeds: Feeds, weight_a_minute: int
    ) -> None:
        """`stub` of BookService; `weight_a_minute`: what an address may ask for, as exchangeInfo tells it."""
        self._stub, self._markets, self._feeds, self._weight = stub, markets, feeds, weight_a_minute

    async def ping(self, _params: Params) -> Words:
        """Nothing, but it is there."""
        return {}

    async def time(self, _params: Params) -> Words:
        """What time it is."""
        return {"serverTime": now_ms()}

    async def exchange_info(self, params: Params) -> Words:
        """The markets, and what orders have to be in each."""
        symbols = await self._markets.symbols()
        one, some = params.optional("symbol"), params.texts("symbols")
        params.optional("permissions")
        params.flag("showPermissionSets")
        status = params.optional("symbolStatus")
        params.done()
        if one and some:
            raise Refused(BAD_COMBINATION, "Combination of optional parameters invalid.")
        wanted = [one] if one else some
        shown = {name: symbols.market(name) for name in wanted} if wanted else symbols.markets
        listed = [market_words(name, market) for name, market in shown.items()]
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self._weight}
        return {
            "timezone": "UTC",
            "serverTime": now_ms(),
            "rateLimits": [weight],
            "exchangeFilters": [],
            "symbols": [words for words in listed if status in {"", words["status"]}],
        }

    async def depth(self, params: Params) -> Words:
        """A book as it is. Its lastUpdateId is the `u` of the change that came last."""
        market = await self._market(params)
        limit = params.limit(DEPTH_DEFAULT, DEPTH_MAX)
        params.optional("symbolStatus")
        params.done()
        book = await (await self._feeds.feed(market.market)).current()
        bids, asks = book.top(limit)
        return {
            "lastUpdateId": book.sequence,
            "bids": [(padded(price), padded(quantity)) for price, quantity in bids],
            "asks": [(padded(price), padded(quantity)) for price, quantity in asks],
        }

    async def trades(self, params: Params) -> list[Words]:
        """The newest trades, oldest of them first."""
        market = await self._market(params)
        request = book_pb.ListTradesRequest(market=market.market, page_size=params.limit(TRADES_DEFAULT, TRADES_MAX))
        params.done()
        found = await asked(self._stub.ListTrades(request, timeout=LOOK_UP_SECONDS_MAX))
        return [trade_words(trade) for trade in reversed(found.trades)]

    async def historical_trades(self, params: Params) -> list[Words]:
        """Trades from one on; else the newest."""
        if "fromId" not in params:
            return await self.trades(params)
        market = await self._market(params)
        request = book_pb.ListTradesRequest(
            market=market.market, page_size=params.limit(TRADES_DEFAULT, TRADES_MAX), oldest_first=True
        )
        request.from_trade_id = max(params.integer("fromId"), 1)
        params.done()
        found = await asked(self._stub.ListTrades(request, timeout=LOOK_UP_SECONDS_MAX))
        return [trade_words(trade) for trade in found.trades]

    async def aggregate_trades(self, params: Params) -> list[Words]:
        """Trades from one or from a time on, or up to a time; else the newest. Each is told by itself."""
        market = await self._market(params)
        request = book_pb.ListTradesRequest(market=market.market, page_size=params.limit(TRADES_DEFAULT, TRADES_MAX))
        start, end = _times(params)
        if "fromId" in params:
            if start is not None or end is not None:
                raise Refused(BAD_COMBINATION, "Combination of optional parameters invalid.")
            request.oldest_first, request.from_trade_id = True, max(params.integer("fromId"), 1)
        elif start is not None:
            request.oldest_first = True
            request.from_time.CopyFrom(stamp(start))
        elif end is not None:
            request.from_time.CopyFrom(stamp(end))
        params.done()
        found = list((await asked(self._stub.ListTrades(request, timeout=LOOK_UP_SECONDS_MAX))).trades)
        if not request.oldest_first:
            found.reverse()
        last = MILLISECONDS_MAX if end is None else end
        return [aggregate_words(trade) for trade in found if trade.event_time.ToMilliseconds() <= last]

    async def candles(self, params: Params) -> list[list[Any]]:
        """Candles of a market: from a time on, or up to one, or the newest; oldest of them first."""
        market = await self._market(params)
        interval = INTERVALS.get(params.text("interval"))
        if interval is None:
            raise Refused(BAD_INTERVAL, "Invalid interval.")
        if (params.optional("timeZone") or ZONE) not in UTC:
            raise not_valid("timeZone")
        request = book_pb.ListCandlesRequest(
            market=market.market, interval=interval, page_size=params.limit(CANDLES_DEFAULT, CANDLES_MAX)
        )
        start, end = _times(params)
        params.done()
        if start is not None:
            request.oldest_first = True
            request.start_time.CopyFrom(stamp(start))
        if end is not None:
            request.end_time.CopyFrom(stamp(end + 1))  # Binance's is the last moment, ours the one after it
        found = [candle_words(each) for each in (await self._candles(request)).candles]
        return found if request.oldest_first else found[::-1]

    async def average_price(self, params: Params) -> Words:
        """What a unit cost on average in the last five minutes; if nothing was traded, the last price."""
        market = await self._market(params)
        params.done()
        request = book_pb.ListCandlesRequest(
            market=market.market, interval=book_pb.CANDLE_INTERVAL_1_MINUTE, page_size=AVERAGE_MINUTES
        )
        request.start_time.CopyFrom(stamp(now_ms() - AVERAGE_MINUTES * MS_PER_MINUTE))
        found = (await self._candles(request)).candles
        volume = total(*(each.volume or "0" for each in found))
        price = quotient(total(*(each.quote_volume or "0" for each in found)), volume)
        ticker = await self._ticker(market.market)
        if volume == padded("0"):
            price = padded(ticker.last_price)
        return {"mins": AVERAGE_MINUTES, "price": price, "closeTime": ticker.last_trade_time.ToMilliseconds()}

    async def day(self, params: Params) -> Any:
        """The last 24 hours of one market, of some or of all."""
        kind = params.optional("type") or "FULL"
        if kind not in {"FULL", "MINI"}:
            raise not_valid("type")
        return await self._each(params, lambda symbol, ticker: ticker_words(symbol, ticker, full=kind == "FULL"))

    async def prices(self, params: Params) -> Any:
        """The last price of one market, of some or of all."""
        return await self._each(params, lambda symbol, ticker: {"symbol": symbol, "price": padded(ticker.last_price)})

    async def quotes(self, params: Params) -> Any:
        """The best bid and ask of one market, of some or of all."""
        return await self._each(
            params,
            lambda symbol, ticker: {
                "symbol": symbol,
                "bidPrice": padded(ticker.bid_price),
                "bidQty": padded(ticker.bid_quantity),
                "askPrice": padded(ticker.ask_price),
                "askQty": padded(ticker.ask_quantity),
            },
        )

    async def _each(self, params: Params, words: Any) -> Any:
        symbols = await self._markets.symbols()
        one, some = params.optional("symbol"), params.texts("symbols")
        params.optional("symbolStatus")
        params.done()
        if one and some:
            raise Refused(BAD_COMBINATION, "Combination of optional parameters invalid.")
        if one:
            return words(one, await self._ticker(symbols.market(one).market))
        named = [symbols.market(name).market for name in some]
        request = book_pb.ListTickersRequest(markets=named)
        found = (await asked(self._stub.ListTickers(request, timeout=LOOK_UP_SECONDS_MAX))).tickers
        return [words(symbols.symbol(ticker.market), ticker) for ticker in found]

    async def _market(self, params: Params) -> book_pb.Market:
        return (await self._markets.symbols()).market(params.optional("symbol"))

    async def _ticker(self, market: str) -> book_pb.Ticker:
        request = book_pb.GetTickerRequest(market=market)
        return (await asked(self._stub.GetTicker(request, timeout=LOOK_UP_SECONDS_MAX))).ticker

    async def _candles(self, request: book_pb.ListCandlesRequest) -> book_pb.ListCandlesResponse:
        return await asked(self._stub.ListCandles(request, timeout=LOOK_UP_SECONDS_MAX))


def _times(params: Params) -> tuple[int | None, int | None]:
    """Milliseconds of startTime and endTime, where they are there."""
    start, end = (
        params.integer(name, most=MILLISECONDS_MAX - 1) if name in params else None for name in ("startTime", "endTime")
    )
    return start, end
