"""The rules of money as a table: one event a row, the postings and orders that it must make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from services.order_gateway import account
from services.order_gateway.account import Posting, PostingKind, sums_to_zero
from services.order_gateway.fees import Rates, net_of_fee
from services.order_gateway.model import (
    CancelCause,
    OrderCanceled,
    OrderChanged,
    OrderPlaced,
    OrdersChanged,
    OrderState,
    Terms,
)
from services.records import replaced
from tests.unit.gateway_values import ALICE, BOB, MARKET, order, trade

B, U = 1, 2
T, F = PostingKind.TRADE, PostingKind.FEE

BUY = order()
SELL = order(order_id=1, buys=False, lock=1_000_000)
BOBS = {"order_id": 2, "account_id": BOB, "event_sequence": 20, "create_sequence": 20, "client_order_id": "b1"}


def taker(**fields: Any) -> Any:
    return order(**BOBS | fields)


ROWS = {
    "a seller takes from a resting buy": (
        taker(buys=False, filled_lots=40, quantity_lots=40, state=OrderState.FILLED, lock=0),
        [trade()],
        {(BOB, B): -400_000, (ALICE, B): 399_600, (ALICE, U): -120_000_000, (BOB, U): 119_760_000, (1, B): 400,
         (1, U): 240_000},
        {1: (40, OrderState.OPEN, 180_000_000), 2: (40, OrderState.FILLED, 0)},
    ),
    "a buyer takes from a resting sell, below its limit": (
        taker(price_ticks=3_100_000, filled_lots=40, quantity_lots=50, lock=31_000_000),
        [trade(maker_fee=120_000, taker_fee=800, maker_lock=600_000)],
        {(ALICE, B): -400_000, (BOB, B): 399_200, (BOB, U): -120_000_000, (ALICE, U): 119_880_000, (1, B): 800,
         (1, U): 120_000},
        {1: (40, OrderState.OPEN, 600_000), 2: (40, OrderState.OPEN, 31_000_000)},
    ),
    "a fill of everything": (
        taker(buys=False, filled_lots=100, quantity_lots=100, state=OrderState.FILLED, lock=0),
        [trade(quantity_lots=100, base_amount=1_000_000, quote_amount=300_000_000, maker_fee=1_000, taker_fee=600_000,
               maker_remaining_lots=0, maker_lock=0)],
        {(BOB, B): -1_000_000, (ALICE, B): 999_000, (ALICE, U): -300_000_000, (BOB, U): 299_400_000, (1, B): 1_000,
         (1, U): 600_000},
        {1: (100, OrderState.FILLED, 0), 2: (100, OrderState.FILLED, 0)},
    ),
    "two trades with one maker order": (
        taker(buys=False, filled_lots=80, quantity_lots=80, state=OrderState.FILLED, lock=0),
        [trade(), trade(trade_id=2, settlement_sequence=2, maker_remaining_lots=20, maker_lock=60_000_000)],
        {(BOB, B): -800_000, (ALICE, B): 799_200, (ALICE, U): -240_000_000, (BOB, U): 239_520_000, (1, B): 800,
         (1, U): 480_000},
        {1: (80, OrderState.OPEN, 60_000_000), 2: (80, OrderState.FILLED, 0)},
    ),
    "no fees": (
        taker(buys=False, filled_lots=40, quantity_lots=40, state=OrderState.FILLED, lock=0, taker_fee_ppm=0),
        [trade(taker_fee=0)],
        {(BOB, B): -400_000, (ALICE, B): 399_600, (ALICE, U): -120_000_000, (BOB, U): 120_000_000, (1, B): 400},
        {1: (40, OrderState.OPEN, 180_000_000), 2: (40, OrderState.FILLED, 0)},
    ),
    "an order that rests": (taker(buys=False, lock=1_000_000), [], {}, {2: (0, OrderState.OPEN, 1_000_000)}),
    "an order that ends at once": (
        taker(state=OrderState.CANCELED, cause=CancelCause.IOC, lock=0), [], {}, {2: (0, OrderState.CANCELED, 0)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_order_placed(name: str) -> None:
    mine, trades, sums, states = ROWS[name]
    maker = BUY if not mine.buys else SELL
    effects = account.placed(OrderPlaced(mine, tuple(trades)), MARKET, {1: maker})
    assert sums_to_zero(effects.postings)
    assert summed(effects.postings) == sums
    assert {o.order_id: (o.filled_lots, o.state, o.lock) for o in effects.orders} == states
    assert [(e.order_id, e.is_maker, e.trade_id) for e in effects.executions] == [
        item for t in trades for item in ((2, False, t.trade_id), (1, True, t.trade_id))
    ]
    for after in effects.orders:
        assert after.event_sequence == 20
    if trades:
        first = effects.orders[0]
        assert first.filled_quote == sum(t.quote_amount for t in trades)
        assert first.create_sequence == 10


def summed(postings: Sequence[Posting]) -> dict[tuple[int, int], int]:
    sums: dict[tuple[int, int], int] = {}
    for posting in postings:
        assert posting.amount, "nothing is posted for nothing"
        key = (posting.account_id, posting.asset_id)
        sums[key] = sums.get(key, 0) + posting.amount
    return sums


SELLS = taker(buys=False, filled_lots=40, quantity_lots=40, state=OrderState.FILLED, lock=0)
LIES = {
    "another base amount": (SELLS, trade(base_amount=400_001)),
    "another quote amount": (SELLS, trade(quote_amount=120_000_001)),
    "a maker fee rounded down": (SELLS, trade(maker_fee=399)),
    "no taker fee": (SELLS, trade(taker_fee=0)),
    "another account's maker": (SELLS, trade(maker_account_id=1003)),
    "a self-trade": (replaced(SELLS, account_id=ALICE), trade()),
    "two buys": (taker(filled_lots=40, quantity_lots=40, state=OrderState.FILLED, lock=0), trade()),
    "another market": (replaced(SELLS, market_id=2), trade()),
    "not the maker's price": (SELLS, trade(price_ticks=2_999_999, quote_amount=119_999_960)),
    "beyond the taker's limit": (replaced(SELLS, price_ticks=3_000_001), trade()),
    "nothing": (replaced(SELLS, filled_lots=0), trade(quantity_lots=0, base_amount=0, quote_amount=0)),
    "a remainder that does not fit": (SELLS, trade(maker_remaining_lots=61)),
    "more than the maker has": (
        replaced(SELLS, filled_lots=101, quantity_lots=101),
        trade(quantity_lots=101, base_amount=1_010_000, quote_amount=303_000_000, maker_remaining_lots=-1),
    ),
    "a lock of a filled order": (
        replaced(SELLS, filled_lots=100, quantity_lots=100),
        trade(quantity_lots=100, base_amount=1_000_000, quote_amount=300_000_000, maker_fee=1_000, taker_fee=600_000,
              maker_remaining_lots=0, maker_lock=1),
    ),
    "trades that do not add up": (replaced(SELLS, filled_lots=41, quantity_lots=41), trade()),
    "an overfilled taker": (replaced(SELLS, quantity_lots=39), trade()),
    "an ended order that locks": (replaced(SELLS, lock=1), trade()),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_what_the_engine_must_not_say_is_not_believed(name: str) -> None:
    mine, lie = LIES[name]
    with pytest.raises(AssertionError):
        account.placed(OrderPlaced(mine, (lie,)), MARKET, {1: BUY})


ICE = Terms(display_lots=10)
SOLD = trade(maker_fee=400, taker_fee=240_000)


def said(*steps: tuple[Any, list[Any]]) -> OrdersChanged:
    return OrdersChanged(tuple(OrderChanged(each, tuple(trades)) for each, trades in steps), ())


CHANGES = {
    # before; the steps; alice's order then: quantity, filled, quote, lock, hidden; as it was first; its former names
    "moved to fewer": (
        BUY, said((order(quantity_lots=50, lock=150_000_000, event_sequence=20, create_sequence=20), [])),
        (50, 0, 0, 150_000_000, 0), (3_000_000, 100), []),
    "renamed": (
        BUY, said((order(client_order_id="c2", event_sequence=20, create_sequence=20), [])),
        (100, 0, 0, 300_000_000, 0), None, ["c1"]),
    "moved, and met by another in the same event": (
        BUY,
        said((order(quantity_lots=200, lock=600_000_000, event_sequence=20, create_sequence=20), []),
             (taker(buys=False, quantity_lots=40, filled_lots=40, state=OrderState.FILLED, lock=0),
              [trade(maker_remaining_lots=160, maker_lock=480_000_000)])),
        (200, 40, 120_000_000, 480_000_000, 0), (3_000_000, 100), []),
    "an iceberg whose shown part has gone shows the next": (
        order(terms=ICE, hidden_lots=60),
        said((taker(buys=False, quantity_lots=40, filled_lots=40, state=OrderState.FILLED, lock=0), [SOLD])),
        (100, 40, 120_000_000, 180_000_000, 50), None, []),
    "an iceberg moved to fewer loses what is hidden": (
        order(terms=ICE, hidden_lots=90),
        said((order(terms=ICE, quantity_lots=60, lock=180_000_000, event_sequence=20, create_sequence=20), [])),
        (60, 0, 0, 180_000_000, 50), (3_000_000, 100), []),
    "what it traded before stays counted": (
        order(filled_lots=40, filled_quote=7, lock=180_000_000),
        said((order(price_ticks=2_900_000, filled_lots=40, filled_quote=0, lock=174_000_000, event_sequence=20,
                    create_sequence=20), [])),
        (100, 40, 7, 174_000_000, 0), (3_000_000, 100), []),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_orders_changed(name: str) -> None:
    before, event, expected, first, once = CHANGES[name]
    effects = account.changed(event, {1: MARKET}, {1: before})
    after = effects.order(1)
    assert after is not None and sums_to_zero(effects.postings)
    shown = (after.quantity_lots, after.filled_lots, after.filled_quote, after.lock, after.hidden_lots)
    assert (shown, after.create_sequence) == (expected, 10)
    assert (None if after.first is None else (after.first.price_ticks, after.first.quantity_lots)) == first
    assert [renamed.client_order_id for renamed in effects.renamed] == once


UNTRUE = {
    "overfilled": said((order(filled_lots=101, event_sequence=20), [])),
    "filled without a trade": said((order(filled_lots=1, event_sequence=20), [])),
    "ended and locks": said((order(state=OrderState.CANCELED, event_sequence=20), [])),
    "another's": said((order(account_id=BOB, event_sequence=20), [])),
    "of the other side": said((order(buys=False, event_sequence=20), [])),
    "not at the maker's price": said(
        (taker(buys=False, quantity_lots=40, filled_lots=40, state=OrderState.FILLED, lock=0),
         [trade(price_ticks=3_000_001)])),
}  # fmt: skip


@pytest.mark.parametrize("name", UNTRUE)
def test_what_cannot_have_changed_is_not_believed(name: str) -> None:
    with pytest.raises(AssertionError):
        account.changed(UNTRUE[name], {1: MARKET}, {1: BUY})


def test_order_canceled() -> None:
    before = order(filled_lots=40, filled_quote=120_000_000, lock=180_000_000)
    effects = account.canceled(OrderCanceled(1, 40, CancelCause.USER), before, 30, 7)
    (after,) = effects.orders
    assert (after.state, after.cause, after.lock, after.filled_lots) == (OrderState.CANCELED, CancelCause.USER, 0, 40)
    assert (after.event_sequence, after.event_ns, after.create_sequence) == (30, 7, 10)
    assert not effects.postings and not effects.executions
    with pytest.raises(AssertionError):
        account.canceled(OrderCanceled(1, 41, CancelCause.USER), before, 30, 7)


@pytest.mark.parametrize(
    ("received", "ppm", "expected"),
    [(0, 2_000, (0, 0)), (1, 1, (0, 1)), (1_000_000, 1, (999_999, 1)), (1_000_001, 1, (999_999, 2)), (7, 0, (7, 0)),
     (7, 1_000_000, (0, 7)), (10**40, 2_000, (998 * 10**37, 2 * 10**37))],
)  # fmt: skip
def test_net_and_fee_make_the_whole(received: int, ppm: int, expected: tuple[int, int]) -> None:
    assert net_of_fee(received, ppm) == expected
    assert sum(expected) == received


@pytest.mark.parametrize("rates", [(-1, 0), (0, 1_000_001)])
def test_rates_are_parts_of_a_million(rates: tuple[int, int]) -> None:
    with pytest.raises(AssertionError):
        Rates(*rates)
