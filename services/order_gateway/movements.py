"""The rules of moving money other than by trading: transfers, deposits, withdrawals. Pure.

As in account.py every rule gives postings that sum to zero for each asset, and what cannot be is an assertion.
"""

from collections.abc import Iterable
from dataclasses import replace

from services.order_gateway.account import Effects, Posting, PostingKind
from services.order_gateway.model import (
    Claimed,
    DebtNoted,
    Deposited,
    Movement,
    MovementKind,
    MovementState,
    Transferred,
    WithdrawalApproved,
    WithdrawalCanceled,
    WithdrawalCleared,
    WithdrawalRequested,
)
from services.units import INSURANCE_ACCOUNT, OUTSIDE_ACCOUNT

DEPOSIT_ID_PREFIX = "deposit:"
"""Of a deposit's transfer_id; the contract's number follows."""
EXIT_ID_PREFIX = "exit:"
"""Of an exit's; the contract's number of claims and exits follows."""
CLAIM_ID_PREFIX = "claim:"
"""Of what a claim took that no withdrawal was; the contract's number of claims and exits follows."""
DEBT_ID_PREFIX = "debt:"
"""Of what insurance paid for an account; the debt's id follows."""


def transferred(event: Transferred, sequence: int, time_ns: int) -> Effects:
    """Funds moved from one account to another."""
    move, number = event.transfer, event.settlement_sequence
    movement = Movement(
        move.transfer_id,
        MovementKind.TRANSFER,
        MovementState.MOVED,
        move.from_account_id,
        move.to_account_id,
        move.asset_id,
        move.amount,
        sequence,
        time_ns,
        sequence,
        time_ns,
        settlement_sequence=number,
        reason=move.reason,
    )
    return Effects(postings=_postings(movement, PostingKind.TRANSFER), movements=[movement])


def deposited(event: Deposited, sequence: int, time_ns: int) -> Effects:
    """Funds came in: account `outside` owes them to the world, so its balance is minus all that is inside."""
    movement = Movement(
        f"{DEPOSIT_ID_PREFIX}{event.deposit_index}",
        MovementKind.DEPOSIT,
        MovementState.DONE,
        OUTSIDE_ACCOUNT,
        event.account_id,
        event.asset_id,
        event.amount,
        sequence,
        time_ns,
        sequence,
        time_ns,
        settlement_sequence=event.settlement_sequence,
        transaction_hash=event.transaction_hash,
    )
    return Effects(postings=_postings(movement, PostingKind.DEPOSIT), movements=[movement])


def requested(event: WithdrawalRequested, sequence: int, time_ns: int) -> Effects:
    """A withdrawal begins: its amount is held, nothing moves."""
    asked = event.request
    movement = Movement(
        asked.transfer_id,
        MovementKind.WITHDRAWAL,
        MovementState.REQUESTED,
        asked.account_id,
        OUTSIDE_ACCOUNT,
        asked.asset_id,
        asked.amount,
        sequence,
        time_ns,
        sequence,
        time_ns,
        withdrawal_id=event.withdrawal_id,
        address=asked.address,
        release_ns=event.release_ns,
    )
    return Effects(movements=[movement])


def cleared(event: WithdrawalCleared, before: Movement, sequence: int, time_ns: int) -> Effects:
    """A withdrawal is approved: its amount stays held until it is released."""
    assert before.state is MovementState.REQUESTED and not before.release_ns, f"{before} was cleared"  # noqa: PT018
    return Effects(movements=[replace(before, release_ns=event.release_ns, event_sequence=sequence, event_ns=time_ns)])


def approved(event: WithdrawalApproved, before: Movement, sequence: int, time_ns: int) -> Effects:
    """A withdrawal goes: its amount leaves the account."""
    assert before.state is MovementState.REQUESTED, f"{before} was approved"
    asked = event.request
    said = (asked.transfer_id, asked.account_id, asked.asset_id, asked.amount, asked.address)
    known = (before.transfer_id, before.from_account_id, before.asset_id, before.amount, before.address)
    assert said == known, f"{event} is not what {before} asked for"
    after = replace(
        before,
        state=MovementState.APPROVED,
        release_ns=0,
        settlement_sequence=event.settlement_sequence,
        event_sequence=sequence,
        event_ns=time_ns,
    )
    return Effects(postings=_postings(after, PostingKind.WITHDRAWAL), movements=[after])


