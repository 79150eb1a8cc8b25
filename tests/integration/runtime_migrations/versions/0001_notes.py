"""A table to try things on."""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "notes",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("amount", Amount, nullable=True),
    )
