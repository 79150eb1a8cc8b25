"""SQLite: one writer thread with one connection, one reader thread with another."""

import asyncio
import contextlib
import queue
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Self, TypeVar

from services.runtime.db import (
    FETCH_SECONDS_MAX,
    WRITE_SECONDS_MAX,
    Conflict,
    Database,
    Row,
    Statement,
    Value,
    question_marks,
)

BUSY_MS_MAX = 5_000
JOIN_SECONDS_MAX = 5.0

ROWS_TOGETHER = 50
"""That one INSERT makes. Python's lock changes hands at each execution, and a busy event loop gives it back late."""
STATEMENTS_MAX = 256
"""Of which the form for so many rows is remembered."""

T = TypeVar("T")

_INSERT = re.compile(r"(INSERT INTO [^()]+ \([^()]+\) VALUES )(\([^()]+\))( ON CONFLICT .*)?", re.DOTALL)
_MARK = re.compile(r"\?([0-9]+)")

_DUPLICATE = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID}
_ENVIRONMENT = {  # the machine's fault, not the statement's
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
}


class _Worker:
    """A thread that owns one connection and does one job after the other."""

    def __init__(self, path: Path, name: str, *pragmas: str) -> None:
        self._path, self._pragmas = path, pragmas
        self._jobs: queue.SimpleQueue[Callable[[sqlite3.Connection], None] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._opened: asyncio.Future[None] = self._loop.create_future()

    async def start(self) -> None:
        self._thread.start()
        await self._opened

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """Queues `work`; its result arrives in this event loop."""
        done: asyncio.Future[T] = self._loop.create_future()
        # Nobody may be waiting any more (a timeout): then its error has been told already.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())

        def job(connection: sqlite3.Connection) -> None:
            try:
                result = work(connection)
            except BaseException as error:
                self._tell(_fail, done, error)
            else:
                self._tell(_succeed, done, result)

        self._jobs.put(job)
        return done

    async def stop(self) -> None:
        """Finishes what is queued, then closes the connection."""
        self._jobs.put(None)
        await self._loop.run_in_executor(None, self._thread.join, JOIN_SECONDS_MAX)

    def _tell(self, report: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to be told
            self._loop.call_soon_threadsafe(report, *args)

    def _work(self) -> None:
        try:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            for pragma in self._pragmas:
                connection.execute(f"PRAGMA {pragma}").fetchall()
        except sqlite3.Error as error:
            self._tell(_fail, self._opened, error)
            return
        self._tell(_succeed, self._opened, None)
        while (job := self._jobs.get()) is not None:
            job(connection)
        connection.close()


def _succeed(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


class Sqlite(Database):
    """A file, in WAL mode, synced at every commit."""

    dialect = "sqlite"

    def __init__(self, path: Path, schema: str) -> None:
        super().__init__(schema)
        shared = (f"busy_timeout = {BUSY_MS_MAX}", "foreign_keys = ON")
        self._writer = _Worker(path, f"{schema}-writer", "journal_mode = WAL", "synchronous = FULL", *shared)
        self._reader = _Worker(path, f"{schema}-reader", *shared, "query_only = ON")
        self._broken: str | None = None
        self._closed = False

    @classmethod
    async def start(cls, path: Path, schema: str) -> Self:
        """Opens the file, making it and its folder when missing."""
        self = cls(path, schema)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            await self._writer.start()
            await self._reader.start()
        except (OSError, sqlite3.Error) as error:
            raise self._unavailable(f"cannot open {path}", error) from None
        return self

    async def write(self, statements: Sequence[Statement]) -> None:
        """See Database.write. After a failed sync nothing is written any more: the file's state is unknown."""
        if self._broken or self._closed:
            raise self._unavailable("write", self._broken or "closed")
        started = time.perf_counter()
        try:
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                await asyncio.shield(self._writer.submit(lambda connection: _transact(connection, statements)))
        except TimeoutError:
            raise self._unavailable("write", f"no answer in {WRITE_SECONDS_MAX} s") from None
        except Conflict as error:
            raise self._conflict(error) from None
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode in _DUPLICATE:
                raise self._conflict(error) from None
            raise
        except sqlite3.Error as error:
            if not _is_environment(error):
                raise
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR:
                self._broken = f"an earlier I/O error ({error})"
            raise self._unavailable("write", error) from None
        self._write_seconds.observe(time.perf_counter() - started)

    async def fetch(self, query: Any, *args: Value) -> list[Row]:
        """See Database.fetch."""
        sql, values = self._compiled(query, args)
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                return await self._reader.submit(lambda c: c.execute(question_marks(sql), values).fetchall())
        except TimeoutError:
            raise self._unavailable("fetch", f"no answer in {FETCH_SECONDS_MAX} s") from None
        except sqlite3.Error as error:
            if _is_environment(error):
                raise self._unavailable("fetch", error) from None
            raise

    def amount(self, n: int) -> str:
        """Decimal TEXT."""
        return str(n)

    async def close(self) -> None:
        """See Database.close."""
        if not self._closed:
            self._closed = True
            await self._reader.stop()
            await self._writer.stop()


def _is_environment(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _ENVIRONMENT


def _transact(connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    """One transaction, in the writer thread."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            sql = question_marks(statement.sql)
            if len(statement.rows) == 1:  # which may be DDL: executemany takes none
                statement.check(connection.execute(sql, statement.rows[0]).rowcount)
            else:
                _execute_all(connection, sql, statement.rows)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _execute_all(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Value]]) -> None:
    """Executes a statement once for each row; an INSERT, as far as it goes, once for ROWS_TOGETHER of them."""
    together = _together(sql, len(rows[0])) if len(rows) >= ROWS_TOGETHER else None
    done = len(rows) - len(rows) % ROWS_TOGETHER if together is not None else 0
    for start in range(0, done, ROWS_TOGETHER):
        connection.execute(together or sql, list(chain.from_iterable(rows[start : start + ROWS_TOGETHER])))
    connection.executemany(sql, rows[done:])


@lru_cache(maxsize=STATEMENTS_MAX)
def _together(sql: str, values: int) -> str | None:
    """An INSERT of one row as one of ROWS_TOGETHER rows; None if it is no such statement."""
    found = _INSERT.fullmatch(sql)
    if found is None:
        return None
    head, row, tail = found.groups("")
    rows = [_moved(row, number * values) for number in range(ROWS_TOGETHER)]
    return f"{head}{', '.join(rows)}{tail}"


def _moved(row: str, values: int) -> str:
    """A row of VALUES whose parameters are so many further on."""
    return _MARK.sub(lambda mark: f"?{int(mark[1]) + values}", row)
