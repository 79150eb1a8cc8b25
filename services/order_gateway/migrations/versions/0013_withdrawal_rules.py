"""Rules of withdrawals, accounts' lists of addresses, and when an approved withdrawal goes."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Adds the tables and the column. The journal of before has nothing that belongs there."""
    op.create_table(
        "withdrawal_rules",
        sa.Column("asset_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("rules", sa.Text, nullable=False),
    )
    op.create_table(
        "allow_lists",
        sa.Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("allowed", sa.Text, nullable=False),
    )
    op.add_column("movements", sa.Column("release_ns", sa.BigInteger, nullable=False, server_default=sa.text("0")))
