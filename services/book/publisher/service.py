"""BookService: market data for everybody."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import grpc
from clearbook.v1 import book_service_pb2 as pb

from services.book.publisher import asked_wire, figures_wire, market_data_wire, wire
from services.book.publisher.bell import Bell
from services.book.publisher.board import Board
from services.book.publisher.candle_pages import candles, known, page_of, within
from services.book.publisher.candle_source import CandleSource
from services.book.publisher.checksum import CHECKSUM_LEVELS
from services.book.publisher.grouped import grouped
from services.book.publisher.interval import NS_PER_SECOND
from services.book.publisher.page_token import page_token, read_token
from services.book.publisher.source import Source, told
from services.book.publisher.store import Store
from services.book.publisher.subscriber import Subscriber
from services.book.publisher.subscriptions import Subscriptions
from services.book.publisher.ticker_source import TickerSource
from services.book.publisher.topic import Topic
from services.book.publisher.trade_pages import first_trade_from, newest_trades, oldest_trades
from services.book.publisher.trade_source import TradeSource
from services.book.publisher.view import checksum_of, orders_checksum
from services.errors import Reason, Rejected
from services.runtime import metrics
from services.runtime.limits import Open
from services.runtime.peers import ip_of
from services.units import INT64_MAX

SERVICE = "clearbook.v1.BookService"
PAGE_DEFAULT_TRADES = 100
PAGE_TRADES_MAX = 1_000
PAGE_DEFAULT_CANDLES = 500
PAGE_CANDLES_MAX = 1_000
SUBSCRIPTIONS_MAX = 2_000
INDICATIVE_SECONDS = 1.0
"""How often a stream of markets looks what an auction would be."""

Context = grpc.aio.ServicerContext[Any, Any]

_subscribers = metrics.gauge("publisher_subscribers", "Streams being read.", ["kind"])
_refused = metrics.counter("publisher_refused_subscribers", "Streams refused: there were too many.")
# Readers cut off because they stalled: clearbook_rpc_calls_total{code="RESOURCE_EXHAUSTED"} less those refused.


class BookService:
    """The public face of the board. Streams yield serialized messages: the same bytes go to every subscriber."""

    def __init__(
        self,
        board: Board,
        store: Store,
        subscriptions_max: int = SUBSCRIPTIONS_MAX,
        ip_subscriptions_max: int = SUBSCRIPTIONS_MAX,
    ) -> None:
        """So many streams at once, of all readers and of one address."""
        self._board, self._store = board, store
        self._subscriptions = Open("streams", subscriptions_max, ip_subscriptions_max)
        self._listed: tuple[tuple[int, int], dict[str, pb.Market]] = (-1, -1), {}
        self.open = False
        """Whether the board has caught up with the book: until then everything is refused as UNAVAILABLE."""

    async def ListMarkets(self, request: pb.ListMarketsRequest, context: Context) -> pb.ListMarketsResponse:
        """See the proto."""
        self._check_open()
        return pb.ListMarketsResponse(markets=self._markets().values())

    async def StreamMarkets(self, request: pb.StreamMarketsRequest, context: Context) -> AsyncIterator[bytes]:
        """See the proto."""
        self._check_open()
        board, bell = self._board, self._board.market_bell
        listed: dict[str, pb.Market] | None = None
        told_beats = bell.beats
        with self._subscribed("markets", context):
            while True:
                changes, beats = board.market_changes, bell.beats
                now = self._markets()
                changed = [market for symbol, market in now.items() if listed is None or listed.get(symbol) != market]
                if changed or listed is None or beats != told_beats:
                    listed, told_beats = now, beats
                    yield wire.markets(changed)
                if (changes, beats) == (board.market_changes, bell.beats):
                    await _ring(bell, seconds_max=INDICATIVE_SECONDS if _collecting(now) else None)

    def _markets(self) -> dict[str, pb.Market]:
        """All markets by symbol, as they are listed: made once for all who ask at the same moment."""
        moment = self._board.market_changes, self._board.journal_sequence
        if self._listed[0] != moment:
            topics = self._board.by_symbol()
            self._listed = (
                moment,
                {each.market.symbol: wire.market(each.market, each.event, each.auction()) for each in topics},
            )
        return self._listed[1]

    async def GetOrderBook(self, request: pb.GetOrderBookRequest, context: Context) -> pb.GetOrderBookResponse:
        """See the proto."""
        topic = self._topic(request.market)
        asked, fold = asked_wire.book(request, topic.market), topic.fold
        if asked.orders:
            return wire.book_of_orders(fold, asked.depth, orders_checksum(fold), request.page_token)
        if request.page_token:
            raise Rejected(Reason.INVALID_FIELD, "page_token is for L3", "page_token")
        if asked.group_ticks == 1:
            return wire.book(fold, fold.depth, asked.depth, fold.checksum)
        depth = grouped(fold.depth, asked.group_ticks, max(asked.depth, CHECKSUM_LEVELS))
        return wire.book(fold, depth, asked.depth, checksum_of(topic.market, depth))

    async def StreamOrderBook(self, request: pb.StreamOrderBookRequest, context: Context) -> AsyncIterator[bytes]:
        """See the proto."""
        with self._subscribed("book", context), self._book(request) as source:
            async for data in told(source):
                yield data

    @contextmanager
    def _book(self, request: pb.StreamOrderBookRequest) -> Iterator[Source]:
        topic = self._topic(request.market)
        asked, patient = asked_wire.book_stream(request, topic.market), asked_wire.patient(request.slow_reader)
        with topic.subscribed(asked) as view:
            resume = self._resume_from(topic, request)
            yield Subscriber(topic, view, self._board.incarnation, resume, patient=patient)

    def _resume_from(self, topic: Topic, request: pb.StreamOrderBookRequest) -> int | None:
        """The sequence to go on from; None: begin with a snapshot."""
        sequence = request.resume_from_sequence
        if not sequence or request.incarnation != self._board.incarnation:
            return None
        return sequence if Subscriber.resumable(topic, sequence) else None

    async def ListTrades(self, request: pb.ListTradesRequest, context: Context) -> pb.ListTradesResponse:
        """See the proto."""
        topic = self._topic(request.market)
        size = asked_wire.within(request.page_size, PAGE_TRADES_MAX, "page_size") or PAGE_DEFAULT_TRADES
        prefix = (topic.market.market_id, int(request.oldest_first))
        begin = read_token(request.page_token, *prefix) if request.page_token else await self._begin(topic, request)
        if request.oldest_first:
            trades = await oldest_trades(topic, self._store, begin - 1, size)
            more = bool(trades) and trades[-1].trade_id < topic.tape.last_trade_id
        else:
            trades = await newest_trades(topic, self._store, begin + 1, size)
            more = bool(trades) and trades[-1].trade_id > 1
        step = 1 if request.oldest_first else -1
        return pb.ListTradesResponse(
            trades=[wire.trade(topic.market, trade) for trade in trades],
            next_page_token=page_token(*prefix, trades[-1].trade_id + step) if more else "",
        )

    async def _begin(self, topic: Topic, request: pb.ListTradesRequest) -> int:
        """The trade to begin with, which may be one that is not there: 0, or one that is to come."""
        if request.HasField("from_time"):
            time_ns = asked_wire.nanoseconds(request.from_time)
            if request.oldest_first:
                return await first_trade_from(topic, self._store, time_ns)
            return await first_trade_from(topic, self._store, time_ns + 1) - 1
        return min(request.from_trade_id, INT64_MAX - 1) or (1 if request.oldest_first else topic.tape.last_trade_id)

    async def StreamTrades(self, request: pb.StreamTradesRequest, context: Context) -> AsyncIterator[bytes]:
        """See the proto."""
        with self._subscribed("trades", context):
            async for data in told(self._trades(request)):
                yield data

    def _trades(self, request: pb.StreamTradesRequest) -> Source:
        topic = self._topic(request.market)
        last = topic.tape.last_trade_id
        position = request.after_trade_id if request.HasField("after_trade_id") else last
        if position > last:
            message = f"{request.market} has no trade {position} yet, the last is {last}"
            raise Rejected(Reason.OUT_OF_SEQUENCE, message, "after_trade_id")
        return TradeSource(topic, self._store, position, patient=asked_wire.patient(request.slow_reader))

    async def GetTicker(self, request: pb.GetTickerRequest, context: Context) -> pb.GetTickerResponse:
        """See the proto."""
        return pb.GetTickerResponse(ticker=self._ticker(self._topic(request.market)))

    async def ListTickers(self, request: pb.ListTickersRequest, context: Context) -> pb.ListTickersResponse:
        """See the proto."""
        topics = self._topics(request.markets) or self._board.by_symbol()
        return pb.ListTickersResponse(tickers=map(self._ticker, topics))

    def _ticker(self, topic: Topic) -> pb.Ticker:
        now_ns = self._board.time_ns
        stale = topic.is_stale(now_ns)
        return figures_wire.ticker(topic.fold, topic.candles, now_ns, topic.reference, stale=stale)

    async def StreamTickers(self, request: pb.StreamTickersRequest, context: Context) -> AsyncIterator[bytes]:
        """See the proto."""
        with self._subscribed("tickers", context):
            async for data in told(self._tickers(request)):
                yield data

    def _tickers(self, request: pb.StreamTickersRequest) -> Source:
        return TickerSource(self._board, self._topics(request.markets), asked_wire.pace(request.conflation))

    async def ListCandles(self, request: pb.ListCandlesRequest, context: Context) -> pb.ListCandlesResponse:
        """See the proto."""
        topic, interval = self._topic(request.market), figures_wire.interval_of(request.interval)
        size = asked_wire.within(request.page_size, PAGE_CANDLES_MAX, "page_size") or PAGE_DEFAULT_CANDLES
        start, end = (
            asked_wire.nanoseconds(getattr(request, name)) if request.HasField(name) else None
            for name in ("start_time", "end_time")
        )
        prefix = (topic.market.market_id, request.interval, int(request.oldest_first))
        begin = read_token(request.page_token, *prefix) if request.page_token else None
        whole = known(topic, interval, self._board.time_ns)
        if whole is None:
            return pb.ListCandlesResponse()
        now = max(self._board.time_ns, topic.fold.time_ns) // NS_PER_SECOND  # before the store is asked
        stretch = page_of(interval, within(interval, whole, start, end), begin, size, oldest_first=request.oldest_first)
        found = await candles(topic, self._store, interval, stretch.page)
        listed = [
            figures_wire.candle(topic.market, interval, each, interval.after(each.start) <= now)
            for each in (found if request.oldest_first else reversed(found))
        ]
        token = "" if stretch.next_begin is None else page_token(*prefix, stretch.next_begin)
        return pb.ListCandlesResponse(candles=listed, next_page_token=token)

    async def StreamCandles(self, request: pb.StreamCandlesRequest, context: Context) -> AsyncIterator[bytes]:
        """See the proto."""
        with self._subscribed("candles", context):
            async for data in told(self._candles(request)):
                yield data

    def _candles(self, request: pb.StreamCandlesRequest) -> Source:
        topic, interval = self._topic(request.market), figures_wire.interval_of(request.interval)
        pace = asked_wire.pace(request.conflation)
        start = asked_wire.nanoseconds(request.start_time) if request.HasField("start_time") else None
        return CandleSource(self._board, topic, self._store, interval, pace, start)

    async def StreamMarketData(
        self, requests: AsyncIterator[pb.StreamMarketDataRequest], context: Context
    ) -> AsyncIterator[bytes]:
        """See the proto."""
        self._check_open()
        with self._subscribed("market_data", context), closing(Subscriptions(self._source, self._sign)) as live:
            reading = asyncio.create_task(live.take_all(market_data_wire.wanted(requests)), name="subscriptions")
            try:
                async for data in live.told(reading):
                    yield data
            finally:
                reading.cancel()
                await asyncio.wait([reading])

    @contextmanager
    def _source(self, item: market_data_wire.Item) -> Iterator[Source]:
        match item.request:
            case pb.StreamOrderBookRequest() as request:
                with self._book(request) as book:
                    yield book
            case pb.StreamTradesRequest() as request:
                yield self._trades(request)
            case pb.StreamTickersRequest() as request:
                yield self._tickers(request)
            case pb.StreamCandlesRequest() as request:
                yield self._candles(request)
            case _:
                raise market_data_wire.no_channel()

    def _sign(self) -> bytes | None:
        """A sign of life, if the book gives us one."""
        return market_data_wire.heartbeat(self._board.time_ns) if self._board.live else None

    def _topics(self, markets: Sequence[str]) -> list[Topic]:
        """Those that are named, by name, each once."""
        self._check_open()
        if len(markets) > asked_wire.MARKETS_MAX:
            message = f"{len(markets)} markets, at most {asked_wire.MARKETS_MAX} may be named"
            raise Rejected(Reason.INVALID_FIELD, message, "markets")
        return [self._board.topic(symbol, "markets") for symbol in sorted(set(markets))]

    def _topic(self, symbol: str) -> Topic:
        self._check_open()
        return self._board.topic(symbol)

    def _check_open(self) -> None:
        if not self.open:
            raise Rejected(Reason.UNAVAILABLE, "still catching up with the book; try again")

    @contextmanager
    def _subscribed(self, kind: str, context: Context) -> Iterator[None]:
        with self._counted(context), _subscribers.labels(kind).track_inprogress():
            yield

    @contextmanager
    def _counted(self, context: Context) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(self._subscriptions.one(ip_of(context.peer())))
            except Rejected:
                _refused.inc()
                raise
            yield


def _collecting(markets: dict[str, pb.Market]) -> bool:
    """Whether any of them may have another indicative auction soon."""
    return any(market.state == pb.MARKET_STATE_PRE_OPEN for market in markets.values())


async def _ring(bell: Bell, seconds_max: float | None) -> None:
    """Returns at the next ring or beat, or after so long."""
    try:
        async with asyncio.timeout(seconds_max):
            await bell.wait()
    except TimeoutError:
        return  # as wanted


def add_to_server(service: BookService, server: Any) -> None:
    """Registers the service. The streams' messages are bytes already: they need no serializer."""
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    answers: dict[str, tuple[Any, Any, Any]] = {
        "ListMarkets": (service.ListMarkets, pb.ListMarketsRequest, pb.ListMarketsResponse),
        "GetOrderBook": (service.GetOrderBook, pb.GetOrderBookRequest, pb.GetOrderBookResponse),
        "ListTrades": (service.ListTrades, pb.ListTradesRequest, pb.ListTradesResponse),
        "GetTicker": (service.GetTicker, pb.GetTickerRequest, pb.GetTickerResponse),
        "ListTickers": (service.ListTickers, pb.ListTickersRequest, pb.ListTickersResponse),
        "ListCandles": (service.ListCandles, pb.ListCandlesRequest, pb.ListCandlesResponse),
    }
    streams: dict[str, tuple[Any, Any]] = {
        "StreamMarkets": (service.StreamMarkets, pb.StreamMarketsRequest),
        "StreamOrderBook": (service.StreamOrderBook, pb.StreamOrderBookRequest),
        "StreamTrades": (service.StreamTrades, pb.StreamTradesRequest),
        "StreamTickers": (service.StreamTickers, pb.StreamTickersRequest),
        "StreamCandles": (service.StreamCandles, pb.StreamCandlesRequest),
    }
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "StreamMarketData": grpc.stream_stream_rpc_method_handler(
            service.StreamMarketData, pb.StreamMarketDataRequest.FromString, None
        ),
        **{
            name: unary(handler, asked.FromString, answer.SerializeToString)
            for name, (handler, asked, answer) in answers.items()
        },
        **{name: stream(handler, asked.FromString, None) for name, (handler, asked) in streams.items()},
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
