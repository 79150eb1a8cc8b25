"""Whose owners leave by the contract."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Adds the table. The journal of before has nothing that belongs there."""
    op.create_table(
        "leaving",
        sa.Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
        # 1: the owner has taken the request back.
        sa.Column("canceled", sa.SmallInteger, nullable=False),
    )
