"""Withdrawals under rules, as tables of what is asked when: limits, cooling-off, releases, lists of addresses."""

from __future__ import annotations

import json

import pytest

from services.allow_list import ADDRESSES_MAX, AllowListChange
from services.book import model as m
from services.book.engine import Engine
from services.command_ids import command_id_of
from services.withdrawal_rules import WithdrawalRules
from tests.snapshots import of_format_8
from tests.unit.test_engine_commands import REQUEST, WALLET, request, setup

SECOND = 10**9
DAY = 24 * 3600
RULES = WithdrawalRules(amount_min=2, amount_max=9, day_max=20, unapproved_max=7, cooling_seconds=60)
OTHER = "0x" + "cd" * 20
START = 10
FIRST = command_id_of(1, 1, 2)
"""Of the first command after RULES are set."""
Body = m.CommandBody


def rules(**changes: int) -> m.SetWithdrawalRules:
    kept = {name: getattr(RULES, name) for name in WithdrawalRules.__slots__}
    return m.SetWithdrawalRules(2, WithdrawalRules(**kept | changes), "why")


def listed(change: AllowListChange, address: str = "", delay_seconds: int = 60) -> m.ChangeAllowList:
    return m.ChangeAllowList(1001, change.value, address, delay_seconds)


def becomes(body: m.EventBody) -> str:
    """What came of it, in a word."""
    if isinstance(body, m.Refused):
        return body.reason
    if isinstance(body, m.WithdrawalRequested | m.WithdrawalCleared):
        then = body.withdrawal.release_ns
        return f"{type(body).__name__} {(then - START) // SECOND}" if then else type(body).__name__
    return type(body).__name__


