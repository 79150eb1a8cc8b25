"""The load in batches: PlaceOrders, one call at a time, and Trade streams with a few requests on their way."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, NamedTuple

import grpc
from clearbook.v1 import order_service_pb2 as order_pb

from bench.load import ANSWER_SECONDS_MAX, GRPC_OPTIONS, WRONG_MAX, Job, Order, Outcome, orders

PLACE_ORDERS = "/clearbook.v1.OrderService/PlaceOrders"
TRADE = "/clearbook.v1.OrderService/Trade"

PREPARED_PER_SECOND_MAX, PREPARED_MESSAGES_PER_SECOND_MAX = 100_000, 4_000
"""Orders, and messages, of a second that are made before the run: more than can be sent."""

Batch = list[Order]


class Request(NamedTuple):
    """One message, and what it asks."""

    data: bytes
    batch: Batch


@dataclass
class Run:
    """One job on its way."""

    job: Job
    source: Iterator[Request]
    begin_ns: int = 0
    end_ns: int = 0
    sent: int = 0
    done: list[tuple[int, int, int, bytes, Batch]] = field(default_factory=list)
    """When it was sent, when it was answered, which of the answers in the message it is, the message, the batch."""

    def next(self) -> Request:
        """The next message."""
        made = next(self.source)
        self.sent += len(made.batch)
        return made

    @property
    def over(self) -> bool:
        """Nothing more is to be sent."""
        return time.monotonic_ns() >= self.end_ns

    async def due(self, caller: int) -> AsyncIterator[int]:
        """When the messages of a caller are to be sent in an open loop; each when it is time."""
        job, loop = self.job, asyncio.get_running_loop()
        interval_ns = int(1e9 * job.callers * job.size / job.orders_per_second)
        at = time.monotonic_ns() + interval_ns * caller // job.callers
        while at < self.end_ns:
            ahead = at - time.monotonic_ns()
            if ahead > 0:
                timer = loop.create_future()
                loop.call_later(ahead / 1e9, timer.set_result, None)
                await timer
            yield at
            at += interval_ns


def requests(job: Job) -> Iterator[Request]:
    """For ever."""
    source = orders(job)
    while True:
        batch = list(islice(source, job.size))
        messages = [order.message() for order in batch]
        if job.kind == "placeorders":
            yield Request(order_pb.PlaceOrdersRequest(orders=messages).SerializeToString(), batch)
        else:
            request = order_pb.TradeRequest(orders=messages, ack=order_pb.ACK_LEVEL_ACCEPTED)
            yield Request(request.SerializeToString(), batch)


def prepared(job: Job) -> Iterator[Request]:
    """As many as can be sent in the time are there already."""
    source, each = requests(job), min(PREPARED_PER_SECOND_MAX / job.size, PREPARED_MESSAGES_PER_SECOND_MAX)
    return chain(list(islice(source, int(each * (job.warm_seconds + job.seconds)))), source)


async def _call(run: Run, caller: int, channel: grpc.aio.Channel) -> None:
    """PlaceOrders, one after the other; or each when it is due."""
    place: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PLACE_ORDERS)
    who = (("x-clearbook-user", f"bench-{caller}"),)

    async def one(started: int) -> None:
        data, batch = run.next()
        answer = await place(data, metadata=who, timeout=ANSWER_SECONDS_MAX)
        run.done.append((started, time.monotonic_ns(), 0, answer, batch))

    if run.job.orders_per_second:
        async with asyncio.TaskGroup() as group:
            async for at in run.due(caller):
                group.create_task(one(at))
    while not run.over:
        await one(time.monotonic_ns())


async def _talk(run: Run, caller: int, channel: grpc.aio.Channel) -> None:
    """One Trade stream: a request goes as soon as fewer than job.in_flight are on their way; or when it is due."""
    stream: Any = channel.stream_stream(TRADE)(metadata=(("x-clearbook-user", f"bench-{caller}"),))
    sent: deque[tuple[int, Batch]] = deque()

    async def write(started: int) -> None:
        data, batch = run.next()
        sent.append((started, batch))
        await stream.write(data)

    async def read() -> bool:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            message = await stream.read()
        if message is grpc.aio.EOF:
            return False
        ended = time.monotonic_ns()
        answers = 1 if run.job.bare else len(order_pb.TradeResponse.FromString(message).answers)
        for place in range(answers):
            started, batch = sent.popleft()
            run.done.append((started, ended, place, message, batch))
        return True

    async def read_all() -> None:
        while await read():
            pass

    async with asyncio.TaskGroup() as group:
        if run.job.orders_per_second:
            group.create_task(read_all())
            async for at in run.due(caller):
                await write(at)
        else:
            while sent or not run.over:
                while len(sent) < run.job.in_flight and not run.over:
                    await write(time.monotonic_ns())
                await read()
        await stream.done_writing()
    assert not sent, f"{len(sent)} requests were not answered"


_WAYS: dict[str, Callable[[Run, int, grpc.aio.Channel], Any]] = {"placeorders": _call, "trade": _talk}


async def perform(job: Job, ready: Callable[[], Awaitable[None]]) -> Outcome:
    """Makes the requests, warms up, measures, then checks every answer."""
    run = Run(job, prepared(job))
    await ready()
    cpu = time.process_time()
    run.begin_ns = time.monotonic_ns() + int(job.warm_seconds * 1e9)
    run.end_ns = run.begin_ns + int(job.seconds * 1e9)
    async with grpc.aio.insecure_channel(job.address, options=GRPC_OPTIONS) as channel, asyncio.TaskGroup() as group:
        for caller in range(job.callers):
            group.create_task(_WAYS[job.kind](run, caller, channel))
    cpu = time.process_time() - cpu
    wrong = [found for _, _, place, message, batch in run.done if (found := _wrong(job, place, message, batch))]
    return Outcome(
        sent=run.sent,
        seconds=job.seconds,
        cpu_ms=cpu * 1e3,
        latencies_ns=[
            ended - started for started, ended, _, _, batch in run.done if _counts(run, started, ended) for _ in batch
        ],
        wrong=wrong[:WRONG_MAX],
    )


def _counts(run: Run, started: int, ended: int) -> bool:
    """Of a closed loop what was answered in the measured time; of an open one what was due in it, however late."""
    return run.begin_ns <= (started if run.job.orders_per_second else ended) < run.end_ns


def _wrong(job: Job, place: int, message: bytes, batch: Batch) -> str:
    """What is wrong about the answer to a batch; "" if nothing is."""
    names = [order.client_order_id for order in batch]
    if job.bare:
        kind: Any = order_pb.PlaceOrdersRequest if job.kind == "placeorders" else order_pb.TradeRequest
        echoed = [order.client_order_id for order in kind.FromString(message).orders]
        return "" if echoed == names else f"{names} became {echoed}"
    if job.kind == "placeorders":
        outcomes: Any = order_pb.PlaceOrdersResponse.FromString(message).outcomes
        placed = [outcome.placed.order for outcome in outcomes]
        good = all(order.state == order_pb.ORDER_STATE_OPEN for order in placed)
    else:
        outcomes = order_pb.TradeResponse.FromString(message).answers[place].orders
        placed = list(outcomes)
        good = all(outcome.order_id for outcome in outcomes)
    return "" if good and [order.client_order_id for order in placed] == names else f"{names} became {outcomes}"
