"""The load: a process of its own that reads one Job a line on stdin and writes one Outcome a line on stdout.

A job is a closed loop: so many callers, each sends its next order when the last one is answered. All answers are kept
and checked after the measured time. The orders are seeded: the same job sends the same orders, whoever answers them.
For each job it says that it is ready and waits for a line more: orders in batches (batch_load.py) are made before.
"""

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, Protocol, cast

import grpc
import httptools
import msgspec
import uvloop
from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import order_service_pb2 as order_pb

from clearbook.credentials import Credential, Ed25519, Hmac, User

PLACE_ORDER = "/clearbook.v1.OrderService/PlaceOrder"
STREAM_ORDER_BOOK = "/clearbook.v1.BookService/StreamOrderBook"
ORDER_ROUTE = "/api/v1/order"
PEER_ROUTE = "/markets/BTC-USD/orders"
READY, GO = b"ready\n", b"go\n"
SEED = 20_240_607
USERS = 64
IN_FLIGHT = 2
BAND_TICKS = 500
"""Orders rest on so many price levels a side, and never meet."""
LADDER_TICKS = 10_000
"""Where each order needs a level of its own: so many orders later a level is used again."""
ANSWER_SECONDS_MAX = 30.0
WRONG_MAX = 5
GRPC_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 * 1024 * 1024)]


class Job(msgspec.Struct):
    """What to do. Ids are `tag`-0, `tag`-1, …; `address` answers PlaceOrder, `book` streams what came of it."""

    kind: Literal["grpc", "hmac", "ed25519", "rest", "peer", "delta", "placeorders", "trade"]
    bare: bool
    address: str
    callers: int
    warm_seconds: float
    seconds: float
    tag: str
    seed: int
    size: int = 1
    """Orders a message."""
    in_flight: int = IN_FLIGHT
    """Requests of one Trade stream that are on their way at once."""
    orders_per_second: float = 0
    """An open loop, of batches only: so many are sent, whether or not they are answered. 0: a closed one."""
    book: str = ""
    keys: list[tuple[str, str]] = []
    """Of each user in turn, to sign with: the key's id, and its secret or its private half in hexadecimal."""

    def credentials(self) -> list[Credential]:
        """Of each user in turn."""
        if self.kind == "hmac":
            return [Hmac(key_id, secret) for key_id, secret in self.keys]
        if self.kind == "ed25519":
            return [Ed25519(key_id, bytes.fromhex(secret)) for key_id, secret in self.keys]
        return [User(f"bench-{number}") for number in range(USERS)]


class Outcome(msgspec.Struct):
    """What came of it: `sent` counts all orders, warm-up included; the latencies are of the measured time only.

    `cpu_ms` is the load's own for all that was sent, without what it does before and after.
    """

    sent: int
    seconds: float
    cpu_ms: float
    latencies_ns: list[int]
    wrong: list[str]


class Order(NamedTuple):
    """One order, as the market prints it."""

    number: int
    client_order_id: str
    user: str
    market: str
    side: Literal["buy", "sell"]
    price: str
    quantity: str

    def message(self) -> order_pb.PlaceOrderRequest:
        return order_pb.PlaceOrderRequest(
            client_order_id=self.client_order_id,
            market=self.market,
            side=order_pb.SIDE_BUY if self.side == "buy" else order_pb.SIDE_SELL,
            type=order_pb.ORDER_TYPE_LIMIT,
            price=self.price,
            quantity=self.quantity,
        )

    def proto(self) -> bytes:
        return self.message().SerializeToString()

    def http(self) -> bytes:
        body = (
            f'{{"order_id": "{self.client_order_id}", "user_id": "{self.user}", "pair": "{self.market}", '
            f'"order_type": "limit", "side": "{self.side}", "price": {self.price}, "amount": {self.quantity}}}'
        )
        head = f"POST {ORDER_ROUTE} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


