"""The load in batches: PlaceOrders, one call at a time, and Trade streams with a few requests on their way."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import grpc
from clearbook.v1 import order_service_pb2 as order_pb

from bench.load import ANSWER_SECONDS_MAX, GRPC_OPTIONS, WRONG_MAX, Job, Order, Outcome, orders

PLACE_ORDERS = "/clearbook.v1.OrderService/PlaceOrders"
TRADE = "/clearbook.v1.OrderService/Trade"
REQUESTS_MAX = 2
"""Of one Trade stream, on their way at once."""

Batch = list[Order]


@dataclass
class Run:
    """One job on its way."""

    job: Job
    source: Iterator[Order]
    end_ns: int
    sent: int = 0
    done: list[tuple[int, int, int, bytes, Batch]] = field(default_factory=list)
    """When it was sent, when it was answered, which of the answers in the message it is, the message, the batch."""

    def batch(self) -> Batch:
        """The next orders."""
        made = list(islice(self.source, self.job.size))
        self.sent += len(made)
        return made

    @property
    def over(self) -> bool:
        """Nothing more is to be sent."""
        return time.monotonic_ns() >= self.end_ns


def _messages(batch: Batch) -> list[order_pb.PlaceOrderRequest]:
    return [order.message() for order in batch]


async def _call(run: Run, caller: int, channel: grpc.aio.Channel) -> None:
    """PlaceOrders, one after the other."""
    place: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PLACE_ORDERS)
    who = (("x-clearbook-user", f"bench-{caller}"),)
    while not run.over:
        started, batch = time.monotonic_ns(), run.batch()
        request = order_pb.PlaceOrdersRequest(orders=_messages(batch)).SerializeToString()
        answer = await place(request, metadata=who, timeout=ANSWER_SECONDS_MAX)
        run.done.append((started, time.monotonic_ns(), 0, answer, batch))


async def _talk(run: Run, caller: int, channel: grpc.aio.Channel) -> None:
    """One Trade stream: the next request goes as soon as fewer than REQUESTS_MAX are on their way."""
    stream: Any = channel.stream_stream(TRADE)(metadata=(("x-clearbook-user", f"bench-{caller}"),))
    sent: deque[tuple[int, Batch]] = deque()
    while sent or not run.over:
        while len(sent) < REQUESTS_MAX and not run.over:
            sent.append((time.monotonic_ns(), run.batch()))
            request = order_pb.TradeRequest(orders=_messages(sent[-1][1]), ack=order_pb.ACK_LEVEL_ACCEPTED)
            await stream.write(request.SerializeToString())
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            message = await stream.read()
        ended = time.monotonic_ns()
        answers = 1 if run.job.bare else len(order_pb.TradeResponse.FromString(message).answers)
        for place in range(answers):
            started, batch = sent.popleft()
            run.done.append((started, ended, place, message, batch))
    await stream.done_writing()


_WAYS: dict[str, Callable[[Run, int, grpc.aio.Channel], Any]] = {"placeorders": _call, "trade": _talk}


async def perform(job: Job) -> Outcome:
    """Warms up, measures, then checks every answer."""
    begin = time.monotonic_ns() + int(job.warm_seconds * 1e9)
    end = begin + int(job.seconds * 1e9)
    run = Run(job, orders(job), end)
    async with grpc.aio.insecure_channel(job.address, options=GRPC_OPTIONS) as channel, asyncio.TaskGroup() as group:
        for caller in range(job.callers):
            group.create_task(_WAYS[job.kind](run, caller, channel))
    wrong = [found for _, _, place, message, batch in run.done if (found := _wrong(job, place, message, batch))]
    return Outcome(
        sent=run.sent,
        seconds=job.seconds,
        latencies_ns=[
            ended - started for started, ended, _, _, batch in run.done if begin <= ended < end for _ in batch
        ],
        wrong=wrong[:WRONG_MAX],
    )


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
