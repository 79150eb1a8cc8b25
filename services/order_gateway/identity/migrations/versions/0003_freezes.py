"""Accounts that operators froze, and wallets that they took away."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes both tables."""
    op.create_table("freezes", _text("user_name", primary_key=True), _text("reason"), _number("freeze_ns"))
    op.create_table("unlinked_wallets", _text("address", primary_key=True), _text("user_name"), _number("unlink_ns"))


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _text(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, primary_key=primary_key)
