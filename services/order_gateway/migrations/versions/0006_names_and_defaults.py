"""What replaced orders were called before, and what an account's orders do unless they say otherwise."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the tables. The journal of before has nothing that belongs there."""
    op.create_table(
        "trading_defaults",
        sa.Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("self_trade", sa.SmallInteger, nullable=False),
    )
    op.create_table(
        "order_names",
        sa.Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("client_order_id", sa.Text, primary_key=True),
        sa.Column("order_id", sa.BigInteger, nullable=False, index=True),
        sa.Column("until_sequence", sa.BigInteger, nullable=False, index=True),
        sa.Column("until_ns", sa.BigInteger, nullable=False),
    )
