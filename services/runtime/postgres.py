"""PostgreSQL by asyncpg: one connection for the writes, whose order it keeps, and a pool for the reads."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Self, TypeVar

import asyncpg

from services.runtime.db import (
    CONNECT_SECONDS_MAX,
    FETCH_SECONDS_MAX,
    WRITE_SECONDS_MAX,
    Conflict,
    Database,
    Row,
    Statement,
    Value,
)

READ_CONNECTIONS_MAX = 4
IDLE_SECONDS_MAX = WRITE_SECONDS_MAX / 2
"""Of a process frozen within a transaction: the server ends it before whoever waits for its locks gives up."""
CLOSE_SECONDS_MAX = 5.0

T = TypeVar("T")

_DUPLICATE = (asyncpg.UniqueViolationError, asyncpg.ExclusionViolationError)
_ENVIRONMENT = (  # the server's or the network's fault, not the statement's
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
)


class Postgres(Database):
    """A schema of its own on a server."""

    dialect = "postgresql"

    def __init__(self, url: str, schema: str) -> None:
        super().__init__(schema)
        self._url = url
        self._writer: Any = None
        self._pool: Any = None
        self._order = asyncio.Lock()  # FIFO: the order of the calls is the order of the commits
        self._writing: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def start(cls, url: str, schema: str) -> Self:
        """Connects both ways."""
        self = cls(url, schema)
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                self._writer = await self._connect()
                self._pool = await asyncpg.create_pool(
                    url,
                    min_size=0,
                    max_size=READ_CONNECTIONS_MAX,
                    timeout=CONNECT_SECONDS_MAX,
                    reset=_keep,
                    **self._options(),
                )
        except _ENVIRONMENT as error:
            raise self._unavailable("cannot connect", error) from None
        return self

    def _options(self) -> dict[str, Any]:
        return {
            "server_settings": {
                "search_path": f'"{self.schema}"',
                "synchronous_commit": "on",
                "application_name": f"clearbook {self.schema}",
                "statement_timeout": str(int(FETCH_SECONDS_MAX * 1000)),
                "idle_in_transaction_session_timeout": str(int(IDLE_SECONDS_MAX * 1000)),
            }
        }

    async def _connect(self) -> Any:
        return await asyncpg.connect(self._url, timeout=CONNECT_SECONDS_MAX, **self._options())

    async def write(self, statements: Sequence[Statement]) -> None:
        """See Database.write. After an unknown outcome the next call connects anew."""
        if self._closed:
            raise self._unavailable("write", "closed")
        started = time.perf_counter()
        task = asyncio.create_task(self._write(statements))
        self._writing.add(task)
        task.add_done_callback(self._forget)
        await asyncio.shield(task)
        self._write_seconds.observe(time.perf_counter() - started)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        _ = task.cancelled() or task.exception()  # its caller may have been cancelled and hear nothing

    async def _write(self, statements: Sequence[Statement]) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                async with self._order:
                    if self._writer is None or self._writer.is_closed():
                        self._writer = await self._connect()
                    try:
                        await _transact(self._writer, statements)
                    except (*_ENVIRONMENT, asyncio.CancelledError):
                        self._drop_writer()
                        raise
        except (*_DUPLICATE, Conflict) as error:
            raise self._conflict(error) from None
        except _ENVIRONMENT as error:
            raise self._unavailable("write", error) from None

    def _drop_writer(self) -> None:
        """Cuts the connection without waiting for anything: a dead server must not be asked to say goodbye."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.terminate()

    async def fetch(self, query: Any, *args: Value) -> list[Row]:
        """See Database.fetch."""
        if self._closed:
            raise self._unavailable("fetch", "closed")
        sql, values = self._compiled(query, args)
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                return await self._fetch(sql, values)
        except _ENVIRONMENT as error:
            raise self._unavailable("fetch", error) from None

    async def _fetch(self, sql: str, values: Sequence[Any]) -> list[Row]:
        connection = await self._pool.acquire(timeout=CONNECT_SECONDS_MAX)
        try:
            return [tuple(record) for record in await connection.fetch(sql, *values)]
        except (*_ENVIRONMENT, asyncio.CancelledError):
            connection.terminate()
            raise
        finally:
            with contextlib.suppress(*_ENVIRONMENT):
                await self._pool.release(connection, timeout=CLOSE_SECONDS_MAX)

    def amount(self, n: int) -> int:
        """NUMERIC takes the int itself."""
        return n

    async def close(self) -> None:
        """See Database.close."""
        if self._closed:
            return
        self._closed = True
        if self._writing:
            await asyncio.wait(self._writing, timeout=WRITE_SECONDS_MAX)
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                if self._writer is not None:
                    await self._writer.close()
                await self._pool.close()
        except _ENVIRONMENT:
            self._drop_writer()
            self._pool.terminate()


async def _keep(_connection: Any) -> None:
    """Single reads leave nothing behind: no RESET, which would be a second round trip."""


async def _transact(connection: Any, statements: Sequence[Statement]) -> None:
    """One transaction. A single statement needs no BEGIN: executemany is atomic by itself, in one round trip."""
    if len(statements) == 1 and statements[0].expect is None:
        await _execute(connection, statements[0])
        return
    async with connection.transaction():
        for statement in statements:
            await _execute(connection, statement)


async def _execute(connection: Any, statement: Statement) -> None:
    if statement.expect is None:
        await connection.executemany(statement.sql, statement.rows)
        return
    status: str = await connection.execute(statement.sql, *statement.rows[0])
    statement.check(int(status.rpartition(" ")[2]))
