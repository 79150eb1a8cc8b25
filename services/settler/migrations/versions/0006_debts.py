"""Debts: what insurance pays in place of accounts whose legs the chain refuses; and batches as they were before."""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "debts",
        sa.Column("debt_id", sa.BigInteger, primary_key=True, autoincrement=False),
        # 0: the batch is not known here any more.
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", Amount, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        # The last entry of that batch.
        sa.Column("settlement_sequence", sa.BigInteger, nullable=False),
        # 1: that batch is final.
        sa.Column("paid", sa.SmallInteger, nullable=False, server_default="0"),
        # As the journal says it; 0: it does not say anything yet.
        sa.Column("state", sa.SmallInteger, nullable=False),
        # What an operator has decided; empty: nothing.
        sa.Column("resolution", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "debt_notes",
        sa.Column("note_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("debt_id", sa.BigInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
    )
    # A batch keeps its id when another content takes its place; what it was, and why, is kept here.
    op.create_table(
        "superseded",
        sa.Column("batch_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("calldata", sa.LargeBinary, nullable=False),
        sa.Column("chained", sa.LargeBinary, nullable=False),
        sa.Column("legs", sa.Integer, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
    )
