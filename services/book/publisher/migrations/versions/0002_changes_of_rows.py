"""A change is what a row did, not a command, and is stored as levels, not as the message about it."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Forgets the changes that are stored the other way: who resumes behind them gets a snapshot."""
    op.execute("DELETE FROM changes")
