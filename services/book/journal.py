"""The journal in its database: rows chained by hash, each one durable commit; snapshots; the relay's cursor.

It keeps and checks bytes and knows nothing of what they mean: see `batch` for how a row is made, `recovery` for how
the engine comes out of rows again.
"""

import struct
import zlib
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from services.runtime import db
from services.runtime.migrate import migrate

SCHEMA = "book"
MIGRATIONS = Path(__file__).parent / "migrations"
GENESIS_HASH = bytes(32)
"""The previous hash of a journal's first row."""
PAGE_ROWS = 64
SNAPSHOTS_KEPT = 3
COMPRESSION_LEVEL = 1
SEQUENCE_MAX = 2**63 - 1

_NUMBERS = struct.Struct(">6Q")
_COLUMNS = (
    "shard, first_sequence, last_sequence, epoch, time_ns, commands, events, last_settlement_sequence, "
    "previous_hash, hash"
)
_APPEND = f"INSERT INTO journal ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"  # noqa: S608 - constants
# From the row that holds `after + 1` on. The inner select finds where that row begins, by the key.
_PAGE = (
    f"SELECT {_COLUMNS} FROM journal WHERE shard = $1 AND first_sequence <= $3 AND first_sequence >= coalesce("  # noqa: S608
    "(SELECT max(first_sequence) FROM journal WHERE shard = $1 AND first_sequence <= $2), 0) "
    "ORDER BY first_sequence LIMIT $4"
)
_LAST = f"SELECT {_COLUMNS} FROM journal WHERE shard = $1 ORDER BY first_sequence DESC LIMIT 1"  # noqa: S608
_SETTLEMENT = (
    "SELECT first_sequence FROM journal WHERE shard = $1 AND last_settlement_sequence > $2 "
    "ORDER BY last_settlement_sequence, first_sequence LIMIT 1"
)
_SAVE_SNAPSHOT = (
    "INSERT INTO snapshots (shard, journal_sequence, format, digest, hash, data) VALUES ($1, $2, $3, $4, $5, $6) "
    "ON CONFLICT DO NOTHING"
)
_DROP_SNAPSHOTS = (
    "DELETE FROM snapshots WHERE shard = $1 AND journal_sequence NOT IN "
    "(SELECT journal_sequence FROM snapshots WHERE shard = $2 ORDER BY journal_sequence DESC LIMIT $3)"
)
_SNAPSHOTS = (
    "SELECT journal_sequence, format, digest, hash, data FROM snapshots WHERE shard = $1 ORDER BY journal_sequence DESC"
)
_SAVE_CURSOR = (
    "INSERT INTO relay_cursor (shard, settlement_sequence) VALUES ($1, $2) "
    "ON CONFLICT (shard) DO UPDATE SET settlement_sequence = excluded.settlement_sequence "
    "WHERE excluded.settlement_sequence > relay_cursor.settlement_sequence"
)


class Damaged(Exception):
    """The journal is not what was written, or the engine does not do again what it did: nothing may be served.

    Attributes:
        sequence: the journal sequence where it shows.
    """

    def __init__(self, sequence: int, what: str) -> None:
        super().__init__(f"the journal is damaged at sequence {sequence}: {what}")
        self.sequence = sequence


class OtherEdition(Damaged):
    """A leader decided by rules that this build cannot go by from there: another build is wanted, the rows are whole.

    Attributes:
        sequence: of its LeaderStarted.
    """

    def __init__(self, sequence: int, edition: int, before: int, known: int) -> None:
        Exception.__init__(
            self,
            f"the leader at sequence {sequence} went by edition {edition} of the rules, after edition {before}, "
            f"and this build knows {known}: see docs/runbook.md, Going back a version",
        )
        self.sequence = sequence


class NotLeader(Exception):
    """Another process leads this shard now. This one must end without a word more."""


class CommitUnknown(Exception):
    """Nobody knows whether a row was written. The process must end; its next start finds out."""


@dataclass(frozen=True, slots=True)
class Row:
    """One durable commit.

    Attributes:
        shard: whose.
        first_sequence: journal sequence of its first event.
        last_sequence: of its last event.
        epoch: of the leader that wrote it.
        time_ns: the one time of all its commands, nanoseconds since the Unix epoch.
        commands: a serialized CommandBatch.
        events: a serialized EventBatch.
        last_settlement_sequence: the last one given out up to and with this row.
        previous_hash: of the row before.
        hash: over all of the above.
    """

    shard: int
    first_sequence: int
    last_sequence: int
    epoch: int
    time_ns: int
    commands: bytes
    events: bytes
    last_settlement_sequence: int
    previous_hash: bytes
    hash: bytes

    def computed_hash(self) -> bytes:
        """The hash that the row must have."""
        return sha256(
            self.previous_hash
            + _NUMBERS.pack(
                self.shard,
                self.first_sequence,
                self.last_sequence,
                self.epoch,
                self.time_ns,
                self.last_settlement_sequence,
            )
            + sha256(self.commands).digest()
            + sha256(self.events).digest()
        ).digest()

    def hashed(self) -> "Row":
        """The same with its hash."""
        return replace(self, hash=self.computed_hash())

    def check(self) -> None:
        """Raises Damaged unless the row is as it was written."""
        try:
            whole = self.computed_hash() == self.hash
        except (struct.error, TypeError):  # a negative number, or not even bytes
            whole = False
        if not whole:
            raise Damaged(self.first_sequence, f"the row {self._name} does not have its hash")
        if self.last_sequence < self.first_sequence:
            raise Damaged(self.first_sequence, f"the row {self._name} holds no event")

    def check_after(self, last_sequence: int, last_hash: bytes | None) -> None:
        """Raises Damaged unless the row is whole and follows the one that ended at `last_sequence` with `last_hash`.

        None for the hash means: not known.
        """
        if self.first_sequence != last_sequence + 1:
            raise Damaged(last_sequence + 1, f"a row is missing: the next one begins at {self.first_sequence}")
        self.check()
        if last_hash is not None and self.previous_hash != last_hash:
            raise Damaged(self.first_sequence, f"the row {self._name} does not continue the row before it")

    @property
    def _name(self) -> str:
        return f"{self.first_sequence}–{self.last_sequence}"


