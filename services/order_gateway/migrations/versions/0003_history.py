"""What lists, fee tiers and the audit log need: indexes, journal times, traded volumes, and what operators did.

Journal times and volumes are of the projection, so it is folded anew from the journal, which has all of it.
"""

import sqlalchemy as sa
from alembic import op

from services.runtime.tables import Amount

revision = "0003"
down_revision = "0002"

PROJECTION = ("cursor", "assets", "markets", "accounts", "balances", "postings", "movements", "orders", "executions")

KEPT = ("entry_index", "create_ns", "user_name", "key_id", "peer", "method", "request")
NEW, OLD = (", ".join(f"{row}.{column}" for column in KEPT) for row in ("NEW", "OLD"))
APPEND_ONLY = "'the audit log is append-only'"
SQLITE_BODY = f"BEGIN SELECT RAISE(ABORT, {APPEND_ONLY}); END"
KEEPS_SQLITE = f"OLD.outcome <> 'UNKNOWN' OR ({NEW}) IS NOT ({OLD})"
KEEPS_POSTGRESQL = f"OLD.outcome <> 'UNKNOWN' OR ({NEW}) IS DISTINCT FROM ({OLD})"
REFUSAL = (
    f"CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION {APPEND_ONLY}; END $$"
)
REFUSE = "EXECUTE FUNCTION audit_refuse()"
TRIGGERS = {
    "sqlite": (
        f"CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit WHEN {KEEPS_SQLITE} {SQLITE_BODY}",
        f"CREATE TRIGGER audit_stays BEFORE DELETE ON audit {SQLITE_BODY}",
    ),
    "postgresql": (
        REFUSAL,
        f"CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit FOR EACH ROW WHEN ({KEEPS_POSTGRESQL}) {REFUSE}",
        f"CREATE TRIGGER audit_stays BEFORE DELETE ON audit FOR EACH ROW {REFUSE}",
        f"CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit FOR EACH STATEMENT {REFUSE}",
    ),
}


def upgrade() -> None:
    """Makes all of it, and empties the projection."""
    for table in PROJECTION:
        op.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
    _lists()
    _fees()
    _audit()


def _number(name: str, *, primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, autoincrement=False, nullable=False, primary_key=primary_key)


def _text(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, primary_key=primary_key)


def _lists() -> None:
    op.create_table(
        "moments",  # the first journal_sequence of each journal time
        _number("time_ns", primary_key=True),
        _number("journal_sequence"),
        sqlite_with_rowid=False,
    )
    op.create_index("moments_by_sequence", "moments", ["journal_sequence"], unique=True)
    op.create_index("orders_by_market", "orders", ["account_id", "market_id", "create_sequence"])
    op.create_index("orders_by_change", "orders", ["account_id", "event_sequence"])
    op.create_index("executions_by_account", "executions", ["account_id", "event_sequence", "trade_id"])
    op.create_index("executions_by_market", "executions", ["account_id", "market_id", "event_sequence", "trade_id"])
    op.create_index("postings_by_account", "postings", ["account_id", "journal_sequence", "line"])
    op.create_index("postings_by_asset", "postings", ["account_id", "asset_id", "journal_sequence", "line"])
    seldom = sa.text("kind > 2")  # neither trades nor their fees
    op.create_index(
        "postings_by_kind",
        "postings",
        ["account_id", "kind", "journal_sequence", "line"],
        sqlite_where=seldom,
        postgresql_where=seldom,
    )
    # By whose it is and when it last changed: for streams that go on from an index.
    op.create_index("movements_by_giver_change", "movements", ["from_account_id", "event_sequence"])
    op.create_index("movements_by_receiver_change", "movements", ["to_account_id", "event_sequence"])


def _fees() -> None:
    op.create_table(
        "volumes",  # what an account traded on a day of journal time
        _text("asset", primary_key=True),
        _number("day", primary_key=True),
        _number("account_id", primary_key=True),
        sa.Column("amount", Amount, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table("prices", _number("market_id", primary_key=True), _number("price_ticks"))
    op.create_table("fixed_tiers", _number("account_id", primary_key=True), _text("tier"))  # not the journal's


def _audit() -> None:
    op.create_table(
        "audit",  # not the journal's
        _number("entry_index", primary_key=True),
        _number("create_ns"),
        _text("user_name"),
        _text("key_id"),
        _text("peer"),
        _text("method"),
        _text("request"),
        _text("outcome"),
    )
    for sql in TRIGGERS[op.get_bind().dialect.name]:
        op.execute(sql)
