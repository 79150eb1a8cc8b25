"""A journal on a real database: recovered by every way to the same state, or halted at the sequence that is wrong."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from services.book import wire
from services.book.__main__ import Book, BookSettings
from services.book.batch import Batch
from services.book.engine import SNAPSHOT_FORMAT, Engine
from services.book.journal import (
    GENESIS_HASH,
    SNAPSHOTS_KEPT,
    CommitUnknown,
    Damaged,
    Journal,
    NotLeader,
    Row,
    Snapshot,
)
from services.book.leader import take_lead
from services.book.model import (
    EDITION,
    Command,
    CommandBody,
    Event,
    LeaderStarted,
    OpenAccount,
    OpenSession,
    PlaceOrder,
    Transfer,
)
from services.book.recovery import recover, replay
from services.book.seed import seeds
from services.cli.verify import verify
from services.runtime import db
from services.runtime.run import Closing, StartError
from tests.backends import Backends
from tests.snapshots import of_format_1

MARKETS = Path(__file__).parents[2] / "markets.toml"
ROWS = 12
ROW_COMMANDS = 5


@dataclass
class Written:
    """A journal of ROWS rows and some: what it holds, as it was when written."""

    url: str
    rows: list[Row]
    digest: str
    snapshots: list[Snapshot]


def workload(seed: int, count: int) -> list[CommandBody]:
    draw = random.Random(seed)
    bodies: list[CommandBody] = []
    for n in range(count):
        account, side = draw.choice([1001, 1002]), draw.choice([1, 2])
        if draw.random() < 0.1:
            bodies.append(Transfer(f"t{seed}-{n}", 2, account, 1, draw.randrange(1, 10**30)))
        else:
            price = 3_000_000 + draw.randrange(-9, 9)
            bodies.append(PlaceOrder(account, 1, side, 1, draw.choice([1, 2]), False, price, draw.randrange(1, 50)))
    return bodies


async def write(url: str) -> Written:
    """Leads an empty journal and appends ROWS rows, with a snapshot as of the fourth and the eighth."""
    async with await Journal.open(url, 0) as journal:
        engine = Engine(0)
        rows = [await take_lead(journal, engine, GENESIS_HASH, 1_000, seeds(MARKETS))]
        first: list[CommandBody] = [OpenAccount("a"), OpenAccount("b"), OpenSession(1)]
        number = 0
        for n in range(ROWS):
            batch = Batch(engine, engine.time_ns + n)
            if n == 0:
                batch.add_all([Command(0, body) for body in first])
            for body in workload(n, ROW_COMMANDS):
                number += 1
                batch.add_all([Command(1 << 56 | 1 << 36 | number, body)])
            rows.append(batch.seal(rows[-1].hash))
            await journal.append(rows[-1])
            if n % 4 == 3:
                await journal.save_snapshot(snapshot_of(engine, rows[-1]))
        return Written(url, rows, engine.digest(), await journal.snapshots())


def snapshot_of(engine: Engine, row: Row) -> Snapshot:
    return Snapshot(engine.journal_sequence, SNAPSHOT_FORMAT, engine.digest(), row.hash, engine.snapshot())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.backends)])
def servers(request: pytest.FixtureRequest) -> Backends | None:
    return request.getfixturevalue("backends") if request.param == "postgresql" else None


@pytest.fixture
async def url(servers: Backends | None, tmp_path: Path) -> str:
    return await servers.new_database() if servers else f"sqlite:///{tmp_path}/book.sqlite"


@pytest.fixture
async def written(url: str) -> Written:
    return await write(url)


@pytest.fixture
async def small(tmp_path: Path) -> Written:
    """On SQLite, to be damaged; without snapshots unless the test keeps them."""
    return await write(f"sqlite:///{tmp_path}/book.sqlite")


@pytest.fixture
async def database(url: str) -> AsyncIterator[db.Database]:
    async with await db.Database.open(url, "book") as opened:
        yield opened


async def recovered(url: str) -> tuple[Engine, bytes]:
    async with await Journal.open(url, 0) as journal:
        return await recover(journal)


class TestInOrder:
    async def test_a_row_comes_back_as_it_was_written(self, written: Written) -> None:
        async with await Journal.open(written.url, 0) as journal:
            assert await journal.page(0) == written.rows
            assert await journal.last() == written.rows[-1]

    async def test_snapshot_and_tail_and_full_replay_and_live_are_one(
        self, written: Written, database: db.Database
    ) -> None:
        from_snapshot, last_hash = await recovered(written.url)
        assert (from_snapshot.digest(), last_hash) == (written.digest, written.rows[-1].hash)
        for snapshot in [*written.snapshots]:  # the newest first: then from older ones, then from the first row
            await database.write(
                [
                    db.Statement(
                        "DELETE FROM snapshots WHERE journal_sequence = $1", [(snapshot.journal_sequence,)], expect=1
                    )
                ]
            )
            engine, last_hash = await recovered(written.url)
            assert (engine.digest(), last_hash) == (written.digest, written.rows[-1].hash)

    async def test_the_newest_snapshots_are_kept(self, written: Written) -> None:
        kept = [snapshot.journal_sequence for snapshot in written.snapshots]
        assert len(kept) == min(SNAPSHOTS_KEPT, ROWS // 4)
        async with await Journal.open(written.url, 0) as journal:
            engine, last_hash = await recover(journal)
            for _ in range(2):
                row = await take_lead(journal, engine, last_hash, 0, [])
                await journal.save_snapshot(snapshot_of(engine, row))
                last_hash = row.hash
            newest = [snapshot.journal_sequence for snapshot in await journal.snapshots()]
        assert newest == [engine.journal_sequence, engine.journal_sequence - 1, kept[0]]

    @pytest.mark.parametrize("limit", [1, 2, 64])
    async def test_from_every_cursor(self, small: Written, limit: int) -> None:
        last = small.rows[-1].last_sequence
        async with await Journal.open(small.url, 0) as journal:
            for cursor in range(last + 1):
                expected = [row for row in small.rows if row.last_sequence > cursor][:limit]
                assert await journal.page(cursor, limit=limit) == expected, cursor
            assert await journal.page(last + 5) == []
            up_to = small.rows[3].first_sequence
            assert (await journal.page(0, up_to))[-1] == small.rows[3]

    async def test_from_every_settlement_cursor(self, small: Written) -> None:
        async with await Journal.open(small.url, 0) as journal:
            for cursor in range(small.rows[-1].last_settlement_sequence):
                row = next(row for row in small.rows if row.last_settlement_sequence > cursor)
                assert await journal.before_settlement(cursor) == row.first_sequence - 1
            assert await journal.before_settlement(small.rows[-1].last_settlement_sequence) is None

    async def test_a_second_leader_continues_and_the_first_conflicts(self, written: Written) -> None:
        async with await Journal.open(written.url, 0) as one, await Journal.open(written.url, 0) as other:
            engine, last_hash = await recover(one)
            sleeper = Batch(engine, engine.time_ns)
            sleeper.add_all([Command(0, OpenAccount("c"))])
            late = sleeper.seal(last_hash)
            again, again_hash = await recover(other)
            row = await take_lead(other, again, again_hash, 0, seeds(MARKETS))
            assert (again.epoch, len(again.assets)) == (2, 3), "seeds are for an empty journal"
            assert row.time_ns >= written.rows[-1].time_ns, "time does not run back with the clock"
            with pytest.raises(NotLeader):
                await one.append(late)
            with pytest.raises(NotLeader):
                await take_lead(one, as_of(written.rows), last_hash, 0, [])

    async def test_two_shards_share_a_database(self, url: str) -> None:
        await write(url)
        async with await Journal.open(url, 7) as journal:
            engine, last_hash = await recover(journal)
            assert (engine.journal_sequence, last_hash) == (0, GENESIS_HASH)
            await take_lead(journal, engine, last_hash, 5, [])
            assert (await recover(journal))[0].epoch == 1
        assert (await recovered(url))[0].epoch == 1


def as_of(rows: list[Row]) -> Engine:
    """The engine after these rows, whatever was appended since."""
    engine, last_hash = Engine(0), GENESIS_HASH
    for row in rows:
        replay(engine, row, last_hash)
        last_hash = row.hash
    return engine


async def test_a_refused_seed_journals_nothing(tmp_path: Path) -> None:
    markets = tmp_path / "markets.toml"
    markets.write_text('[[assets]]\nsymbol = "lower"\n')
    async with await Journal.open(f"sqlite:///{tmp_path}/book.sqlite", 0) as journal:
        with pytest.raises(StartError, match="lower"):
            await take_lead(journal, Engine(0), GENESIS_HASH, 5, seeds(markets))
        assert await journal.last() is None


@pytest.mark.parametrize("edition", [EDITION - 1, EDITION + 1])
async def test_who_went_by_other_rules_leaves_a_journal_that_does_not_start(tmp_path: Path, edition: int) -> None:
    url = f"sqlite:///{tmp_path}/book.sqlite"
    async with await Journal.open(url, 0) as journal:
        engine = Engine(0)
        row = await take_lead(journal, engine, GENESIS_HASH, 5, [])
        batch = Batch(engine, 6)
        batch.add_all([Command(0, LeaderStarted(2, engine.incarnation))])
        led = LeaderStarted(2, engine.incarnation, edition)
        commands, events = wire.encode_command(Command(0, led)), wire.encode_event(Event(2, 0, 0, led))
        await journal.append(replace(batch.seal(row.hash), commands=commands, events=events).hashed())
    settings = BookSettings(database_url=url, book_address="127.0.0.1:0")
    with pytest.raises(StartError, match=rf"at sequence 2 went by edition {edition} .*Going back a version"):
        await Book(settings).run(Closing())


async def test_an_unknown_outcome_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await Journal.open(f"sqlite:///{tmp_path}/book.sqlite", 0)
    await journal.close()  # the database is gone
    with pytest.raises(CommitUnknown):
        await take_lead(journal, Engine(0), GENESIS_HASH, 5, [])


Damage = Callable[[sqlite3.Connection, Written], int]
"""Does harm to a journal and says which sequence must be named."""


def flip(column: str, row: int, *, rehash: bool = False) -> Damage:
    """One bit of one row's blob; with its hash made right again, only the engine can tell."""

    def harm(connection: sqlite3.Connection, written: Written) -> int:
        victim = written.rows[row]
        data = bytearray(getattr(victim, column))
        data[len(data) // 2] ^= 1
        put(connection, victim, **{column: bytes(data)})
        if rehash:
            chain_again(connection)
        return victim.first_sequence

    return harm


def put(connection: sqlite3.Connection, row: Row, **values: object) -> None:
    for column, value in values.items():
        connection.execute(f"UPDATE journal SET {column} = ? WHERE first_sequence = ?", (value, row.first_sequence))


def chain_again(connection: sqlite3.Connection) -> None:
    """Hashes as a forger would make them."""
    last = GENESIS_HASH
    for found in connection.execute("SELECT * FROM journal ORDER BY first_sequence").fetchall():
        row = replace(Row(*found), previous_hash=last).hashed()
        put(connection, row, previous_hash=last, hash=row.hash)
        last = row.hash


def missing(row: int) -> Damage:
    def harm(connection: sqlite3.Connection, written: Written) -> int:
        connection.execute("DELETE FROM journal WHERE first_sequence = ?", (written.rows[row].first_sequence,))
        return written.rows[row].first_sequence

    return harm


def swapped(one: int, other: int) -> Damage:
    def harm(connection: sqlite3.Connection, written: Written) -> int:
        a, b = written.rows[one], written.rows[other]
        put(connection, a, commands=b.commands, events=b.events, hash=b.hash)
        put(connection, b, commands=a.commands, events=a.events, hash=a.hash)
        return a.first_sequence

    return harm


def cut(column: str, row: int) -> Damage:
    def harm(connection: sqlite3.Connection, written: Written) -> int:
        put(connection, written.rows[row], **{column: getattr(written.rows[row], column)[:-3]})
        return written.rows[row].first_sequence

    return harm


def number(column: str, row: int, by: int, *, rehash: bool) -> Damage:
    def harm(connection: sqlite3.Connection, written: Written) -> int:
        victim = written.rows[row]
        put(connection, victim, **{column: getattr(victim, column) + by})
        if rehash:
            chain_again(connection)
        return victim.first_sequence

    return harm


def forged_event(connection: sqlite3.Connection, written: Written) -> int:
    """One event of a row, the third, with its hash made right: a lot more than was traded."""
    victim = written.rows[5]
    events = wire.elements(victim.events)
    events[2] = events[2][:-1] + bytes([events[2][-1] ^ 1])
    put(connection, victim, events=b"".join(events))
    chain_again(connection)
    return victim.first_sequence + 2


DAMAGES: dict[str, Damage] = {
    "a bit of the commands": flip("commands", 5),
    "a bit of the events": flip("events", 6),
    "a bit of the hash": flip("hash", 4),
    "a bit of the previous hash": flip("previous_hash", 4),
    "a bit in the first row": flip("events", 0),
    "a bit in the last row": flip("commands", ROWS),
    "an event, with its hash made right": forged_event,
    "a missing row": missing(5),
    "the first row missing": missing(0),
    "two rows swapped": swapped(3, 4),
    "commands cut short": cut("commands", 7),
    "events cut short": cut("events", 7),
    "another time": number("time_ns", 6, 1, rehash=False),
    "time running back": number("time_ns", 6, -900, rehash=True),
    "another epoch": number("epoch", 6, 1, rehash=True),
    "another settlement sequence": number("last_settlement_sequence", 6, 1, rehash=True),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_journal_halts_naming_the_sequence(
    small: Written, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    path = db.sqlite_path(small.url)
    assert path is not None
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM snapshots")
        sequence = damage(connection, small)
    with pytest.raises(Damaged, match=rf"at sequence {sequence}: ") as halted:
        await recovered(small.url)
    assert halted.value.sequence == sequence
    assert await in_thread(verify, small.url, 0) == 1
    assert f"at sequence {sequence}: " in capsys.readouterr().err


async def in_thread(work: Callable[..., int], *args: object) -> int:
    return await asyncio.to_thread(work, *args)


class TestALostEnd:
    """A chain of hashes cannot tell that its last rows are gone: what has seen them can."""

    async def test_by_a_snapshot(self, small: Written) -> None:
        lose(small, after_row=6)
        with pytest.raises(Damaged, match=f"at sequence {small.snapshots[0].journal_sequence}: a snapshot is as of it"):
            await recovered(small.url)
        assert await in_thread(verify, small.url, 0) == 1

    async def test_by_the_relay(self, small: Written) -> None:
        async with await Journal.open(small.url, 0) as journal:
            await journal.save_relay_cursor(small.rows[-1].last_settlement_sequence)
            await recover(journal)
        lose(small, after_row=10, snapshots=True)
        with pytest.raises(Damaged, match=f"at sequence {small.rows[11].first_sequence}: .*rows are missing"):
            await recovered(small.url)
        assert await in_thread(verify, small.url, 0) == 1


def lose(written: Written, after_row: int, *, snapshots: bool = False) -> None:
    path = db.sqlite_path(written.url)
    assert path is not None
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM journal WHERE first_sequence > ?", (written.rows[after_row].first_sequence,))
        if snapshots:
            connection.execute("DELETE FROM snapshots")


class TestADamagedSnapshot:
    @pytest.mark.parametrize(
        "harm",
        [
            "UPDATE snapshots SET data = CAST('{}' AS BLOB) WHERE journal_sequence = ?",
            "UPDATE snapshots SET digest = 'other' WHERE journal_sequence = ?",
            "UPDATE snapshots SET format = 0 WHERE journal_sequence = ?",
        ],
    )
    async def test_is_passed_over(self, small: Written, harm: str) -> None:
        damage_snapshot(small, harm)
        engine, _ = await recovered(small.url)
        assert engine.digest() == small.digest

    async def test_of_another_journal_halts(self, small: Written) -> None:
        sequence = damage_snapshot(small, "UPDATE snapshots SET hash = x'00' WHERE journal_sequence = ?")
        with pytest.raises(Damaged, match=f"at sequence {sequence}: "):
            await recovered(small.url)
        assert await in_thread(verify, small.url, 0) == 1

    async def test_is_found_by_verify(self, small: Written, capsys: pytest.CaptureFixture[str]) -> None:
        """Even one whose digest was made right."""
        engine = as_of(small.rows[:8])
        data = engine.snapshot()
        sequence = small.snapshots[0].journal_sequence
        path = db.sqlite_path(small.url)
        assert path is not None
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "UPDATE snapshots SET data = ?, digest = ? WHERE journal_sequence = ?",
                (data, sha256(data).hexdigest(), sequence),
            )
        assert await in_thread(verify, small.url, 0) == 1
        assert f"at sequence {sequence}: its snapshot" in capsys.readouterr().err


async def test_an_older_engines_snapshot_that_lacks_the_last_prices_is_passed_over(
    small: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    sequence = small.snapshots[0].journal_sequence
    data = of_format_1(as_of([row for row in small.rows if row.last_sequence <= sequence]))
    path = db.sqlite_path(small.url)
    assert path is not None
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE snapshots SET format = 1, data = ?, digest = ? WHERE journal_sequence = ?",
            (data, sha256(data).hexdigest(), sequence),
        )
    assert await in_thread(verify, small.url, 0) == 0
    assert f"as of {sequence} is of an older engine: not compared" in capsys.readouterr().out
    engine, last_hash = await recovered(small.url)
    assert (engine.digest(), last_hash) == (small.digest, small.rows[-1].hash)


def damage_snapshot(written: Written, sql: str) -> int:
    sequence = written.snapshots[0].journal_sequence
    path = db.sqlite_path(written.url)
    assert path is not None
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql, (sequence,)).rowcount == 1
    return sequence


class TestVerify:
    async def test_in_order(self, written: Written, capsys: pytest.CaptureFixture[str]) -> None:
        assert await in_thread(verify, written.url, 0) == 0
        said = capsys.readouterr().out
        assert f"{ROWS + 1} rows, {written.rows[-1].last_sequence} events" in said
        assert f"{len(written.snapshots)} snapshots" in said
        assert f"digest {written.digest}" in said

    async def test_nothing_there(self, tmp_path: Path, small: Written, capsys: pytest.CaptureFixture[str]) -> None:
        assert await in_thread(verify, f"sqlite:///{tmp_path}/none.sqlite", 0) == 2
        assert not (tmp_path / "none.sqlite").exists()
        assert await in_thread(verify, small.url, 5) == 2
        assert await in_thread(verify, "oracle://x", 0) == 2
        assert "shard 5 has no journal" in capsys.readouterr().err
