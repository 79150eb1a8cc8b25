"""The ledger's self-check: the invariants of money, over the whole state, while it runs."""

from collections.abc import Iterator

from services.order_gateway.ledger import Balance, Ledger
from services.order_gateway.model import MovementState
from services.units import OUTSIDE_ACCOUNT


def violations(ledger: Ledger) -> list[str]:
    """What is wrong, one line each; empty: nothing.

    Conservation: per asset all balances, `outside` included, sum to zero. Non-negativity: nobody but `outside` owes,
    not even on chain. Holds: what an account holds is the sum of its open orders' locks and its requested withdrawals.
    Finality: what is unsettled of a balance is the sum of its postings that are not final.
    """
    return [*_conservation(ledger), *_negatives(ledger), *_holds(ledger), *_finality(ledger)]


def _conservation(ledger: Ledger) -> list[str]:
    sums: dict[int, int] = {}
    for _, asset_id, balance in _balances(ledger):
        sums[asset_id] = sums.get(asset_id, 0) + balance.total
    return [f"all balances of asset {asset_id} sum to {total}" for asset_id, total in sums.items() if total]


def _negatives(ledger: Ledger) -> list[str]:
    return [
        f"account {account_id} has {balance} of asset {asset_id}"
        for account_id, asset_id, balance in _balances(ledger)
        if balance.held < 0
        or balance.reserved < 0
        or (account_id != OUTSIDE_ACCOUNT and min(balance.total, balance.available, balance.settled) < 0)
    ]


def _holds(ledger: Ledger) -> list[str]:
    locks: dict[tuple[int, int], int] = {}
    for order in ledger.open.values():
        key = (order.account_id, order.lock_asset(ledger.markets[order.market_id]).asset_id)
        locks[key] = locks.get(key, 0) + order.lock
    for movement in ledger.withdrawals.values():
        if movement.state is MovementState.REQUESTED:
            key = (movement.from_account_id, movement.asset_id)
            locks[key] = locks.get(key, 0) + movement.amount
    held = {(account_id, asset_id): balance.held for account_id, asset_id, balance in _balances(ledger)}
    return [
        f"account {key[0]} holds {held.get(key, 0)} of asset {key[1]}, its orders and withdrawals {locks.get(key, 0)}"
        for key in held.keys() | locks.keys()
        if held.get(key, 0) != locks.get(key, 0)
    ]


def _finality(ledger: Ledger) -> list[str]:
    pending = ledger.unsettled.sums()
    unsettled = {(account_id, asset_id): balance.unsettled for account_id, asset_id, balance in _balances(ledger)}
    return [
        f"account {key[0]} has {unsettled.get(key, 0)} unsettled of asset {key[1]}, its postings {pending.get(key, 0)}"
        for key in unsettled.keys() | pending.keys()
        if unsettled.get(key, 0) != pending.get(key, 0)
    ]


def _balances(ledger: Ledger) -> Iterator[tuple[int, int, Balance]]:
    for account_id, mine in ledger.balances.items():
        for asset_id, balance in mine.items():
            yield account_id, asset_id, balance
