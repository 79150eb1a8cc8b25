"""Why a batch failed, in the log of changes."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds the reason: empty for every other change, and for those from before."""
    op.add_column("changes", sa.Column("reason", sa.Text, nullable=False, server_default=""))