def canceled(event: WithdrawalCanceled, before: Movement, sequence: int, time_ns: int) -> Effects:
    """A withdrawal ends: nothing has moved, nothing is held any more."""
    assert before.state is MovementState.REQUESTED, f"{before} was canceled"
    after = replace(
        before,
        state=MovementState.CANCELED,
        release_ns=0,
        reason=event.reason,
        event_sequence=sequence,
        event_ns=time_ns,
    )
    return Effects(movements=[after])


def claimed(event: Claimed, waiting: Iterable[Movement], sequence: int, time_ns: int) -> Effects:
    """An address took what it could claim: the withdrawals that this was are done.

    Args:
        event: with the amount, which is the sum of the oldest of them: what was settled after the claim is not in it.
            What it is more is money that left the chain and no account: insurance's, without a withdrawal_id.
        waiting: approved withdrawals to that address in that asset, oldest first.
        sequence: of the event.
        time_ns: of the event.
    """
    done, left = list[Movement](), event.amount
    for item in waiting:
        if item.amount > left:
            break
        left -= item.amount
        done.append(replace(item, state=MovementState.DONE, event_sequence=sequence, event_ns=time_ns))
    if not left:
        return Effects(movements=done)
    unbacked = Movement(
        f"{CLAIM_ID_PREFIX}{event.claim_index}",
        MovementKind.WITHDRAWAL,
        MovementState.DONE,
        INSURANCE_ACCOUNT,
        OUTSIDE_ACCOUNT,
        event.asset_id,
        left,
        sequence,
        time_ns,
        sequence,
        time_ns,
        address=event.address,
        transaction_hash=event.transaction_hash,
        reason="no withdrawal backs it",
    )
    return Effects(postings=_postings(unbacked, PostingKind.WITHDRAWAL), movements=[*done, unbacked])


def insured(event: DebtNoted, sequence: int, time_ns: int) -> Effects:
    """Insurance has paid on chain what an account lacked there: here the account had paid it, so it gets it back."""
    movement = Movement(
        f"{DEBT_ID_PREFIX}{event.debt_id}",
        MovementKind.TRANSFER,
        MovementState.MOVED,
        INSURANCE_ACCOUNT,
        event.account_id,
        event.asset_id,
        event.amount,
        sequence,
        time_ns,
        sequence,
        time_ns,
        reason=event.reason,
    )
    return Effects(postings=_postings(movement, PostingKind.TRANSFER), movements=[movement])


def exited(event: Claimed, total: int, sequence: int, time_ns: int) -> Effects:
    """An account's owner took what it had on chain. What it had still to settle falls to insurance, as it does there.

    Args:
        event: with the account and the amount.
        total: what the account has here.
        sequence: of the event.
        time_ns: of the event.
    """
    account_id, asset_id = event.exit_account_id, event.asset_id
    movement = Movement(
        f"{EXIT_ID_PREFIX}{event.claim_index}",
        MovementKind.WITHDRAWAL,
        MovementState.DONE,
        account_id,
        OUTSIDE_ACCOUNT,
        asset_id,
        event.amount,
        sequence,
        time_ns,
        sequence,
        time_ns,
        address=event.address,
        transaction_hash=event.transaction_hash,
    )
    postings, rest = _postings(movement, PostingKind.WITHDRAWAL), total - event.amount
    if rest:
        postings += [
            Posting(account_id, asset_id, -rest, PostingKind.TRANSFER, 0),
            Posting(INSURANCE_ACCOUNT, asset_id, rest, PostingKind.TRANSFER, 0),
        ]
    return Effects(postings=postings, movements=[movement])


def _postings(movement: Movement, kind: PostingKind) -> list[Posting]:
    asset_id, amount, number = movement.asset_id, movement.amount, movement.settlement_sequence
    assert amount > 0, f"{movement} moves nothing"
    return [
        Posting(movement.from_account_id, asset_id, -amount, kind, number),
        Posting(movement.to_account_id, asset_id, amount, kind, number),
    ]
