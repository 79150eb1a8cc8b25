"""An outside witness: people who trade through the public API while things break, and who remember every answer.

Each trader sends one order after another; what is refused as UNAVAILABLE or runs into its deadline is sent again with
the same client_order_id until it is answered. What was answered is remembered: it must be in the journal afterwards.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import httpx
from clearbook.v1 import book_service_pb2 as market_data
from clearbook.v1 import order_service_pb2 as orders

from clearbook.book import LocalBook
from services.runtime.streams import Backoff
from tests.suite import fresh, user

if TYPE_CHECKING:
    from tests.suite import Clients, Suite

MARKETS = {"BTC-USD": ("0.01", 3_000_000, "0.00001"), "ETH-USD": ("0.01", 200_000, "0.0001")}
"""Tick size, middle price in ticks, lot size."""
CALL_SECONDS_MAX = 10.0
GIVE_UP_SECONDS = 120.0
SPREAD_TICKS = 20
POLL_SECONDS = 0.05
TIMES_IN_FORCE = [orders.TIME_IN_FORCE_GTC] * 8 + [orders.TIME_IN_FORCE_IOC, orders.TIME_IN_FORCE_FOK]
RETRY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)


@dataclass
class Answer:
    """One acknowledged order."""

    trader: str
    request: orders.PlaceOrderRequest
    response: orders.PlaceOrderResponse | None
    """None where REST answered: it tells no more than that the order was taken."""


@dataclass
class Witness:
    """Traders under way, and what they were told."""

    suite: Suite
    seed: int
    traders: int = 24
    orders_per_second: int = 400
    answers: list[Answer] = field(default_factory=list)
    cancels: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    """Refusals other than "try again": with funds for all, there should be none."""
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Names that nobody else uses."""
        self.names = [fresh(f"trader{number}") for number in range(self.traders)]

    async def run(self, until: asyncio.Event) -> None:
        """Trades until the event; every order that was begun is answered before it returns."""
        async with (
            self.suite.clients() as clients,
            httpx.AsyncClient(base_url=self.suite.http, timeout=20) as rest,
            asyncio.TaskGroup() as group,
        ):
            for number, name in enumerate(self.names):
                dice = random.Random(self.seed * 1000 + number)
                group.create_task(self._trade(name, dice, clients, rest if number % 4 == 3 else None, until))

    async def answered(self, more: int) -> None:
        """Waits until that many more orders have been answered."""
        target = len(self.answers) + more
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                while len(self.answers) < target:
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"only {len(self.answers)} of {target} answers; refused: {self.refused[:3]}") from None

    async def _trade(
        self, name: str, dice: random.Random, clients: Clients, rest: httpx.AsyncClient | None, until: asyncio.Event
    ) -> None:
        clock = asyncio.get_running_loop().time
        due, mine = clock(), list[str]()
        number = 0
        while not until.is_set():
            number += 1
            request = _order(dice, f"{name}-{number}")
            if rest is not None:
                await self._post(rest, name, request)
            elif mine and dice.random() < 0.25:
                await self._cancel(clients, name, mine.pop(dice.randrange(len(mine))))
            else:
                response = await self._place(clients, name, request)
                if response is not None and response.order.state == orders.ORDER_STATE_OPEN:
                    mine.append(response.order.order_id)
            due = max(due + self.traders / self.orders_per_second, clock() - 1)
            await asyncio.sleep(max(0.0, due - clock()))

    async def _place(
        self, clients: Clients, name: str, request: orders.PlaceOrderRequest
    ) -> orders.PlaceOrderResponse | None:
        response: orders.PlaceOrderResponse | None = await self._insist(clients.orders.PlaceOrder, request, name)
        if response is not None:
            self.answers.append(Answer(name, request, response))
        return response

    async def _cancel(self, clients: Clients, name: str, order_id: str) -> None:
        request = orders.CancelOrderRequest(order_id=order_id)
        if await self._insist(clients.orders.CancelOrder, request, name, ended_is_fine=True) is not None:
            self.cancels.add(order_id)

    async def _insist(self, method: Any, request: object, name: str, *, ended_is_fine: bool = False) -> Any:
        """Calls until there is an answer."""
        backoff = Backoff(seconds_max=0.5)
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while True:
                try:
                    return await method(request, metadata=user(name), timeout=CALL_SECONDS_MAX)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in RETRY:
                        if not (ended_is_fine and error.code() is grpc.StatusCode.FAILED_PRECONDITION):
                            self.refused.append(f"{error.code().name} {error.details()}")
                        return None
                await asyncio.sleep(backoff.next_seconds())

    async def _post(self, rest: httpx.AsyncClient, name: str, request: orders.PlaceOrderRequest) -> None:
        body = {
            "order_id": request.client_order_id,
            "user_id": name,
            "pair": request.market,
            "order_type": "limit",
            "side": "buy" if request.side == orders.SIDE_BUY else "sell",
            "price": request.price,
            "amount": request.quantity,
        }
        backoff = Backoff(seconds_max=0.5)
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while True:
                try:
                    answer = await rest.post("/api/v1/order", json=body)
                except httpx.TransportError:
                    answer = None
                if answer is not None and answer.status_code == 200:
                    self.answers.append(Answer(name, request, None))
                    return
                if answer is not None and answer.status_code not in {429, 503, 504}:
                    self.refused.append(f"REST {answer.status_code} {answer.text}")
                    return
                await asyncio.sleep(backoff.next_seconds())


