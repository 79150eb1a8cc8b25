"""Owners of accounts, and their exits."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the tables; a claim may be an exit."""
    # 0: a claim. An account is at most 2^63 - 1.
    op.add_column("claims", sa.Column("exit_account", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "exits",
        sa.Column("exit_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account", sa.BigInteger, nullable=False),
        sa.Column("canceled", sa.SmallInteger, nullable=False),
        sa.Column("block_number", sa.BigInteger, nullable=False),
        sa.Column("transaction_hash", sa.Text, nullable=False),
    )
    op.create_table(
        "owners",
        sa.Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("address", sa.Text, nullable=False),
        # The batch that links it; 0, or one that is void: none does.
        sa.Column("batch_id", sa.BigInteger, nullable=False),
    )
