"""Candles, and each order of the books."""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes two tables, and forgets all that is in the others: the journal, which has it all, is read again."""
    op.create_table(
        "candles",
        sa.Column("market_id", sa.BigInteger, nullable=False),
        sa.Column("length", sa.Text, nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),  # seconds since 1970
        sa.Column("open_ticks", sa.BigInteger, nullable=False),
        sa.Column("high_ticks", sa.BigInteger, nullable=False),
        sa.Column("low_ticks", sa.BigInteger, nullable=False),
        sa.Column("close_ticks", sa.BigInteger, nullable=False),
        sa.Column("lots", Amount, nullable=False),
        sa.Column("tick_lots", Amount, nullable=False),
        sa.Column("trades", sa.BigInteger, nullable=False),
        sa.Column("taker_lots", Amount, nullable=False),
        sa.Column("taker_tick_lots", Amount, nullable=False),
        sa.Column("first_trade_id", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("market_id", "length", "start"),
    )
    # All orders of a book, and then what changed of them: the cursor says as of when.
    op.create_table(
        "orders",
        sa.Column("market_id", sa.BigInteger, nullable=False),
        sa.Column("journal_sequence", sa.BigInteger, nullable=False),
        sa.Column("whole", sa.Boolean, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("market_id", "journal_sequence"),
    )
    # The journal's time at the cursor: what is over must not begin again at the next start.
    op.add_column("journal_cursor", sa.Column("time_ns", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.execute("DELETE FROM assets")
    op.execute("DELETE FROM markets")
    op.execute("DELETE FROM levels")
    op.execute("DELETE FROM changes")
    op.execute("DELETE FROM trades")
    op.execute("UPDATE journal_cursor SET incarnation = '', journal_sequence = 0")
