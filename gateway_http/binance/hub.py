"""Market streams and who reads them: each source is read once, however many sockets want it, while any does."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import book_service_pb2_grpc as services

from gateway_http.binance.changes import Changes
from gateway_http.binance.event_words import (
    aggregate_event,
    candle_event,
    depth_words,
    mini_event,
    partial_words,
    quote_words,
    ticker_event,
    trade_event,
)
from gateway_http.binance.market_data import now_ms
from gateway_http.binance.market_words import INTERVALS
from gateway_http.binance.markets import Markets
from gateway_http.binance.outbox import Frame, Outbox
from gateway_http.binance.stream_names import ALL, OF_BOOK, OF_TRADES, Kind, Stream
from gateway_http.binance.symbols import Symbols
from gateway_http.fanout import Fanout
from gateway_http.feeds import BOOK_SECONDS_MAX, Feed, Feeds
from gateway_http.turns import Turns
from services.errors import Reason, Rejected
from services.runtime import rpc
from services.runtime.run import Closing
from services.runtime.streams import reconnecting

SOURCES_MAX: Final = rpc.CONCURRENT_STREAMS_MAX
"""One connection carries them all."""
RECONNECT_SECONDS_MAX: Final = 1.0
MS_PER_SECOND: Final = 1_000
NOTHING: Final = ("", "")
TICKERS: Final = ("tickers",)

Publish = Callable[[str, Any], None]
"""(a stream's name, what it tells): to those who read it."""


class Topics:
    """Who reads which stream."""

    def __init__(self) -> None:
        """Nobody reads anything yet."""
        self.readers: dict[str, Fanout[Frame]] = {}
        self.last: dict[str, Frame] = {}
        """Of streams whose last message is still true when somebody comes later."""

    def publish(self, name: str, words: Any, *, stays_true: bool = False) -> None:
        """Tells those who read a stream."""
        if readers := self.readers.get(name):
            frame = Frame(name, words)
            if stays_true:
                self.last[name] = frame
            readers.tell(frame)


class BookSource:
    """A market's book: its changes as they are told every so often, its best levels, its quote."""

    def __init__(self, feed: Feed, symbol: str, topics: Topics) -> None:
        """`feed`: the book that the shim keeps."""
        self._feed, self._symbol, self._topics = feed, symbol, topics
        self._depths: dict[Stream, Changes] = {}
        self._timers: dict[Stream, asyncio.TimerHandle] = {}
        self._quotes: set[str] = set()
        self._quote = (NOTHING, NOTHING)
        feed.listeners.add(self._changed)

    def add(self, stream: Stream) -> None:
        """One more stream of it."""
        if stream.kind is Kind.QUOTE:
            self._quotes.add(stream.name)
        else:
            self._depths[stream] = Changes(self._feed.book.sequence)

    def first(self, stream: Stream) -> Any:
        """What a new reader is told at once; None: nothing."""
        book = self._feed.book
        if stream.kind is Kind.PARTIAL:
            return partial_words(book.sequence, *book.top(stream.levels))
        return quote_words(self._symbol, book.sequence, *self._best()) if stream.kind is Kind.QUOTE else None

    def drop(self, stream: Stream) -> bool:
        """One stream less; whether it was the last."""
        self._quotes.discard(stream.name)
        self._depths.pop(stream, None)
        if timer := self._timers.pop(stream, None):
            timer.cancel()
        if self._quotes or self._depths:
            return False
        self._feed.listeners.discard(self._changed)
        return True

    def _changed(self, message: book_pb.StreamOrderBookResponse) -> None:
        for stream, changes in self._depths.items():
            changes.add(message)
            if stream not in self._timers:
                self._tell_later(stream)
        if self._quotes:
            quote = self._best()
            if quote != self._quote:
                self._quote = quote
                for name in self._quotes:
                    self._topics.publish(name, quote_words(self._symbol, self._feed.book.sequence, *quote))

    def _best(self) -> tuple[tuple[str, str], tuple[str, str]]:
        bids, asks = self._feed.book.top(1)
        return (bids[0] if bids else NOTHING, asks[0] if asks else NOTHING)

    def _tell_later(self, stream: Stream) -> None:
        later = asyncio.get_running_loop().call_later
        self._timers[stream] = later(stream.milliseconds / MS_PER_SECOND, self._tell, stream)

    def _tell(self, stream: Stream) -> None:
        if not self._feed.live:  # the book is not the market's: what is to be told waits until it is
            self._tell_later(stream)
            return
        del self._timers[stream]
        changes = self._depths[stream]
        waits, (first, last, bids, asks) = changes.waits, changes.take()
        if stream.kind is Kind.PARTIAL:
            self._topics.publish(stream.name, self.first(stream))
        elif waits:
            words = depth_words(self._symbol, now_ms(), first, last, bids.items(), asks.items())
            self._topics.publish(stream.name, words)


class Followed:
    """A stream of BookService that is read while somebody reads what is made of it."""

    def __init__(self, task: "asyncio.Task[object]", begun: asyncio.Event) -> None:
        """`task`: reads it; `begun`: set once it tells what comes."""
        self._task, self._begun = task, begun
        self._names: set[str] = set()

    async def begin(self) -> None:
        """Waits until it tells what comes. Raises Rejected(UNAVAILABLE): not within the limit."""
        try:
            async with asyncio.timeout(BOOK_SECONDS_MAX):
                await self._begun.wait()
        except TimeoutError:
            raise Rejected(Reason.UNAVAILABLE, "market data is not available now; try again") from None

    def add(self, stream: Stream) -> None:
        """One more stream of it."""
        self._names.add(stream.name)

    def first(self, _stream: Stream) -> Any:
        """Nothing: what is true still, Topics has."""
        return None

    def drop(self, stream: Stream) -> bool:
        """One stream less; whether it was the last."""
        self._names.discard(stream.name)
        if not self._names:
            self._task.cancel()
        return not self._names


class Hub:
    """All market streams."""

    def __init__(
        self, stub: "services.BookServiceAsyncStub", markets: Markets, feeds: Feeds, closing: Closing, turns: Turns
    ) -> None:
        """`stub` of BookService, on a connection of its own; `turns`: of the process."""
        self._stub, self._markets, self._feeds, self._closing = stub, markets, feeds, closing
        self._topics, self._turns = Topics(), turns
        self._sources: dict[tuple[str, ...], BookSource | Followed] = {}
        self._last: dict[str, book_pb.Ticker] = {}

    async def add(self, outbox: Outbox, stream: Stream) -> None:
        """One more reader of a stream. Raises Rejected: UNAVAILABLE, OVERLOADED."""
        symbols = await self._markets.symbols()
        market = symbols.market(stream.symbol).market if stream.symbol else ""
        feed = await self._feeds.feed(market) if stream.kind in OF_BOOK else None
        if feed is not None:
            await feed.current()
        key = _source(stream)
        source = self._sources.get(key)
        if source is None:
            if len(self._sources) >= SOURCES_MAX:
                raise Rejected(Reason.OVERLOADED, "too many streams are read")
            source = BookSource(feed, stream.symbol, self._topics) if feed else self._follow(stream, market)
            self._sources[key] = source
        readers = self._topics.readers.get(stream.name)
        if readers is None:
            readers = self._topics.readers[stream.name] = Fanout[Frame](self._turns)
            source.add(stream)
        readers.add(outbox)
        self._tell_first(outbox, stream, source, symbols)
        if stream.kind in OF_TRADES and isinstance(source, Followed):
            try:
                await source.begin()  # trades of before it begins would be told to nobody
            except BaseException:
                self.drop(outbox, stream)
                raise

    def _tell_first(self, outbox: Outbox, stream: Stream, source: BookSource | Followed, symbols: Symbols) -> None:
        """What is true when somebody begins to read."""
        if (words := source.first(stream)) is not None:
            outbox.put(Frame(stream.name, words))
        elif frame := self._topics.last.get(stream.name):
            outbox.put(frame)
        elif stream.kind in {Kind.TICKER, Kind.MINI} and (words := self._ticker_words(stream, symbols)):
            outbox.put(Frame(stream.name, words))

    def drop(self, outbox: Outbox, stream: Stream) -> None:
        """One reader less."""
        readers = self._topics.readers.get(stream.name)
        if readers is None:
            return
        readers.discard(outbox)
        if not readers:
            del self._topics.readers[stream.name]
            self._topics.last.pop(stream.name, None)
            key = _source(stream)
            if self._sources[key].drop(stream):
                del self._sources[key]
                if key == TICKERS:  # nobody follows them any more: by the next time they are of yesterday
                    self._last.clear()

    def _follow(self, stream: Stream, market: str) -> Followed:
        begun = asyncio.Event()
        if stream.kind in OF_TRADES:
            read = self._trades(stream.symbol, market, begun)
        elif stream.kind is Kind.CANDLE:
            read = self._candles(stream.symbol, market, stream.interval)
        else:
            read = self._tickers()
        name = f"binance {'/'.join(_source(stream))}"
        keep = reconnecting(self._closing, name, read, delay_seconds_max=RECONNECT_SECONDS_MAX)
        return Followed(self._closing.spawn(keep, name), begun)

    def _trades(self, symbol: str, market: str, begun: asyncio.Event) -> Callable[[], Any]:
        """Reads a market's trades; when it is read again, from where it broke off. `begun`: set when they follow."""
        last: list[int] = []
        name = symbol.lower()

        async def read() -> None:
            request = book_pb.StreamTradesRequest(market=market, after_trade_id=last[0] if last else None)
            call = self._stub.StreamTrades(request)
            try:
                async for message in call:
                    now = now_ms()
                    for trade in message.trades:
                        self._topics.publish(f"{name}@trade", trade_event(symbol, now, trade))
                        self._topics.publish(f"{name}@aggTrade", aggregate_event(symbol, now, trade))
                    # In a message of trades that are made up for, last_trade_id is that of trades still to come.
                    last[:] = [message.trades[-1].trade_id if message.trades else message.last_trade_id]
                    begun.set()
            finally:
                call.cancel()

        return read

    def _candles(self, symbol: str, market: str, interval: str) -> Callable[[], Any]:
        """Reads a market's candles; when they are read again, from the one that was told last."""
        request = book_pb.StreamCandlesRequest(
            market=market, interval=INTERVALS[interval], conflation=book_pb.CONFLATION_1_SECOND
        )
        name = f"{symbol.lower()}@kline_{interval}"

        async def read() -> None:
            call = self._stub.StreamCandles(request)
            try:
                async for message in call:
                    now = now_ms()
                    for candle in message.candles:
                        self._topics.publish(name, candle_event(symbol, now, interval, candle), stays_true=True)
                        request.start_time.CopyFrom(candle.start_time)
            finally:
                call.cancel()

        return read

    def _tickers(self) -> Callable[[], Any]:
        """Reads all markets' tickers, every second."""
        request = book_pb.StreamTickersRequest(conflation=book_pb.CONFLATION_1_SECOND)

        async def read() -> None:
            call = self._stub.StreamTickers(request)
            try:
                async for message in call:
                    if message.tickers:
                        await self._tell_tickers(message.tickers)
            finally:
                call.cancel()

        return read

    async def _tell_tickers(self, tickers: Any) -> None:
        now, symbols = now_ms(), await self._markets.symbols()
        self._last |= {ticker.market: ticker for ticker in tickers}
        named = [(symbols.symbol(ticker.market), ticker) for ticker in tickers]
        for symbol, ticker in named:
            self._topics.publish(f"{symbol.lower()}@ticker", ticker_event(symbol, now, ticker))
            self._topics.publish(f"{symbol.lower()}@miniTicker", mini_event(symbol, now, ticker))
        for name, kind in ALL.items():
            words = ticker_event if kind is Kind.TICKER else mini_event
            self._topics.publish(name, [words(symbol, now, ticker) for symbol, ticker in named])

    def _ticker_words(self, stream: Stream, symbols: Symbols) -> Any:
        """What is known of one ticker, or of all."""
        words = ticker_event if stream.kind is Kind.TICKER else mini_event
        told = [
            words(symbols.symbol(market), now_ms(), ticker)
            for market, ticker in self._last.items()
            if stream.symbol in {"", symbols.symbol(market)}
        ]
        return told[0] if stream.symbol and told else told


def _source(stream: Stream) -> tuple[str, ...]:
    """What is read for a stream: several may be made of the same."""
    if stream.kind in OF_BOOK:
        return ("book", stream.symbol)
    if stream.kind in OF_TRADES:
        return ("trades", stream.symbol)
    if stream.kind is Kind.CANDLE:
        return ("candles", stream.symbol, stream.interval)
    return TICKERS
