"""A small asyncio client of Clearbook: place orders, and follow a book without ever being wrong about it.

    async with Client(user="alice") as client:
        await client.place_order("BTC-USD", "buy", quantity="0.001", price="30000.00")
        async for book in client.follow_book("BTC-USD"):
            print(book.bids[:3], book.asks[:3])

Numbers are plain decimal strings, in and out, exactly as on the wire: make Decimals of them, never floats.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

import grpc
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import admin_service_pb2_grpc as admin_grpc
from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import book_service_pb2_grpc as book_grpc
from clearbook.v1 import order_service_pb2 as order_pb
from clearbook.v1 import order_service_pb2_grpc as order_grpc

from clearbook.book import Followed, LocalBook, OutOfStep
from clearbook.credentials import Bearer, Credential, User, with_credential
from clearbook.orders_book import LocalOrders
from clearbook.streams import AGAIN, RETRY_SECONDS_MAX, RETRY_SECONDS_MIN, reconnected

CALL_SECONDS_MAX = 10.0
"""How long a call is tried, again and again while the exchange is away."""
PAGE_ORDERS = 500

INTERVALS = dict(
    zip(
        ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"],
        book_pb.CandleInterval.values()[1:],
        strict=True,
    )
)
"""The lengths of candles, by their usual names."""

_SIDES = {"buy": order_pb.SIDE_BUY, "sell": order_pb.SIDE_SELL}

T = TypeVar("T")


class Client:
    """Talks to a running exchange. Use with `async with`."""

    def __init__(
        self,
        orders: str = "127.0.0.1:50051",
        market_data: str = "127.0.0.1:50052",
        *,
        user: str = "",
        token: str = "",
        credential: Credential | None = None,
        root_certificates: bytes | None = None,
        server_name: str = "",
    ) -> None:
        """Says who is calling.

        Args:
            orders: order_gateway's address.
            market_data: publisher's address.
            user: who is calling, where the exchange is in open mode.
            token: a bearer token, where it is not.
            credential: or a key of `clearbook.credentials` that signs each request.
            root_certificates: whose certificates to believe, in PEM; plain text without.
            server_name: what the exchange's certificate names, where that is not the address.
        """
        addresses = (orders, market_data)
        self._channels = tuple(_channel(address, root_certificates, server_name) for address in addresses)
        who = credential or (Bearer(token) if token else User(user))
        self._orders = order_grpc.OrderServiceStub(with_credential(self._channels[0], who))
        self._admin = admin_grpc.AdminServiceStub(with_credential(self._channels[0], who))
        self._books = book_grpc.BookServiceStub(self._channels[1])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for channel in self._channels:
            await channel.close()

    async def place_order(
        self, market: str, side: str, *, quantity: str, price: str = "", client_order_id: str = ""
    ) -> order_pb.PlaceOrderResponse:
        """Places a limit order, or without a price a market order, and returns its outcome.

        It is sent again with the same id while the exchange is away, which never makes two orders of it.

        Args:
            market: for example BTC-USD.
            side: "buy" or "sell".
            quantity: in the base asset.
            price: limit price; empty for a market order.
            client_order_id: our idempotency key; a fresh one when empty.

        Raises:
            ValueError: neither "buy" nor "sell".
            TypeError: a number that is no string: a float has lost digits before it comes here.
            grpc.aio.AioRpcError: refused; or away for longer than CALL_SECONDS_MAX: then ask with get_order.
        """
        if side not in _SIDES:
            raise ValueError(f'side must be "buy" or "sell", not {side!r}')
        for name, number in (("quantity", quantity), ("price", price)):
            if not isinstance(number, str):
                raise TypeError(f'{name} must be a decimal string such as "0.001", not {number!r}')
        request = order_pb.PlaceOrderRequest(
            client_order_id=client_order_id,
            market=market,
            side=_SIDES[side],
            type=order_pb.ORDER_TYPE_LIMIT if price else order_pb.ORDER_TYPE_MARKET,
            price=price,
            quantity=quantity,
        )
        return await self.place(request)

    async def place(self, order: order_pb.PlaceOrderRequest) -> order_pb.PlaceOrderResponse:
        """Places an order of any kind (docs/orders.md), which is given a fresh client_order_id if it has none.

        Raises:
            grpc.aio.AioRpcError: as place_order.
        """
        order = _named(order)
        return await _insist(lambda seconds: self._orders.PlaceOrder(order, timeout=seconds))

    async def place_group(
        self, *exits: order_pb.PlaceOrderRequest, entry: order_pb.PlaceOrderRequest | None = None
    ) -> order_pb.PlaceGroupResponse:
        """Places orders that belong together: two exits, or one or two behind an entry. Names as `place`."""
        request = order_pb.PlaceGroupRequest(
            exits=[_named(order) for order in exits], entry=None if entry is None else _named(entry)
        )
        return await _insist(lambda seconds: self._orders.PlaceGroup(request, timeout=seconds))

    async def preview_order(self, order: order_pb.PlaceOrderRequest) -> order_pb.PreviewOrderResponse:
        """What an order would come to if it were placed now."""
        request = order_pb.PreviewOrderRequest(order=order)
        return await _insist(lambda seconds: self._orders.PreviewOrder(request, timeout=seconds))

    async def replace_order(
        self, client_order_id: str, *, price: str = "", quantity: str = "", new_client_order_id: str = ""
    ) -> order_pb.ReplaceOrderResponse:
        """Gives an open order of ours another price or quantity, and another name, so that it is done once.

        Args:
            client_order_id: what it is called, or was called once.
            price: "": as it is.
            quantity: with what has traded; "": as it is.
            new_client_order_id: what it is called then; a fresh one when empty.
        """
        request = order_pb.ReplaceOrderRequest(
            client_order_id=client_order_id,
            price=price,
            quantity=quantity,
            new_client_order_id=new_client_order_id or str(uuid.uuid4()),
        )
        return await _insist(lambda seconds: self._orders.ReplaceOrder(request, timeout=seconds))

    async def cancel_all(self, market: str = "") -> order_pb.CancelAllOrdersResponse:
        """Cancels all that is open, perhaps in one market only."""
        request = order_pb.CancelAllOrdersRequest(market=market)
        return await _insist(lambda seconds: self._orders.CancelAllOrders(request, timeout=seconds))

    async def cancel_after(self, seconds: int, market: str = "") -> order_pb.CancelAfterResponse:
        """Has all that is open canceled unless this is called again within so many seconds; 0: never."""
        request = order_pb.CancelAfterRequest(seconds=seconds, market=market)
        return await _insist(lambda given: self._orders.CancelAfter(request, timeout=given))

    async def cancel_order(self, client_order_id: str) -> order_pb.CancelOrderResponse:
        """Cancels an open order of ours."""
        request = order_pb.CancelOrderRequest(client_order_id=client_order_id)
        return await _insist(lambda seconds: self._orders.CancelOrder(request, timeout=seconds))

    async def get_order(self, client_order_id: str) -> order_pb.GetOrderResponse:
        """Returns an order of ours and what it traded."""
        request = order_pb.GetOrderRequest(client_order_id=client_order_id)
        return await _insist(lambda seconds: self._orders.GetOrder(request, timeout=seconds))

    async def open_orders(self, market: str = "") -> list[order_pb.Order]:
        """All orders of ours that are open or wait, perhaps in one market only, newest first."""
        found: list[order_pb.Order] = []
        request = order_pb.ListOrdersRequest(market=market, open_only=True, page_size=PAGE_ORDERS)
        while True:
            page = await _insist(lambda seconds: self._orders.ListOrders(request, timeout=seconds))
            found += page.orders
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def trade(self) -> grpc.aio.StreamStreamCall[order_pb.TradeRequest, order_pb.TradeResponse]:
        """Opens the stream for order entry: write requests, read answers in their order (OrderService.Trade).

        Its owner cancels it in the end, and opens another when it breaks.
        """
        return self._orders.Trade()

    async def set_reference_price(self, market: str, price: str, source: str, *, observed_ns: int) -> None:
        """Says what a market's price is elsewhere; it takes the scope REFERENCE_PRICE or ADMIN.

        Args:
            market: for example BTC-USD.
            price: a multiple of the tick size.
            source: where it is that, 1 to 64 printable ASCII characters.
            observed_ns: when it was seen there, nanoseconds since 1970.

        Raises:
            grpc.aio.AioRpcError: refused; or away for longer than CALL_SECONDS_MAX.
        """
        request = admin_pb.SetReferencePriceRequest(market=market, price=price, source=source)
        request.observed_time.FromNanoseconds(observed_ns)
        await _insist(lambda seconds: self._admin.SetReferencePrice(request, timeout=seconds))

    async def markets(self) -> dict[str, book_pb.Market]:
        """All markets, by name."""
        request = book_pb.ListMarketsRequest()
        response = await _insist(lambda seconds: self._books.ListMarkets(request, timeout=seconds))
        return {market.market: market for market in response.markets}

    async def tickers(self, *markets: str) -> dict[str, book_pb.Ticker]:
        """The tickers of some markets, or of all, by name."""
        request = book_pb.ListTickersRequest(markets=markets)
        response = await _insist(lambda seconds: self._books.ListTickers(request, timeout=seconds))
        return {ticker.market: ticker for ticker in response.tickers}

    async def candles(
        self, market: str, interval: str, *, start_seconds: int | None = None, end_seconds: int | None = None
    ) -> AsyncGenerator[book_pb.Candle, None]:
        """Yields a market's candles, oldest first, up to the one of now.

        Args:
            market: for example BTC-USD.
            interval: "1s" to "1M", see INTERVALS.
            start_seconds: none that begins before it, seconds since 1970.
            end_seconds: none that begins then or later.

        Raises:
            KeyError: no such interval.
        """
        request = book_pb.ListCandlesRequest(market=market, interval=INTERVALS[interval], oldest_first=True)
        if start_seconds is not None:
            request.start_time.seconds = start_seconds
        if end_seconds is not None:
            request.end_time.seconds = end_seconds
        while True:
            page = await _insist(lambda seconds: self._books.ListCandles(request, timeout=seconds))
            for candle in page.candles:
                yield candle
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def follow_book(self, market: str, depth: int = 0) -> AsyncGenerator[LocalBook, None]:
        """Yields the market's book, the same object, after its first snapshot and after every change. Ends never.

        A change is one of the market's state, too: `book.state`. When the connection is lost it goes on where it was;
        when anything does not fit, from a snapshot.

        Args:
            market: for example BTC-USD.
            depth: levels a side; 0: all.

        Raises:
            KeyError: no such market.
        """
        book = LocalBook((await self.markets())[market], depth)
        async with aclosing(self._follow_local(book, market, depth, book_pb.BOOK_DETAIL_L2, resumes=not depth)) as told:
            async for _ in told:
                yield book

    async def follow_orders(self, market: str) -> AsyncGenerator[LocalOrders, None]:
        """Yields the market's book by orders (L3), the same object, as follow_book does; there is no resuming.

        Raises:
            KeyError: no such market.
        """
        book = LocalOrders((await self.markets())[market])
        async with aclosing(self._follow_local(book, market, 0, book_pb.BOOK_DETAIL_L3, resumes=False)) as told:
            async for _ in told:
                yield book

    async def follow_tickers(self, *markets: str) -> AsyncGenerator[book_pb.Ticker, None]:
        """Yields the tickers of some markets, or of all, and then each that has changed. Ends never."""
        request = book_pb.StreamTickersRequest(markets=markets)
        async with aclosing(reconnected(lambda: self._books.StreamTickers(request))) as messages:
            async for message in messages:
                for ticker in message.tickers:
                    yield ticker

    async def follow_candles(self, market: str, interval: str) -> AsyncGenerator[book_pb.Candle, None]:
        """Yields the market's candle of now, and then each as it changes, closes and begins, all of them. Ends never.

        A candle replaces the one before with the same start_time.

        Args:
            market: for example BTC-USD.
            interval: "1s" to "1M", see INTERVALS.

        Raises:
            KeyError: no such interval.
        """
        request = book_pb.StreamCandlesRequest(market=market, interval=INTERVALS[interval])
        async with aclosing(reconnected(lambda: self._books.StreamCandles(request))) as messages:
            async for message in messages:
                for candle in message.candles:
                    yield candle
                    request.start_time.CopyFrom(candle.start_time)

    async def _follow_local(
        self, book: Followed, market: str, depth: int, detail: book_pb.BookDetail.ValueType, *, resumes: bool
    ) -> AsyncGenerator[None, None]:
        """Yields whenever the book has changed, or the market's state."""
        request = book_pb.StreamOrderBookRequest(market=market, depth=depth, detail=detail)
        while True:
            try:
                async with aclosing(reconnected(lambda: self._books.StreamOrderBook(request))) as messages:
                    async for message in messages:
                        state = book.state
                        if book.apply(message) or book.state != state:
                            yield
                        if resumes:
                            request.resume_from_sequence, request.incarnation = book.sequence, book.incarnation
            except OutOfStep:
                request.resume_from_sequence = 0
                await asyncio.sleep(random.uniform(RETRY_SECONDS_MIN / 2, RETRY_SECONDS_MIN))


