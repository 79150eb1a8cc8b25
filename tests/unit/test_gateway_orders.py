"""Orders in flight: what those hear who ask for them by the client's id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from services.errors import Reason, Rejected
from services.order_gateway.fees import Rates, Schedule
from services.order_gateway.model import Placement, Refused, TimeInForce
from services.order_gateway.orders import Orders
from services.order_gateway.session import Session
from tests.unit.gateway_values import ALICE, MARKET, Journal, ledger

if TYPE_CHECKING:
    from services.order_gateway.model import Order
    from services.order_gateway.store import Store


class EmptyStore:
    """A database without orders."""

    async def order_by_client(self, account_id: int, client_order_id: str) -> Order | None:  # noqa: ARG002
        return None


@pytest.mark.parametrize("method", ["get", "cancel"])
async def test_an_order_in_flight_that_is_refused_is_not_found(method: str) -> None:
    fold = ledger(alice_usd=10**30)
    journal, session = Journal(fold), Session(fold, gateway=1)
    session.open(1, 100)
    orders = Orders(fold, session, cast("Store", EmptyStore()), Schedule(Rates(0, 0)), 10)
    bid = Placement(MARKET, True, True, TimeInForce.GTC, False, 1_000, 10, None)
    placing = asyncio.create_task(orders.place(ALICE, bid, "mine", 5))
    (command,) = await asyncio.wait_for(session.batch(), 5)
    asking = asyncio.create_task(getattr(orders, method)(ALICE, "mine", 5))
    await asyncio.sleep(0)
    assert not asking.done(), "its outcome is waited for"
    with pytest.raises(Rejected) as late:
        await getattr(orders, method)(ALICE, "mine", 0.01)
    assert late.value.reason is Reason.DEADLINE, "nobody knows yet"
    flight = session.landed(command.command_id)
    assert flight is not None
    flight.done.set_result(journal.say(Refused("MARKET_HALTED"), command.command_id))
    for waiting, reason in ((placing, Reason.MARKET_HALTED), (asking, Reason.ORDER_NOT_FOUND)):
        with pytest.raises(Rejected) as caught:
            await waiting
        assert caught.value.reason is reason
