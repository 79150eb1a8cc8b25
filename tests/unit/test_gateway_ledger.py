"""The fold's own rules: holds, reservations, memory, loading; and the self-check that watches it."""

from __future__ import annotations

import pytest

from services.market_rules import MarketState
from services.order_gateway import ledger as ledger_module
from services.order_gateway.check import violations
from services.order_gateway.ledger import CLIENT_ID_WINDOW_NS, Ledger, Reservation, Snapshot
from services.order_gateway.model import (
    AccountOpened,
    CancelCause,
    Deposited,
    Event,
    MarketChanged,
    OrderCanceled,
    OrderPlaced,
    OrderState,
    Transfer,
    Transferred,
)
from services.records import replaced
from tests.unit.gateway_values import ALICE, BOB, BTC, CREATED, USD, Journal, ledger, order

RESTS = OrderPlaced(order(), ())


def test_an_order_holds_what_its_event_says() -> None:
    book = ledger(alice_usd=400_000_000)
    say = Journal(book).say
    say(RESTS)
    balance = book.balance(ALICE, 2)
    assert (balance.total, balance.held, balance.available) == (400_000_000, 300_000_000, 100_000_000)
    assert book.books[1].depth.top(True, 1) == [(3_000_000, 100)]
    say(OrderCanceled(1, 0, CancelCause.USER))
    assert (balance.held, balance.available) == (0, 400_000_000)
    assert book.books[1].depth.best(True) is None
    assert not book.open and not book.open_orders(ALICE) and book.orders[1].state is OrderState.CANCELED
    assert violations(book) == []


def test_a_hold_without_funds_stops_the_process() -> None:
    with pytest.raises(AssertionError, match="1001"):
        Journal(ledger(alice_usd=299_999_999)).say(RESTS)


def test_a_transfer_without_funds_stops_the_process() -> None:
    say = Journal(ledger(bob_btc=5)).say
    with pytest.raises(AssertionError, match="1002"):
        say(Transferred(Transfer("t", BOB, ALICE, 1, 6), 1))


def test_outside_may_owe() -> None:
    book = ledger()
    Journal(book).say(Deposited(1, ALICE, 1, 7))
    assert (book.balance(4, 1).total, book.balance(ALICE, 1).total) == (-7, 7)
    assert violations(book) == []


def test_reservations_count_against_what_is_available() -> None:
    book = ledger(alice_usd=10)
    book.reserve(Reservation(ALICE, 2, 7))
    assert (book.balance(ALICE, 2).available, book.balance(ALICE, 2).held) == (3, 0)
    with pytest.raises(AssertionError):
        book.reserve(Reservation(ALICE, 2, 4))
    book = ledger(alice_usd=10)
    book.reserve(Reservation(ALICE, 2, 7))
    book.release(Reservation(ALICE, 2, 7))
    assert book.balance(ALICE, 2).available == 10
    with pytest.raises(AssertionError):
        book.release(Reservation(ALICE, 2, 1))


@pytest.mark.parametrize("sequence", [9, 11])
def test_a_gap_or_a_repetition_stops_the_process(sequence: int) -> None:
    with pytest.raises(AssertionError):
        ledger().apply(Event(sequence, 0, MarketChanged(1, MarketState.HALTED)), 1)


def test_markets_halt_and_open() -> None:
    book = ledger()
    say = Journal(book).say
    for state in (MarketState.HALTED, MarketState.OPEN):
        say(MarketChanged(1, state))
        assert book.books[1].state is state


def test_an_account_is_opened_once() -> None:
    say = Journal(ledger()).say
    say(AccountOpened(1003, "carol"))
    with pytest.raises(AssertionError):
        say(AccountOpened(1004, "carol"))


def test_a_client_id_is_held_while_open_and_a_day_after() -> None:
    book = ledger(alice_usd=400_000_000)
    say = Journal(book).say
    say(RESTS)
    say(OrderCanceled(1, 0, CancelCause.USER), time_ns=5)
    found = book.order_by_client((ALICE, "c1"))
    assert found is not None and found.event_ns == 5
    assert book.order_by_client((BOB, "c1")) is None
    assert book.holds_client_id(found)
    book.time_ns = 5 + CLIENT_ID_WINDOW_NS - 1
    assert book.holds_client_id(found)
    book.time_ns += 1
    assert not book.holds_client_id(found)
    assert book.holds_client_id(order()), "an open one, however old"


def test_memory_lets_go_of_ended_orders_that_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "ENDED_ORDERS_MAX", 2)
    book = ledger()
    say = Journal(book).say
    for number in range(1, 6):
        ended = order(
            order_id=number, client_order_id=f"c{number}", state=OrderState.CANCELED, lock=0,
            create_sequence=9 + number, event_sequence=9 + number,
        )  # fmt: skip
        say(OrderPlaced(ended, ()))
    assert [o.order_id for o in book.forget_ended(stored_sequence=10)] == [1], "the others are not stored yet"
    assert [o.order_id for o in book.forget_ended(stored_sequence=99)] == [2, 3]
    assert sorted(book.orders) == [4, 5]
    assert book.order_by_client((ALICE, "c3")) is None and book.order_by_client((ALICE, "c4")) is not None


def test_loading_finds_holds_depth_and_client_ids_again() -> None:
    open_order = order(filled_lots=40, lock=180_000_000, event_sequence=12)
    reused = order(order_id=3, create_sequence=13, event_sequence=14, state=OrderState.FILLED, lock=0, filled_lots=100)
    older = order(
        order_id=2, create_sequence=5, event_sequence=6, state=OrderState.CANCELED, lock=0, client_order_id="x"
    )
    newer = replaced(reused, client_order_id="x")
    loaded = snapshot((open_order, newer, older), held=180_000_000)
    book = Ledger(loaded)
    assert book.balance(ALICE, 2).held == 180_000_000
    assert book.books[1].depth.top(True, 1) == [(3_000_000, 60)]
    found = book.order_by_client((ALICE, "x"))
    assert found is not None and found.order_id == 3, "the last placed"
    assert violations(book) == []


def test_a_database_that_holds_something_else_is_not_believed() -> None:
    with pytest.raises(AssertionError, match="orders and withdrawals hold"):
        Ledger(snapshot((order(),), held=299_999_999))


def snapshot(orders: tuple[object, ...], held: int) -> Snapshot:
    return Snapshot(
        sequence=20, assets=(BTC, USD), markets=(CREATED,), accounts=(AccountOpened(ALICE, "alice"),),
        balances=((ALICE, 2, 500_000_000, held), (4, 2, -500_000_000, 0)), orders=orders,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("fault", ["created", "negative", "held", "reserved", "lost order", "nobody's order"])
def test_the_self_check_finds_what_is_planted(fault: str) -> None:
    book = ledger(alice_usd=400_000_000)
    Journal(book).say(RESTS)
    assert violations(book) == []
    mine = book.balances[ALICE][2]
    if fault == "created":
        mine.total += 1
    elif fault == "negative":
        book.balances[BOB] = {2: ledger_module.Balance(total=-5)}
        mine.total += 5
    elif fault == "held":
        mine.held -= 1
    elif fault == "reserved":
        mine.reserved = -1
    elif fault == "lost order":
        del book.open[1]
    else:
        del book.open_by_account[ALICE]
    assert violations(book)
