"""The engine out of its journal: the newest snapshot, then each row again, and every event the same, byte for byte."""

import asyncio
from collections.abc import Sequence

from services.book import wire
from services.book.batch import Batch
from services.book.engine import SNAPSHOT_FORMATS_READ, Engine
from services.book.journal import GENESIS_HASH, Damaged, Journal, OtherEdition, Row, Snapshot
from services.book.model import EDITION, Command, LeaderStarted
from services.book.snapshot import Outdated
from services.runtime import log
from services.runtime.run import Closed, Closing

logger = log.get("recovery")


async def recover(journal: Journal, closing: Closing | None = None) -> tuple[Engine, bytes]:
    """The engine as of the journal's last row, and that row's hash.

    Raises:
        Damaged: naming the sequence.
        OtherEdition: another build is wanted.
        Closed: `closing` was set on the way.
        db.Unavailable: the database.
    """
    engine, last_hash = await _from_snapshot(journal)
    started_at = engine.journal_sequence
    while rows := await journal.page(engine.journal_sequence):
        for row in rows:
            replay(engine, row, last_hash)
            last_hash = row.hash
            await asyncio.sleep(0)  # health checks and signals are answered meanwhile
            if closing is not None and closing.is_set():
                raise Closed
    cursor = await journal.relay_cursor()
    if cursor > engine.settlement_sequence:
        raise Damaged(
            engine.journal_sequence + 1,
            f"it ends here with entry {engine.settlement_sequence}, the broker confirmed {cursor}: rows are missing",
        )
    logger.info("recovered", snapshot=started_at, journal_sequence=engine.journal_sequence, epoch=engine.epoch)
    return engine, last_hash


async def _from_snapshot(journal: Journal) -> tuple[Engine, bytes]:
    """The newest snapshot that is in order, or an empty engine."""
    for snapshot in await journal.snapshots():
        row = await row_of(journal, snapshot)
        engine = restored(snapshot)
        if engine is not None:
            return engine, row.hash
        logger.warning(
            "a snapshot cannot be used: going on from an older one", journal_sequence=snapshot.journal_sequence
        )
    return Engine(journal.shard), GENESIS_HASH


async def row_of(journal: Journal, snapshot: Snapshot) -> Row:
    """The row that a snapshot is as of.

    Raises:
        Damaged: it is not there, or another one. A journal that lost its end shows here.
    """
    rows = await journal.page(snapshot.journal_sequence - 1, limit=1)
    if not rows or rows[0].last_sequence != snapshot.journal_sequence:
        raise Damaged(snapshot.journal_sequence, "a snapshot is as of it, but no row ends there: rows are missing")
    if rows[0].hash != snapshot.row_hash:
        raise Damaged(snapshot.journal_sequence, "the row is not the one that a snapshot was taken after")
    return rows[0]


def restored(snapshot: Snapshot) -> Engine | None:
    """The engine of a snapshot, or None if it is of another format, too old to go on from, or not what was written."""
    if snapshot.format not in SNAPSHOT_FORMATS_READ or (state := snapshot.state()) is None:
        return None
    try:
        engine = Engine.restore(state)
    except Outdated:
        return None
    return engine if engine.journal_sequence == snapshot.journal_sequence else None


def replay(engine: Engine, row: Row, last_hash: bytes) -> None:
    """Applies a row's commands and compares what they become.

    Raises:
        Damaged: naming the sequence.
        OtherEdition: another build's rules were gone by, which this one cannot repeat.
    """
    row.check_after(engine.journal_sequence, last_hash)
    if row.shard != engine.shard:
        raise Damaged(row.first_sequence, f"the row is of shard {row.shard}, the engine of {engine.shard}")
    try:
        commands = wire.decode_commands(row.commands)
        _check_editions(engine, commands)
        batch = Batch(engine, row.time_ns)
        batch.add_all(commands)
    except OtherEdition:
        raise
    except Exception as error:
        raise Damaged(engine.journal_sequence + 1, f"the command cannot be applied: {error!r}") from error
    if batch.events() != row.events:
        raise Damaged(_first_difference(batch.events(), row), "the command became another event this time")
    stated = (row.last_sequence, row.epoch, row.last_settlement_sequence)
    if stated != (engine.journal_sequence, engine.epoch, engine.settlement_sequence):
        raise Damaged(row.first_sequence, "the row states other numbers than its events")


def _check_editions(engine: Engine, commands: Sequence[Command]) -> None:
    """Raises OtherEdition for a leader by rules that came before those gone by already, or that are unknown here."""
    for number, command in enumerate(commands, start=1):
        body = command.body
        if isinstance(body, LeaderStarted) and not engine.edition <= body.edition <= EDITION:
            raise OtherEdition(engine.journal_sequence + number, body.edition, engine.edition, EDITION)


def _first_difference(events: bytes, row: Row) -> int:
    """The journal sequence of the first event that is not as it was."""
    try:
        then = wire.elements(row.events)
    except ValueError:
        return row.first_sequence
    now = wire.elements(events)
    same = next(
        (place for place, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), min(len(then), len(now))
    )
    return row.first_sequence + same
