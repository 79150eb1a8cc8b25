"""The book over gRPC, in this process: sessions, windows, streams from every cursor, and what is refused."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as pb
from clearbook.internal.v1 import settlement_pb2

from services.book import loop as loops
from services.book import tail as tails
from services.book.__main__ import Book
from services.book.journal import SNAPSHOTS_KEPT, CommitUnknown, Damaged, Journal, NotLeader, Row, Snapshot
from services.book.sessions import WINDOW_COMMANDS
from services.cli.health import serving
from services.runtime import db
from services.runtime.run import Closing, StartError
from services.runtime.sqlite import Sqlite
from tests.books import Gateway, events_in, events_of, eventually, fails, running, settings, stub_to

if TYPE_CHECKING:
    from tests.books import Stub

SEEDED = 7  # LeaderStarted, three assets, three markets


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/book.sqlite"


@pytest.fixture
async def book(url: str) -> AsyncIterator[Book]:
    async with running(settings(url)) as started:
        yield started


@pytest.fixture
async def stub(book: Book) -> AsyncIterator[Stub]:
    async with stub_to(book.port) as made:
        yield made


@pytest.fixture
async def gateway(stub: Stub) -> Gateway:
    made = Gateway(stub)
    await made.open()
    return made


async def trade(gateway: Gateway, count: int) -> None:
    """Two accounts and many orders, in several rows."""
    await gateway.submit(gateway.account("a"), gateway.account("b"))
    for _ in range(count):
        await gateway.submit(*gateway.orders(20))


async def written(url: str) -> list[journal.Event]:
    async with await Journal.open(url, 0) as journal_:
        rows = await journal_.page(0, limit=10_000)
    return [event for row in rows for event in journal.EventBatch.FromString(row.events).events]


class TestStart:
    async def test_an_empty_journal_gets_the_first_markets(self, stub: Stub) -> None:
        events = await events_of(stub, 0, SEEDED)
        kinds = [event.WhichOneof("kind") for event in events[:SEEDED]]
        assert kinds == ["leader_started", *["asset_created"] * 3, *["market_created"] * 3]
        assert [event.asset_created.settlement_sequence for event in events[1:4]] == [1, 2, 3]

    async def test_it_serves_only_while_it_leads(self, url: str) -> None:
        async with running(settings(url)) as book:
            address = f"127.0.0.1:{book.port}"
            assert await serving(address, "clearbook.internal.v1.MatchingService")
        assert not await serving(address)

    async def test_a_second_book_on_the_port_does_not_take_the_lead(self, book: Book, url: str) -> None:
        taken = f"127.0.0.1:{book.port}"
        with pytest.raises(StartError, match=taken):
            await Book(settings(url, book_address=taken)).run(Closing())
        async with await Journal.open(url, 0) as journal_:
            newest = await journal_.last()
        assert newest is not None
        assert newest.epoch == 1

    async def test_a_restart_goes_on(self, url: str) -> None:
        async with running(settings(url)) as book, stub_to(book.port) as stub:
            first = Gateway(stub)
            opened = await first.open()
            await trade(first, 3)
        before = await written(url)
        async with running(settings(url)) as book, stub_to(book.port) as stub:
            again = Gateway(stub)
            reopened = await again.open()
            assert (reopened.epoch, reopened.incarnation) == (2, opened.incarnation)
            assert (await events_of(stub, 0, len(before)))[: len(before)] == before

    async def test_a_session_may_go_on_with_another_leader(self, url: str) -> None:
        async with running(settings(url)) as book, stub_to(book.port) as stub:
            gateway = Gateway(stub)
            await gateway.open()
            await gateway.submit(gateway.account("a"))
        async with running(settings(url)) as book, stub_to(book.port) as stub:
            gateway.stub = stub
            assert (await gateway.submit(gateway.account("b"))).taken_commands == 1

    async def test_an_unreadable_markets_file_leads_nothing(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(StartError, match="cannot read"):
            await Book(settings(url, book_markets=tmp_path / "none.toml")).run(Closing())
        assert await written(url) == []


class TestSubmit:
    async def test_every_command_has_one_event(self, gateway: Gateway) -> None:
        answer = await gateway.send(
            pb.SubmitRequest(commands=[gateway.account(f"n{n}-{m}") for m in range(10)]) for n in range(10)
        )
        assert answer.taken_commands == 100
        start = gateway.opened.journal_sequence
        events = await events_of(gateway.stub, 0, start + 100)
        ids = [event.command_id for event in events if event.command_id]
        assert ids == [gateway.id_of(n) for n in range(1, 101)]

    async def test_what_the_engine_refuses_is_journaled(self, gateway: Gateway) -> None:
        await gateway.submit(gateway.order(5000, 1, 100, 1))
        (event,) = (e for e in await events_of(gateway.stub, 0, gateway.opened.journal_sequence + 1) if e.command_id)
        assert event.refused.reason == "ACCOUNT_NOT_FOUND"
        assert event.refused.command.place_order.account_id == 5000

    async def test_an_unknown_enum_ends_the_stream_and_nothing_is_taken(self, gateway: Gateway) -> None:
        fine, strange = gateway.account("a"), gateway.order(1001, 99, 1, 1)
        assert await fails(gateway.submit(fine, strange)) == ("INVALID_ARGUMENT", "INVALID_FIELD")
        gateway.number = 0
        await gateway.submit(gateway.account("b"))
        events = await events_of(gateway.stub, 0, gateway.opened.journal_sequence + 1)
        assert [e.account_opened.name for e in events if e.command_id] == ["b"]

    async def test_numbers_are_contiguous(self, gateway: Gateway) -> None:
        gateway.number += 1
        assert await fails(gateway.submit(gateway.account("a"))) == ("FAILED_PRECONDITION", "OUT_OF_SEQUENCE")

    @pytest.mark.parametrize("request_", [pb.SubmitRequest(), pb.SubmitRequest(commands=[journal.Command()])])
    async def test_a_request_of_nothing(self, gateway: Gateway, request_: pb.SubmitRequest) -> None:
        assert (await fails(gateway.send([request_])))[0] in {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}

    async def test_an_empty_stream(self, gateway: Gateway) -> None:
        assert (await gateway.send([])).taken_commands == 0

    async def test_a_newer_session_ends_the_older_stream(self, gateway: Gateway, stub: Stub) -> None:
        call = stub.Submit()
        await call.write(pb.SubmitRequest(commands=[gateway.account("a")]))
        newer = Gateway(stub)
        await newer.open()
        assert newer.epoch == gateway.epoch + 1
        assert await fails(call) == ("ABORTED", "SESSION_SUPERSEDED")
        assert await fails(gateway.submit(gateway.account("b"))) == ("ABORTED", "SESSION_SUPERSEDED")
        await newer.submit(newer.account("c"))
        events = await events_of(stub, 0, newer.opened.journal_sequence + 1)
        kinds = [event.WhichOneof("kind") for event in events[SEEDED:]]
        assert [kind for kind in kinds if kind != "time_advanced"] == [
            "session_opened",
            "account_opened",
            "session_opened",
            "account_opened",
        ]

    async def test_other_gateways_go_on(self, gateway: Gateway, stub: Stub) -> None:
        other = Gateway(stub, gateway=127)
        await other.open()
        assert (await other.submit(other.account("a"))).taken_commands == 1
        assert (await gateway.submit(gateway.account("b"))).taken_commands == 1

    @pytest.mark.parametrize("number", [0, 128])
    async def test_a_gateway_out_of_range(self, stub: Stub, number: int) -> None:
        assert await fails(Gateway(stub, number).open()) == ("INVALID_ARGUMENT", "INVALID_FIELD")

    async def test_more_than_the_window_in_flight(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        stuck = asyncio.Event()
        append = Journal.append

        async def slowly(self: Journal, row: object) -> None:
            await stuck.wait()
            await append(self, row)  # type: ignore[arg-type]

        monkeypatch.setattr(Journal, "append", slowly)
        assert gateway.opened.window_commands == WINDOW_COMMANDS
        full = [pb.SubmitRequest(commands=[gateway.account(f"{n}-{m}") for m in range(1024)]) for n in range(4)]
        one_more = pb.SubmitRequest(commands=[gateway.account("more")])
        assert await fails(gateway.send([*full, one_more])) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        stuck.set()
        last = gateway.opened.journal_sequence + WINDOW_COMMANDS
        assert len([e for e in await events_of(gateway.stub, 0, last) if e.command_id]) == WINDOW_COMMANDS
        gateway.number = WINDOW_COMMANDS
        assert (await gateway.submit(gateway.account("again"))).taken_commands == 1


class TestStreamEvents:
    async def test_from_every_cursor_it_equals_the_journal(self, gateway: Gateway, url: str) -> None:
        await trade(gateway, 3)
        last = gateway.opened.journal_sequence + 62
        name = gateway.opened.incarnation
        all_ = (await events_of(gateway.stub, 0, last))[:last]
        assert all_ == (await written(url))[:last]
        for cursor in range(1, last):
            found = await events_of(gateway.stub, cursor, last, name)
            assert found[: last - cursor] == all_[cursor:], cursor

    async def test_beyond_what_is_remembered(self, gateway: Gateway, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tails, "TAIL_ROWS_MAX", 2)
        monkeypatch.setattr(tails, "PAGE_ROWS", 3)
        await trade(gateway, 20)
        last = gateway.opened.journal_sequence + 402
        assert (await events_of(gateway.stub, 0, last))[:last] == (await written(url))[:last]

    async def test_a_slow_reader_falls_back_and_misses_nothing(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tails, "TAIL_BYTES_MAX", 1)
        call = gateway.stub.StreamEvents(pb.StreamEventsRequest())
        at = 0
        await trade(gateway, 5)  # while nobody reads
        async for message in call:
            events_in(message, at)
            at = message.last_journal_sequence
            if at < gateway.opened.journal_sequence + 200:
                await gateway.submit(*gateway.orders(5))
            else:
                break
        call.cancel()

    async def test_all_rows_have_the_same_bytes_and_times_advance(self, gateway: Gateway, url: str) -> None:
        await trade(gateway, 3)
        async with await Journal.open(url, 0) as journal_:
            rows = await journal_.page(0)
        at = 0
        async for message in gateway.stub.StreamEvents(pb.StreamEventsRequest()):
            row = rows[at]
            assert (message.events, message.time_ns) == (row.events, row.time_ns)
            assert message.incarnation == gateway.opened.incarnation
            at += 1
            if at == len(rows):
                break
        assert [row.time_ns for row in rows] == sorted(row.time_ns for row in rows)

    @pytest.mark.parametrize(("cursor", "incarnation"), [(1, "other"), (0, "other"), (3, ""), (10_000, "same")])
    async def test_a_cursor_that_is_not_ours(self, gateway: Gateway, cursor: int, incarnation: str) -> None:
        name = gateway.opened.incarnation if incarnation == "same" else incarnation
        reading = events_of(gateway.stub, cursor, cursor + 1, name)
        assert await fails(reading) == ("FAILED_PRECONDITION", "INCARNATION_MISMATCH")

    async def test_time_advances_every_second_when_nothing_happens(self, stub: Stub) -> None:
        assert loops.ADVANCE_SECONDS < 1
        started = time.perf_counter()
        events = await events_of(stub, 0, SEEDED + 2)
        assert [event.WhichOneof("kind") for event in events[SEEDED:]] == ["time_advanced"] * 2
        assert 1.0 < time.perf_counter() - started < 3.0

    async def test_it_ends_when_the_book_closes(self, url: str) -> None:
        async with AsyncExitStack() as channels:
            async with running(settings(url)) as book:
                stub = await channels.enter_async_context(stub_to(book.port))
                gateway = Gateway(stub)
                await gateway.open()
                await trade(gateway, 1)
                seen: list[journal.Event] = []

                async def read() -> None:
                    async for message in stub.StreamEvents(pb.StreamEventsRequest()):
                        seen.extend(journal.EventBatch.FromString(message.events).events)

                reading = asyncio.create_task(read())
                submitting = stub.Submit()
                await submitting.write(pb.SubmitRequest(commands=gateway.orders(100)))
                await eventually(lambda: len(seen) > SEEDED)
            assert await fails(reading) == ("UNAVAILABLE", "CLOSING")
            assert await fails(submitting) == ("UNAVAILABLE", "CLOSING")
        assert seen == await written(url)


class TestStreamSettlementMessages:
    async def entries(self, stub: Stub, after: int, count: int) -> list[settlement_pb2.SettlementEntry]:
        call = stub.StreamSettlementMessages(
            pb.StreamSettlementMessagesRequest(after_settlement_sequence=after), timeout=20
        )
        found: list[settlement_pb2.SettlementEntry] = []
        async for response in call:
            found += response.message.entries
            if len(found) >= count:
                break
        call.cancel()
        return found

    async def test_from_every_cursor_then_live(self, gateway: Gateway) -> None:
        await trade(gateway, 5)
        events = await events_of(gateway.stub, 0, gateway.opened.journal_sequence + 102)
        count = 3 + sum(len(event.order_placed.trades) for event in events)
        assert count > 20
        everything = await self.entries(gateway.stub, 0, count)
        assert [entry.settlement_sequence for entry in everything] == list(range(1, count + 1))
        for cursor in range(count):
            assert await self.entries(gateway.stub, cursor, count - cursor) == everything[cursor:]
        live = asyncio.create_task(self.entries(gateway.stub, count, 1))
        transfer = journal.Transfer(transfer_id="t", from_account_id=2, to_account_id=1001, asset_id=3, amount="9")
        await gateway.submit(gateway.command(transfer=transfer))
        (entry,) = await live
        said = entry.transfer
        assert (entry.settlement_sequence, said.asset, said.amount, said.transfer_id) == (count + 1, "USD", "9", "t")

    async def test_orders_that_expire_trigger_and_belong_together(self, gateway: Gateway) -> None:
        """By the book's own clock, with nobody speaking to it; settled like any other trade."""
        await gateway.submit(gateway.account("a"), gateway.account("b"))
        expiring, waiting, resting = (gateway.order(1001, 1, price, 1) for price in (90, 110, 80))
        expiring.place_order.time_in_force = journal.TIME_IN_FORCE_GTD
        expiring.place_order.terms.expires_ns = time.time_ns() + 2 * 10**8
        waiting.place_order.terms.trigger = journal.TRIGGER_STOP
        waiting.place_order.terms.trigger_ticks = 100
        exits = [waiting.place_order, resting.place_order]
        group = journal.Command(command_id=waiting.command_id, place_group=journal.PlaceGroup(exits=exits))
        orders = [gateway.order(account, side, 100, 1) for account, side in ((1002, 2), (1002, 2), (1001, 1))]
        await gateway.submit(expiring, group, *orders)
        after = gateway.opened.journal_sequence + 2
        events = (await events_of(gateway.stub, 0, after + 6))[after:]
        placed, grouped, *_, released, expired = (event for event in events if not event.HasField("time_advanced"))
        assert placed.order_placed.order.state == journal.ORDER_STATE_OPEN
        assert [step.order.order_id - group.command_id for step in grouped.orders_changed.steps] == [0, 1]
        told = [(step.order.state, len(step.trades)) for step in released.orders_changed.steps]
        filled, canceled = journal.ORDER_STATE_FILLED, journal.ORDER_STATE_CANCELED
        assert told == [(filled, 1), (canceled, 0), (filled, 1)]
        (step,) = expired.orders_changed.steps
        assert (expired.command_id, step.order.cancel_cause) == (0, journal.CANCEL_CAUSE_EXPIRED)
        settled = await self.entries(gateway.stub, 3, 2)
        assert [(entry.trade.trade_id, entry.trade.buyer_account_id) for entry in settled] == [(1, 1001), (2, 1001)]
        assert settled[1].trade.seller_account_id == 1002

    async def test_a_trade_says_everything(self, gateway: Gateway) -> None:
        """Twice, with the taker on either side."""
        fees = {"maker_fee_ppm": 1000, "taker_fee_ppm": 3000}
        commands = [gateway.account("a"), gateway.account("b")]
        for maker, taker, side in ((1001, 1002, 2), (1002, 1001, 1)):
            for account, its in ((maker, side), (taker, 3 - side)):
                command = gateway.order(account, its, 3_000_000, 100_000)
                command.place_order.maker_fee_ppm, command.place_order.taker_fee_ppm = fees.values()
                commands.append(command)
        await gateway.submit(*commands)
        entries = await self.entries(gateway.stub, 3, 2)
        one, unit = entries[0], 10**18
        assert one.time_ns > 0
        assert one.journal_sequence == gateway.opened.journal_sequence + 4
        for trade_id, entry, buyer_fee, seller_fee in ((1, entries[0], 3, 1), (2, entries[1], 1, 3)):
            base, quote = unit, 30_000 * unit
            assert entry.trade == settlement_pb2.SettlementTrade(
                market="BTC-USD",
                trade_id=trade_id,
                base_asset="BTC",
                quote_asset="USD",
                buyer_account_id=1002,
                seller_account_id=1001,
                base_amount=str(base),
                quote_amount=str(quote),
                buyer_fee=str(base * buyer_fee // 1000),
                seller_fee=str(quote * seller_fee // 1000),
            )

    async def test_a_cursor_ahead(self, gateway: Gateway) -> None:
        assert await fails(self.entries(gateway.stub, 4, 1)) == ("FAILED_PRECONDITION", "INCARNATION_MISMATCH")


class TestHalting:
    async def test_another_leader_ends_the_first(self, url: str) -> None:
        first, closing = Book(settings(url)), Closing()
        work = asyncio.create_task(first.run(closing))
        await first.leading.wait()
        async with stub_to(first.port) as stub:
            gateway = Gateway(stub)
            await gateway.open()
            async with running(settings(url)) as second, stub_to(second.port) as other:
                last = (await Gateway(other).open()).journal_sequence

                async def lost() -> None:
                    await gateway.submit(gateway.account("lost"))
                    await events_of(stub, 0, last)

                assert (await fails(lost()))[0] == "UNAVAILABLE", "whatever it says, no result"
                with pytest.raises(ExceptionGroup) as group:
                    await asyncio.wait_for(work, 10)
        assert group.group_contains(NotLeader)
        assert "lost" not in [event.account_opened.name for event in await written(url)]

    async def test_a_cursor_ahead_of_a_sleeper_is_not_of_another_journal(self, url: str) -> None:
        first, closing = Book(settings(url)), Closing()
        work = asyncio.create_task(first.run(closing))
        await first.leading.wait()
        async with running(settings(url)) as second, stub_to(second.port) as other, stub_to(first.port) as stub:
            newer = await Gateway(other).open()
            code, _ = await fails(
                events_of(stub, newer.journal_sequence, newer.journal_sequence + 1, newer.incarnation)
            )
            assert code == "UNAVAILABLE"
            with pytest.raises(ExceptionGroup) as group:
                await asyncio.wait_for(work, 10)
        assert group.group_contains(NotLeader)

    async def test_damage_found_while_serving_ends_it(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tails, "TAIL_ROWS_MAX", 1)
        book, closing = Book(settings(url)), Closing()
        work = asyncio.create_task(book.run(closing))
        await book.leading.wait()
        async with stub_to(book.port) as stub:
            gateway = Gateway(stub)
            await gateway.open()
            await trade(gateway, 2)
            with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
                connection.execute("UPDATE journal SET events = CAST(events || x'00' AS BLOB) WHERE first_sequence = 8")
            assert (await fails(events_of(stub, 0, gateway.opened.journal_sequence + 40)))[0] == "UNAVAILABLE"
            with pytest.raises(ExceptionGroup) as group:
                await asyncio.wait_for(work, 10)
        assert group.group_contains(Damaged, match="at sequence 8: ")

    async def test_a_snapshot_is_of_committed_state(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        append, save = Journal.append, Journal.save_snapshot
        durable: list[int] = []
        saved: list[int] = []

        async def slowly(self: Journal, row: Row) -> None:
            await asyncio.sleep(0.05)
            await append(self, row)
            durable.append(row.last_sequence)

        async def record(self: Journal, snapshot: Snapshot) -> None:
            saved.append(snapshot.journal_sequence)
            assert snapshot.journal_sequence in durable
            await save(self, snapshot)

        monkeypatch.setattr(Journal, "append", slowly)
        monkeypatch.setattr(Journal, "save_snapshot", record)
        async with running(settings(url, book_snapshot_events=5)) as book, stub_to(book.port) as stub:
            gateway = Gateway(stub)
            await gateway.open()
            await trade(gateway, 3)
            await events_of(stub, 0, gateway.opened.journal_sequence + 62)
        assert len(saved) >= 2
        assert saved == sorted(set(saved))

    async def test_an_unknown_outcome_ends_it_unsaid_and_the_next_start_tells(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The row is durable, but the answer is lost."""
        write = Sqlite.write

        async def lossy(self: Sqlite, statements: Sequence[db.Statement]) -> None:
            await write(self, statements)
            raise db.Unavailable("the answer was lost")

        book, closing = Book(settings(url)), Closing()
        work = asyncio.create_task(book.run(closing))
        await book.leading.wait()
        seen: list[journal.Event] = []

        async def read(stub: Stub) -> None:
            async for message in stub.StreamEvents(pb.StreamEventsRequest()):
                seen.extend(journal.EventBatch.FromString(message.events).events)

        async with stub_to(book.port) as stub:
            gateway = Gateway(stub)
            opened = await gateway.open()
            reading = asyncio.create_task(read(stub))
            await eventually(lambda: len(seen) == opened.journal_sequence)
            monkeypatch.setattr(Sqlite, "write", lossy)
            await gateway.submit(gateway.account("a"))
            with pytest.raises(ExceptionGroup) as group:
                await asyncio.wait_for(work, 10)
            code, reason = await fails(reading)
            assert (code, reason or "CLOSING") == ("UNAVAILABLE", "CLOSING")  # it does not wait until this is heard
        assert group.group_contains(CommitUnknown)
        assert "a" not in [event.account_opened.name for event in seen]
        monkeypatch.undo()
        async with running(settings(url)) as again, stub_to(again.port) as stub:
            events = await events_of(stub, 0, opened.journal_sequence + 2)
        assert "a" in [event.account_opened.name for event in events]

    async def test_a_clock_that_steps_back(self, url: str) -> None:
        times = iter([10**18, *range(10**18 - 5, 10**18 - 5_000, -1)])
        async with running(settings(url), clock=lambda: next(times)) as book, stub_to(book.port) as stub:
            gateway = Gateway(stub)
            await gateway.open()
            await trade(gateway, 3)
            await events_of(stub, 0, gateway.opened.journal_sequence + 62)
        async with await Journal.open(url, 0) as journal_:
            assert {row.time_ns for row in await journal_.page(0)} == {10**18}

    async def test_a_snapshot_is_taken_on_the_way(self, url: str) -> None:
        async with running(settings(url, book_snapshot_events=50)) as book, stub_to(book.port) as stub:
            gateway = Gateway(stub)
            await gateway.open()
            async with asyncio.timeout(30), await Journal.open(url, 0) as journal_:
                seen, told = set[int](), gateway.opened.journal_sequence
                while len(seen) <= SNAPSHOTS_KEPT:
                    await trade(gateway, 3)
                    told += 62
                    await events_of(stub, 0, told)
                    kept = [snapshot.journal_sequence for snapshot in await journal_.snapshots()]
                    assert len(kept) <= SNAPSHOTS_KEPT, "the newest"
                    seen.update(kept)
        async with await Journal.open(url, 0) as journal_:
            newest = await journal_.last()
            assert newest is not None
            assert (await journal_.snapshots())[0].journal_sequence == newest.last_sequence, "and one at the end"


async def test_tail_pages_close(url: str) -> None:
    """Whoever stops reading is not waited for."""
    async with await Journal.open(url, 0) as journal_:
        tail = tails.Tail(journal_, 0, 0)
        async with aclosing(tail.pages(0)) as pages:
            waiting = asyncio.create_task(anext(pages))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        async with asyncio.timeout(1):
            await tail.all_read()
