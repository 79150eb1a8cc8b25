"""What accounts owe to insurance, which has paid on chain what they could not."""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Adds the table. The journal of before has nothing that belongs there."""
    op.create_table(
        "debts",
        sa.Column("debt_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("asset_id", sa.Integer, nullable=False),
        sa.Column("amount", Amount, nullable=False),
        # 1: frozen, 2: insurance has paid, 3: resolved.
        sa.Column("state", sa.SmallInteger, nullable=False),
    )
