"""Markets have more states than open and halted, and rules for orders."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """A market of before is open (1) or halted (2), without rules."""
    op.add_column("markets", sa.Column("state", sa.BigInteger, nullable=False, server_default=sa.text("1")))
    op.add_column("markets", sa.Column("rules", sa.Text, nullable=False, server_default=sa.text("''")))
    op.execute("UPDATE markets SET state = 2 WHERE halted")
    op.drop_column("markets", "halted")
