"""The database face on real SQLite files and on a real PostgreSQL."""

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text, select

from services.runtime import sqlite as sqlite_module
from services.runtime.db import Conflict, Database, Statement, Unavailable, postgres_url, sqlite_path
from services.runtime.migrate import migrate
from services.runtime.tables import Amount
from tests.backends import Backends

MIGRATIONS = Path(__file__).parent / "runtime_migrations"
BIG = 10**77 + 1234567

notes = Table(
    "notes",
    MetaData(),
    Column("id", BigInteger, primary_key=True),
    Column("body", LargeBinary),
    Column("amount", Amount),
    Column("title", Text),
)


@pytest.fixture
def database_url(backends: Backends) -> str:
    return backends.database_url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.backends)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/folder/notes.sqlite"
    server: str = request.getfixturevalue("database_url")
    return server


@pytest.fixture
def schema() -> str:
    return f"t_{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def db(url: str, schema: str) -> AsyncIterator[Database]:
    await migrate(url, schema, MIGRATIONS)
    async with await Database.open(url, schema) as database:
        yield database


def insert(*ids: int, title: str = "") -> Statement:
    return Statement("INSERT INTO notes (id, body, title) VALUES ($1, $2, $3)", [(i, b"body", title) for i in ids])


async def ids(db: Database) -> list[int]:
    return [row[0] for row in await db.fetch("SELECT id FROM notes ORDER BY id")]


async def test_a_write_is_there_for_the_next_reader(db: Database) -> None:
    await db.write([insert(1, 2), insert(3)])
    assert await db.fetch("SELECT id, body FROM notes WHERE id > $1 AND id < $2 ORDER BY id", 0, 3) == [
        (1, b"body"),
        (2, b"body"),
    ]


async def test_parameters_may_repeat_and_come_in_any_order(db: Database) -> None:
    await db.write([insert(1, title="a"), insert(2, title="b")])
    assert await db.fetch("SELECT id FROM notes WHERE title = $2 AND id >= $1 AND id <= $1 + 1", 1, "b") == [(2,)]


