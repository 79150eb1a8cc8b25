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
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

import grpc
from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import book_service_pb2_grpc as book_grpc
from clearbook.v1 import order_service_pb2 as order_pb
from clearbook.v1 import order_service_pb2_grpc as order_grpc

from clearbook.book import LocalBook, OutOfStep
from clearbook.credentials import Bearer, Credential, User, with_credential

CALL_SECONDS_MAX = 10.0
"""How long a call is tried, again and again while the exchange is away."""
SILENCE_SECONDS_MAX = 20.0
"""A stream that says nothing for so long is dead: heartbeats come more often."""
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.1, 2.0

_AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
_LOST = _AGAIN | {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
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
    ) -> None:
        """Says who is calling.

        Args:
            orders: order_gateway's address.
            market_data: publisher's address.
            user: who is calling, where the exchange is in open mode.
            token: a bearer token, where it is not.
            credential: or a key of `clearbook.credentials` that signs each request.
            root_certificates: whose certificates to believe, in PEM; plain text without.
        """
        self._channels = (_channel(orders, root_certificates), _channel(market_data, root_certificates))
        who = credential or (Bearer(token) if token else User(user))
        self._orders = order_grpc.OrderServiceStub(with_credential(self._channels[0], who))
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

    async def markets(self) -> dict[str, book_pb.Market]:
        """All markets, by name."""
        request = book_pb.ListMarketsRequest()
        response = await _insist(lambda seconds: self._books.ListMarkets(request, timeout=seconds))
        return {market.market: market for market in response.markets}

    async def follow_book(self, market: str, depth: int = 0) -> AsyncGenerator[LocalBook, None]:
        """Yields the market's book, the same object, after its first snapshot and after every change. Ends never.

        When the connection is lost it goes on where it was; when anything does not fit, from a snapshot.

        Args:
            market: for example BTC-USD.
            depth: levels a side; 0: all.

        Raises:
            KeyError: no such market.
        """
        book = LocalBook((await self.markets())[market], depth)
        delay, resume = RETRY_SECONDS_MIN, False
        while True:
            request = book_pb.StreamOrderBookRequest(market=market, depth=depth)
            if resume and not depth:
                request.resume_from_sequence, request.incarnation = book.sequence, book.incarnation
            call = self._books.StreamOrderBook(request)
            try:
                async for message in _alive(call):
                    if book.apply(message):
                        yield book
                    resume, delay = True, RETRY_SECONDS_MIN
            except OutOfStep:
                resume = False
            except TimeoutError:
                pass  # it went silent: again
            except grpc.aio.AioRpcError as error:
                if error.code() not in _LOST:
                    raise
            finally:
                call.cancel()
            await asyncio.sleep(random.uniform(delay / 2, delay))
            delay = min(delay * 2, RETRY_SECONDS_MAX)


def _named(order: order_pb.PlaceOrderRequest) -> order_pb.PlaceOrderRequest:
    """The same order with an id, so that it can be sent again."""
    if order.client_order_id:
        return order
    named = order_pb.PlaceOrderRequest()
    named.CopyFrom(order)
    named.client_order_id = str(uuid.uuid4())
    return named


def _channel(address: str, root_certificates: bytes | None) -> grpc.aio.Channel:
    if root_certificates is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root_certificates))


async def _alive(
    call: grpc.aio.UnaryStreamCall[book_pb.StreamOrderBookRequest, book_pb.StreamOrderBookResponse],
) -> AsyncIterator[book_pb.StreamOrderBookResponse]:
    """The messages of a stream until it ends. Raises TimeoutError when it goes silent."""
    while True:
        async with asyncio.timeout(SILENCE_SECONDS_MAX):
            message = await call.read()
        if isinstance(message, book_pb.StreamOrderBookResponse):
            yield message
        else:
            return


async def _insist(call: Callable[[float], Awaitable[T]]) -> T:
    """Calls until there is an answer or a refusal, for CALL_SECONDS_MAX at most."""
    clock = asyncio.get_running_loop().time
    ends, delay = clock() + CALL_SECONDS_MAX, RETRY_SECONDS_MIN
    while True:
        try:
            return await call(max(ends - clock(), RETRY_SECONDS_MIN))
        except grpc.aio.AioRpcError as error:
            if error.code() not in _AGAIN or clock() + delay >= ends:
                raise
        await asyncio.sleep(random.uniform(delay / 2, delay))
        delay = min(delay * 2, RETRY_SECONDS_MAX)
