"""Who may write: the lease, one row."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Makes the lease, held by nobody, instead of the name of the owner."""
    lease = op.create_table(
        "lease",
        # Always 1: there is one lease.
        sa.Column("one", sa.SmallInteger, sa.CheckConstraint("one = 1"), primary_key=True, autoincrement=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        # 0: nobody holds it.
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(lease, [{"one": 1, "token": 0, "beat": 0}])
    op.execute("DELETE FROM meta WHERE name = 'owner'")
