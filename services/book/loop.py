"""The loop: takes all that waits, applies it, journals it in one commit, and only then lets anybody see it.

One commit is in flight at a time; what arrives meanwhile is applied to the next row, whose events wait for the one
before. An error ends the loop and with it the process: nothing is ever tried twice. A snapshot that fails is none: the
journal has it all.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from operator import itemgetter
from time import perf_counter

from services.book import wire
from services.book.batch import ROW_COMMANDS_MAX, Batch
from services.book.copied import Copied, Failed
from services.book.engine import SNAPSHOT_FORMAT, Engine
from services.book.journal import Journal, Row, Snapshot
from services.book.model import AdvanceTime, Command, CommandBody, Event
from services.book.sessions import Session
from services.book.tail import Tail
from services.errors import Reason, Rejected
from services.runtime import log, metrics
from services.runtime.db import Unavailable

ADVANCE_SECONDS = 0.9
"""AdvanceTime after so long without a row: something is journaled in every second, its commit included."""
SNAPSHOT_EVENTS = 100_000
"""A snapshot after so many, or as many more as come while one is written."""
SEQUENCES_MAX = 2**63 - 1
"""No journal is as long."""

_commands = metrics.counter("book_commands", "Commands journaled.")
_rows = metrics.counter("book_rows", "Rows journaled.")
_row_commands = metrics.histogram(
    "book_row_commands", "Commands in a row.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, ROW_COMMANDS_MAX)
)
_commit_seconds = metrics.histogram("book_commit_seconds", "One durable commit of a row.")
_waiting = metrics.gauge("book_waiting_commands", "Commands taken that are not applied yet.")
_snapshots = metrics.counter("book_snapshots", "Snapshots begun, by what became of them.", labels=("outcome",))
_sequence = metrics.gauge("book_journal_sequence", "The last one that is durable.")

logger = log.get("loop")

Owner = Session | asyncio.Future[Event] | None
"""Who is to hear that a command is durable."""
Waiting = tuple[Command, bytes, Owner]
"""A command, and itself as an element of a CommandBatch."""


class _Open:
    """The row in the making, and who waits for it."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.sessions: Counter[Session] = Counter()
        self.waiters: list[tuple[asyncio.Future[Event], Event]] = []

    def fill(self, waiting: deque[Waiting], through_sequence: int) -> None:
        """See `Batch.fill`."""
        done = self.batch.fill(waiting, through_sequence)
        for owner, count in Counter(map(itemgetter(0), done)).items():
            if isinstance(owner, Session):
                self.sessions[owner] += count
            elif owner is not None:
                self._note_waiter(owner, done)

    def _note_waiter(self, waiter: asyncio.Future[Event], done: Sequence[tuple[Owner, Event]]) -> None:
        self.waiters += [(waiter, event) for owner, event in done if owner is waiter]


