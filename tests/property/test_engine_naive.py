"""The engine against the naive one: the same events, the same book, after every command, whatever is asked."""

from __future__ import annotations

import os
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.book import model as m
from tests.property.walk import Pair, body, late, walk

COMMANDS = 1_000_000 if os.environ.get("CLEARBOOK_SOAK") == "1" else 3_000
RESTARTED_COMMANDS = 375
LATE_COMMANDS = 1_000
EVERYWHERE_COMMANDS_MIN = 30_000
EVERYTHING = """
OrderPlaced OrderCanceled OrdersChanged Refused AccountOpened Transferred Deposited SettlementFinalized AssetCreated
MarketCreated MarketChanged TimeAdvanced SessionOpened WithdrawalRequested WithdrawalApproved WithdrawalCanceled
Claimed trades partly state_1 state_2 state_3 state_4 cause_0 cause_2 cause_3 cause_4 cause_5 cause_6 cause_7 cause_8
cause_9 cause_10 cause_11 cause_12 cause_13 cause_14 CancelAfterSet TradingDefaultsSet
ReferencePriceSet REFERENCE_OUTDATED ExitRequested exits DebtNoted debts_1 debts_2 debts_3 late
INVALID_EXPIRY INVALID_GROUP ORDER_LINKED INVALID_DISPLAY INVALID_TRIGGER INVALID_MINIMUM
QUANTITY_TRADED INSUFFICIENT_FUNDS WOULD_TRADE refused credited ACCOUNT_NOT_FOUND WITHDRAWAL_NOT_FOUND
MARKET_NOT_FOUND ASSET_NOT_FOUND
ORDER_NOT_FOUND INVALID_FIELD INVALID_PRICE INVALID_QUANTITY MARKET_HALTED MARKET_CLOSED MARKET_IN_AUCTION
QUANTITY_TOO_SMALL QUANTITY_TOO_LARGE NOTIONAL_TOO_LARGE PRICE_OUT_OF_BAND auctions NOTIONAL_TOO_SMALL INVALID_MARKET
ALREADY_EXISTS OUT_OF_SEQUENCE WithdrawalCleared WithdrawalRulesSet AllowListChanged ADDRESS_NOT_ALLOWED
WITHDRAWAL_TOO_SMALL WITHDRAWAL_TOO_LARGE WITHDRAWAL_LIMIT_EXCEEDED
"""


@st.composite
def bodies(draw: st.DrawFn) -> m.CommandBody:
    return body(lambda choices: draw(st.sampled_from(choices)))


@settings(max_examples=120, deadline=None)
@given(st.lists(bodies(), max_size=40))
def test_same_events_and_same_book(asked: list[m.CommandBody]) -> None:
    pair = Pair()
    for command in asked:
        pair.say(command)


@settings(max_examples=40, deadline=None)
@given(st.lists(bodies(), max_size=30))
def test_restarted_from_its_snapshot_before_every_command(asked: list[m.CommandBody]) -> None:
    pair, restarted = Pair(), Pair(restart=True)
    for command in asked:
        assert pair.say(command) == restarted.say(command)
    assert pair.digest() == restarted.digest()


def test_a_walk_and_its_restarts() -> None:
    assert walk(2, RESTARTED_COMMANDS, restart=True) == walk(2, RESTARTED_COMMANDS)


def test_a_walk_among_orders_whose_time_is_over() -> None:
    walk(3, LATE_COMMANDS, drawn=late)


def test_a_long_walk_that_goes_everywhere() -> None:
    """Otherwise the comparisons above would compare nothing."""
    chance, pair, seen = random.Random(29), Pair(), Counter[str]()
    for _ in range(max(COMMANDS, EVERYWHERE_COMMANDS_MIN)):
        event = pair.say(body(chance.choice))
        seen[type(event.body).__name__] += 1
        if isinstance(event.body, m.Refused):
            seen[event.body.reason] += 1
        if isinstance(event.body, m.Deposited):
            seen["credited"] += event.body.credited_account_id > 0
            seen["late"] += event.body.credited_account_id > 0 and event.body.settlement_sequence == 0
        if isinstance(event.body, m.DebtNoted):
            seen[f"debts_{event.body.note.state}"] += 1
        if isinstance(event.body, m.Claimed):
            seen["exits"] += event.body.claim.exit_account_id > 0
        if isinstance(event.body, m.OrdersChanged) and event.body.refused is not None:
            seen["refused"] += 1
        if isinstance(event.body, m.OrderPlaced | m.OrdersChanged):
            seen["auctions"] += isinstance(event.body, m.OrdersChanged) and event.body.market is not None
            for step in [event.body] if isinstance(event.body, m.OrderPlaced) else event.body.steps:
                seen[f"state_{step.order.state}"] += 1
                seen[f"cause_{step.order.cancel_cause}"] += 1
                seen["trades"] += len(step.trades)
                seen["partly"] += step.order.cancel_cause > 0 and step.order.filled_lots > 0
    expected = set(EVERYTHING.split())
    assert expected <= {name for name, count in seen.items() if count}, expected - set(seen)
