"""A book that slept while another took the lead: it finds out before it says anything, and ends."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from services.cli.health import serving
from tests.faults.checks import check_all, read_journal
from tests.faults.witness import Witness
from tests.suite import Suite, free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backends import Backends

ANSWERS_FIRST = 100
LEAD_SECONDS_MAX = 20.0
END_SECONDS_MAX = 15.0
TRIES_MAX = 8


async def _usurp(suite: Suite, port: int) -> None:
    """Freezes the book and starts another on its journal.

    One frozen in the middle of a commit keeps the database's lock: then it gets another moment, as an operator would
    kill it, and is frozen again.
    """
    for _ in range(TRIES_MAX):
        suite.signal("book", signal.SIGSTOP)
        suite.start("book", as_name="usurper", BOOK_ADDRESS=f"127.0.0.1:{port}", METRICS_PORT="0")
        try:
            async with asyncio.timeout(LEAD_SECONDS_MAX):
                while suite.returncode("usurper") is None:
                    if await serving(f"127.0.0.1:{port}"):
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            await suite.kill("usurper")
        suite.signal("book", signal.SIGCONT)
        await asyncio.sleep(0.05)
    pytest.fail(f"no other book could lead:\n{suite.log_tail('usurper')}")


async def _ended(suite: Suite, name: str) -> int:
    async with asyncio.timeout(END_SECONDS_MAX):
        while (code := suite.returncode(name)) is None:
            await asyncio.sleep(0.02)
    return code


async def sleeper(suite: Suite) -> None:
    """Load, the lead changes behind the sleeper's back, the sleeper wakes; then the first address is served again."""
    (port,) = free_ports(1)
    witness, over = Witness(suite, seed=7), asyncio.Event()
    loading = asyncio.create_task(witness.run(over))
    try:
        await witness.answered(ANSWERS_FIRST)
        await _usurp(suite, port)
        before = len(witness.answers)
        suite.signal("book", signal.SIGCONT)
        assert await _ended(suite, "book") != 0, "a book that lost the lead ended as if nothing had happened"
        late = witness.answers[before:]
        await suite.kill("usurper")
        suite.start("book")
        await suite.ready("book")
        await witness.answered(ANSWERS_FIRST)
        over.set()
        await loading
        await check_all(suite, witness, [])
        naive = await read_journal(suite)
        usurped = naive.leaders[-2]
        for answer in late:  # committed before it slept, told after: that much is right
            order = naive.placed[naive.names[answer.trader], answer.request.client_order_id][0].order
            assert naive.placed_at[order.order_id] < usurped, "a book that lost the lead acknowledged an order"
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)


async def test_a_sleeper_acknowledges_nothing_on_embedded_backends(tmp_path: Path) -> None:
    suite = Suite.embedded(tmp_path)
    try:
        await suite.start_all()
        await sleeper(suite)
    finally:
        await suite.stop_all()


async def test_a_sleeper_acknowledges_nothing_on_production_backends(tmp_path: Path, backends: Backends) -> None:
    suite = await Suite.production(tmp_path, backends)
    try:
        await suite.start_all()
        await sleeper(suite)
    finally:
        await suite.stop_all()
