"""Symbols as Binance has them, and the markets that they mean: BTCUSD is BTC-USD."""

from collections.abc import Iterable
from typing import Final

from clearbook.v1 import book_service_pb2 as book_pb

from gateway_http.binance.refusals import BAD_SYMBOL, ILLEGAL_CHARS, Refused, missing

SYMBOL_CHARS_MAX: Final = 64


class Symbols:
    """Markets by symbol.

    A symbol is the market's name without its dash. Where two markets would share one (AB-C and A-BC), each has its name
    as it is: no order may land in a market that was not meant.
    """

    def __init__(self, markets: Iterable[book_pb.Market]) -> None:
        """The markets as BookService lists them."""
        sharing: dict[str, list[book_pb.Market]] = {}
        for market in markets:
            sharing.setdefault(market.market.replace("-", ""), []).append(market)
        self.markets: dict[str, book_pb.Market] = {}
        self.names: dict[str, str] = {}
        for short, same in sharing.items():
            for market in same:
                symbol = short if len(same) == 1 else market.market
                self.markets[symbol] = market
                self.names[market.market] = symbol
        self._of_streams = {symbol.lower(): symbol for symbol in self.markets}

    def market(self, symbol: str) -> book_pb.Market:
        """The market of a symbol. Raises Refused: there is none."""
        if not symbol:
            raise missing("symbol")
        found = self.markets.get(symbol)
        if found is None:
            if not (symbol.isascii() and len(symbol) <= SYMBOL_CHARS_MAX and symbol.isprintable()):
                raise Refused(ILLEGAL_CHARS, "Illegal characters found in parameter 'symbol'.")
            raise Refused(BAD_SYMBOL, "Invalid symbol.")
        return found

    def of_stream(self, name: str) -> str | None:
        """The symbol that a stream names in lower case; None: there is none."""
        return self._of_streams.get(name)

    def symbol(self, market: str) -> str:
        """The symbol of a market; of one that is not known yet, as it would be."""
        return self.names.get(market) or market.replace("-", "")
