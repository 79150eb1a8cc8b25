"""`clearbook rebuild`: the gateway's projection folded anew from the journal, and compared with what was there.

Only what is folded is dropped: keys, tokens, the audit log and fee tiers stay. The cursor is guarded as ever, so should
a gateway start meanwhile, one of the two fails and nothing is mixed up.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from clearbook.internal.v1 import journal_pb2
from clearbook.internal.v1 import matching_service_pb2 as matching
from rich.console import Console

from services.book.journal import Damaged, Journal, Row
from services.order_gateway import projection, wire
from services.order_gateway.ledger import ENDED_ORDERS_MAX, Ledger
from services.order_gateway.model import EventRow
from services.order_gateway.store import MIGRATIONS, Store
from services.order_gateway.volumes import VOLUME_ASSET
from services.runtime.db import Conflict, Database, Unavailable, sqlite_path
from services.runtime.migrate import migrate

EXIT_SAME, EXIT_DIFFERENT, EXIT_REFUSED = 0, 1, 2
FLUSH_EVENTS: Final = 5_000
PROGRESS_SECONDS: Final = 2.0
WATCH_SECONDS: Final = 3.0
"""A book that leads journals the time every second, so within this a running gateway's cursor moves."""
LOOK_SECONDS: Final = 0.25


class Refusal(Exception):
    """Nothing was touched; says why."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where it is folded from, and where to.

    Attributes:
        book_url: the book's database.
        gateway_url: the gateway's.
        shard: whose journal.
        volume_asset: what traded volume is counted in, as the gateway is told.
    """

    book_url: str
    gateway_url: str
    shard: int = 0
    volume_asset: str = VOLUME_ASSET


def rebuild(sources: Sources, console: Console) -> int:
    """Folds a shard's journal again and prints what came of it.

    Returns:
        The exit code: 0 the tables were as the journal says, 1 they were not (they are now), 2 nothing was touched.
    """
    try:
        return asyncio.run(_rebuild(sources, console))
    except (Refusal, Unavailable, Damaged, ValueError) as error:
        console.print(f"clearbook rebuild: {error}", style="red", soft_wrap=True)
        return EXIT_REFUSED
    except Conflict:
        console.print("clearbook rebuild: a gateway writes here: stop it, then start again", style="red")
        return EXIT_REFUSED


async def _rebuild(sources: Sources, console: Console) -> int:
    check_exists(sources.book_url)
    await migrate(sources.gateway_url, "gateway", MIGRATIONS)
    async with (
        await Journal.open(sources.book_url, sources.shard) as journal,
        await Database.open(sources.gateway_url, "gateway") as database,
    ):
        newest = await journal.last()
        if newest is None:
            raise Refusal(f"shard {sources.shard} has no journal here")
        cursor = await _resting_cursor(database, await incarnation_of(journal))
        if cursor > newest.last_sequence:
            raise Refusal(
                f"the tables are as of event {cursor}, the journal ends at {newest.last_sequence}: rows are missing"
            )
        before = await projection.digest(database)
        if cursor:
            await projection.empty(database, cursor)
        run = _Rebuild(journal, database, sources.volume_asset, console)
        return await run.run(newest.last_sequence, cursor, before)


def check_exists(url: str) -> None:
    """Raises Refusal for a SQLite file that is not there: opening it would make it."""
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise Refusal(f"{path} does not exist")


async def _resting_cursor(database: Database, incarnation: str) -> int:
    """Where the projection stands: 0 if there is none.

    Raises:
        Refusal: it is of another journal, or moves: a gateway runs.
    """
    first = await _cursor(database)
    if first is None:
        return 0
    if first[1] not in {"", incarnation}:
        raise Refusal(f"this gateway's tables are of another journal ({first[1]}, not {incarnation})")
    for _ in range(int(WATCH_SECONDS / LOOK_SECONDS)):
        await asyncio.sleep(LOOK_SECONDS)  # nothing tells of another process's writes
        if await _cursor(database) != first:
            raise Refusal("a gateway runs on this database: stop it first")
    return first[0]


