"""Movements of money as tables: what each event posts, holds and frees; ids, finality, and what is not believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.order_gateway import ledger as ledger_module
from services.order_gateway import movements, transfer_ids, unsettled
from services.order_gateway.account import Posting, PostingKind
from services.order_gateway.check import violations
from services.order_gateway.ledger import Ledger
from services.order_gateway.model import (
    Claimed,
    DebtNoted,
    DebtState,
    Deposited,
    EventBody,
    ExitRequested,
    MovementKind,
    MovementState,
    RequestWithdrawal,
    SettlementFinalized,
    Transfer,
    Transferred,
    WithdrawalApproved,
    WithdrawalCanceled,
    WithdrawalRequested,
)
from services.order_gateway.unsettled import Unsettled
from tests.unit.gateway_values import ALICE, BOB, Journal, ledger

WALLET = "0x" + "ab" * 20
ASKED = RequestWithdrawal("user:1001:w", ALICE, 1, 5, WALLET)
REQUESTED = WithdrawalRequested(77, ASKED)
APPROVED = WithdrawalApproved(77, ASKED, 9)
CANCELED = WithdrawalCanceled(77, "not you")
T, D, W = PostingKind.TRANSFER, PostingKind.DEPOSIT, PostingKind.WITHDRAWAL


def test_transferred() -> None:
    effects = movements.transferred(Transferred(Transfer("t", 2, ALICE, 1, 5, "why"), 9), 30, 7)
    assert effects.postings == [Posting(2, 1, -5, T, 9), Posting(ALICE, 1, 5, T, 9)]
    (moved,) = effects.movements
    assert (moved.kind, moved.state, moved.has_ended) == (MovementKind.TRANSFER, MovementState.MOVED, True)
    assert (moved.reason, moved.create_sequence, moved.event_ns, moved.settlement_sequence) == ("why", 30, 7, 9)


@pytest.mark.parametrize("number", [0, 9])
def test_deposited_is_owed_to_the_world_outside(number: int) -> None:
    """With a number the chain has yet to move it: it came for an account that nobody has."""
    effects = movements.deposited(Deposited(3, 2, 1, 5, "0xab", number), 30, 7)
    assert effects.postings == [Posting(4, 1, -5, D, number), Posting(2, 1, 5, D, number)]
    (came,) = effects.movements
    assert (came.transfer_id, came.state, came.transaction_hash) == ("deposit:3", MovementState.DONE, "0xab")


OTHER = "0x" + "cd" * 20
GOES: list[EventBody] = [REQUESTED, APPROVED]
LIVES: dict[str, tuple[list[EventBody], tuple[int, int, int, int], MovementState | None]] = {
    "requested": ([REQUESTED], (10, 5, 5, 0), MovementState.REQUESTED),
    "canceled": ([REQUESTED, CANCELED], (10, 0, 10, 0), None),
    "approved": ([REQUESTED, APPROVED], (5, 0, 5, -5), MovementState.APPROVED),
    "settled": ([REQUESTED, APPROVED, SettlementFinalized(9)], (5, 0, 5, 0), MovementState.APPROVED),
    "claimed": ([REQUESTED, APPROVED, SettlementFinalized(9), Claimed(WALLET, 1, 5)], (5, 0, 5, 0), None),
}  # fmt: skip


@pytest.mark.parametrize("name", LIVES)
def test_the_life_of_a_withdrawal(name: str) -> None:
    bodies, expected, state = LIVES[name]
    book = ledger(alice_btc=10)
    say = Journal(book).say
    for body in bodies:
        change = say(body)
        assert violations(book) == []
    balance = book.balance(ALICE, 1)
    assert (balance.total, balance.held, balance.available, balance.unsettled) == expected
    assert book.balance(4, 1).total == -balance.total
    found = book.withdrawals.get(77)
    assert (found and found.state) == state
    if state is None:
        assert change.effects.movements[0].has_ended and not book._claimable
    if name == "canceled":
        assert change.effects.movements[0].reason == "not you"


def test_a_claim_takes_the_oldest_that_it_can_be() -> None:
    book = ledger(alice_btc=10)
    say = Journal(book).say
    for number, amount in enumerate((2, 3, 4), 1):
        asked = RequestWithdrawal(f"w{number}", ALICE, 1, amount, WALLET)
        say(WithdrawalRequested(number, asked))
        say(WithdrawalApproved(number, asked, number))
    done = say(Claimed(WALLET, 1, 5)).effects.movements
    assert [(item.withdrawal_id, item.state) for item in done] == [(1, MovementState.DONE), (2, MovementState.DONE)]
    assert list(book.withdrawals) == [3]


@pytest.mark.parametrize(
    ("taken", "insurance"),
    [(10, 0), (6, 4), (13, -3)],
    ids=["all of it", "what was still to come is insurance's", "what was still to go is insurance's"],
)
def test_who_leaves_by_the_contract(taken: int, insurance: int) -> None:
    book = ledger(alice_btc=10)
    say = Journal(book).say
    say(ExitRequested(ALICE, canceled=False))
    assert book.leaving == {ALICE}
    effects = say(Claimed(WALLET, 1, taken, ALICE, 3, "0xab")).effects
    assert violations(book) == []
    assert [book.balance(who, 1).total for who in (ALICE, 3, 4)] == [0, insurance, -10 + taken]
    (left,) = effects.movements
    assert (left.transfer_id, left.kind, left.state) == ("exit:3", MovementKind.WITHDRAWAL, MovementState.DONE)
    assert (left.amount, left.address, left.transaction_hash, left.has_ended) == (taken, WALLET, "0xab", True)
    assert not book.withdrawals


# Of a withdrawal of 5: what is claimed, what of it insurance has to pay, and whether the withdrawal still waits.
UNBACKED: dict[str, tuple[Claimed, int, bool]] = {
    "all of it": (Claimed(WALLET, 1, 5, 0, 7, "0xab"), 0, False),
    "by another": (Claimed(OTHER, 1, 5, 0, 7, "0xab"), 5, True),
    "in another asset": (Claimed(WALLET, 2, 5, 0, 7, "0xab"), 5, True),
    "in part": (Claimed(WALLET, 1, 4, 0, 7, "0xab"), 4, True),
    "more than there was": (Claimed(WALLET, 1, 6, 0, 7, "0xab"), 1, False),
}


@pytest.mark.parametrize("name", UNBACKED)
def test_a_claim_that_no_withdrawal_backs_is_insurances(name: str) -> None:
    claim, insurance_pays, waits = UNBACKED[name]
    book = ledger(alice_btc=10)
    say = Journal(book).say
    for body in GOES:
        say(body)
    before = book.balance(4, claim.asset_id).total
    effects = say(claim).effects
    assert violations(book) == []
    assert book.balance(3, claim.asset_id).total == -insurance_pays
    assert book.balance(4, claim.asset_id).total == before + insurance_pays
    assert book.balance(ALICE, 1).total == 5
    assert (77 in book.withdrawals) is waits
    unbacked = [movement for movement in effects.movements if not movement.withdrawal_id]
    assert [(each.transfer_id, each.amount, each.address, each.has_ended) for each in unbacked] == (
        [("claim:7", insurance_pays, claim.address, True)] if insurance_pays else []
    )


def test_a_debtor_is_frozen_and_has_what_insurance_has_paid_until_it_is_resolved() -> None:
    book = ledger(alice_btc=10)
    say = Journal(book).say
    steps = [
        (1, DebtState.FROZEN, True, 10),
        (2, DebtState.FROZEN, True, 10),
        (1, DebtState.PAID, True, 14),
        (1, DebtState.RESOLVED, True, 14),
        (2, DebtState.RESOLVED, False, 14),
    ]
    for debt_id, state, frozen, has in steps:
        effects = say(DebtNoted(debt_id, state, ALICE, 1, 4, "why")).effects
        assert violations(book) == []
        assert (book.is_frozen(ALICE), book.is_frozen(BOB)) == (frozen, False)
        assert (book.balance(ALICE, 1).total, book.balance(3, 1).total) == (has, 10 - has)
        moved = [(each.transfer_id, each.amount, each.reason) for each in effects.movements]
        assert moved == ([("debt:1", 4, "why")] if state is DebtState.PAID else [])
    assert not book.transfers, "it is on chain already"


def test_a_request_to_leave_is_taken_back() -> None:
    book = ledger()
    say = Journal(book).say
    for canceled, leaving in ((False, {ALICE}), (True, set()), (False, {ALICE})):
        say(ExitRequested(ALICE, canceled))
        assert book.leaving == leaving


IMPOSSIBLE: dict[str, list[EventBody]] = {
    "approved and never requested": [APPROVED],
    "requested twice": [REQUESTED, REQUESTED],
    "approved twice": [REQUESTED, APPROVED, APPROVED],
    "canceled after approval": [REQUESTED, APPROVED, CANCELED],
    "approved after the end": [REQUESTED, CANCELED, APPROVED],
    "approved with another amount": [REQUESTED, replace(APPROVED, request=replace(ASKED, amount=4))],
    "approved for another address": [REQUESTED, replace(APPROVED, request=replace(ASKED, address="0x" + "cd" * 20))],
    "more than there is": [WithdrawalRequested(77, replace(ASKED, amount=11))],
    "of nothing": [Transferred(Transfer("t", ALICE, BOB, 1, 0), 1)],
    "final before it was moved": [SettlementFinalized(9), REQUESTED, APPROVED],
    "finality that runs back": [SettlementFinalized(9), SettlementFinalized(9)],
    "entries that run back": [
        Transferred(Transfer("t", ALICE, BOB, 1, 1), 2), Transferred(Transfer("u", ALICE, BOB, 1, 1), 1),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_stops_the_process(name: str) -> None:
    say = Journal(ledger(alice_btc=10)).say
    *before, last = IMPOSSIBLE[name]
    for body in before:
        say(body)
    with pytest.raises((AssertionError, KeyError)):
        say(last)


def test_ids_of_different_makers_never_meet() -> None:
    made = [
        transfer_ids.of_user(1001, "a"),
        transfer_ids.of_user(1002, "a"),
        transfer_ids.of_user(1001, "1002:a"),
        transfer_ids.of_operator("a"),
        transfer_ids.of_operator("user:1001:a"),
        transfer_ids.of_grant(1001, "a"),
        "deposit:1",
    ]
    assert len(set(made)) == len(made)
    shown = [transfer_ids.shown(journaled) for journaled in made]
    assert shown == ["a", "a", "1002:a", "a", "user:1001:a", "faucet:1001:a", "deposit:1"]
    assert [transfer_ids.is_users(journaled) for journaled in made] == [True] * 3 + [False] * 4


def settled(given: Unsettled, through: int) -> dict[Any, int]:
    sums: dict[Any, int] = {}
    for key, amount in given.finalize(through):
        sums[key] = sums.get(key, 0) + amount
    return sums


def test_finality_meets_every_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    pending = Unsettled()
    for number in range(1, 6):
        pending.add(number, 10 + number, (ALICE, 1), 10**number)
        pending.add(number, 10 + number, (BOB, 1), -(10**number))
    assert pending.since(99) == 11
    assert settled(pending, 2) == {(ALICE, 1): 110, (BOB, 1): -110}
    assert pending.since(99) == 13
    assert pending.sums() == {(ALICE, 1): 111_000, (BOB, 1): -111_000}
    assert settled(pending, 9) == {(ALICE, 1): 111_000, (BOB, 1): -111_000}
    assert (pending.sums(), pending.since(99)) == ({}, 100)


def test_far_behind_finality_waits_for_the_end_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsettled, "RUNS_MAX", 2)
    monkeypatch.setattr(unsettled, "RUN_ENTRIES", 10)
    pending = Unsettled()
    for number in range(1, 31):
        pending.add(number, number, (ALICE, 1), 1)
    assert len(pending._runs) == 5, "entries 1, 2 to 9, 10 to 19, 20 to 29, 30"
    assert settled(pending, 8) == {(ALICE, 1): 1}
    assert settled(pending, 19) == {(ALICE, 1): 18}
    assert pending.sums() == {(ALICE, 1): 11}


def test_transfers_become_final_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    book = ledger(alice_btc=10)
    say = Journal(book).say
    for number in range(1, 5):
        say(Transferred(Transfer(f"t{number}", ALICE, BOB, 1, 1), number))
    for through, expected in ((2, ["t1", "t2"]), (3, ["t3"]), (9, ["t4"])):
        final = say(SettlementFinalized(through)).effects.final
        assert [item.transfer_id for item in final] == expected
    assert not book.transfers
    monkeypatch.setattr(ledger_module, "UNSETTLED_TRANSFERS_MAX", 2)
    book = ledger(alice_btc=10)
    say = Journal(book).say
    for number in range(1, 5):
        say(Transferred(Transfer(f"t{number}", ALICE, BOB, 1, 1), number))
    assert [item.transfer_id for item in say(SettlementFinalized(9)).effects.final] == ["t3", "t4"], "the newest"


def _faucet_owes(book: Ledger) -> None:
    book.balance(2, 1).total, book.balance(ALICE, 1).total = -1, 21


FAULTS: dict[str, Any] = {
    "conservation": lambda book: setattr(book.balance(ALICE, 1), "total", 11),
    "a negative system account": _faucet_owes,
    "more is unsettled than there is": lambda book: setattr(book.balance(ALICE, 1), "unsettled", 99),
    "a withdrawal that holds nothing": lambda book: setattr(book.balance(ALICE, 1), "held", 0),
    "a hold without a withdrawal": lambda book: book.withdrawals.clear(),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_the_check_finds(name: str) -> None:
    book: Ledger = ledger(alice_btc=10, faucet_btc=10)
    Journal(book).say(REQUESTED)
    assert violations(book) == []
    FAULTS[name](book)
    assert violations(book)
