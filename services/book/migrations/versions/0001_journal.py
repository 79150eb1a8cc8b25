"""The journal, its snapshots, and the relay's cursor."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the three tables."""
    op.create_table(
        "journal",
        sa.Column("shard", sa.BigInteger, nullable=False),
        sa.Column("first_sequence", sa.BigInteger, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("commands", sa.LargeBinary, nullable=False),
        sa.Column("events", sa.LargeBinary, nullable=False),
        sa.Column("last_settlement_sequence", sa.BigInteger, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        # The key that fences: of two leaders that append the same row, one conflicts and dies.
        sa.PrimaryKeyConstraint("shard", "first_sequence"),
    )
    # From a settlement sequence to the row that holds it.
    op.create_index("journal_settlement", "journal", ["shard", "last_settlement_sequence", "first_sequence"])
    op.create_table(
        "snapshots",
        sa.Column("shard", sa.BigInteger, nullable=False),
        sa.Column("journal_sequence", sa.BigInteger, nullable=False),
        sa.Column("format", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("shard", "journal_sequence"),
    )
    op.create_table(
        "relay_cursor",
        sa.Column("shard", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("settlement_sequence", sa.BigInteger, nullable=False),
    )