async def _cursor(database: Database) -> tuple[int, str] | None:
    rows = await database.fetch("SELECT journal_sequence, incarnation FROM cursor WHERE id = 1")
    return (rows[0][0], rows[0][1]) if rows else None


async def incarnation_of(journal: Journal) -> str:
    """The journal's name, which its first event gives."""
    (row,) = await journal.page(0, limit=1)
    return journal_pb2.EventBatch.FromString(row.events).events[0].leader_started.incarnation


async def rows_of(journal: Journal, after: int, through: int) -> AsyncIterator[Row]:
    """All rows that begin after one event and not after another, each checked against the one before it."""
    while page := await journal.page(after, through):
        for row in page:
            yield row
        after = page[-1].last_sequence


def event_row(row: Row, incarnation: str) -> EventRow:
    """A journal row as the gateway hears of it."""
    return wire.event_row(
        matching.StreamEventsResponse(
            first_journal_sequence=row.first_sequence,
            last_journal_sequence=row.last_sequence,
            time_ns=row.time_ns,
            events=row.events,
            incarnation=incarnation,
        )
    )


class _Rebuild:
    """One run of it, from an empty projection."""

    def __init__(self, journal: Journal, database: Database, volume_asset: str, console: Console) -> None:
        self._journal, self._database, self._console = journal, database, console
        self._volume_asset = volume_asset
        self._store = Store(database)
        self._started = self._told = perf_counter()

    async def run(self, through: int, cursor: int, before: str) -> int:
        """Folds all, and compares at the cursor that there was."""
        ledger = Ledger(await self._store.load(ENDED_ORDERS_MAX, self._volume_asset), self._volume_asset)
        incarnation, after, unflushed = await incarnation_of(self._journal), "", 0
        async for row in rows_of(self._journal, 0, through):
            self._fold(event_row(row, incarnation), ledger)
            unflushed += row.last_sequence - row.first_sequence + 1
            if unflushed >= FLUSH_EVENTS or row.last_sequence == cursor:
                await self._flush(ledger)
                unflushed = 0
                self._progress(ledger.sequence, through)
            if row.last_sequence == cursor:
                paused = perf_counter()
                after = await projection.digest(self._database)
                self._started += perf_counter() - paused
        await self._flush(ledger)
        seconds = perf_counter() - self._started
        rate = round(ledger.sequence / seconds)
        self._console.print(f"folded {ledger.sequence} events in {seconds:.1f} s: {rate} events/s")
        return self._verdict(cursor, before, after)

    def _fold(self, row: EventRow, ledger: Ledger) -> None:
        ledger.incarnation = row.incarnation
        for event in row.events:
            self._store.pending.add(ledger.apply(event, row.time_ns))
        self._store.row_ended(len(row.events))

    async def _flush(self, ledger: Ledger) -> None:
        await self._store.flush(ledger)
        stored = self._store.stored.value
        for _ in ledger.forget_former(stored, list(ledger.forget_ended(stored))):
            pass

    def _progress(self, sequence: int, through: int) -> None:
        now = perf_counter()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            rate = round(sequence / (now - self._started))
            self._console.print(f"{sequence} of {through} events ({100 * sequence // through} %), {rate} events/s")

    def _verdict(self, cursor: int, before: str, after: str) -> int:
        if not cursor:
            self._console.print("there was nothing before to compare it with")
            return EXIT_SAME
        if after == before:
            self._console.print(f"digest as of event {cursor}: {after}, the same as before", soft_wrap=True)
            return EXIT_SAME
        self._console.print(f"digest as of event {cursor}: {after}", style="red", soft_wrap=True)
        self._console.print(
            f"before it was {before}: the tables were not what the journal says; they are now",
            style="red",
            soft_wrap=True,
        )
        return EXIT_DIFFERENT