def orders(job: Job) -> Iterator[Order]:
    """For ever: resting limit orders of all users in turn, on both sides of a price that nobody crosses."""
    dice = random.Random(SEED + job.seed)
    ladder = job.kind == "delta"
    market, middle = ("ETH-USD", 200_000) if ladder else ("BTC-USD", 3_000_000)
    number = 0
    while True:
        buys = dice.random() < 0.5
        away = 1 + (number % LADDER_TICKS if ladder else dice.randrange(BAND_TICKS))
        ticks = middle - away if buys else middle + away
        yield Order(
            number,
            f"{job.tag}-{number}",
            f"bench-{number % USERS}",
            market,
            "buy" if buys else "sell",
            f"{ticks // 100}.{ticks % 100:02}",
            f"0.000{dice.randint(1, 99):02}" if job.size > 1 else f"0.00{dice.randint(1, 99):02}",
        )
        number += 1


class PeerOrder(msgspec.Struct):
    """What the gateway of PyPI's matching-engine answers; the rest is of no interest."""

    status: str


class Sender(Protocol):
    """One way to place an order."""

    async def send(self, order: Order, caller: int, /) -> tuple[int, Any]:
        """Places it; returns when it was over (monotonic ns) and the answer."""
        ...

    def wrong(self, order: Order, answer: Any) -> str:
        """What is wrong about the answer; "" if nothing is."""
        ...


class Grpc:
    """Unary PlaceOrder on one connection, in raw bytes either way."""

    def __init__(self, job: Job, channel: grpc.aio.Channel) -> None:
        self._bare = job.bare
        self._credentials = job.credentials() or [User("bare")]
        self._place: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PLACE_ORDER)

    def begin(self, order: Order) -> Any:
        request = order.proto()
        credential = self._credentials[order.number % len(self._credentials)]
        return self._place(request, metadata=credential.metadata(PLACE_ORDER, request), timeout=ANSWER_SECONDS_MAX)

    async def send(self, order: Order, _caller: int) -> tuple[int, Any]:
        answer = await self.begin(order)
        return time.monotonic_ns(), answer

    def wrong(self, order: Order, answer: Any) -> str:
        if self._bare:
            return "" if answer == order.proto() else f"{answer!r} echoes {order}"
        placed = order_pb.PlaceOrderResponse.FromString(answer)
        same = (placed.order.client_order_id, placed.order.price, placed.order.quantity) == (
            order.client_order_id,
            order.price,
            order.quantity.rstrip("0"),
        )
        rests = placed.order.state == order_pb.ORDER_STATE_OPEN and not placed.executions
        return "" if same and rests else f"{order} became {placed}"


class Delta:
    """PlaceOrder, and over when the book's stream shows its level. One process: one clock."""

    def __init__(self, job: Job, channel: grpc.aio.Channel) -> None:
        self._bare, self._grpc = job.bare, Grpc(job, channel)
        self._waiting: dict[str, asyncio.Future[int]] = {}

    async def send(self, order: Order, _caller: int) -> tuple[int, Any]:
        shown = self._waiting[order.price] = asyncio.get_running_loop().create_future()
        call = self._grpc.begin(order)
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            ended = await shown
        return ended, await call

    def wrong(self, order: Order, answer: Any) -> str:
        return self._grpc.wrong(order, answer)

    async def read(self, call: Any) -> None:
        while (message := await call.read()) is not grpc.aio.EOF:
            now = time.monotonic_ns()
            for price in self._prices(message):
                if (shown := self._waiting.pop(price, None)) is not None:
                    shown.set_result(now)

    def _prices(self, message: bytes) -> list[str]:
        if self._bare:
            return [order_pb.PlaceOrderRequest.FromString(message).price]
        delta = book_pb.StreamOrderBookResponse.FromString(message).delta
        return [level.price for side in (delta.bids, delta.asks) for level in side]


class _Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not say that they are

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server closed the connection"))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._answer is not None
        self._answer.set_result((self._parser.get_status_code(), self._body))

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        self._body, self._answer = b"", asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer


