"""Claims of withdrawn funds."""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "claims",
        sa.Column("claim_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", Amount, nullable=False),
        sa.Column("block_number", sa.BigInteger, nullable=False),
        sa.Column("transaction_hash", sa.Text, nullable=False),
        # What the contract had settled when the claim was seen: the book hears of that first.
        sa.Column("settled_through", sa.BigInteger, nullable=False),
    )
