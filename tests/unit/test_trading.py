"""A Trade stream takes no more than may be in flight: what is not answered, or not read by its client, counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import pytest
from clearbook.v1 import order_service_pb2 as pb

from services.order_gateway.cancels import Cancels
from services.order_gateway.disconnects import Disconnects
from services.order_gateway.fees import Rates
from services.order_gateway.identity.who import Caller, Identity
from services.order_gateway.model import Refused
from services.order_gateway.orders import Orders
from services.order_gateway.rpcs import trading
from services.order_gateway.session import Session
from services.order_gateway.tiers import Schedule, parse_tiers
from tests.unit.gateway_values import ALICE, Journal, ledger

if TYPE_CHECKING:
    from services.order_gateway.store import Store

STEP_SECONDS_MAX = 5.0


async def requests(taken: list[int]) -> AsyncIterator[pb.TradeRequest]:
    """Five of four orders each."""
    for number in range(5):
        taken.append(number)
        order = pb.PlaceOrderRequest(market="BTC-USD", side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT)
        order.price, order.quantity = "10.00", "1"
        yield pb.TradeRequest(request_id=number, orders=[order] * 4)


async def test_requests_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trading, "IN_FLIGHT_ORDERS_MAX", 10)
    fold = ledger(alice_usd=10**30)
    journal, session = Journal(fold), Session(fold, gateway=1)
    session.open(1, 100)
    orders = Orders(fold, session, cast("Store", None), Schedule(parse_tiers("", Rates(0, 0)), fold), 100)
    cancels = Cancels(fold, session, orders)
    handlers = trading.TradingHandlers(fold, orders, cancels, Disconnects(cancels))
    taken, written = list[int](), asyncio.Queue[Any]()
    reads = asyncio.Semaphore(0)

    async def write(response: pb.TradeResponse) -> None:
        await reads.acquire()
        written.put_nowait(response)

    caller = Caller(Identity("alice", frozenset()), ALICE)
    talk = asyncio.create_task(handlers.trade(caller, requests(taken), lambda _: None, write))

    async def land(count: int) -> None:
        """The book answers so many orders."""
        left = count
        while left:
            for command in await session.batch():
                flight = session.landed(command.command_id)
                assert flight is not None
                flight.end(journal.say(Refused("MARKET_HALTED"), command.command_id))
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
