"""The rules of moving money other than by trading: transfers, deposits, withdrawals. Pure.

As in account.py every rule gives postings that sum to zero for each asset, and what cannot be is an assertion.
"""

from collections.abc import Iterable
from dataclasses import replace

from services.order_gateway.account import Effects, Posting, PostingKind
from services.order_gateway.model import (
    Claimed,
    Deposited,
    Movement,
    MovementKind,
    MovementState,
    Transferred,
    WithdrawalApproved,
    WithdrawalCanceled,
    WithdrawalRequested,
)
from services.units import OUTSIDE_ACCOUNT

DEPOSIT_ID_PREFIX = "deposit:"
"""Of a deposit's transfer_id; the contract's number follows."""


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
    )
    return Effects(movements=[movement])


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
        settlement_sequence=event.settlement_sequence,
        event_sequence=sequence,
        event_ns=time_ns,
    )
    return Effects(postings=_postings(after, PostingKind.WITHDRAWAL), movements=[after])


def canceled(event: WithdrawalCanceled, before: Movement, sequence: int, time_ns: int) -> Effects:
    """A withdrawal ends: nothing has moved, nothing is held any more."""
    assert before.state is MovementState.REQUESTED, f"{before} was canceled"
    after = replace(
        before, state=MovementState.CANCELED, reason=event.reason, event_sequence=sequence, event_ns=time_ns
    )
    return Effects(movements=[after])


def claimed(event: Claimed, waiting: Iterable[Movement], sequence: int, time_ns: int) -> Effects:
    """An address took what it could claim: the withdrawals that this was are done.

    Args:
        event: with the amount, which is the sum of the oldest of them: what was settled after the claim is not in it.
            Anything else would be money that left the chain and never an account, so it is an assertion.
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
    assert left == 0, f"{event} is {left} more than withdrawals that wait"
    return Effects(movements=done)


def _postings(movement: Movement, kind: PostingKind) -> list[Posting]:
    asset_id, amount, number = movement.asset_id, movement.amount, movement.settlement_sequence
    assert amount > 0, f"{movement} moves nothing"
    return [
        Posting(movement.from_account_id, asset_id, -amount, kind, number),
        Posting(movement.to_account_id, asset_id, amount, kind, number),
    ]
