"""Markets, trades, tickers and candles in Binance's words."""

from types import MappingProxyType
from typing import Any, Final

from clearbook.v1 import book_service_pb2 as book_pb

from gateway_http.binance.numbers import decimals_of, multiplier, padded, product, quotient
from gateway_http.binance.order_words import PREVENTIONS, TYPES

LOTS_MAX: Final = str(2**63 - 1)
"""Of lots and of ticks: what the engine can count."""
ASSET_PRECISION: Final = 8
STATUSES: Final = MappingProxyType(
    {
        book_pb.MARKET_STATE_OPEN: "TRADING",
        book_pb.MARKET_STATE_HALTED: "HALT",
        book_pb.MARKET_STATE_PRE_OPEN: "PRE_TRADING",
        book_pb.MARKET_STATE_CLOSED: "BREAK",
    }
)
INTERVALS: Final = MappingProxyType(
    {
        "1s": book_pb.CANDLE_INTERVAL_1_SECOND,
        "1m": book_pb.CANDLE_INTERVAL_1_MINUTE,
        "3m": book_pb.CANDLE_INTERVAL_3_MINUTES,
        "5m": book_pb.CANDLE_INTERVAL_5_MINUTES,
        "15m": book_pb.CANDLE_INTERVAL_15_MINUTES,
        "30m": book_pb.CANDLE_INTERVAL_30_MINUTES,
        "1h": book_pb.CANDLE_INTERVAL_1_HOUR,
        "2h": book_pb.CANDLE_INTERVAL_2_HOURS,
        "4h": book_pb.CANDLE_INTERVAL_4_HOURS,
        "6h": book_pb.CANDLE_INTERVAL_6_HOURS,
        "8h": book_pb.CANDLE_INTERVAL_8_HOURS,
        "12h": book_pb.CANDLE_INTERVAL_12_HOURS,
        "1d": book_pb.CANDLE_INTERVAL_1_DAY,
        "3d": book_pb.CANDLE_INTERVAL_3_DAYS,
        "1w": book_pb.CANDLE_INTERVAL_1_WEEK,
        "1M": book_pb.CANDLE_INTERVAL_1_MONTH,
    }
)


def filters(market: book_pb.Market) -> list[dict[str, Any]]:
    """What orders of a market have to be."""
    rules = market.rules
    found: list[dict[str, Any]] = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": padded(market.tick_size),
            "maxPrice": product(market.tick_size, LOTS_MAX),
            "tickSize": padded(market.tick_size),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": padded(rules.quantity_min or market.lot_size),
            "maxQty": padded(rules.quantity_max) if rules.quantity_max else product(market.lot_size, LOTS_MAX),
            "stepSize": padded(market.lot_size),
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": padded(market.notional_min),
            "applyMinToMarket": False,
            "maxNotional": padded(rules.notional_max) if rules.notional_max else product(market.tick_size, LOTS_MAX),
            "applyMaxToMarket": bool(rules.notional_max),
            "avgPriceMins": 0,
        },
    ]
    if band := rules.price_band_basis_points:
        up, down = multiplier(band), multiplier(-band)
        found.append(
            {
                "filterType": "PERCENT_PRICE_BY_SIDE",
                "bidMultiplierUp": up,
                "bidMultiplierDown": down,
                "askMultiplierUp": up,
                "askMultiplierDown": down,
                "avgPriceMins": 0,
            }
        )
    if rules.open_orders_max:
        found.append({"filterType": "MAX_NUM_ORDERS", "maxNumOrders": rules.open_orders_max})
    return found


def market_words(symbol: str, market: book_pb.Market) -> dict[str, Any]:
    """A market as exchangeInfo tells it."""
    return {
        "symbol": symbol,
        "status": STATUSES.get(market.state, "BREAK"),
        "baseAsset": market.base_asset,
        "baseAssetPrecision": max(ASSET_PRECISION, decimals_of(market.lot_size)),
        "quoteAsset": market.quote_asset,
        "quotePrecision": max(ASSET_PRECISION, decimals_of(market.tick_size)),
        "quoteAssetPrecision": max(ASSET_PRECISION, decimals_of(market.tick_size)),
        "baseCommissionPrecision": ASSET_PRECISION,
        "quoteCommissionPrecision": ASSET_PRECISION,
        "orderTypes": list(TYPES),
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters(market),
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_TAKER",
        "allowedSelfTradePreventionModes": list(PREVENTIONS),
    }


def buyer_is_maker(trade: book_pb.Trade) -> bool:
    """Whether the order that was there first bought."""
    return trade.taker_side == book_pb.TAKER_SIDE_SELL


def trade_words(trade: book_pb.Trade) -> dict[str, Any]:
    """A trade as GET /api/v3/trades tells it."""
    return {
        "id": trade.trade_id,
        "price": padded(trade.price),
        "qty": padded(trade.quantity),
        "quoteQty": product(trade.price, trade.quantity),
        "time": trade.event_time.ToMilliseconds(),
        "isBuyerMaker": buyer_is_maker(trade),
        "isBestMatch": True,
    }


def aggregate_words(trade: book_pb.Trade) -> dict[str, Any]:
    """A trade as GET /api/v3/aggTrades tells it: each is told by itself."""
    return {
        "a": trade.trade_id,
        "p": padded(trade.price),
        "q": padded(trade.quantity),
        "f": trade.trade_id,
        "l": trade.trade_id,
        "T": trade.event_time.ToMilliseconds(),
        "m": buyer_is_maker(trade),
        "M": True,
    }


def candle_words(candle: book_pb.Candle) -> list[Any]:
    """A candle as GET /api/v3/klines tells it."""
    return [
        candle.start_time.ToMilliseconds(),
        padded(candle.open),
        padded(candle.high),
        padded(candle.low),
        padded(candle.close),
        padded(candle.volume),
        candle.end_time.ToMilliseconds() - 1,
        padded(candle.quote_volume),
        candle.trade_count,
        padded(candle.taker_buy_volume),
        padded(candle.taker_buy_quote_volume),
        "0",
    ]


def mean_price(ticker: book_pb.Ticker) -> str:
    """What a unit cost on average in the ticker's window."""
    return quotient(ticker.quote_volume or "0", ticker.volume or "0")


def ticker_words(symbol: str, ticker: book_pb.Ticker, *, full: bool) -> dict[str, Any]:
    """A ticker as GET /api/v3/ticker/24hr tells it: FULL or MINI."""
    words = {
        "symbol": symbol,
        "openPrice": padded(ticker.open_price),
        "highPrice": padded(ticker.high_price),
        "lowPrice": padded(ticker.low_price),
        "lastPrice": padded(ticker.last_price),
        "volume": padded(ticker.volume),
        "quoteVolume": padded(ticker.quote_volume),
        "openTime": ticker.open_time.ToMilliseconds(),
        "closeTime": ticker.close_time.ToMilliseconds(),
        "firstId": ticker.first_trade_id if ticker.trade_count else -1,
        "lastId": ticker.last_trade_id if ticker.trade_count else -1,
        "count": ticker.trade_count,
    }
    if not full:
        return words
    return words | {
        "priceChange": padded(ticker.price_change),
        "priceChangePercent": ticker.price_change_percent or "0.000",
        "weightedAvgPrice": mean_price(ticker),
        "prevClosePrice": padded(ticker.previous_close_price),
        "lastQty": padded(ticker.last_quantity),
        "bidPrice": padded(ticker.bid_price),
        "bidQty": padded(ticker.bid_quantity),
        "askPrice": padded(ticker.ask_price),
        "askQty": padded(ticker.ask_quantity),
    }
