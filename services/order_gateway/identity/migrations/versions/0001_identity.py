"""Keys and wallets. No projection of the journal: a rebuild of the gateway leaves these tables alone."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes all tables."""
    op.create_table("changes", _number("id", primary_key=True), _number("value"))  # one row: the last change's number
    op.execute("INSERT INTO changes (id, value) VALUES (1, 0)")
    op.create_table(
        "api_keys",
        _text("key_id", primary_key=True),
        _number("number", unique=True),
        _number("kind"),
        _text("user_name"),
        _text("label"),
        _text("scopes"),
        _text("networks"),
        sa.Column("proof", sa.LargeBinary, nullable=False),
        _number("create_ns"),
        _number("expire_ns"),
        _number("last_used_ns"),
        _number("revoke_ns"),
        _number("change"),
    )
    op.create_index("api_keys_by_user", "api_keys", ["user_name", "number"])
    op.create_index("api_keys_by_change", "api_keys", ["change"])
    op.create_table("wallets", _text("address", primary_key=True), _text("user_name", unique=True), _number("link_ns"))


def _number(name: str, *, primary_key: bool = False, unique: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, autoincrement=False, nullable=False, primary_key=primary_key, unique=unique)


def _text(name: str, *, primary_key: bool = False, unique: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, primary_key=primary_key, unique=unique)
