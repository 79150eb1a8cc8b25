"""Everything that the publisher remembers, as of one journal entry."""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the six tables."""
    op.create_table(
        "journal_cursor",
        sa.Column("single", sa.BigInteger, primary_key=True, autoincrement=False),  # one row: 1
        sa.Column("incarnation", sa.Text, nullable=False),
        sa.Column("journal_sequence", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO journal_cursor (single, incarnation, journal_sequence) VALUES (1, '', 0)")
    op.create_table(
        "assets",
        sa.Column("asset_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("decimals", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "markets",
        sa.Column("market_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("base_asset_id", sa.BigInteger, nullable=False),
        sa.Column("quote_asset_id", sa.BigInteger, nullable=False),
        sa.Column("tick_size", sa.Text, nullable=False),
        sa.Column("lot_size", sa.Text, nullable=False),
        sa.Column("notional_min", Amount, nullable=False),
        sa.Column("halted", sa.Boolean, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column(
            "checksum", sa.BigInteger, nullable=False
        ),  # proves on load that the levels are the book at `sequence`
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("last_trade_id", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "levels",
        sa.Column("market_id", sa.BigInteger, nullable=False),
        sa.Column("buys", sa.Boolean, nullable=False),
        sa.Column("price_ticks", sa.BigInteger, nullable=False),
        sa.Column("lots", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("market_id", "buys", "price_ticks"),
    )
    # The resume window: the newest changes of each market, serialized as they were sent.
    op.create_table(
        "changes",
        sa.Column("market_id", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("market_id", "sequence"),
    )
    op.create_table(
        "trades",
        sa.Column("market_id", sa.BigInteger, nullable=False),
        sa.Column("trade_id", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),  # of the command: its trades are told together
        sa.Column("price_ticks", sa.BigInteger, nullable=False),
        sa.Column("quantity_lots", sa.BigInteger, nullable=False),
        sa.Column("taker_buys", sa.Boolean, nullable=False),
        sa.Column("settlement_sequence", sa.BigInteger, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("market_id", "trade_id"),
    )
