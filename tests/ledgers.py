"""What two folds of one journal must have in common."""

from __future__ import annotations

from typing import Any

from services.order_gateway.ledger import Ledger


def state(ledger: Ledger) -> dict[str, Any]:
    """All that a ledger knows, ended orders that memory may let go and reservations apart."""
    return {
        "cursor": (ledger.sequence, ledger.time_ns, ledger.incarnation, ledger.final_through),
        "assets": ledger.assets,
        "markets": ledger.markets,
        "books": {
            key: (
                *(book.state, book.rules, book.reference, book.open_orders),
                *(book.depth.all(True), book.depth.all(False)),
            )
            for key, book in ledger.books.items()
        },
        "accounts": (ledger.account_ids, ledger.account_names),
        "balances": {
            (account_id, asset_id): (balance.total, balance.held, balance.unsettled)
            for account_id, mine in ledger.balances.items()
            for asset_id, balance in mine.items()
            if balance.total or balance.held or balance.unsettled
        },
        "open": ledger.open,
        "self_trade_modes": ledger.self_trade_modes,
        "withdrawals": ledger.withdrawals,
        "withdrawal_rules": ledger.withdrawal_rules,
        "allow_lists": ledger.allow_lists,
        "transfers": list(ledger.transfers),
        "claimable": {key: list(waiting.values()) for key, waiting in ledger._claimable.items()},
        "unsettled": {key: amount for key, amount in ledger.unsettled.sums().items() if amount},
    }
