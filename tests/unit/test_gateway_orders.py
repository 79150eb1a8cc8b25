"""Orders: who asks for one in flight by the client's id, and how long an answer may be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from services.errors import Reason, Rejected
from services.order_gateway.cancels import Cancels
from services.order_gateway.chain_domain import ChainDomain
from services.order_gateway.fees import Rates
from services.order_gateway.model import (
    CancelCause,
    Execution,
    Order,
    OrderPlaced,
    OrderState,
    Placed,
    Placement,
    Refused,
    Terms,
    TimeInForce,
    Trigger,
    Wanted,
    WantedGroup,
)
from services.order_gateway.orders import PLACED_EXECUTIONS_MAX, Orders
from services.order_gateway.outcomes import outcomes
from services.order_gateway.replaces import growth
from services.order_gateway.session import Session
from services.order_gateway.tiers import Schedule, parse_tiers
from services.order_gateway.wire import AMOUNT_MAX, CLIENT_ORDER_ID_CHARS_MAX, placed
from services.runtime.rpc import MESSAGE_BYTES_MAX
from services.units import INT64_MAX
from tests.unit.gateway_values import ALICE, BOB, MARKET, Journal, ledger, order

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    orders = Orders(
        fold, session, cast("Store", EmptyStore()), Schedule(parse_tiers("", Rates(0, 0)), fold), 10, ChainDomain()
    )
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
    orders = Orders(
        fold, session, cast("Store", EmptyStore()), Schedule(parse_tiers("", Rates(0, 0)), fold), 10, ChainDomain()
    )
    ask = orders.get if method == "get" else Cancels(fold, session, orders).cancel
    with pytest.raises(Rejected) as caught:
        await ask(BOB, name, 5)
    assert caught.value.reason is Reason.ORDER_NOT_FOUND
    assert (await orders.find(ALICE, name, 5)).account_id == ALICE


SELL = order(buys=False, lock=1_000_000)
TAKEN = order(filled_lots=40, lock=180_000_000)
GROWTHS = [
    # an order, its new price and quantity, and what it may come to set aside more: 10^4 base units a lot sold
    (order(), 3_000_000, 100, 0),
    (order(), 3_000_000, 50, 0),
    (order(), 3_000_000, 101, 3_000_000),
    (order(), 3_000_001, 100, 100),
    (order(), 2_999_999, 100, 0),
    (order(), 2_000_000, 150, 100_000_000),  # if all 100 trade on the way, what is left is 50 at the new price
    (TAKEN, 3_000_000, 110, 30_000_000),
    (TAKEN, 3_100_000, 100, 6_000_000),
    (SELL, 9_000_000, 100, 0),
    (SELL, 3_000_000, 120, 200_000),
    (order(state=OrderState.WAITING, limit=False, price_ticks=0, budget=7, lock=7), 0, 200, 0),
    (order(lock=0), 3_000_000, 100, 300_000_000),  # one that another one sets aside for
]


@pytest.mark.parametrize(("before", "price_ticks", "quantity_lots", "more"), GROWTHS)
def test_by_how_much_a_replaced_order_may_set_aside_more(
    before: Order, price_ticks: int, quantity_lots: int, more: int
) -> None:
    assert growth(before, price_ticks, quantity_lots, MARKET) == more


class FullStore(EmptyStore):
    """A database that has orders which memory let go."""

    def __init__(self, *orders: Order) -> None:
        self._orders = {(order.account_id, order.client_order_id): order for order in orders}

    async def client_ids_ended_since(self, *_: int) -> tuple[list[tuple[int, str]], bool]:
        return list(self._orders), True

    async def former_names_since(self, *_: int) -> tuple[list[tuple[int, str]], bool]:
        return [], True

    async def orders_by_client(self, ids: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Order]:
        return {key: self._orders[key] for key in ids if key in self._orders}

    async def passed(self, _sequence: int) -> None:
        """It is never behind."""

    async def placed_as(self, order: Order) -> str:
        return order.client_order_id

    async def taken(self, _order: Order) -> list[Execution]:
        return []


ASK = Placement(MARKET, False, True, TimeInForce.GTC, False, 3_000_000, 100, None)
GUARD = Placement(
    MARKET, False, True, TimeInForce.GTC, False, 2_000_000, 100, None, Terms(trigger=Trigger.STOP, trigger_ticks=1)
)


def stored(order_id: int, name: str, asked: Placement) -> Order:
    ended = {"state": OrderState.CANCELED, "cause": CancelCause.USER, "lock": 0, "event_sequence": 11}
    kept = {"buys": False, "price_ticks": asked.price_ticks, "terms": asked.terms, "client_order_id": name}
    return order(order_id=order_id, **ended, **kept)


GROUPS = [
    # orders that only the database has; what the same two exits, sent again, come to
    ([stored(1, "a", ASK), stored(2, "b", GUARD)], [1, 2]),
    ([stored(1, "a", ASK)], Reason.CLIENT_ORDER_ID_REUSED),
    ([stored(1, "a", GUARD), stored(2, "b", GUARD)], Reason.CLIENT_ORDER_ID_REUSED),
]


@pytest.mark.parametrize(("known", "becomes"), GROUPS)
async def test_a_group_that_only_the_database_has(known: list[Order], becomes: list[int] | Reason) -> None:
    fold = ledger(alice_btc=10**30)
    session = Session(fold, gateway=1)
    session.open(1, 100)
    fees = Schedule(parse_tiers("", Rates(0, 0)), fold)
    orders = Orders(fold, session, cast("Store", FullStore(*known)), fees, 10, ChainDomain())
    await orders.load_seen()
    wanted = WantedGroup((Wanted(ASK, "a"), Wanted(GUARD, "b")), has_entry=False)
    found = await outcomes(orders.begin_group(ALICE, wanted).promises, 5)
    if isinstance(becomes, Reason):
        assert becomes in [item.reason for item in found if isinstance(item, Rejected)]
    else:
        assert [item.order.order_id for item in found if isinstance(item, Placed)] == becomes
    assert not fold.balance(ALICE, 1).reserved, "nothing was sent to the book"


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
