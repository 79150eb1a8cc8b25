"""Movements of money, and finality. What was folded is dropped: it is folded anew from the journal."""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0002"
down_revision = "0001"

FOLDED = ("cursor", "assets", "markets", "accounts", "balances", "postings", "orders", "executions")


def upgrade() -> None:
    """Adds what the fold keeps now, and empties it."""
    for table in FOLDED:
        op.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
    for name in ("final_through", "unsettled_since"):
        op.add_column("cursor", _number(name))
    op.add_column("postings", _number("settlement_sequence"))
    op.drop_table("transfers")
    _movements()


def _number(name: str, *, primary_key: bool = False) -> sa.Column[int]:
    # SQLite wants a default where it adds a column.
    default = None if primary_key else sa.text("0")
    return sa.Column(
        name, sa.BigInteger, autoincrement=False, nullable=False, primary_key=primary_key, server_default=default
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _movements() -> None:
    op.create_table(
        "movements",
        _number("create_sequence", primary_key=True),
        _text("transfer_id"),
        _number("kind"),
        _number("state"),
        _number("from_account_id"),
        _number("to_account_id"),
        _number("asset_id"),
        sa.Column("amount", Amount, nullable=False),
        _number("create_ns"),
        _number("event_sequence"),
        _number("event_ns"),
        _number("settlement_sequence"),
        _number("withdrawal_id"),
        _text("address"),
        _text("reason"),
        _text("transaction_hash"),
    )
    op.create_index("movements_by_id", "movements", ["transfer_id"])
    op.create_index("movements_by_giver", "movements", ["from_account_id", "create_sequence"])
    op.create_index("movements_by_receiver", "movements", ["to_account_id", "create_sequence"])
    withdrawals = sa.text("withdrawal_id > 0")
    for name, columns in (("withdrawals", ["withdrawal_id"]), ("withdrawals_by_state", ["state", "create_sequence"])):
        op.create_index(name, "movements", columns, sqlite_where=withdrawals, postgresql_where=withdrawals)
