"""The history of money takes nothing back: what was posted stays as it is, by triggers. Answers in the audit log.

A movement's row goes from state to state until it has ended; all else in these tables is written once. Only `clearbook
rebuild` lifts the triggers, within the one transaction in which it empties the tables to fold them anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

WRITTEN_ONCE = ("postings", "executions", "moments")
KEPT = (
    *("transfer_id", "kind", "from_account_id", "to_account_id", "asset_id", "amount", "create_sequence", "create_ns"),
    *("withdrawal_id", "address", "transaction_hash"),
)
NEW, OLD = (", ".join(f"{row}.{column}" for column in KEPT) for row in ("NEW", "OLD"))
HAS_ENDED = "OLD.state IN (4, 5, 6)"


def upgrade() -> None:
    """Adds the triggers and the column."""
    default = sa.text("''")  # SQLite wants one where it adds a column
    op.add_column("audit", sa.Column("response", sa.Text, nullable=False, server_default=default))
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgresql()


def _sqlite() -> None:
    for table in (*WRITTEN_ONCE, "movements"):
        body = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        when = f"WHEN {HAS_ENDED} OR ({NEW}) IS NOT ({OLD})" if table == "movements" else ""
        op.execute(f"CREATE TRIGGER {table}_keeps BEFORE UPDATE ON {table} {when} {body}")
        op.execute(f"CREATE TRIGGER {table}_stays BEFORE DELETE ON {table} {body}")


def _postgresql() -> None:
    body = "BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END"
    op.execute(f"CREATE FUNCTION history_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
    refuse = "EXECUTE FUNCTION history_refuse()"
    for table in (*WRITTEN_ONCE, "movements"):
        when = f"WHEN ({HAS_ENDED} OR ({NEW}) IS DISTINCT FROM ({OLD}))" if table == "movements" else ""
        op.execute(f"CREATE TRIGGER {table}_keeps BEFORE UPDATE ON {table} FOR EACH ROW {when} {refuse}")
        op.execute(f"CREATE TRIGGER {table}_stays BEFORE DELETE ON {table} FOR EACH ROW {refuse}")
        op.execute(f"CREATE TRIGGER {table}_is_not_emptied BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refuse}")
