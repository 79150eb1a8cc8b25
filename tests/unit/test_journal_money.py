"""Exits as the audit counts them: what has left, and to whom falls what was still to settle."""

import pytest
from clearbook.internal.v1 import journal_pb2 as journal

from services.cli.journal_money import JournalMoney

LEAVER, BOB, INSURANCE, OUTSIDE, BTC = 1001, 1002, 3, 4, 1
WALLET = "0x" + "ab" * 20


def money(*events: journal.Event) -> JournalMoney:
    made = JournalMoney()
    for event in events:
        made.apply(event)
    return made


def transfer(giver: int, receiver: int, amount: int, number: int) -> journal.Event:
    move = journal.Transfer(from_account_id=giver, to_account_id=receiver, asset_id=BTC, amount=str(amount))
    return journal.Event(transferred=journal.Transferred(transfer=move, settlement_sequence=number))


def deposit(account_id: int, amount: int, index: int) -> journal.Event:
    came = journal.DepositFinal(deposit_index=index, account_id=account_id, asset="BTC", amount=str(amount))
    return journal.Event(deposited=journal.Deposited(deposit=came, asset_id=BTC))


def left(amount: int) -> journal.Event:
    claim = journal.ClaimFinal(claim_index=1, asset="BTC", amount=str(amount), exit_account_id=LEAVER)
    return journal.Event(claimed=journal.Claimed(claim=claim, asset_id=BTC))


def debt(state: journal.DebtState.ValueType) -> journal.Event:
    note = journal.NoteDebt(note_index=1, debt_id=1, state=state, account_id=LEAVER, asset="BTC", amount="4")
    return journal.Event(debt_noted=journal.DebtNoted(note=note, asset_id=BTC))


def late(amount: int, index: int) -> journal.Event:
    event = deposit(LEAVER, amount, index)
    event.deposited.credited_account_id = INSURANCE
    return event


def withdrawn(amount: int, number: int) -> journal.Event:
    asked = journal.RequestWithdrawal(account_id=BOB, asset_id=BTC, amount=str(amount), address=WALLET)
    withdrawal = journal.Withdrawal(withdrawal_id=number, request=asked)
    return journal.Event(
        withdrawal_approved=journal.WithdrawalApproved(withdrawal=withdrawal, settlement_sequence=number)
    )


def claimed(amount: int, index: int) -> journal.Event:
    claim = journal.ClaimFinal(claim_index=index, address=WALLET, asset="BTC", amount=str(amount))
    return journal.Event(claimed=journal.Claimed(claim=claim, asset_id=BTC))


FINAL = journal.Event(settlement_finalized=journal.SettlementFinalized(through_settlement_sequence=1))
BEFORE = (deposit(LEAVER, 100, 1), deposit(BOB, 50, 2), deposit(INSURANCE, 20, 3), transfer(LEAVER, BOB, 10, 1), FINAL)


@pytest.mark.parametrize(
    ("unsettled", "insurance", "bob"),
    [
        ((), 20, 60),
        ((transfer(LEAVER, BOB, 7, 2),), 13, 67),  # on chain it is insurance that pays
        ((transfer(BOB, LEAVER, 7, 2),), 27, 53),  # and that receives
        ((transfer(LEAVER, BOB, 7, 2), transfer(BOB, LEAVER, 7, 3)), 20, 60),
    ],
)
def test_an_exit(unsettled: tuple[journal.Event, ...], insurance: int, bob: int) -> None:
    counted = money(*BEFORE, *unsettled, left(90))  # what the contract had of it through entry 1
    totals = [counted.totals[who, BTC] for who in (LEAVER, BOB, INSURANCE, OUTSIDE)]
    assert totals == [0, bob, insurance, -80]
    keys = [(who, BTC) for who in (LEAVER, BOB, INSURANCE)]
    then = counted.on_chain(1, deposits=3, claims=1).balances
    assert [then[key] for key in keys] == [0, 60, 20], "nothing of it is settled"
    now = counted.on_chain(counted.settlement_sequence, deposits=3, claims=1).balances
    assert [now[key] for key in keys] == [0, bob, insurance], "all of it is"


def test_before_an_exit_is_on_chain_the_account_has_it_there() -> None:
    there = money(*BEFORE, left(90)).on_chain(1, deposits=3, claims=0).balances
    assert [there[who, BTC] for who in (LEAVER, BOB, INSURANCE)] == [90, 60, 20]


def test_a_deposit_told_after_its_exit_is_what_insurance_owed_meanwhile() -> None:
    """On chain it came before the exit, which took it."""
    counted = money(*BEFORE, left(97))
    assert counted.totals[INSURANCE, BTC] == 13
    counted.apply(late(7, 4))
    assert [counted.totals[who, BTC] for who in (LEAVER, BOB, INSURANCE, OUTSIDE)] == [0, 60, 20, -80]
    there = counted.on_chain(1, deposits=4, claims=1).balances
    assert [there[who, BTC] for who in (LEAVER, BOB, INSURANCE)] == [0, 60, 20]
    assert counted.notes == ["deposit 4 is told after account 1001 has left: 7 units"]


@pytest.mark.parametrize(
    ("claims", "unbacked"),
    [((5,), 0), ((3, 2), 5), ((6,), 1), ((12,), 0), ((4,), 4), ((5, 7), 0), ((5, 7, 1), 1), ((13, 1), 2)],
)
def test_what_no_withdrawal_backs_is_insurances(claims: tuple[int, ...], unbacked: int) -> None:
    """Of withdrawals of 5 and 7: whole ones, the oldest first, as the ledger does it."""
    asked = (withdrawn(5, 2), withdrawn(7, 3))
    counted = money(*BEFORE, *asked, *(claimed(amount, place) for place, amount in enumerate(claims, 1)))
    assert counted.totals[INSURANCE, BTC] == 20 - unbacked
    assert counted.totals[OUTSIDE, BTC] == -170 + 12 + unbacked
    assert bool(counted.notes) is bool(unbacked)


def test_a_debt_is_paid_by_insurance_once_it_is_final() -> None:
    counted = money(*BEFORE, debt(journal.DEBT_STATE_FROZEN))
    assert counted.totals[INSURANCE, BTC] == 20
    counted.apply(debt(journal.DEBT_STATE_PAID))
    counted.apply(debt(journal.DEBT_STATE_RESOLVED))
    there = counted.on_chain(1, deposits=3, claims=0).balances
    for side in (counted.totals, there):
        assert [side[who, BTC] for who in (LEAVER, BOB, INSURANCE)] == [94, 60, 16]
    assert counted.notes == ["debt 1: insurance has paid for account 1001: 4 units"]
