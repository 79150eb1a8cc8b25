"""Schema migrations at the start of a service: Alembic, without its command line.

A service keeps `migrations/versions/0001_what.py, 0002_…`; each file's `revision` is the number its name begins with.
When the database says that it is at the last of them, Alembic is not even imported.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.runtime.db import CONNECT_SECONDS_MAX, Unavailable, postgres_url, sqlite_path

if TYPE_CHECKING:
    from sqlalchemy import Connection

MIGRATE_SECONDS_MAX = 120.0
LOCK_MS_MAX = 30_000


async def migrate(url: str, schema: str, script_location: str | Path) -> None:
    """Brings the database of a service to its newest schema; whoever comes second waits and finds it done.

    Args:
        url: `sqlite:///path` or `postgresql://…`.
        schema: the PostgreSQL schema, made when missing; its version table lies in it.
        script_location: the service's `migrations` folder.

    Raises:
        Unavailable: the database cannot be reached, or took longer than MIGRATE_SECONDS_MAX.
    """
    location = Path(script_location)
    head = _head(location)
    path = sqlite_path(url)
    try:
        async with asyncio.timeout(MIGRATE_SECONDS_MAX):
            if path is not None:
                await asyncio.to_thread(_migrate_sqlite, path, location, head)
            else:
                await _migrate_postgres(postgres_url(url), schema, location, head)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"cannot migrate {schema}: {error or type(error).__name__}") from None


def _head(location: Path) -> str:
    names = sorted(file.name for file in (location / "versions").glob("[0-9]*.py"))
    assert names, f"no migrations in {location}"
    return names[-1].partition("_")[0]


def _upgrade(connection: "Connection", location: Path, head: str) -> None:
    """Runs what is missing, in the transaction of `connection`."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(location))
    assert script.get_current_head() == head, f"the last file of {location} must be the head revision"

    def missing(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    options: dict[str, Any] = {"fn": missing, "script": script, "transactional_ddl": True}
    context = MigrationContext.configure(connection, opts=options)
    with Operations.context(context):
        context.run_migrations()


def _migrate_sqlite(path: Path, location: Path, head: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if _sqlite_version(path) == head:
            return
        _upgrade_sqlite(path, lambda connection: _upgrade(connection, location, head))
    except sqlite3.OperationalError as error:
        raise Unavailable(f"cannot migrate {path}: {error}") from None


def _sqlite_version(path: Path) -> str | None:
    connection = sqlite3.connect(path, timeout=LOCK_MS_MAX / 1000)
    try:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
        return row[0] if row else None
    finally:
        connection.close()


def _upgrade_sqlite(path: Path, upgrade: "Callable[[Connection], None]") -> None:
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, timeout=LOCK_MS_MAX / 1000)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    # sqlite3 would commit before DDL: the whole upgrade is one exclusive transaction instead.
    @event.listens_for(engine, "begin")
    def begin(connection: "Connection") -> None:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")

    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()


async def _migrate_postgres(url: str, schema: str, location: Path, head: str) -> None:
    if await _postgres_version(url, schema) == head:
        return
    import asyncpg
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    async def connect() -> Any:  # SQLAlchemy would read a URL's options otherwise than asyncpg: sslmode, for one
        settings = {"search_path": f'"{schema}"', "lock_timeout": str(LOCK_MS_MAX)}
        return await asyncpg.connect(url, timeout=CONNECT_SECONDS_MAX, server_settings=settings)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"clearbook {schema}"}
            )
            await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
            await connection.run_sync(_upgrade, location, head)
    finally:
        await engine.dispose()


async def _postgres_version(url: str, schema: str) -> str | None:
    import asyncpg

    connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS_MAX)
    try:
        table = f'"{schema}".alembic_version'
        if await connection.fetchval("SELECT to_regclass($1)", table) is None:
            return None
        version: str | None = await connection.fetchval(f"SELECT version_num FROM {table}")  # noqa: S608 - our own schema's name
        return version
    finally:
        await connection.close()
