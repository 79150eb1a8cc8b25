"""The database of a service, SQLite or PostgreSQL behind one small face.

Writes are durable transactions of parameterised SQL, in the order in which they were asked for, on one connection.
Reads go beside them. SQL is written once, with `$1 … $n`, in the dialect that both share.

Amounts (unbounded ints) are NUMERIC(78,0) in PostgreSQL and decimal TEXT in SQLite: write `db.amount(n)`, read
`int(value)`. As TEXT they neither compare nor sum in SQL: do that in Python.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from services.runtime import metrics

if TYPE_CHECKING:
    from sqlalchemy.sql import Select

WRITE_SECONDS_MAX = 10.0
FETCH_SECONDS_MAX = 30.0
CONNECT_SECONDS_MAX = 5.0

Dialect = Literal["sqlite", "postgresql"]
Value = int | str | bytes | bool | Decimal | None
Row = tuple[Any, ...]

_writes = metrics.histogram("db_write_seconds", "One durable transaction, from the call to its commit.", ["schema"])
_failures = metrics.counter("db_failures", "Transactions and queries that failed.", ["schema", "kind"])


class DatabaseError(Exception):
    """What a caller must expect of a database."""


class Conflict(DatabaseError):
    """A unique key exists already, or a guarded statement met other rows than expected. Nothing was written."""


class Unavailable(DatabaseError):
    """Unreachable, too slow, or an I/O error. Of a write the outcome is unknown."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL text, executed once for each row of parameters.

    Attributes:
        sql: with parameters `$1 … $n`; no `$` in literals.
        rows: the parameters; `[()]` executes a statement that has none.
        expect: for a single row only: how many rows it must affect, else the whole transaction is a Conflict.
    """

    sql: str
    rows: Sequence[Sequence[Value]] = ((),)
    expect: int | None = None

    def __post_init__(self) -> None:
        assert self.expect is None or len(self.rows) == 1, "expect needs exactly one row"

    def check(self, affected: int) -> None:
        """Raises Conflict unless `affected` rows are as many as expected."""
        if self.expect is not None and affected != self.expect:
            raise Conflict(f"affected {affected} rows, not {self.expect}: {self.sql[:100]}")


class Database(ABC):
    """One service's database. Make it with `Database.open`, close it with `close` or `async with`."""

    dialect: Dialect

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._write_seconds = _writes.labels(schema)

    @staticmethod
    async def open(url: str, schema: str) -> "Database":
        """Opens `sqlite:///path` or `postgresql://…`.

        Args:
            url: where it is. The folder of a SQLite file is made when missing.
            schema: the PostgreSQL schema, and the service's name in metrics; SQLite has a file per service instead.

        Raises:
            Unavailable: it cannot be reached.
            ValueError: another kind of URL.
        """
        if path := sqlite_path(url):
            from services.runtime.sqlite import Sqlite

            return await Sqlite.start(path, schema)
        from services.runtime.postgres import Postgres

        return await Postgres.start(postgres_url(url), schema)

    @abstractmethod
    async def write(self, statements: Sequence[Statement]) -> None:
        """Executes all statements in one durable transaction and returns after its commit.

        Concurrent calls commit in the order of the calls. A cancelled caller does not stop its transaction.

        Raises:
            Conflict: nothing was written.
            Unavailable: the outcome is unknown.
        """

    @abstractmethod
    async def fetch(self, query: "str | Select[Any]", *args: Value) -> list[Row]:
        """All rows of a query, as the driver gives them.

        Args:
            query: SQL text with `$1 … $n`, or a SQLAlchemy Core select (which carries its own parameters).
            args: the values of `$1 … $n`.

        Raises:
            Unavailable: unreachable or too slow.
        """

    @abstractmethod
    def amount(self, n: int) -> Value:
        """What the driver takes for an Amount column."""

    @abstractmethod
    async def close(self) -> None:
        """Finishes the writes already asked for and closes. Idempotent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    def _unavailable(self, what: str, error: BaseException | str) -> Unavailable:
        _failures.labels(self.schema, "unavailable").inc()
        return Unavailable(f"{self.dialect} {what}: {error or type(error).__name__}")

    def _conflict(self, error: BaseException) -> Conflict:
        _failures.labels(self.schema, "conflict").inc()
        return Conflict(str(error))

    def _compiled(self, query: "str | Select[Any]", args: Sequence[Value]) -> tuple[str, Sequence[Any]]:
        if isinstance(query, str):
            return query, args
        assert not args, "a select carries its own parameters"
        from services.runtime.tables import compiled

        return compiled(query, self.dialect)


def sqlite_path(url: str) -> Path | None:
    """The file of a `sqlite:///path` URL; None for any other URL."""
    prefix = "sqlite:///"
    return Path(url.removeprefix(prefix)) if url.startswith(prefix) and len(url) > len(prefix) else None


def postgres_url(url: str) -> str:
    """The URL as asyncpg wants it.

    Raises:
        ValueError: it is not one of PostgreSQL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        raise ValueError(f"DATABASE_URL must start with sqlite:/// or postgresql://, not {scheme or 'nothing'}")
    return f"postgresql://{rest}"


@lru_cache(maxsize=1024)
def question_marks(sql: str) -> str:
    """`$1` as SQLite says it: `?1`."""
    return re.sub(r"\$(\d+)", r"?\1", sql)
