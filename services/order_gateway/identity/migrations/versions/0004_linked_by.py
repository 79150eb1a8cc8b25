"""What linked each wallet, so that the wallet goes when that key is revoked."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Of wallets that are linked already it is not known."""
    op.add_column("wallets", sa.Column("linked_by", sa.Text, nullable=False, server_default=""))
