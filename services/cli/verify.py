"""`clearbook verify`: a journal applied again from its first row, every event and every snapshot compared."""

import asyncio
import sys

from services.book.engine import SNAPSHOT_FORMAT, SNAPSHOT_FORMATS_READ, Engine
from services.book.journal import GENESIS_HASH, Damaged, Journal, Row, Snapshot
from services.book.recovery import replay, restored
from services.runtime import db

EXIT_FINE, EXIT_DAMAGED, EXIT_UNREADABLE = 0, 1, 2


def verify(database_url: str, shard: int = 0) -> int:
    """Checks a shard's journal and prints what was found.

    It compares every event byte by byte, the chain of hashes, and the digest of every snapshot kept. It may run beside
    a leading book: then it covers what was committed when it began.

    Args:
        database_url: the book's.
        shard: whose journal.

    Returns:
        The exit code: 0 in order, 1 damaged (the sequence is printed), 2 no journal to be read.
    """
    path = db.sqlite_path(database_url)
    if path is not None and not path.exists():
        return _complain(f"no journal: {path} does not exist", EXIT_UNREADABLE)
    try:
        return asyncio.run(_verify(database_url, shard))
    except Damaged as error:
        return _complain(str(error), EXIT_DAMAGED)
    except (db.Unavailable, ValueError) as error:
        return _complain(f"cannot read the journal: {error}", EXIT_UNREADABLE)


async def _verify(database_url: str, shard: int) -> int:
    async with await Journal.open(database_url, shard) as journal:
        newest = await journal.last()
        if newest is None:
            return _complain(f"shard {shard} has no journal here", EXIT_UNREADABLE)
        waiting = {snapshot.journal_sequence: snapshot for snapshot in await journal.snapshots()}
        engine, last_hash, rows = Engine(shard), GENESIS_HASH, 0
        snapshots = len(waiting)
        while page := await journal.page(engine.journal_sequence, newest.first_sequence):
            for row in page:
                replay(engine, row, last_hash)
                last_hash, rows = row.hash, rows + 1
                if snapshot := waiting.pop(row.last_sequence, None):
                    _check_snapshot(snapshot, row, engine)
        await _check_end(journal, engine, waiting)
    sys.stdout.write(
        f"in order: {rows} rows, {engine.journal_sequence} events, {engine.settlement_sequence} entries for the chain, "
        f"{snapshots} snapshots, leader {engine.epoch} of {engine.incarnation}\n"
        f"digest {engine.digest()}\n"
    )
    return EXIT_FINE


def _check_snapshot(snapshot: Snapshot, row: Row, engine: Engine) -> None:
    if snapshot.row_hash != row.hash:
        raise Damaged(row.last_sequence, "its snapshot was taken after another row")
    if snapshot.format not in SNAPSHOT_FORMATS_READ:
        sys.stdout.write(f"the snapshot as of {row.last_sequence} has format {snapshot.format}: not compared\n")
        return
    again = restored(snapshot)
    if again is None and snapshot.format < SNAPSHOT_FORMAT and snapshot.state() is not None:
        sys.stdout.write(f"the snapshot as of {row.last_sequence} is of an older engine: not compared\n")
        return
    if again is None or again.digest() != engine.digest():
        raise Damaged(row.last_sequence, "its snapshot holds another state")


async def _check_end(journal: Journal, engine: Engine, snapshots: dict[int, Snapshot]) -> None:
    """A journal that lost its end shows in what remembers it."""
    if beyond := [sequence for sequence in snapshots if sequence > engine.journal_sequence]:
        newest = await journal.last()
        if newest is None or newest.last_sequence < max(beyond):
            raise Damaged(engine.journal_sequence + 1, f"rows are missing: there is a snapshot as of {max(beyond)}")
    if astray := [sequence for sequence in snapshots if sequence <= engine.journal_sequence]:
        raise Damaged(min(astray), "a snapshot is as of it, but no row ends there")
    cursor = await journal.relay_cursor()
    newest = await journal.last()
    if newest is not None and cursor > newest.last_settlement_sequence:
        raise Damaged(engine.journal_sequence + 1, f"rows are missing: the broker confirmed entry {cursor}")


def _complain(what: str, code: int) -> int:
    sys.stderr.write(f"clearbook verify: {what}\n")
    return code
