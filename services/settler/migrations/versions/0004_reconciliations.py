"""What the journal says of deposits, claims and exits, what is owed to whom, and what was published of it."""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0004"
down_revision = "0003"

JOURNALED = "(SELECT CAST(content AS BIGINT) FROM meta WHERE name = '{}')"


def upgrade() -> None:
    """Makes the tables. What is journaled already the journal has as it was seen: it was told by this settler."""
    op.create_table(
        "credits",
        sa.Column("deposit_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", Amount, nullable=False),
    )
    op.create_table(
        "payouts",
        sa.Column("claim_index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", Amount, nullable=False),
        # 0: a claim.
        sa.Column("exit_account", sa.BigInteger, nullable=False),
    )
    # As of the newest reconciliation. The holder is an account's number, or the address that may claim.
    op.create_table(
        "liabilities",
        sa.Column("holder", sa.Text, primary_key=True),
        sa.Column("asset", sa.Text, primary_key=True),
        sa.Column("amount", Amount, nullable=False),
    )
    op.create_table(
        "reconciliations",
        sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.execute(
        "INSERT INTO credits SELECT deposit_index, CAST(account AS BIGINT), asset, amount FROM deposits"  # noqa: S608
        f" WHERE deposit_index <= {JOURNALED.format('deposits_journaled')}"
    )
    op.execute(
        "INSERT INTO payouts SELECT claim_index, address, asset, amount, exit_account FROM claims"  # noqa: S608
        f" WHERE claim_index <= {JOURNALED.format('claims_journaled')}"
    )
