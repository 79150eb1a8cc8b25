"""How long a page of a long history takes: a million executions and a million postings of one account.

``python bench/history.py`` makes them in a SQLite file of its own (``--database-url`` for PostgreSQL), then asks for
pages of 100 at the beginning, in the middle and at the end, whole, of one market or asset, and cut to a span of time,
and prints the median and the 99th percentile of each in milliseconds. ``--rows N``, ``--pages N``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path

from services.order_gateway.account import PostingKind
from services.order_gateway.history import History
from services.order_gateway.ledger import Ledger
from services.order_gateway.paging import Page, Position, Span
from services.order_gateway.rows import EXECUTION_COLUMNS
from services.order_gateway.store import MIGRATIONS, Store
from services.runtime.db import Database, Statement, Value
from services.runtime.migrate import migrate

ACCOUNT = 1001
MARKETS = 3
BATCH_ROWS = 20_000
SPAN_ROWS = 1_000


def rows(count: int, amount: Value) -> Iterator[tuple[tuple[Value, ...], tuple[Value, ...]]]:
    """An execution and a posting for each event."""
    for number in range(1, count + 1):
        market = number % MARKETS + 1
        execution = (number, number, ACCOUNT, market, f"c{number}", 1, 3_000_000, 10, amount, 0, number, number, number)
        yield execution, (number, 0, ACCOUNT, market, amount, PostingKind.TRADE.value, number)


async def fill(database: Database, count: int) -> None:
    """Writes all rows."""
    marks = ", ".join(f"${place}" for place in range(1, 14))
    executions = f"INSERT INTO executions ({EXECUTION_COLUMNS}) VALUES ({marks})"
    postings = (
        "INSERT INTO postings (journal_sequence, line, account_id, asset_id, amount, kind, settlement_sequence) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7)"
    )
    moments = "INSERT INTO moments (time_ns, journal_sequence) VALUES ($1, $1)"
    source = rows(count, database.amount(7))
    while batch := list(islice(source, BATCH_ROWS)):
        times = [(row[0][0],) for row in batch]
        await database.write(
            [
                Statement(executions, [row[0] for row in batch]),
                Statement(postings, [row[1] for row in batch]),
                Statement(moments, times),
            ]
        )


async def measure(ask: Callable[[], Awaitable[object]], pages: int) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds."""
    taken = []
    for _ in range(pages):
        started = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - started) * 1e3)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


async def bench(url: str, count: int, pages: int) -> None:
    """Fills, asks, prints."""
    await migrate(url, "gateway", MIGRATIONS)
    async with await Database.open(url, "gateway") as database:
        await fill(database, count)
        history = History(Store(database), Ledger())
        print(f"{count:,} executions and postings, {database.dialect}; ms: median, 99th percentile")
        for name, at in (("first", count + 1), ("middle", count // 2), ("last", 101)):
            await places(history, name, (at, 0), pages)


async def places(history: History, name: str, at: Position, pages: int) -> None:
    """All questions at one place of the lists."""
    page = Page(100, at, b"")
    span = Span(max(at[0] - SPAN_ROWS, 0), at[0])
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "executions": lambda: history.executions(ACCOUNT, None, None, Span(), page),
        "executions of a market": lambda: history.executions(ACCOUNT, 2, None, Span(), page),
        "executions of a span": lambda: history.executions(ACCOUNT, None, None, span, page),
        "postings": lambda: history.entries(ACCOUNT, None, None, Span(), page),
        "postings of an asset": lambda: history.entries(ACCOUNT, 2, None, Span(), page),
        "withdrawals among them": lambda: history.entries(ACCOUNT, None, PostingKind.WITHDRAWAL, Span(), page),
    }
    for what, ask in asked.items():
        median, late = await measure(ask, pages)
        print(f"{name:>7} page   {what:<24} {median:7.2f} {late:7.2f}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--database-url", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.database_url or f"sqlite:///{Path(folder)}/gateway.sqlite"
        asyncio.run(bench(url, given.rows, given.pages))


if __name__ == "__main__":
    main()
