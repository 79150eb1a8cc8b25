"""What the price of each market is elsewhere."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Makes the table: no journal of before knows any."""
    op.create_table(
        "reference_prices",
        sa.Column("market_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("price_ticks", sa.BigInteger, nullable=False),
        sa.Column("observed_ns", sa.BigInteger, nullable=False),
    )
