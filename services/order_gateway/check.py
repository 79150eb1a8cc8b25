"""The ledger's self-check: the invariants of money, over the whole state, while it runs."""

from services.order_gateway.ledger import Ledger
from services.units import OUTSIDE_ACCOUNT


def violations(ledger: Ledger) -> list[str]:
    """What is wrong, one line each; empty: nothing.

    Conservation: per asset all balances, `outside` included, sum to zero. Non-negativity: nobody but `outside` owes.
    Holds: what an account holds is the sum of its open orders' locks.
    """
    return [*_conservation(ledger), *_negatives(ledger), *_holds(ledger)]


def _conservation(ledger: Ledger) -> list[str]:
    sums: dict[int, int] = {}
    for mine in ledger.balances.values():
        for asset_id, balance in mine.items():
            sums[asset_id] = sums.get(asset_id, 0) + balance.total
    return [f"all balances of asset {asset_id} sum to {total}" for asset_id, total in sums.items() if total]


def _negatives(ledger: Ledger) -> list[str]:
    return [
        f"account {account_id} has {balance} of asset {asset_id}"
        for account_id, mine in ledger.balances.items()
        for asset_id, balance in mine.items()
        if balance.held < 0
        or balance.reserved < 0
        or (account_id != OUTSIDE_ACCOUNT and (balance.total < 0 or balance.available < 0))
    ]


def _holds(ledger: Ledger) -> list[str]:
    locks: dict[tuple[int, int], int] = {}
    for order in ledger.open.values():
        key = (order.account_id, order.lock_asset(ledger.markets[order.market_id]).asset_id)
        locks[key] = locks.get(key, 0) + order.lock
    held = {
        (account_id, asset_id): balance.held
        for account_id, mine in ledger.balances.items()
        for asset_id, balance in mine.items()
    }
    return [
        f"account {key[0]} holds {held.get(key, 0)} of asset {key[1]}, its open orders lock {locks.get(key, 0)}"
        for key in held.keys() | locks.keys()
        if held.get(key, 0) != locks.get(key, 0)
    ]
