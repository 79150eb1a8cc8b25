"""Entries, batches, nonces, attempts, the log of changes, deposits."""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "meta",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("settlement_sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("trade_id", sa.BigInteger, nullable=False),
        sa.Column("transfer_id", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("entries_trade", "entries", ["market", "trade_id"])
    op.create_index("entries_transfer", "entries", ["transfer_id"])
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first_sequence", sa.BigInteger, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("calldata", sa.LargeBinary, nullable=False),
        sa.Column("chained", sa.LargeBinary, nullable=False),
        sa.Column("legs", sa.Integer, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("transaction_hash", sa.Text, nullable=False),
        sa.Column("block_number", sa.BigInteger, nullable=False),
        sa.Column("block_hash", sa.Text, nullable=False),
        # 1: the chain settled its entries by another batch; kept because its transactions exist.
        sa.Column("void", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_index("batches_first", "batches", ["first_sequence"])
    op.create_table(
        "nonces",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("nonce", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
    )
    op.create_index("nonces_batch", "nonces", ["batch_id"])
    op.create_table(
        "attempts",
        sa.Column("transaction_hash", sa.Text, primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("nonce", sa.BigInteger, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
    )
    op.create_index("attempts_nonce", "attempts", ["address", "nonce"])
    op.create_table(
        "changes",
        sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first_sequence", sa.BigInteger, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("transaction_hash", sa.Text, nullable=False),
        sa.Column("block_number", sa.BigInteger, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
    )
    op.create_index("changes_batch", "changes", ["batch_id", "idx"])
    op.create_index("changes_state", "changes", ["state", "last_sequence"])
    op.create_table(
        "assets",
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("token", sa.Text, nullable=False),
    )
    op.create_table(
        "deposits",
        sa.Column("deposit_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account", Amount, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", Amount, nullable=False),
        sa.Column("block_number", sa.BigInteger, nullable=False),
        sa.Column("transaction_hash", sa.Text, nullable=False),
    )
