"""Orders: who asks for one in flight by the client's id, and how long an answer may be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from services.errors import Reason, Rejected
from services.order_gateway.cancels import Cancels
from services.order_gateway.fees import Rates
from services.order_gateway.model import Execution, OrderPlaced, Placement, Refused, TimeInForce, Wanted
from services.order_gateway.orders import PLACED_EXECUTIONS_MAX, Orders
from services.order_gateway.session import Session
from services.order_gateway.tiers import Schedule, parse_tiers
from services.order_gateway.wire import AMOUNT_MAX, CLIENT_ORDER_ID_CHARS_MAX, placed
from services.runtime.rpc import MESSAGE_BYTES_MAX
from services.units import INT64_MAX
from tests.unit.gateway_values import ALICE, BOB, MARKET, Journal, ledger, order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.order_gateway.model import Order
    from services.order_gateway.store import Store


class EmptyStore:
    """A database without orders."""

    async def orders_by_client(self, _ids: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Order]:
        return {}


@pytest.mark.parametrize("method", ["get", "cancel"])
async def test_an_order_in_flight_that_is_refused_is_not_found(method: str) -> None:
    fold = ledger(alice_usd=10**30)
    journal, session = Journal(fold), Session(fold, gateway=1)
    session.open(1, 100)
    orders = Orders(fold, session, cast("Store", EmptyStore()), Schedule(parse_tiers("", Rates(0, 0)), fold), 10)
    bid = Placement(MARKET, True, True, TimeInForce.GTC, False, 1_000, 10, None)
    placing = asyncio.create_task(orders.place(ALICE, Wanted(bid, "mine"), 5))
    (command,) = await asyncio.wait_for(session.batch(), 5)
    ask = orders.get if method == "get" else Cancels(fold, session, orders).cancel
    asking = asyncio.create_task(ask(ALICE, "mine", 5))
    await asyncio.sleep(0)
    assert not asking.done(), "its outcome is waited for"
    with pytest.raises(Rejected) as late:
        await ask(ALICE, "mine", 0.01)
    assert late.value.reason is Reason.DEADLINE, "nobody knows yet"
    flight = session.landed(command.command_id)
    assert flight is not None
    flight.end(journal.say(Refused("MARKET_HALTED"), command.command_id))
    for waiting, reason in ((placing, Reason.MARKET_HALTED), (asking, Reason.ORDER_NOT_FOUND)):
        with pytest.raises(Rejected) as caught:
            await waiting
        assert caught.value.reason is reason


@pytest.mark.parametrize("name", [1, "c1"], ids=["our id", "the client's id"])
@pytest.mark.parametrize("method", ["get", "cancel"])
async def test_an_order_is_its_owners_to_name(method: str, name: int | str) -> None:
    """Whoever else names it hears that there is none, and nothing is sent to the book."""
    fold = ledger(alice_usd=10**30)
    Journal(fold).say(OrderPlaced(order(), ()), 1)
    session = Session(fold, gateway=1)
    session.open(1, 100)
    orders = Orders(fold, session, cast("Store", EmptyStore()), Schedule(parse_tiers("", Rates(0, 0)), fold), 10)
    ask = orders.get if method == "get" else Cancels(fold, session, orders).cancel
    with pytest.raises(Rejected) as caught:
        await ask(BOB, name, 0.01)
    assert caught.value.reason is Reason.ORDER_NOT_FOUND
    assert (await orders.find(ALICE, name, 5)).account_id == ALICE


def test_the_answer_to_the_longest_order_fits_into_a_message() -> None:
    huge = order(price_ticks=INT64_MAX, quantity_lots=INT64_MAX, client_order_id="x" * CLIENT_ORDER_ID_CHARS_MAX)
    took = Execution(
        trade_id=INT64_MAX,
        market_id=1,
        order_id=INT64_MAX,
        account_id=ALICE,
        client_order_id=huge.client_order_id,
        buys=True,
        price_ticks=INT64_MAX,
        quantity_lots=INT64_MAX,
        fee=AMOUNT_MAX,
        is_maker=False,
        settlement_sequence=INT64_MAX,
        event_sequence=INT64_MAX,
        event_ns=INT64_MAX,
    )
    answer = placed(huge, [took] * PLACED_EXECUTIONS_MAX, MARKET)
    assert answer.ByteSize() < MESSAGE_BYTES_MAX / 4
