"""What each key was made with, so that a key can be revoked with all that were made with it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Keys that are there already have no parent that is known."""
    op.add_column("api_keys", sa.Column("parent", sa.Text, nullable=False, server_default=""))
    op.create_index("api_keys_by_parent", "api_keys", ["parent"])
