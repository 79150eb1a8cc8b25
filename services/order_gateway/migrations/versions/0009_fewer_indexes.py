"""Less to write for each order that is placed: of orders that are open there is one index, all others have those who
ended, or changed.

In SQLite the table's own key becomes that of its rows, which spares the index that there was beside them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

OPEN, ENDED = "state IN (1, 4)", "NOT state IN (1, 4)"
INDEXES = {
    "orders_open": (["account_id", "create_sequence"], OPEN),
    "orders_by_account": (["account_id", "create_sequence"], ENDED),
    "orders_by_market": (["account_id", "market_id", "create_sequence"], ENDED),
    "orders_by_client": (["account_id", "client_order_id"], ENDED),
    "orders_by_event": (["event_sequence"], ENDED),
    "orders_by_change": (["account_id", "event_sequence"], "event_sequence > create_sequence"),
}


def upgrade() -> None:
    """Makes the indexes anew, and in SQLite the table."""
    for name in INDEXES:
        op.drop_index(name, "orders")
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table("orders", recreate="always") as table:
            table.alter_column("order_id", existing_type=sa.BigInteger(), type_=sa.Integer(), existing_nullable=False)
    for name, (columns, which) in INDEXES.items():
        op.create_index(name, "orders", columns, sqlite_where=sa.text(which), postgresql_where=sa.text(which))