class Loop:
    """The one writer of a shard.

    Args:
        engine: leading; as of the journal's last row.
        journal: the shard's.
        tail: gets every row once it is durable.
        last_hash: of the journal's last row.
        clock: nanoseconds since the Unix epoch; may step back, the journal's time does not.
        snapshot_events: a snapshot is taken after so many.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        tail: Tail,
        last_hash: bytes,
        clock: Callable[[], int],
        snapshot_events: int = SNAPSHOT_EVENTS,
    ) -> None:
        self._engine, self._journal, self._tail, self._clock = engine, journal, tail, clock
        self._last_hash = last_hash
        self._snapshot_events = snapshot_events
        self._snapshot_of = 0
        self._snapshot_at = engine.journal_sequence + snapshot_events
        self._waiting: deque[Waiting] = deque()
        self._open: _Open | None = None
        self._committing: tuple[asyncio.Task[None], Row, _Open] | None = None
        self._copy: tuple[asyncio.Task[None], Copied] | None = None
        self._closed = False
        self._failure: Exception | None = None
        self._woken = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def take(self, commands: Sequence[tuple[Command, bytes]], session: Session) -> None:
        """Queues commands that `session` has counted in. Raises Rejected(CLOSING) once the loop is closed."""
        if self._closed:
            raise Rejected(Reason.CLOSING)
        self._waiting.extend([(command, encoded, session) for command, encoded in commands])
        self._woken.set()

    async def execute(self, body: CommandBody) -> Event:
        """Queues one of the book's own commands behind all that waits; returns its event once it is durable.

        Raises:
            Rejected: CLOSING.
        """
        if self._closed:
            raise Rejected(Reason.CLOSING)
        done: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        command = Command(0, body)
        self._waiting.append((command, wire.encode_command(command), done))
        self._woken.set()
        return await done

    def close(self) -> None:
        """Takes nothing more; `run` returns when all that was taken is durable and a snapshot is kept."""
        self._closed = True
        self._woken.set()

    def fail(self, error: Exception) -> None:
        """Makes `run` raise: somebody found out that this process must not go on."""
        self._failure = self._failure or error
        self._woken.set()

    async def run(self) -> None:
        """Leads until closed.

        Raises:
            NotLeader, CommitUnknown: the process must end at once, and say nothing.
        """
        self._rearm()
        try:
            while True:
                self._woken.clear()
                if self._failure is not None:
                    raise self._failure
                self._release()
                self._fill()
                if self._committing is None and self._open is not None:
                    self._commit()
                    self._fill()
                if self._snapshot_due and self._at_a_row:
                    self._snapshot()
                    continue
                if self._at_an_end and self._copy is None:
                    return
                await self._woken.wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._copy is not None:
                self._copy[0].cancel()
                self._copy[1].stop()

    @property
    def _at_a_row(self) -> bool:
        """Whether the engine is as of the last durable row."""
        return self._open is None and self._committing is None

    @property
    def _at_an_end(self) -> bool:
        return self._closed and self._at_a_row and not self._waiting

    @property
    def _snapshot_due(self) -> bool:
        """Whether nothing may be applied before one is begun: after so many events, and at the end."""
        ends = self._at_an_end and self._snapshot_of != self._engine.journal_sequence
        return self._copy is None and (ends or self._engine.journal_sequence >= self._snapshot_at)

    def _fill(self) -> None:
        """Applies what waits, until the row is full or a snapshot is due."""
        while self._waiting and not self._snapshot_due:
            if self._open is None:
                self._open = self._begin_row()
            elif self._open.batch.full:
                break
            self._open.fill(self._waiting, self._snapshot_at if self._copy is None else SEQUENCES_MAX)
        _waiting.set(len(self._waiting))

    def _begin_row(self) -> _Open:
        """A row begins with what its time brings about."""
        time_ns = max(self._engine.time_ns, self._clock())
        opened = _Open(Batch(self._engine, time_ns))
        self._rearm()
        if self._engine.is_due(time_ns):
            command = Command(0, AdvanceTime())
            opened.batch.add(command, wire.encode_command(command))
        return opened

    def _commit(self) -> None:
        assert self._open is not None
        opened, self._open = self._open, None
        row = opened.batch.seal(self._last_hash)
        self._last_hash = row.hash
        task = asyncio.create_task(self._append(row), name="commit")
        task.add_done_callback(lambda _: self._woken.set())
        self._committing = task, row, opened

    async def _append(self, row: Row) -> None:
        started = perf_counter()
        await self._journal.append(row)
        _commit_seconds.observe(perf_counter() - started)

    def _release(self) -> None:
        """Once the commit is done: everybody may know. Raises what the commit raised."""
        if self._committing is None or not self._committing[0].done():
            return
        (task, row, opened), self._committing = self._committing, None
        task.result()
        self._tail.append(row)
        for session, count in opened.sessions.items():
            session.in_flight -= count
        for waiter, event in opened.waiters:
            if not waiter.done():
                waiter.set_result(event)
        _commands.inc(len(opened.batch))
        _rows.inc()
        _row_commands.observe(len(opened.batch))
        _sequence.set(row.last_sequence)
        nothing_comes = not self._waiting and self._open is None and not self._closed
        if nothing_comes and self._engine.is_due(self._engine.time_ns):
            self._queue_advance()  # what is due goes on at once: the timer would take minutes over a full book

    def _snapshot(self) -> None:
        """Begins to keep the engine's state, which is as of the last durable row."""
        self._snapshot_of = self._engine.journal_sequence
        self._snapshot_at = self._snapshot_of + self._snapshot_events
        try:
            copy = Copied(self._engine)
        except Failed as error:
            self._note_failed(self._snapshot_of, error)
            return
        task = asyncio.create_task(self._keep(copy, self._snapshot_of, self._last_hash), name="snapshot")
        task.add_done_callback(self._kept)
        self._copy = task, copy

    async def _keep(self, copy: Copied, journal_sequence: int, row_hash: bytes) -> None:
        started = perf_counter()
        try:
            digest, data = await copy.snapshot()
            await self._journal.save_snapshot(Snapshot(journal_sequence, SNAPSHOT_FORMAT, digest, row_hash, data))
        except (Failed, Unavailable) as error:
            self._note_failed(journal_sequence, error)
            return
        _snapshots.labels("kept").inc()
        seconds = round(perf_counter() - started, 3)
        logger.info("snapshot", journal_sequence=journal_sequence, bytes=len(data), seconds=seconds)

    @staticmethod
    def _note_failed(journal_sequence: int, error: Exception) -> None:
        _snapshots.labels("failed").inc()
        logger.warning("no snapshot", journal_sequence=journal_sequence, error=str(error))

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._copy = None
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._failure = self._failure or error
        self._woken.set()

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(ADVANCE_SECONDS, self._advance)

    def _advance(self) -> None:
        """Nothing has happened for a while: journal that. It tells the time, and proves that we still lead."""
        if self._open is None and not self._closed:
            self._queue_advance()
            self._woken.set()
        else:
            self._rearm()

    def _queue_advance(self) -> None:
        command = Command(0, AdvanceTime())
        self._waiting.append((command, wire.encode_command(command), None))
