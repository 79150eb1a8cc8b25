"""The book as a process: killed, frozen, asked to end, all under load, and nothing that was seen is ever lost."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import grpc
import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as pb

from services.cli.verify import verify
from tests import processes
from tests.backends import Backends
from tests.books import BookProcess, Gateway, events_in, events_of, eventually, stub_to

KILLS = 4
LOAD_COMMANDS = 50
IN_FLIGHT_COMMANDS = 1_500
SEEN_EVENTS_MIN = 600
FREEZES_MAX = 1_000


class Witness:
    """Reads all events, and keeps their bytes: what it has seen must be there for ever."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.incarnation = ""

    async def watch(self, port: int) -> None:
        """Until the stream ends, however it ends."""
        async with stub_to(port) as stub:
            at = len(self.events)
            request = pb.StreamEventsRequest(after_journal_sequence=at, incarnation=self.incarnation)
            try:
                async for message in stub.StreamEvents(request):
                    self.events += [event.SerializeToString() for event in events_in(message, len(self.events))]
                    self.incarnation = message.incarnation
            except grpc.aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                    raise

    async def load(self, port: int) -> None:
        """A gateway that submits as fast as the witness sees its commands come back."""
        async with stub_to(port) as stub:
            gateway = Gateway(stub)
            try:
                opened = await gateway.open()
                start = opened.journal_sequence
                await eventually(lambda: len(self.events) >= start)
                call = stub.Submit()
                if opened.epoch == 1:
                    await call.write(pb.SubmitRequest(commands=[gateway.account("a"), gateway.account("b")]))
                while True:
                    await call.write(pb.SubmitRequest(commands=gateway.orders(LOAD_COMMANDS)))
                    await eventually(lambda: start + gateway.number - len(self.events) < IN_FLIGHT_COMMANDS)
            except (grpc.aio.AioRpcError, TimeoutError, asyncio.InvalidStateError):
                pass  # the book went away, as it should

    @asynccontextmanager
    async def under_load(self, port: int) -> AsyncIterator[None]:
        """The body runs once plenty of events were seen; afterwards the book must be gone."""
        tasks = [asyncio.create_task(self.watch(port)), asyncio.create_task(self.load(port))]
        try:
            enough = len(self.events) + SEEN_EVENTS_MIN
            await eventually(lambda: len(self.events) >= enough)
            yield
            await asyncio.wait(tasks[:1], timeout=10)
            assert tasks[0].done(), "the stream of events did not end"
            await tasks[0]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


@pytest.fixture
def book(tmp_path: Path) -> AsyncIterator[BookProcess]:  # type: ignore[misc]
    made = BookProcess(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/book.sqlite", BOOK_SNAPSHOT_EVENTS="3000")
    yield made
    made.clear()


async def recorded(port: int, up_to: int, incarnation: str = "") -> list[bytes]:
    async with stub_to(port) as stub:
        return [event.SerializeToString() for event in await events_of(stub, 0, up_to, incarnation)]


async def survives_kills(book: BookProcess, kills: int) -> Witness:
    witness = Witness()
    for _ in range(kills):
        port = await book.up()
        async with witness.under_load(port):
            await book.kill()
    port = await book.up()
    there = await recorded(port, len(witness.events))
    assert there[: len(witness.events)] == witness.events
    assert await book.stop() == 0
    return witness


async def test_kill_9_under_load_loses_nothing_that_was_seen(book: BookProcess, tmp_path: Path) -> None:
    witness = await survives_kills(book, KILLS)
    events = [journal.Event.FromString(event) for event in witness.events]
    assert sum(event.WhichOneof("kind") == "leader_started" for event in events) == KILLS
    assert sum(len(event.order_placed.trades) for event in events) > 100
    assert await asyncio.to_thread(verify, f"sqlite:///{tmp_path}/book.sqlite", 0) == 0


@pytest.mark.backends
async def test_the_same_on_postgresql(tmp_path: Path, backends: Backends) -> None:
    url = await backends.new_database()
    book = BookProcess(tmp_path, DATABASE_URL=url, BOOK_SNAPSHOT_EVENTS="3000")
    try:
        await survives_kills(book, 2)
    finally:
        book.clear()
    assert await asyncio.to_thread(verify, url, 0) == 0


async def test_sigterm_under_load_ends_in_order(book: BookProcess, tmp_path: Path) -> None:
    witness = Witness()
    port = await book.up()
    async with witness.under_load(port):
        assert await book.stop() == 0
    with sqlite3.connect(tmp_path / "book.sqlite") as connection:
        (last,) = connection.execute("SELECT max(last_sequence) FROM journal").fetchone()
        (snapshot,) = connection.execute("SELECT max(journal_sequence) FROM snapshots").fetchone()
    assert snapshot == last, "all that was taken is in the snapshot"
    assert len(witness.events) == last, "whoever read has seen the last of it"
    assert '"snapshot":0' in book.log()
    port = await book.up()
    assert f'"snapshot":{last}' in book.log(), "nothing needed to be applied again"
    assert (await recorded(port, last))[:last] == witness.events


async def freeze_between_commits(book: BookProcess, path: Path) -> None:
    """SIGSTOP while the book holds no lock: frozen within a commit it would keep SQLite's, and nobody could lead."""
    for _ in range(FREEZES_MAX):
        book.child.send_signal(signal.SIGSTOP)
        await eventually(lambda: processes.is_stopped(book.child.pid))
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                book.child.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.005)
            else:
                connection.execute("ROLLBACK")
                return
    pytest.fail("the book always holds the lock")


async def test_a_sleeper_that_wakes_says_nothing_more(book: BookProcess, tmp_path: Path) -> None:
    witness = Witness()
    other = BookProcess(tmp_path, "other", DATABASE_URL=f"sqlite:///{tmp_path}/book.sqlite")
    port = await book.up()
    try:
        async with witness.under_load(port):
            await freeze_between_commits(book, tmp_path / "book.sqlite")
            newer = await other.up()
            book.child.send_signal(signal.SIGCONT)
            assert await book.ended() == 1
        assert "was written by another leader" in book.log()
        seen = len(witness.events)
        there = await recorded(newer, seen)
        assert there[:seen] == witness.events, "the sleeper has shown what is not in the journal"
        assert await other.stop() == 0
    finally:
        other.clear()
    assert await asyncio.to_thread(verify, f"sqlite:///{tmp_path}/book.sqlite", 0) == 0


async def test_a_second_book_on_the_port_is_one_clear_line(book: BookProcess, tmp_path: Path) -> None:
    port = await book.up()
    other = BookProcess(
        tmp_path, "other", DATABASE_URL=f"sqlite:///{tmp_path}/book.sqlite", BOOK_ADDRESS=f"127.0.0.1:{port}"
    )
    other.start()
    assert await other.ended() == 2
    (line,) = other.log().splitlines()
    assert f"cannot listen on 127.0.0.1:{port}" in line
    assert book.child.poll() is None


async def test_a_damaged_journal_does_not_start(book: BookProcess, tmp_path: Path) -> None:
    await book.up()
    await book.kill()
    with sqlite3.connect(tmp_path / "book.sqlite") as connection:
        connection.execute("UPDATE journal SET time_ns = time_ns + 1 WHERE first_sequence = 1")
    book.start()
    assert await book.ended() == 1
    assert "the journal is damaged at sequence 1: " in book.log()
