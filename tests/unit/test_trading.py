"""A Trade stream: what may be in flight, how long an answer is waited for, and what is canceled after its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from clearbook.v1 import order_service_pb2 as pb

from services.order_gateway import batch_wire, disconnects
from services.order_gateway.call import Call
from services.order_gateway.cancels import Cancels
from services.order_gateway.chain_domain import ChainDomain
from services.order_gateway.disconnects import Disconnects
from services.order_gateway.fees import Rates
from services.order_gateway.identity.who import Caller, Identity
from services.order_gateway.limits import Limits, LimitSettings
from services.order_gateway.model import CancelCause, CancelOrder, Order, OrderPlaced, PlaceOrder, Refused
from services.order_gateway.orders import Orders
from services.order_gateway.replaces import Replaces
from services.order_gateway.rpcs import trading
from services.order_gateway.session import Flight, Session
from services.order_gateway.tiers import Schedule, parse_tiers
from tests.unit.gateway_values import ALICE, Journal, ledger, order

if TYPE_CHECKING:
    from services.order_gateway.methods import Count, Write
    from services.order_gateway.store import Store

STEP_SECONDS_MAX = 5.0


async def requests(taken: list[int]) -> AsyncIterator[pb.TradeRequest]:
    """Five of four orders each."""
    for number in range(5):
        taken.append(number)
        yield pb.TradeRequest(request_id=number, orders=[bid()] * 4)


class SlowStore:
    """A database that is asked, and answers "no such orders" when it may."""

    def __init__(self) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def client_ids_ended_since(self, *_: int) -> tuple[list[tuple[int, str]], bool]:
        """So many that every new id is to be looked up."""
        return [], False

    async def former_names_since(self, *_: int) -> tuple[list[tuple[int, str]], bool]:
        """None was replaced."""
        return [], True

    async def orders_by_client(self, _: list[tuple[int, str]]) -> dict[tuple[int, str], Order]:
        self.asked.set()
        await self.may_answer.wait()
        return {}


class Desk:
    """Trade beside a book that the test plays, and alice's one stream."""

    def __init__(self) -> None:
        self.fold = ledger(alice_usd=10**30)
        self.journal, self.session = Journal(self.fold), Session(self.fold, gateway=1)
        self.session.open(1, 100)
        self.store = SlowStore()
        fees = Schedule(parse_tiers("", Rates(0, 0)), self.fold)
        self.orders = Orders(self.fold, self.session, cast("Store", self.store), fees, 100, ChainDomain())
        cancels = Cancels(self.fold, self.session, self.orders)
        self.disconnects = Disconnects(cancels)
        replaces = Replaces(self.fold, self.session, self.orders)
        self._handlers = trading.TradingHandlers(self.fold, self.orders, replaces, cancels, self.disconnects)
        self.written = asyncio.Queue[pb.TradeResponse]()

    async def talk(
        self, requests: AsyncIterator[pb.TradeRequest], write: Write | None = None, count: Count = lambda _: None
    ) -> None:
        caller = Caller(Identity("alice", frozenset()), ALICE)
        await self._handlers.trade(caller, requests, count, write or self.written.put)

    async def commands(self) -> list[Flight]:
        async with asyncio.timeout(STEP_SECONDS_MAX):
            return await self.session.batch()

    def place(self, command: Flight) -> None:
        """The book takes an order."""
        body = command.body
        assert isinstance(body, PlaceOrder), body
        self._land(command, OrderPlaced(order(client_order_id=body.client_order_id), ()))

    def refuse(self, command: Flight) -> None:
        self._land(command, Refused("MARKET_HALTED"))

    def _land(self, command: Flight, outcome: Any) -> None:
        flight = self.session.landed(command.command_id)
        assert flight is not None
        flight.end(self.journal.say(outcome, command.command_id))


async def test_requests_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trading, "IN_FLIGHT_ORDERS_MAX", 10)
    desk = Desk()
    taken, written = list[int](), desk.written
    reads = asyncio.Semaphore(0)

    async def write(response: pb.TradeResponse) -> None:
        await reads.acquire()
        written.put_nowait(response)

    talk = asyncio.create_task(desk.talk(requests(taken), write))

    async def land(count: int) -> None:
        """The book answers so many orders."""
        left = count
        while left:
            for command in await desk.commands():
                desk.refuse(command)
                left -= 1

    async with asyncio.timeout(STEP_SECONDS_MAX):
        await land(8)
        await asyncio.sleep(0.05)
        assert taken == [0, 1, 2], "two are on their way; a third waits for room, and no fourth is read"
        reads.release()
        first = await written.get()
        assert [answer.request_id for answer in first.answers] == [0, 1], "what is known together is told together"
        await land(8)
        for _ in range(5):
            reads.release()
        await land(4)
        await talk
    rest = [answer.request_id for _ in range(written.qsize()) for answer in written.get_nowait().answers]
    assert rest == [2, 3, 4]


