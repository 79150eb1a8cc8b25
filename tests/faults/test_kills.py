"""Random kill -9 of every process under load, on both sets of backends: nothing that was answered is lost, nothing is
done twice, and every projection finds back.

FAULT_KILLS says how often each process is killed (scripts/soak: 20).
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

from tests.faults.checks import check_all
from tests.faults.witness import MARKETS, BookWatcher, Witness
from tests.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.backends import Backends

KILLS = int(os.environ.get("FAULT_KILLS", "1"))
SEED = int(os.environ.get("FAULT_SEED", "1"))
VICTIMS = ["book", "publisher", "gateway", "settler", "http"]
ANSWERS_FIRST = 100
CALM_SECONDS_MAX = 2.0
UNDISTURBED_SECONDS = 2.0


async def rampage(suite: Suite, kills: int, seed: int, broker: Backends | None = None) -> str:
    """Load, kills in random order at random moments, then all checks. Returns a line of figures."""
    dice = random.Random(seed)
    witness, over = Witness(suite, seed), asyncio.Event()
    watchers = [BookWatcher.of(market) for market in MARKETS]
    order = [name for name in [*VICTIMS, *(["broker"] if broker else [])] for _ in range(kills)]
    dice.shuffle(order)
    clock = asyncio.get_running_loop().time
    async with suite.clients() as clients:
        watching = [asyncio.create_task(watcher.run(clients)) for watcher in watchers]
        loading = asyncio.create_task(witness.run(over))
        try:
            await witness.answered(ANSWERS_FIRST)
            started, before = clock(), len(witness.answers)
            calm, calm_answers = 0.0, 0
            for name in order:
                calm_started, calm_before = clock(), len(witness.answers)
                await asyncio.sleep(dice.uniform(0.0, CALM_SECONDS_MAX))
                calm += clock() - calm_started
                calm_answers += len(witness.answers) - calm_before
                await _kill(suite, name, broker)
            await asyncio.sleep(UNDISTURBED_SECONDS)
            under_fire = clock() - started
            rates = f"{calm_answers / calm:.0f} orders/s ({(len(witness.answers) - before) / under_fire:.0f}"
            over.set()
            await loading
            figures = await check_all(suite, witness, watchers)
        finally:
            for task in [loading, *watching]:
                task.cancel()
            results = await asyncio.gather(*watching, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return f"{len(order)} kills in {under_fire:.0f} s under {rates} with the outages); {figures}"


async def _kill(suite: Suite, name: str, broker: Backends | None) -> None:
    if name == "broker":
        assert broker is not None
        await broker.broker_kill()
        await broker.broker_start()
        return
    await suite.kill(name)
    suite.start(name)
    await suite.ready(name)


async def test_kills_on_embedded_backends(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    suite = Suite.embedded(tmp_path)
    try:
        await suite.start_all()
        figures = await rampage(suite, KILLS, SEED)
    finally:
        await suite.stop_all()
    record_property("figures", f"[embedded] {figures}")


async def test_kills_on_production_backends(
    tmp_path: Path, own_backends: Backends, record_property: Callable[[str, object], None]
) -> None:
    suite = await Suite.production(tmp_path, own_backends)
    try:
        await suite.start_all()
        figures = await rampage(suite, KILLS, SEED, own_backends)
    finally:
        await suite.stop_all()
    record_property("figures", f"[RabbitMQ, PostgreSQL, Anvil] {figures}")