def _order(dice: random.Random, identity: str) -> orders.PlaceOrderRequest:
    """A limit order near the middle: about half of them trade."""
    market = dice.choice(list(MARKETS))
    _, middle, _ = MARKETS[market]
    buys = dice.random() < 0.5
    ticks = middle + dice.randint(-SPREAD_TICKS, SPREAD_TICKS)
    lots = dice.randint(1, 500)
    return orders.PlaceOrderRequest(
        client_order_id=identity,
        market=market,
        side=orders.SIDE_BUY if buys else orders.SIDE_SELL,
        type=orders.ORDER_TYPE_LIMIT,
        time_in_force=dice.choice(
            [orders.TIME_IN_FORCE_GTC] * 8 + [orders.TIME_IN_FORCE_IOC, orders.TIME_IN_FORCE_FOK]
        ),
        price=f"{ticks // 100}.{ticks % 100:02d}",
        quantity=f"0.{lots:05d}" if market == "BTC-USD" else f"0.{lots:04d}",
    )


@dataclass
class BookWatcher:
    """Somebody who keeps a local book by the published procedure, and resumes whenever the stream breaks.

    `LocalBook.apply` raises OutOfStep at the first gap, repetition or wrong checksum: then the test fails.
    """

    market: str
    book: LocalBook
    deltas: int = 0
    resumed: int = 0
    snapshots: int = 0

    @classmethod
    def of(cls, market: str) -> BookWatcher:
        """Somebody who has heard nothing yet."""
        tick_size, _, lot_size = MARKETS[market]
        listed = market_data.Market(market=market, tick_size=tick_size, lot_size=lot_size)
        return cls(market, LocalBook(listed))

    async def run(self, clients: Clients) -> None:
        """Follows for ever."""
        backoff = Backoff(seconds_max=0.5)
        while True:
            request = market_data.StreamOrderBookRequest(
                market=self.market, resume_from_sequence=self.book.sequence, incarnation=self.book.incarnation
            )
            self.resumed += bool(self.book.sequence)
            try:
                async for message in clients.book.StreamOrderBook(request):
                    backoff.reset()
                    self.snapshots += message.HasField("snapshot")
                    self.deltas += message.HasField("delta")
                    self.book.apply(message)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(backoff.next_seconds())
