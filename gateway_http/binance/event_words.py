"""What market streams tell, in Binance's words."""

from collections.abc import Iterable
from typing import Any

from clearbook.v1 import book_service_pb2 as book_pb

from gateway_http.binance.market_words import buyer_is_maker, mean_price
from gateway_http.binance.numbers import padded

Words = dict[str, Any]
Level = tuple[str, str]


def levels(side: Iterable[Level]) -> list[Level]:
    """Prices and quantities, padded."""
    return [(padded(price), padded(quantity)) for price, quantity in side]


def depth_words(symbol: str, now: int, first: int, last: int, bids: Iterable[Level], asks: Iterable[Level]) -> Words:
    """What has changed of a book."""
    return {
        "e": "depthUpdate",
        "E": now,
        "s": symbol,
        "U": first,
        "u": last,
        "b": levels(bids),
        "a": levels(asks),
    }


def partial_words(last: int, bids: Iterable[Level], asks: Iterable[Level]) -> Words:
    """The best levels of a book."""
    return {"lastUpdateId": last, "bids": levels(bids), "asks": levels(asks)}


def quote_words(symbol: str, last: int, bid: Level, ask: Level) -> Words:
    """The best bid and ask."""
    return {
        "u": last,
        "s": symbol,
        "b": padded(bid[0]),
        "B": padded(bid[1]),
        "a": padded(ask[0]),
        "A": padded(ask[1]),
    }


def trade_event(symbol: str, now: int, trade: book_pb.Trade) -> Words:
    """A trade."""
    return {
        "e": "trade",
        "E": now,
        "s": symbol,
        "t": trade.trade_id,
        "p": padded(trade.price),
        "q": padded(trade.quantity),
        "T": trade.event_time.ToMilliseconds(),
        "m": buyer_is_maker(trade),
        "M": True,
    }


def aggregate_event(symbol: str, now: int, trade: book_pb.Trade) -> Words:
    """A trade, as an aggregate of itself."""
    words = trade_event(symbol, now, trade) | {"e": "aggTrade", "f": trade.trade_id, "l": trade.trade_id}
    words["a"] = words.pop("t")
    return words


def candle_event(symbol: str, now: int, interval: str, candle: book_pb.Candle) -> Words:
    """A candle as it is now."""
    body = {
        "t": candle.start_time.ToMilliseconds(),
        "T": candle.end_time.ToMilliseconds() - 1,
        "s": symbol,
        "i": interval,
        "f": candle.first_trade_id or -1,
        "L": candle.last_trade_id or -1,
        "o": padded(candle.open),
        "c": padded(candle.close),
        "h": padded(candle.high),
        "l": padded(candle.low),
        "v": padded(candle.volume),
        "n": candle.trade_count,
        "x": candle.closed,
        "q": padded(candle.quote_volume),
        "V": padded(candle.taker_buy_volume),
        "Q": padded(candle.taker_buy_quote_volume),
        "B": "0",
    }
    return {"e": "kline", "E": now, "s": symbol, "k": body}


def mini_event(symbol: str, now: int, ticker: book_pb.Ticker) -> Words:
    """The last 24 hours in short."""
    return {
        "e": "24hrMiniTicker",
        "E": now,
        "s": symbol,
        "c": padded(ticker.last_price),
        "o": padded(ticker.open_price),
        "h": padded(ticker.high_price),
        "l": padded(ticker.low_price),
        "v": padded(ticker.volume),
        "q": padded(ticker.quote_volume),
    }


def ticker_event(symbol: str, now: int, ticker: book_pb.Ticker) -> Words:
    """The last 24 hours."""
    return mini_event(symbol, now, ticker) | {
        "e": "24hrTicker",
        "p": padded(ticker.price_change),
        "P": ticker.price_change_percent or "0.000",
        "w": mean_price(ticker),
        "x": padded(ticker.previous_close_price),
        "Q": padded(ticker.last_quantity),
        "b": padded(ticker.bid_price),
        "B": padded(ticker.bid_quantity),
        "a": padded(ticker.ask_price),
        "A": padded(ticker.ask_quantity),
        "O": ticker.open_time.ToMilliseconds(),
        "C": ticker.close_time.ToMilliseconds(),
        "F": ticker.first_trade_id if ticker.trade_count else -1,
        "L": ticker.last_trade_id if ticker.trade_count else -1,
        "n": ticker.trade_count,
    }