def packed(state: bytes) -> bytes:
    """An engine's state as it is kept."""
    return zlib.compress(state, COMPRESSION_LEVEL)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine's state after a row.

    Attributes:
        journal_sequence: the row's last.
        format: of the data.
        digest: the engine's, of that state.
        row_hash: the row's.
        data: `packed`, or the state itself, as older builds kept it.
    """

    journal_sequence: int
    format: int
    digest: str
    row_hash: bytes
    data: bytes

    def state(self) -> bytes | None:
        """What `Engine.restore` takes; None if it is not what was written."""
        try:
            state = self.data if self.data.startswith(b"{") else zlib.decompress(self.data)
        except zlib.error:
            return None
        return state if sha256(state).hexdigest() == self.digest else None


class Journal:
    """One shard's journal. Make it with `Journal.open`; close it, or use `async with`."""

    def __init__(self, database: db.Database, shard: int) -> None:
        self._database = database
        self.shard = shard

    @classmethod
    async def open(cls, url: str, shard: int) -> Self:
        """Brings the schema up to date and connects.

        Raises:
            db.Unavailable: the database cannot be reached.
        """
        await migrate(url, SCHEMA, MIGRATIONS)
        return cls(await db.Database.open(url, SCHEMA), shard)

    async def append(self, row: Row) -> None:
        """Returns when the row is durable.

        Raises:
            NotLeader: the row's place is taken.
            CommitUnknown: it may be durable or not.
        """
        values = (
            row.shard,
            row.first_sequence,
            row.last_sequence,
            row.epoch,
            row.time_ns,
            row.commands,
            row.events,
            row.last_settlement_sequence,
            row.previous_hash,
            row.hash,
        )
        try:
            await self._database.write([db.Statement(_APPEND, [values])])
        except db.Conflict:
            raise NotLeader(
                f"sequence {row.first_sequence} of shard {row.shard} was written by another leader"
            ) from None
        except db.Unavailable as error:
            raise CommitUnknown(f"row {row.first_sequence}–{row.last_sequence}: {error}") from error

    async def page(self, after_sequence: int, up_to_sequence: int = SEQUENCE_MAX, limit: int = PAGE_ROWS) -> list[Row]:
        """Rows in order, from the one that holds `after_sequence + 1` on; none if there is nothing after it.

        Each row is checked by itself and against the one before it.

        Args:
            after_sequence: what the reader has; it may lie within a row, whose whole comes then.
            up_to_sequence: no row that begins after it.
            limit: at most so many rows.

        Raises:
            Damaged: a row is missing or not as written.
            db.Unavailable: the database.
        """
        found = await self._database.fetch(_PAGE, self.shard, after_sequence + 1, up_to_sequence, limit + 1)
        rows = [Row(*values) for values in found]
        if rows and rows[0].last_sequence <= after_sequence:  # the row before: what is asked for begins after it
            del rows[0]
        del rows[limit:]
        last, last_hash = after_sequence, None
        for row in rows:
            if row is rows[0] and row.first_sequence <= after_sequence:
                row.check()
            else:
                row.check_after(last, last_hash)
            last, last_hash = row.last_sequence, row.hash
        return rows

    async def last(self) -> Row | None:
        """The newest row, unchecked; None in an empty journal."""
        rows = await self._database.fetch(_LAST, self.shard)
        return Row(*rows[0]) if rows else None

    async def before_settlement(self, settlement_sequence: int) -> int | None:
        """The journal sequence after which the first row with entries after `settlement_sequence` begins; None if there
        is none.
        """
        rows = await self._database.fetch(_SETTLEMENT, self.shard, settlement_sequence)
        return rows[0][0] - 1 if rows else None

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keeps a snapshot and forgets all but the newest SNAPSHOTS_KEPT."""
        values = (
            self.shard,
            snapshot.journal_sequence,
            snapshot.format,
            snapshot.digest,
            snapshot.row_hash,
            snapshot.data,
        )
        await self._database.write(
            [
                db.Statement(_SAVE_SNAPSHOT, [values]),
                db.Statement(_DROP_SNAPSHOTS, [(self.shard, self.shard, SNAPSHOTS_KEPT)]),
            ]
        )

    async def snapshots(self) -> list[Snapshot]:
        """Those kept, newest first."""
        return [Snapshot(*values) for values in await self._database.fetch(_SNAPSHOTS, self.shard)]

    async def relay_cursor(self) -> int:
        """The last settlement sequence that the broker has confirmed; 0 at first."""
        rows = await self._database.fetch("SELECT settlement_sequence FROM relay_cursor WHERE shard = $1", self.shard)
        return int(rows[0][0]) if rows else 0

    async def save_relay_cursor(self, settlement_sequence: int) -> None:
        """Remembers what the broker has confirmed. Never goes back: a leader that was relieved may speak late."""
        await self._database.write([db.Statement(_SAVE_CURSOR, [(self.shard, settlement_sequence)])])

    async def close(self) -> None:
        """Finishes what is being written and closes."""
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()
