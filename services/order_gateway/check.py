"""The ledger's self-check: the invariants of money, over the whole state, while it runs.

It is done a little at a time, over one moment: of what has changed since, the ledger keeps the state of then. Only what
an account holds is compared as of when its turn comes, its orders and withdrawals with it.
"""

from collections.abc import Iterator
from itertools import islice

from services.order_gateway.ledger import Balance, Ledger, Moment
from services.order_gateway.model import MovementState
from services.order_gateway.unsettled import Key
from services.units import MAY_OWE

STEP_ITEMS = 200
"""Orders, withdrawals or postings that one step looks at; some 100 us."""


def violations(ledger: Ledger) -> list[str]:
    """What is wrong, one line each; empty: nothing.

    Conservation: per asset all balances, `outside` included, sum to zero. Non-negativity: nobody but `outside` owes,
    not even on chain. Holds: what an account holds is the sum of its open orders' locks and its requested withdrawals.
    Finality: what is unsettled of a balance is the sum of its postings that are not final.
    """
    moment = ledger.remember()
    try:
        return [line for found in steps(ledger, moment) for line in found]
    finally:
        ledger.forget(moment)


def steps(ledger: Ledger, moment: Moment) -> Iterator[list[str]]:
    """The same a little at a time: each step gives what it found. Between two steps the ledger may go on.

    Args:
        ledger: the ledger.
        moment: of it, remembered until the last step.
    """
    if len(ledger.holders) != len(ledger.balances):
        yield [f"{len(ledger.holders)} accounts came to balances, {len(ledger.balances)} have them"]
    pending: dict[Key, int] = {}
    while part := list(islice(moment.nets, STEP_ITEMS)):
        for key, amount in part:
            pending[key] = pending.get(key, 0) + amount
        yield []
    sums: dict[int, int] = {}
    orders = withdrawals = 0
    changed, counted = moment.balances, moment.counts
    for place in range(moment.holders):
        account_id = ledger.holders[place]
        counts = counted[account_id] if account_id in counted else ledger.open_counts(account_id)
        orders, withdrawals = orders + counts[0], withdrawals + counts[1]
        found, held = [], {}
        for asset_id, balance in ledger.balances[account_id].items():
            key = (account_id, asset_id)
            then = changed.get(key, balance)
            sums[asset_id] = sums.get(asset_id, 0) + then.total
            unsettled = pending.pop(key, 0) if pending else 0
            if balance.held:
                held[asset_id] = balance.held
            leaves = account_id in ledger.leaving
            moments = (balance,) if then is balance else (balance, then)
            if any(_is_negative(account_id, each, leaves=leaves) for each in moments):
                found.append(f"account {account_id} has {balance} of asset {asset_id}")
            if then.unsettled != unsettled:
                what = f"account {account_id} has {then.unsettled} unsettled of asset {asset_id}"
                found.append(f"{what}, its postings {unsettled}")
        if held or any(counts) or account_id in counted:
            yield from _holds(ledger, account_id, held)
        yield found
    yield [f"all balances of asset {asset_id} sum to {total}" for asset_id, total in sums.items() if total]
    yield [
        f"account {key[0]} has no asset {key[1]}, its postings {amount}" for key, amount in pending.items() if amount
    ]
    if (orders, withdrawals) != moment.open_counts:
        yield [f"accounts have {orders} open orders and {withdrawals} withdrawals, not {moment.open_counts}"]


def _is_negative(account_id: int, balance: Balance, *, leaves: bool) -> bool:
    """Whether anything of it is below zero, `available` and `settled` among it.

    What an account that `leaves` by the contract had still to settle has fallen to insurance before it is settled.
    """
    total, held, reserved = balance.total, balance.held, balance.reserved
    if held < 0 or reserved < 0:
        return True
    unbacked = total < balance.unsettled and not leaves
    return (total < held + reserved or unbacked) and account_id not in MAY_OWE


def _holds(ledger: Ledger, account_id: int, held: dict[int, int]) -> Iterator[list[str]]:
    """Compares what an account holds now with its orders and withdrawals of now: values that never change."""
    orders = iter(list(ledger.open_orders(account_id).values()))
    withdrawals = iter(list(ledger.open_withdrawals(account_id).values()))
    locks: dict[int, int] = {}
    while some := list(islice(orders, STEP_ITEMS)):
        for order in some:
            asset_id = order.lock_asset(ledger.markets[order.market_id]).asset_id
            locks[asset_id] = locks.get(asset_id, 0) + order.lock
        if len(some) == STEP_ITEMS:
            yield []
    while asked := list(islice(withdrawals, STEP_ITEMS)):
        for movement in asked:
            if movement.state is MovementState.REQUESTED:
                locks[movement.asset_id] = locks.get(movement.asset_id, 0) + movement.amount
        if len(asked) == STEP_ITEMS:
            yield []
    if held != locks:
        yield [
            f"account {account_id} holds {held.get(asset_id, 0)} of asset {asset_id}, "
            f"its orders and withdrawals {locks.get(asset_id, 0)}"
            for asset_id in held.keys() | locks.keys()
            if held.get(asset_id, 0) != locks.get(asset_id, 0)
        ]
