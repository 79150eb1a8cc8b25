"""What of the gateway's database is folded from the journal, as a whole: its digest, and emptying it.

All other tables (keys, tokens, the audit log, fixed fee tiers) hold what the journal does not know. The history of
money is guarded by triggers; to empty the projection is to lift them, within the transaction that does it.
"""

import hashlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

from services.runtime.db import Database, Row, Statement

TABLES = {
    "cursor": ("id", "id, journal_sequence, time_ns, incarnation, final_through"),
    "assets": ("asset_id", "*"),
    "markets": ("market_id", "*"),
    "accounts": ("account_id", "*"),
    "balances": ("account_id, asset_id", "*"),
    "postings": ("journal_sequence, line", "*"),
    "movements": ("create_sequence", "*"),
    "orders": ("order_id", "*"),
    "executions": ("order_id, trade_id", "*"),
    "moments": ("time_ns", "*"),
    "volumes": ("asset, day, account_id", "*"),
    "prices": ("market_id", "*"),
    "reference_prices": ("market_id", "*"),
    "trading_defaults": ("account_id", "*"),
    "leaving": ("account_id", "*"),
    "debts": ("debt_id", "*"),
    "withdrawal_rules": ("asset_id", "*"),
    "allow_lists": ("account_id", "*"),
    "order_names": ("account_id, client_order_id", "*"),
}
"""By name: the key, and the columns that the journal decides."""
APPEND_ONLY = ("postings", "executions", "moments", "movements")
"""Those with triggers of their own."""
PAGE_ROWS = 20_000


async def digest(database: Database) -> str:
    """SHA-256 over every row of the projection: the same journal, the same digest.

    Nobody may write meanwhile.

    Raises:
        Unavailable: the database.
    """
    hashed = hashlib.sha256()
    for table, (key, columns) in TABLES.items():
        hashed.update(f"{table}\n".encode())
        async for row in _rows(database, table, key, columns):
            hashed.update(repr(tuple(_plain(value) for value in row)).encode())
    return hashed.hexdigest()


async def empty(database: Database, cursor: int) -> None:
    """Forgets all of it in one transaction, if the cursor stands where the caller has seen it.

    Raises:
        Conflict: it does not: somebody writes here. Nothing was forgotten.
        Unavailable: the outcome is unknown.
    """
    forget = "TRUNCATE" if database.dialect == "postgresql" else "DELETE FROM"
    lifted, back = await _guards(database)
    reset = (
        "UPDATE cursor SET journal_sequence = 0, time_ns = 0, incarnation = '', final_through = 0, unsettled_since = 1 "
        "WHERE id = 1 AND journal_sequence = $1"
    )
    others = [Statement(f"{forget} {table}") for table in TABLES if table != "cursor"]
    await database.write([Statement(reset, [(cursor,)], expect=1), *lifted, *others, *back])


async def _guards(database: Database) -> tuple[list[Statement], list[Statement]]:
    """What lifts the triggers of the history, and what brings the same ones back."""
    if database.dialect == "postgresql":
        lift, bring = (
            [Statement(f"ALTER TABLE {table} {action} TRIGGER USER") for table in APPEND_ONLY]
            for action in ("DISABLE", "ENABLE")
        )
        return lift, bring
    rows = await database.fetch("SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
    mine = [(name, sql) for name, table, sql in rows if table in APPEND_ONLY]
    return [Statement(f"DROP TRIGGER {name}") for name, _ in mine], [Statement(sql) for _, sql in mine]


async def _rows(database: Database, table: str, key: str, columns: str) -> AsyncIterator[Row]:
    """All rows in the order of their key, read page by page."""
    size = key.count(",") + 1
    marks = ", ".join(f"${place}" for place in range(1, size + 1))
    rest, after = "", ()
    while True:
        rows = await database.fetch(
            f"SELECT {key}, {columns} FROM {table} {rest} ORDER BY {key} LIMIT {PAGE_ROWS}",  # noqa: S608 - our own words
            *after,
        )
        for row in rows:
            yield row[size:]
        if len(rows) < PAGE_ROWS:
            return
        rest, after = f"WHERE ({key}) > ({marks})", rows[-1][:size]


def _plain(value: Any) -> Any:
    """The same for both databases."""
    return str(value) if isinstance(value, Decimal) else value
