"""A second step."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("notes", sa.Column("title", sa.Text, nullable=False, server_default=""))
    op.create_index("notes_title", "notes", ["title"])
