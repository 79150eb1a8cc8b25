"""Names of market streams, as in btcusd@depth@100ms, and what they mean."""

import re
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from gateway_http.binance.market_words import INTERVALS
from gateway_http.binance.symbols import Symbols

SLOW_MS, FAST_MS = 1_000, 100
NAME_CHARS_MAX: Final = 80
PARTIAL_DEPTHS: Final = (5, 10, 20)


class Kind(Enum):
    """What a stream tells."""

    DEPTH = "depth"
    PARTIAL = "partial"
    QUOTE = "bookTicker"
    TRADE = "trade"
    AGGREGATE = "aggTrade"
    CANDLE = "kline"
    TICKER = "ticker"
    MINI = "miniTicker"


OF_BOOK: Final = frozenset({Kind.DEPTH, Kind.PARTIAL, Kind.QUOTE})
OF_TRADES: Final = frozenset({Kind.TRADE, Kind.AGGREGATE})
ALL: Final = MappingProxyType({"!ticker@arr": Kind.TICKER, "!miniTicker@arr": Kind.MINI})


class Stream(NamedTuple):
    """A market stream.

    Attributes:
        name: as it was asked for.
        kind: what it tells.
        symbol: of which market; "": of all.
        milliseconds: how often, at most.
        levels: PARTIAL: how many a side.
        interval: CANDLE: Binance's name of it.
    """

    name: str
    kind: Kind
    symbol: str = ""
    milliseconds: int = SLOW_MS
    levels: int = 0
    interval: str = ""


_BY_WORD: Final = {kind.value: kind for kind in Kind if kind not in {Kind.DEPTH, Kind.PARTIAL, Kind.CANDLE}}
_DEPTH: Final = re.compile(r"depth(5|10|20)?(?:@(100ms|1000ms))?", re.ASCII)
_CANDLE: Final = re.compile(r"kline_(\w+)", re.ASCII)


def stream_of(name: str, symbols: Symbols) -> Stream | None:
    """The stream of a name; None: there is none."""
    if name in ALL:
        return Stream(name, ALL[name])
    lower, _, what = name[:NAME_CHARS_MAX].partition("@")
    symbol = symbols.of_stream(lower)
    if symbol is None:
        return None
    if what in _BY_WORD:
        return Stream(name, _BY_WORD[what], symbol)
    if match := _DEPTH.fullmatch(what):
        levels = int(match[1] or 0)
        milliseconds = FAST_MS if match[2] == "100ms" else SLOW_MS
        return Stream(name, Kind.PARTIAL if levels else Kind.DEPTH, symbol, milliseconds, levels)
    match = _CANDLE.fullmatch(what)
    if match is not None and match[1] in INTERVALS:
        return Stream(name, Kind.CANDLE, symbol, interval=match[1])
    return None