REQUESTED, CLEARED, GONE = "WithdrawalRequested", "WithdrawalCleared", "WithdrawalApproved"
CANCELED, ENDED = "WithdrawalCanceled", "WITHDRAWAL_NOT_FOUND"
EARLY, LIMIT = "OUT_OF_SEQUENCE", "WITHDRAWAL_LIMIT_EXCEEDED"
SET, CHANGED = "WithdrawalRulesSet", "AllowListChanged"
APPROVE, RELEASE, CANCEL = m.ApproveWithdrawal(FIRST), m.ReleaseWithdrawal(FIRST), m.CancelWithdrawal(FIRST)
LIVES: dict[str, list[tuple[int, Body, str]]] = {
    # When, seconds after the rules are set; what is asked; what becomes of it, with when it is to be released
    "small ones go by themselves": [(0, REQUEST, f"{REQUESTED} 60"), (59, RELEASE, EARLY), (60, RELEASE, GONE)],
    "and no earlier, whoever approves": [(0, REQUEST, f"{REQUESTED} 60"), (1, APPROVE, EARLY)],
    "and once": [(0, REQUEST, f"{REQUESTED} 60"), (60, RELEASE, GONE), (60, RELEASE, ENDED)],
    "large ones wait for approval": [(0, request(amount=8), REQUESTED), (99, RELEASE, EARLY)],
    "and for the cooling-off": [
        (0, request(amount=8), REQUESTED), (5, APPROVE, f"{CLEARED} 65"), (6, APPROVE, EARLY),
        (64, RELEASE, EARLY), (65, RELEASE, GONE),
    ],
    "cancel until released": [(0, REQUEST, f"{REQUESTED} 60"), (60, CANCEL, CANCELED), (60, RELEASE, ENDED)],
    "not after": [(0, REQUEST, f"{REQUESTED} 60"), (60, RELEASE, GONE), (60, CANCEL, ENDED)],
    "cancel what was approved": [
        (0, request(amount=8), REQUESTED), (5, APPROVE, f"{CLEARED} 65"), (6, CANCEL, CANCELED),
        (65, RELEASE, ENDED),
    ],
    "no cooling-off": [(0, rules(cooling_seconds=0), SET), (1, m.ApproveWithdrawal(7), ENDED)],
    "one by one": [
        (0, request(amount=1), "WITHDRAWAL_TOO_SMALL"), (0, request(amount=10), "WITHDRAWAL_TOO_LARGE"),
        (0, request(amount=2), f"{REQUESTED} 60"),
    ],
    "many small ones are as one large one": [
        (0, request(amount=4), f"{REQUESTED} 60"), (0, request(amount=4), REQUESTED),
    ],
    "the day's limit": [
        (0, request(amount=9), REQUESTED), (1, request(amount=9), REQUESTED), (2, request(amount=3), LIMIT),
        (2, request(amount=2), REQUESTED), (DAY - 1, request(amount=2), LIMIT),
        (DAY, request(amount=9), REQUESTED),
    ],
    "canceled ones do not count": [
        (0, request(amount=9), REQUESTED), (1, CANCEL, CANCELED), (2, request(amount=7), f"{REQUESTED} 62"),
    ],
    "settled ones do": [
        (0, request(amount=7), f"{REQUESTED} 60"), (60, RELEASE, GONE), (61, request(amount=2), REQUESTED),
        (DAY, request(amount=5), f"{REQUESTED} {DAY + 60}"),
    ],
    "each account and asset for itself": [
        (0, request(amount=9), REQUESTED), (0, request(amount=9, account_id=1002), REQUESTED),
        (0, request(amount=10**9, asset_id=1), REQUESTED),
    ],
    "what waits keeps to what it was asked under": [
        (0, REQUEST, f"{REQUESTED} 60"), (1, rules(unapproved_max=0, cooling_seconds=0), SET),
        (2, RELEASE, EARLY), (60, RELEASE, GONE),
    ],
    "rules that cannot be": [
        (0, rules(amount_max=1), "INVALID_FIELD"), (0, m.SetWithdrawalRules(3, RULES), "ASSET_NOT_FOUND"),
        (0, m.SetWithdrawalRules(2, RULES, "x" * 201), "INVALID_FIELD"),
    ],
    "only listed addresses": [
        (0, listed(AllowListChange.ADD, WALLET), CHANGED), (0, REQUEST, f"{REQUESTED} 60"),
        (1, listed(AllowListChange.ON), CHANGED), (2, REQUEST, "ADDRESS_TOO_NEW"),
        (2, request(address=OTHER), "ADDRESS_NOT_ALLOWED"),
        (2, request(address=OTHER, account_id=1002), f"{REQUESTED} 62"),
        (60, request(amount=2), REQUESTED), (61, listed(AllowListChange.OFF), CHANGED),
        (120, request(address=OTHER), "ADDRESS_NOT_ALLOWED"), (121, request(address=OTHER), REQUESTED),
    ],
    "lists that cannot be": [
        (0, listed(AllowListChange.ADD, "0x12"), "INVALID_FIELD"),
        (0, listed(AllowListChange.ON, WALLET), "INVALID_FIELD"),
        (0, m.ChangeAllowList(1001, 5, "", 0), "INVALID_FIELD"),
        (0, m.ChangeAllowList(1001, 3, "", -1), "INVALID_FIELD"),
        (0, m.ChangeAllowList(2, 3, "", 0), "ACCOUNT_NOT_FOUND"),
        (0, m.ChangeAllowList(1003, 3, "", 0), "ACCOUNT_NOT_FOUND"),
    ],
    "who leaves": [
        (0, REQUEST, f"{REQUESTED} 60"), (1, m.ExitRequestFinal(1, 1001), "ExitRequested"),
        (60, RELEASE, "ACCOUNT_FROZEN"), (61, CANCEL, CANCELED),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", LIVES)
@pytest.mark.parametrize("restarts", [False, True])
def test_withdrawals_under_rules(name: str, restarts: bool) -> None:
    engine = setup()
    engine.apply(m.Command(command_id_of(1, 1, 1), rules()), START)
    for number, (when, asked, expected) in enumerate(LIVES[name]):
        event = engine.apply(m.Command(FIRST + number, asked), START + when * SECOND)
        assert becomes(event.body) == expected, (number, asked)
        engine.validate()
        if restarts:
            snapshot = engine.snapshot()
            engine = Engine.restore(snapshot)
            assert engine.snapshot() == snapshot


def test_so_many_addresses_may_be_listed() -> None:
    engine = setup()
    for number in range(ADDRESSES_MAX + 1):
        asked = listed(AllowListChange.ADD, f"0x{number + 1:040x}")
        event = engine.apply(m.Command(command_id_of(1, 1, number + 1), asked), START)
    assert becomes(event.body) == "TOO_MANY_ADDRESSES"
    again = listed(AllowListChange.ADD, f"0x{1:040x}")
    event = engine.apply(m.Command(command_id_of(1, 1, ADDRESSES_MAX + 2), again), START)
    assert becomes(event.body) == "AllowListChanged", "it is there already"


def test_a_snapshot_of_format_8_has_no_rules() -> None:
    engine = setup()
    engine.apply(m.Command(command_id_of(1, 1, 1), REQUEST), START)
    assert Engine.restore(of_format_8(engine)).snapshot() == engine.snapshot()
    assert json.loads(of_format_8(engine))["format"] == 8
