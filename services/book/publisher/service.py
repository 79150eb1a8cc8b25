"""BookService: market data for everybody."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
from clearbook.v1 import book_service_pb2 as pb

from services.book.publisher import wire
from services.book.publisher.bell import Bell
from services.book.publisher.board import Board
from services.book.publisher.store import Store
from services.book.publisher.subscriber import MESSAGES_AT_ONCE, Subscriber
from services.book.publisher.topic import Topic
from services.errors import Reason, Rejected
from services.runtime import metrics
from services.runtime.limits import Open
from services.runtime.peers import ip_of
from services.units import INT64_MAX

SERVICE = "clearbook.v1.BookService"
DEPTH_DEFAULT_LEVELS = 20
DEPTH_LEVELS_MAX = 5_000
PAGE_DEFAULT_TRADES = 100
PAGE_TRADES_MAX = 1_000
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
        told: dict[str, pb.Market] | None = None
        told_beats = bell.beats
        with self._subscribed("markets", context):
            while True:
                changes, beats = board.market_changes, bell.beats
                now = self._markets()
                changed = [market for symbol, market in now.items() if told is None or told.get(symbol) != market]
                if changed or told is None or beats != told_beats:
                    told, told_beats = now, beats
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
        depth = _within(request.depth, DEPTH_LEVELS_MAX, "depth") or DEPTH_DEFAULT_LEVELS
        return wire.book(topic.fold, depth)

    async def StreamOrderBook(self, request: pb.StreamOrderBookRequest, context: Context) -> AsyncIterator[bytes]:
        """See the proto."""
        topic = self._topic(request.market)
        depth = _within(request.depth, DEPTH_LEVELS_MAX, "depth")
        if depth and request.resume_from_sequence:
            raise Rejected(Reason.INVALID_FIELD, "resume_from_sequence needs depth 0", "resume_from_sequence")
        with self._subscribed("book", context), topic.subscribed(depth) as book:
            subscriber = Subscriber(topic, book, self._board.incarnation, self._resume_from(topic, request))
            while True:
                messages = subscriber.ready()
                for data in messages:
                    yield data
                if not messages:
                    await book.bell.wait()

    def _resume_from(self, topic: Topic, request: pb.StreamOrderBookRequest) -> int | None:
        """The sequence to go on from; None: begin with a snapshot."""
        sequence = request.resume_from_sequence
        if not sequence or request.incarnation != self._board.incarnation:
            return None
        return sequence if Subscriber.resumable(topic, sequence) else None

    async def ListTrades(self, request: pb.ListTradesRequest, context: Context) -> pb.ListTradesResponse:
        """See the proto."""
        topic = self._topic(request.market)
        size = _within(request.page_size, PAGE_TRADES_MAX, "page_size") or PAGE_DEFAULT_TRADES
        market_id = topic.market.market_id
        before = _read_token(request.page_token, market_id) if request.page_token else INT64_MAX
        stored_before = min(before, topic.tape.tail + 1)
        trades = topic.tape.newest(before, size)
        if len(trades) < size and stored_before > 1:
            trades += await self._store.trades_before(market_id, stored_before, size - len(trades))
        more = bool(trades) and trades[-1].trade_id > 1
        return pb.ListTradesResponse(
            trades=[wire.trade(topic.market, trade) for trade in trades],
            next_page_token=_token(market_id, trades[-1].trade_id) if more else "",
        )

    async def StreamTrades(self, request: pb.StreamTradesRequest, context: Context) -> AsyncIterator[bytes]:
        """See the proto."""
        topic = self._topic(request.market)
        last = topic.tape.last_trade_id
        position = request.after_trade_id if request.HasField("after_trade_id") else last
        if position > last:
            message = f"{request.market} has no trade {position} yet, the last is {last}"
            raise Rejected(Reason.OUT_OF_SEQUENCE, message, "after_trade_id")
        with self._subscribed("trades", context):
            async for data in self._trades(topic, position):
                yield data

    async def _trades(self, topic: Topic, position: int) -> AsyncIterator[bytes]:
        """What follows a trade: out of the store until the tape has it, then as it happens."""
        tape, bell = topic.tape, topic.tape_bell
        beats = bell.beats
        if position == tape.last_trade_id:  # the first message never waits
            yield wire.trades(topic.market, (), position)
        while True:
            while position < tape.tail:
                commands = await self._store.trades_after(topic.market.market_id, position)
                assert commands, f"{topic.market.symbol}: trades after {position} are neither stored nor on the tape"
                for trades in commands:
                    position = trades[-1].trade_id
                    yield wire.trades(topic.market, trades, tape.last_trade_id)
            for entry in tape.after(position, MESSAGES_AT_ONCE):
                whole = entry.trades[0].trade_id == position + 1
                rest = () if whole else [trade for trade in entry.trades if trade.trade_id > position]
                position, beats = entry.last_trade_id, bell.beats
                yield entry.once.data if whole else wire.trades(topic.market, rest, tape.last_trade_id)
            if position == tape.last_trade_id:
                if beats == bell.beats:
                    await bell.wait()
                if position == tape.last_trade_id and beats != bell.beats:
                    beats = bell.beats
                    yield wire.trades(topic.market, (), position)

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


def _within(value: int, maximum: int, field: str) -> int:
    if not 0 <= value <= maximum:
        raise Rejected(Reason.INVALID_FIELD, f"{field} must be 0 to {maximum}, not {value}", field)
    return value


def _token(market_id: int, before: int) -> str:
    return base64.urlsafe_b64encode(f"{market_id}.{before}".encode()).decode().rstrip("=")


def _read_token(token: str, market_id: int) -> int:
    """The trade id that a page token stands for: the page holds those before it."""
    try:
        padded = token + "=" * (-len(token) % 4)
        market, _, before = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").partition(".")
        if before.isdecimal() and int(market) == market_id and 0 < int(before) <= INT64_MAX:
            return int(before)
    except (binascii.Error, UnicodeError, ValueError):
        pass  # refused below, like any other text that is not ours
    raise Rejected(Reason.INVALID_FIELD, "page_token is not one that this market's trades came with", "page_token")


def add_to_server(service: BookService, server: Any) -> None:
    """Registers the service. The streams' messages are bytes already: they need no serializer."""
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ListMarkets": unary(
            service.ListMarkets, pb.ListMarketsRequest.FromString, pb.ListMarketsResponse.SerializeToString
        ),
        "GetOrderBook": unary(
            service.GetOrderBook, pb.GetOrderBookRequest.FromString, pb.GetOrderBookResponse.SerializeToString
        ),
        "StreamOrderBook": stream(service.StreamOrderBook, pb.StreamOrderBookRequest.FromString, None),
        "ListTrades": unary(
            service.ListTrades, pb.ListTradesRequest.FromString, pb.ListTradesResponse.SerializeToString
        ),
        "StreamMarkets": stream(service.StreamMarkets, pb.StreamMarketsRequest.FromString, None),
        "StreamTrades": stream(service.StreamTrades, pb.StreamTradesRequest.FromString, None),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
