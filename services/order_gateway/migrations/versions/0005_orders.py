"""Orders of all kinds: what they ask beyond the usual, what icebergs hide, what orders were at first, who waits.

Orders of before have none of it, so nothing is folded anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the columns, and makes indexes anew: those who wait are open too, and one event may trade in two markets."""
    for name in ("terms", "first_values"):
        op.add_column("orders", sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("orders", sa.Column("hidden_lots", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    for name, key in (("account", ["account_id"]), ("market", ["account_id", "market_id"])):
        op.drop_index(f"executions_by_{name}", "executions")
        op.create_index(
            f"executions_by_{name}", "executions", [*key, "event_sequence", "settlement_sequence", "is_maker"]
        )
    open_ones = sa.text("state IN (1, 4)")
    op.drop_index("orders_open", "orders")
    op.create_index(
        "orders_open", "orders", ["account_id", "create_sequence"], sqlite_where=open_ones, postgresql_where=open_ones
    )