def _named(order: order_pb.PlaceOrderRequest) -> order_pb.PlaceOrderRequest:
    """The same order with an id, so that it can be sent again."""
    if order.client_order_id:
        return order
    named = order_pb.PlaceOrderRequest()
    named.CopyFrom(order)
    named.client_order_id = str(uuid.uuid4())
    return named


def _channel(address: str, root_certificates: bytes | None, server_name: str) -> grpc.aio.Channel:
    if root_certificates is None:
        return grpc.aio.insecure_channel(address)
    options = [("grpc.ssl_target_name_override", server_name)] if server_name else None
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root_certificates), options)


async def _insist(call: Callable[[float], Awaitable[T]]) -> T:
    """Calls until there is an answer or a refusal, for CALL_SECONDS_MAX at most."""
    clock = asyncio.get_running_loop().time
    ends, delay = clock() + CALL_SECONDS_MAX, RETRY_SECONDS_MIN
    while True:
        try:
            return await call(max(ends - clock(), RETRY_SECONDS_MIN))
        except grpc.aio.AioRpcError as error:
            if error.code() not in AGAIN or clock() + delay >= ends:
                raise
        await asyncio.sleep(random.uniform(delay / 2, delay))
        delay = min(delay * 2, RETRY_SECONDS_MAX)
