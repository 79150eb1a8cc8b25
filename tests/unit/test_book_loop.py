"""The loop on a journal in memory: what it does when nobody asks for anything."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from services.book import loop as loops
from services.book import model as m
from services.book.engine import Engine
from services.book.journal import Journal, Row
from services.book.tail import Tail
from services.book.turn import TURN_STEPS_MAX
from services.command_ids import command_id_of

ORDERS = 5 * TURN_STEPS_MAX


class Rows:
    """A journal that keeps rows in memory, and the snapshot in none."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    async def append(self, row: Row) -> None:
        self.rows.append(row)

    async def save_snapshot(self, _: object) -> None:
        return None


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
