"""The loop on a journal in memory: what it does when nobody asks for anything, and while a snapshot is written."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import cast

import pytest

from services.book import copied
from services.book import loop as loops
from services.book import model as m
from services.book.copied import Copied, Failed
from services.book.engine import Engine
from services.book.journal import Journal, Row, Snapshot
from services.book.tail import Tail
from services.book.turn import TURN_STEPS_MAX
from services.command_ids import command_id_of
from services.runtime.db import Unavailable

ORDERS = 5 * TURN_STEPS_MAX


class Rows:
    """A journal that keeps rows in memory, and snapshots."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.snapshots: list[Snapshot] = []

    async def append(self, row: Row) -> None:
        self.rows.append(row)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)


@pytest.fixture
def engine() -> Engine:
    """With orders of which all have expired at 2, and none before."""
    engine = Engine()
    for body in (
        m.LeaderStarted(1, "loop"),
        m.OpenSession(1),
        m.CreateAsset(m.Asset(0, "BTC", 0)),
        m.CreateAsset(m.Asset(0, "USD", 0)),
        m.CreateMarket(m.Market(0, "BTC-USD", 1, 2, "1", "1")),
        m.OpenAccount("ann"),
    ):
        engine.apply(m.Command(0, body), 1)
    terms = m.Terms(expires_ns=2)
    place = m.PlaceOrder(
        1001, 1, m.SIDE_BUY, m.ORDER_TYPE_LIMIT, m.TIME_IN_FORCE_GTD, price_ticks=1, quantity_lots=1, terms=terms
    )
    for number in range(ORDERS):
        engine.apply(m.Command(command_id_of(1, 1, number + 1), place), 1)
    return engine


async def test_what_is_due_is_done_at_once_when_nothing_else_comes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "ADVANCE_SECONDS", 3_600)
    kept = Rows()
    journal = cast("Journal", kept)
    loop = loops.Loop(engine, journal, Tail(journal, engine.journal_sequence, 0), b"", lambda: 2)
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(5):
        await loop.execute(m.AdvanceTime())
        while engine.orders:
            await asyncio.sleep(0)
        for _ in range(10):  # and then it is quiet
            await asyncio.sleep(0)
        rows = len(kept.rows)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(kept.rows) == rows <= ORDERS // TURN_STEPS_MAX
        loop.close()
        await running
    assert [snapshot.state() for snapshot in kept.snapshots] == [engine.snapshot()]


class Stuck:
    """An engine that never has its snapshot."""

    def snapshot(self) -> bytes:
        signal.pause()
        return b""


class Killed:
    """An engine that is too large."""

    def snapshot(self) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""


@pytest.mark.parametrize(
    ("engine", "seconds_max", "error"), [(Stuck(), 1.0, "not done after"), (Killed(), 60.0, "wait status 9")]
)
async def test_a_copy_without_a_snapshot(
    engine: object, seconds_max: float, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copied, "SECONDS_MAX", seconds_max)
    copy = Copied(cast("Engine", engine))
    with pytest.raises(Failed, match=error):
        await copy.snapshot()


async def test_a_book_without_memory_for_a_copy_and_one_whose_database_keeps_none_go_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> int:
        raise OSError(12, "Cannot allocate memory")

    async def unavailable(snapshot: Snapshot) -> None:
        raise Unavailable("the disk is full")

    kept = Rows()
    journal = cast("Journal", kept)
    loop = loops.Loop(engine, journal, Tail(journal, engine.journal_sequence, 0), b"", lambda: 1, snapshot_events=1)
    running = asyncio.create_task(loop.run())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", none_left)
        async with asyncio.timeout(10):
            for _ in range(3):
                await loop.execute(m.AdvanceTime())
    kept.save_snapshot = unavailable  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        for _ in range(3):
            await loop.execute(m.AdvanceTime())
        loop.close()
        await running
    assert len(kept.rows) == 6
    assert not kept.snapshots


async def test_commands_go_on_while_a_snapshot_is_written(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that fails is none, but the next is."""
    copies: list[Copied] = []

    def stuck_at_first(of: Engine) -> Copied:
        copies.append(Copied(of if copies else cast("Engine", Stuck())))
        return copies[-1]

    monkeypatch.setattr(loops, "Copied", stuck_at_first)
    kept = Rows()
    journal = cast("Journal", kept)
    loop = loops.Loop(engine, journal, Tail(journal, engine.journal_sequence, 0), b"", lambda: 1, snapshot_events=1)
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(10):
        for _ in range(10):
            await loop.execute(m.AdvanceTime())
        assert len(kept.rows) == 10
        assert len(copies) == 1
        copies[0].stop()
        while not kept.snapshots:
            await loop.execute(m.AdvanceTime())
        loop.close()
        await running
    assert kept.snapshots[-1].state() == engine.snapshot()
    assert kept.snapshots[-1].row_hash == kept.rows[-1].hash
