"""The loop: takes all that waits, applies it, journals it in one commit, and only then lets anybody see it.

One commit is in flight at a time; what arrives meanwhile is applied to the next row, whose events wait for the one
before. An error ends the loop and with it the process: nothing is ever tried twice.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from hashlib import sha256
from time import perf_counter

from services.book import wire
from services.book.batch import ROW_COMMANDS_MAX, Batch
from services.book.engine import SNAPSHOT_FORMAT, Engine
from services.book.journal import Journal, Row, Snapshot
from services.book.model import AdvanceTime, Command, CommandBody, Event
from services.book.sessions import Session
from services.book.tail import Tail
from services.errors import Reason, Rejected
from services.runtime import log, metrics

ADVANCE_SECONDS = 0.9
"""AdvanceTime after so long without a row: something is journaled in every second, its commit included."""
SNAPSHOT_EVENTS = 100_000

_commands = metrics.counter("book_commands", "Commands journaled.")
_rows = metrics.counter("book_rows", "Rows journaled.")
_row_commands = metrics.histogram(
    "book_row_commands", "Commands in a row.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, ROW_COMMANDS_MAX)
)
_commit_seconds = metrics.histogram("book_commit_seconds", "One durable commit of a row.")
_waiting = metrics.gauge("book_waiting_commands", "Commands taken that are not applied yet.")
_sequence = metrics.gauge("book_journal_sequence", "The last one that is durable.")

logger = log.get("loop")

Owner = Session | asyncio.Future[Event] | None
"""Who is to hear that a command is durable."""


class _Open:
    """The row in the making, and who waits for it."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.sessions: Counter[Session] = Counter()
        self.waiters: list[tuple[asyncio.Future[Event], Event]] = []

    def add(self, command: Command, encoded: bytes, owner: Owner) -> None:
        event = self.batch.add(command, encoded)
        if isinstance(owner, Session):
            self.sessions[owner] += 1
        elif owner is not None:
            self.waiters.append((owner, event))


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
        self._snapshot_at = engine.journal_sequence + snapshot_events
        self._waiting: deque[tuple[Command, bytes, Owner]] = deque()
        self._open: _Open | None = None
        self._committing: tuple[asyncio.Task[None], Row, _Open] | None = None
        self._closed = False
        self._failure: Exception | None = None
        self._woken = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def take(self, commands: Sequence[tuple[Command, bytes]], session: Session) -> None:
        """Queues commands that `session` has counted in. Raises Rejected(CLOSING) once the loop is closed."""
        if self._closed:
            raise Rejected(Reason.CLOSING)
        self._waiting.extend((command, encoded, session) for command, encoded in commands)
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
                if self._idle and (self._snapshot_due or self._closed):
                    await self._snapshot()
                    if self._closed:
                        return
                    continue
                await self._woken.wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    @property
    def _idle(self) -> bool:
        """Whether the engine is as of the last durable row, and nothing may be applied before a snapshot."""
        nothing_open = self._open is None and self._committing is None
        return nothing_open and (self._snapshot_due or not self._waiting)

    @property
    def _snapshot_due(self) -> bool:
        return self._engine.journal_sequence >= self._snapshot_at

    def _fill(self) -> None:
        """Applies what waits, until the row is full or a snapshot is due."""
        while self._waiting and not self._snapshot_due:
            if self._open is None:
                self._open = self._begin_row()
            elif self._open.batch.full:
                break
            self._open.add(*self._waiting.popleft())
        _waiting.set(len(self._waiting))

    def _begin_row(self) -> _Open:
        """A row begins with what its time brings about."""
        time_ns = max(self._engine.time_ns, self._clock())
        opened = _Open(Batch(self._engine, time_ns))
        self._rearm()
        if self._engine.is_due(time_ns):
            command = Command(0, AdvanceTime())
            opened.add(command, wire.encode_command(command), None)
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

    async def _snapshot(self) -> None:
        """Keeps the engine's state, which is as of the last durable row."""
        engine = self._engine
        started = perf_counter()
        data = engine.snapshot()
        digest = sha256(data).hexdigest()  # what Engine.digest says, without making the data twice
        snapshot = Snapshot(engine.journal_sequence, SNAPSHOT_FORMAT, digest, self._last_hash, data)
        await self._journal.save_snapshot(snapshot)
        self._snapshot_at = engine.journal_sequence + self._snapshot_events
        seconds = round(perf_counter() - started, 3)
        logger.info("snapshot", journal_sequence=engine.journal_sequence, bytes=len(data), seconds=seconds)

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