class Rest:
    """POST /api/v1/order, a connection for each caller."""

    def __init__(self, connections: list[_Connection]) -> None:
        self._connections = connections

    async def send(self, order: Order, caller: int) -> tuple[int, Any]:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            answer = await self._connections[caller].ask(order.http())
        return time.monotonic_ns(), answer

    def wrong(self, order: Order, answer: Any) -> str:
        body = f'{{"message":"Order submitted successfully","order_id":"{order.client_order_id}"}}'
        return "" if answer == (200, body.encode()) else f"{order} was answered {answer}"


class Peer(Rest):
    """POST to the gateway of PyPI's matching-engine."""

    async def send(self, order: Order, caller: int) -> tuple[int, Any]:
        account = 1 + order.number % USERS
        body = (
            f'{{"account": {account}, "side": "{order.side}", "price": "{order.price}", '
            f'"quantity": "{order.quantity}"}}'
        )
        head = f"POST {PEER_ROUTE} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        request = f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            answer = await self._connections[caller].ask(request)
        return time.monotonic_ns(), answer

    def wrong(self, order: Order, answer: Any) -> str:
        status, body = answer
        rests = status == HTTPStatus.OK and msgspec.json.decode(body, type=PeerOrder).status == "resting"
        return "" if rests else f"{order} was answered {answer}"


@asynccontextmanager
async def sender(job: Job) -> AsyncIterator[Sender]:
    """Connected, and with the stream's first message read."""
    if job.kind in {"rest", "peer"}:
        host, _, port = job.address.rpartition(":")
        loop = asyncio.get_running_loop()
        connections = [(await loop.create_connection(_Connection, host, int(port)))[1] for _ in range(job.callers)]
        yield Rest(connections) if job.kind == "rest" else Peer(connections)
        for connection in connections:
            connection.transport.close()
        return
    async with grpc.aio.insecure_channel(job.address, options=GRPC_OPTIONS) as channel:
        if job.kind != "delta":
            yield Grpc(job, channel)
            return
        async with grpc.aio.insecure_channel(job.book, options=GRPC_OPTIONS) as books:
            delta = Delta(job, channel)
            request = book_pb.StreamOrderBookRequest(market=next(orders(job)).market)
            stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = books.unary_stream(STREAM_ORDER_BOOK)
            call = stream(request.SerializeToString())
            await call.read()
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(delta.read(call))
                yield delta
                reading.cancel()
            call.cancel()


async def perform(job: Job, ready: Callable[[], Awaitable[None]]) -> Outcome:
    """Warms up, measures, then checks every answer."""
    source, done = orders(job), list[tuple[int, int, Any, Order]]()
    await ready()
    cpu = time.process_time()
    async with sender(job) as way:
        begin = time.monotonic_ns() + int(job.warm_seconds * 1e9)
        end = begin + int(job.seconds * 1e9)

        async def call(caller: int) -> None:
            while (started := time.monotonic_ns()) < end:
                order = next(source)
                done.append((started, *await way.send(order, caller), order))

        async with asyncio.TaskGroup() as group:
            for caller in range(job.callers):
                group.create_task(call(caller))
        cpu = time.process_time() - cpu
        checked = [way.wrong(order, answer) for _, _, answer, order in done]
    return Outcome(
        sent=len(done),
        seconds=job.seconds,
        cpu_ms=cpu * 1e3,
        latencies_ns=[ended - started for started, ended, *_ in done if begin <= ended < end],
        wrong=[wrong for wrong in checked if wrong][:WRONG_MAX],
    )


async def main() -> None:
    from bench.batch_load import perform as perform_batches  # which builds on this

    loop = asyncio.get_running_loop()

    async def ready() -> None:
        sys.stdout.buffer.write(READY)
        sys.stdout.flush()
        assert await loop.run_in_executor(None, sys.stdin.buffer.readline) == GO

    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        gc.collect()
        gc.disable()
        job = msgspec.json.decode(line, type=Job)
        outcome = await (perform_batches if job.kind in {"placeorders", "trade"} else perform)(job, ready)
        gc.enable()
        sys.stdout.write(json.dumps(msgspec.to_builtins(outcome)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