def bid(client_order_id: str = "") -> pb.PlaceOrderRequest:
    """An order that rests."""
    bid = pb.PlaceOrderRequest(market="BTC-USD", side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT)
    bid.price, bid.quantity, bid.client_order_id = "10.00", "1", client_order_id
    return bid


async def quotes() -> AsyncIterator[pb.TradeRequest]:
    """One order, to be canceled on disconnect; then the client says no more."""
    yield pb.TradeRequest(request_id=1, orders=[bid("quote")], cancel_on_disconnect=True)
    await asyncio.Event().wait()


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """One whose answers are DEADLINE after 0.1 s. What ended streams leave is canceled."""
    for module in (trading, disconnects):
        monkeypatch.setattr(module, "ANSWER_SECONDS_MAX", 0.1)
    desk = Desk()
    cleaning = asyncio.create_task(desk.disconnects.run())
    yield desk
    cleaning.cancel()
    await asyncio.wait([cleaning])


async def end(talk: asyncio.Task[None]) -> None:
    talk.cancel()
    await asyncio.wait([talk])


async def is_canceled(desk: Desk, placing: Flight) -> None:
    """The book takes the order late; then it hears of its cancel."""
    await asyncio.sleep(0.3)  # longer than an answer is waited for
    desk.place(placing)
    (canceling,) = await desk.commands()
    assert canceling.body == CancelOrder(ALICE, 1, CancelCause.DISCONNECT)


async def test_an_order_whose_id_is_looked_up_when_the_stream_ends_is_canceled(desk: Desk) -> None:
    await desk.orders.load_seen()
    talk = asyncio.create_task(desk.talk(quotes()))
    async with asyncio.timeout(STEP_SECONDS_MAX):
        await desk.store.asked.wait()
    await end(talk)
    desk.store.may_answer.set()
    (placing,) = await desk.commands()
    await is_canceled(desk, placing)


async def test_an_order_on_its_way_when_the_stream_ends_is_canceled_however_late_it_lands(desk: Desk) -> None:
    talk = asyncio.create_task(desk.talk(quotes()))
    (placing,) = await desk.commands()
    await end(talk)
    await is_canceled(desk, placing)


async def test_an_order_that_was_answered_deadline_is_canceled_when_the_stream_ends(desk: Desk) -> None:
    talk = asyncio.create_task(desk.talk(quotes()))
    (placing,) = await desk.commands()
    async with asyncio.timeout(STEP_SECONDS_MAX):
        (answer,) = (await desk.written.get()).answers
    assert answer.orders[0].refusal.reason == "DEADLINE"
    await end(talk)
    await is_canceled(desk, placing)


@pytest.mark.parametrize("part", ["names", "replacements", "wanted", "groups"])
async def test_nothing_of_a_request_is_carried_out_before_all_of_it_is_read(
    desk: Desk, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.journal.say(OrderPlaced(order(client_order_id="old"), ()))

    def unreadable(*_: Any) -> None:
        raise ArithmeticError

    async def one() -> AsyncIterator[pb.TradeRequest]:
        yield pb.TradeRequest(cancels=[pb.CancelOrderRequest(client_order_id="old")], orders=[bid()])

    monkeypatch.setattr(batch_wire, part, unreadable)
    with pytest.raises(ExceptionGroup) as raised:
        await desk.talk(one())
    assert raised.group_contains(ArithmeticError)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(desk.session.batch(), 0.05)


async def test_requests_that_are_refused_as_a_whole_count(desk: Desk, tmp_path: Path) -> None:
    settings = LimitSettings(_env_file=tmp_path / "none", limit_account_requests="1/501")  # type: ignore[call-arg]
    limits = Limits(settings, clock=lambda: 0)

    async def refused() -> AsyncIterator[pb.TradeRequest]:
        for cancels in (501, 1, 0):
            yield pb.TradeRequest(cancels=[pb.CancelOrderRequest(order_id="1")] * cancels)

    async with asyncio.timeout(STEP_SECONDS_MAX):
        await desk.talk(refused(), count=lambda weight: limits.identified(Call(""), "alice", weight))
    answers = [answer for _ in range(desk.written.qsize()) for answer in desk.written.get_nowait().answers]
    assert [answer.refusal.reason for answer in answers] == ["TOO_LARGE", "RATE_LIMITED", "RATE_LIMITED"]


async def test_cancels_and_orders_of_a_request_share_the_time_of_an_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trading, "ANSWER_SECONDS_MAX", 0.5)
    desk.journal.say(OrderPlaced(order(), ()))

    async def both() -> AsyncIterator[pb.TradeRequest]:
        yield pb.TradeRequest(request_id=1, cancels=[pb.CancelOrderRequest(order_id="1")], orders=[bid()])

    begun = asyncio.get_running_loop().time()
    async with asyncio.timeout(STEP_SECONDS_MAX):
        await desk.talk(both())
    assert asyncio.get_running_loop().time() - begun < 0.9
    (answer,) = desk.written.get_nowait().answers
    assert [item.refusal.reason for item in (*answer.cancels, *answer.orders)] == ["DEADLINE"] * 2