@pytest.mark.parametrize("count", [2, 49, 50, 51, 120])
async def test_many_rows_are_written_each_as_one(db: Database, count: int) -> None:
    put = (
        "INSERT INTO notes (id, body, title) VALUES ($3, $1, $2) ON CONFLICT (id) DO UPDATE SET title = excluded.title"
    )
    await db.write([Statement(put, [(b"%d" % n, str(n), n // 2) for n in range(count)])])
    expected = [(n // 2, b"%d" % n, str(min(n + 1, count - 1))) for n in range(0, count, 2)]
    assert await db.fetch("SELECT id, body, title FROM notes ORDER BY id") == expected
    with pytest.raises(Conflict):
        await db.write([insert(*range(1_000, 1_000 + count), 0)])
    assert len(await ids(db)) == len(expected)


async def test_a_conflict_writes_nothing_at_all(db: Database) -> None:
    await db.write([insert(1)])
    with pytest.raises(Conflict):
        await db.write([insert(2), insert(3, 1)])
    with pytest.raises(Conflict):
        await db.write([insert(4, 1)])
    assert await ids(db) == [1]
    await db.write([insert(2)])
    assert await ids(db) == [1, 2]


async def test_a_guard_that_does_not_hold_writes_nothing(db: Database) -> None:
    await db.write([insert(1, title="old")])
    move = "UPDATE notes SET title = $1 WHERE title = $2"
    await db.write([Statement(move, [("new", "old")], expect=1)])
    with pytest.raises(Conflict):
        await db.write([insert(2), Statement(move, [("newer", "old")], expect=1)])
    assert await db.fetch("SELECT id, title FROM notes") == [(1, "new")]


async def test_a_mistake_in_sql_is_a_bug_not_unavailability(db: Database) -> None:
    with pytest.raises(Exception, match="nonsense") as caught:
        await db.write([Statement("INSERT INTO nonsense VALUES (1)")])
    assert not isinstance(caught.value, Unavailable | Conflict)
    with pytest.raises(Exception, match="nonsense"):
        await db.fetch("SELECT * FROM nonsense")
    await db.write([insert(1)])


async def test_a_missing_value_is_a_bug_not_a_conflict(db: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)null") as caught:
        await db.write([Statement("INSERT INTO notes (id) VALUES (1)")])
    assert not isinstance(caught.value, Unavailable | Conflict)


@pytest.mark.parametrize("n", [0, 1, -1, 10**18, 2**63, BIG, -BIG, 10**78 - 1])
async def test_amounts_are_exact(db: Database, n: int) -> None:
    await db.write([Statement("INSERT INTO notes (id, body, amount) VALUES (1, $1, $2)", [(b"", db.amount(n))])])
    [(value,)] = await db.fetch("SELECT amount FROM notes")
    assert int(value) == n
    assert await db.fetch(select(notes.c.id).where(notes.c.amount == n)) == [(1,)]


async def test_selects_are_bound_each_time_anew(db: Database) -> None:
    await db.write([insert(*range(10), title="x")])
    for i in (3, 5, 7):
        query = select(notes.c.id, notes.c.body).where(notes.c.id == i, notes.c.title == "x").limit(i)
        assert await db.fetch(query) == [(i, b"body")]
    for some in ([1, 2], [3, 4, 5]):
        assert await db.fetch(select(notes.c.id).where(notes.c.id.in_(some)).order_by(notes.c.id)) == [
            (i,) for i in some
        ]
    assert await db.fetch(select(notes.c.id).order_by(notes.c.id.desc()).limit(2).offset(1)) == [(8,), (7,)]


async def test_concurrent_writes_commit_in_the_order_of_the_calls(db: Database) -> None:
    order = "INSERT INTO notes (id, body) SELECT count(*), $1 FROM notes"
    await asyncio.gather(*(db.write([Statement(order, [(str(i).encode(),)])]) for i in range(100)))
    rows = await db.fetch("SELECT body FROM notes ORDER BY id")
    assert [int(body) for (body,) in rows] == list(range(100))


async def test_a_cancelled_caller_does_not_stop_its_transaction(db: Database) -> None:
    tasks = [asyncio.create_task(db.write([insert(i)])) for i in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await db.write([insert(100)])
    assert await ids(db) == [*range(20), 100]


async def test_closing_finishes_the_writes_and_refuses_more(db: Database, url: str, schema: str) -> None:
    tasks = [asyncio.create_task(db.write([insert(i)])) for i in range(20)]
    await asyncio.sleep(0)
    await db.close()
    await asyncio.gather(*tasks)
    with pytest.raises(Unavailable):
        await db.write([insert(100)])
    async with await Database.open(url, schema) as again:
        assert await ids(again) == list(range(20))


async def test_migrations_run_once_whoever_comes(url: str, schema: str) -> None:
    await asyncio.gather(*(migrate(url, schema, MIGRATIONS) for _ in range(4)))
    async with await Database.open(url, schema) as db:
        assert await db.fetch("SELECT version_num FROM alembic_version") == [("0002",)]


async def test_a_migration_that_fails_leaves_nothing(url: str, schema: str, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    third = folder / "versions" / "0003_breaks.py"
    third.write_text(
        'from alembic import op\nrevision = "0003"\ndown_revision = "0002"\n'
        'def upgrade():\n    op.execute("CREATE TABLE half (id BIGINT)")\n    op.execute("SELECT nonsense")\n'
    )
    with pytest.raises(Exception, match="nonsense"):
        await migrate(url, schema, folder)
    third.write_text(third.read_text().replace("SELECT nonsense", "SELECT 1"))
    await migrate(url, schema, folder)
    async with await Database.open(url, schema) as db:
        assert await db.fetch("SELECT count(*) FROM half") == [(0,)]


def test_a_database_at_its_head_does_not_wait_for_alembic(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\nfrom services.runtime.migrate import migrate\n"
        f"asyncio.run(migrate('sqlite:///{tmp_path}/a.sqlite', 'a', {str(MIGRATIONS)!r}))\n"
        "print('alembic' in sys.modules, 'sqlalchemy' in sys.modules)"
    )
    printed = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
        for _ in range(2)
    ]
    assert printed == [["True", "True"], ["False", "False"]]


async def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    async with await Database.open(f"sqlite:///{tmp_path}/a.sqlite", "a") as db:
        assert isinstance(db, sqlite_module.Sqlite)
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        values = [
            await db._writer.submit(lambda c, p=p: c.execute(f"PRAGMA {p}").fetchone()[0])  # type: ignore[misc]
            for p in pragmas
        ]
        assert values == ["wal", 2, 1]


async def test_a_locked_file_is_unavailable_then_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_module, "BUSY_MS_MAX", 100)
    url = f"sqlite:///{tmp_path}/a.sqlite"
    await migrate(url, "a", MIGRATIONS)
    async with await Database.open(url, "a") as db:
        other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            await db.write([insert(1)])
        other.execute("ROLLBACK")
        other.close()
        await db.write([insert(1)])
        assert await ids(db) == [1]


async def test_a_full_disk_is_unavailable(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.sqlite"
    await migrate(url, "a", MIGRATIONS)
    async with await Database.open(url, "a") as db:
        assert isinstance(db, sqlite_module.Sqlite)
        await db._writer.submit(lambda c: c.execute("PRAGMA max_page_count = 20").fetchone())
        with pytest.raises(Unavailable, match="full"):
            await db.write([Statement("INSERT INTO notes (id, body) VALUES (1, $1)", [(b"x" * 200_000,)])])
        assert await ids(db) == []
        await db.write([insert(1)])


async def test_what_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"not a database, " * 100)
    with pytest.raises(Unavailable):
        await Database.open(f"sqlite:///{tmp_path}/a.sqlite", "a")
    with pytest.raises(Unavailable):
        await Database.open("postgresql://postgres@127.0.0.1:1/none", "a")
    with pytest.raises(Unavailable):
        await migrate("postgresql://postgres@127.0.0.1:1/none", "a", MIGRATIONS)


def test_urls() -> None:
    assert sqlite_path("sqlite:///a/b.sqlite") == Path("a/b.sqlite")
    assert sqlite_path("sqlite:////a/b.sqlite") == Path("/a/b.sqlite")
    assert sqlite_path("sqlite:///") is None
    assert postgres_url("postgresql+asyncpg://u@h/d") == postgres_url("postgres://u@h/d") == "postgresql://u@h/d"
    for wrong in ("mysql://h/d", "", "sqlite://"):
        with pytest.raises(ValueError, match="DATABASE_URL"):
            postgres_url(wrong)


@pytest.fixture
def frozen_backends(database_url: str) -> Iterator[list[int]]:
    """Collects pids to be thawed whatever happens."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.backends
async def test_a_frozen_postgres_is_unavailable_in_time_then_heals(
    database_url: str, schema: str, frozen_backends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.runtime import postgres

    monkeypatch.setattr(postgres, "WRITE_SECONDS_MAX", 1.0)
    monkeypatch.setattr(postgres, "FETCH_SECONDS_MAX", 1.0)
    await migrate(database_url, schema, MIGRATIONS)
    async with await Database.open(database_url, schema) as db:
        await db.write([insert(1)])
        server = "SELECT pid FROM pg_stat_activity WHERE application_name = $1"
        rows = await db.fetch(server, f"clearbook {schema}")
        for (pid,) in rows:
            os.kill(pid, signal.SIGSTOP)
            frozen_backends.append(pid)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await db.write([insert(2)])
            with pytest.raises(Unavailable):
                await db.fetch("SELECT 1")
        for pid in frozen_backends:
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.2)
        await db.write([insert(3)])
        assert {1, 3} <= set(await ids(db))


@pytest.mark.backends
async def test_a_cut_postgres_connection_is_unavailable_then_heals(database_url: str, schema: str) -> None:
    await migrate(database_url, schema, MIGRATIONS)
    async with await Database.open(database_url, schema) as db, await Database.open(database_url, "public") as other:
        await db.write([insert(1)])
        await db.fetch("SELECT 1")
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1"
        await other.fetch(cut, f"clearbook {schema}")
        await asyncio.sleep(0.1)
        outcomes = await asyncio.gather(*(db.write([insert(i)]) for i in (2, 3)), return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, Unavailable) for outcome in outcomes)
        await db.write([insert(4)])
        assert {1, 4} <= set(await ids(db))


@pytest.mark.backends
async def test_a_url_may_ask_for_tls(database_url: str, schema: str) -> None:
    await migrate(f"{database_url}?sslmode=disable", schema, MIGRATIONS)
    # The server here has no TLS: who insists on it is told so, and nothing is sent in plain text.
    for refused in (migrate(f"{database_url}?sslmode=require", schema, MIGRATIONS), _opened(database_url)):
        with pytest.raises(Unavailable, match="SSL upgrade"):
            await refused


async def _opened(database_url: str) -> None:
    async with await Database.open(f"{database_url}?sslmode=require", "plain"):
        pass
