"""The checks of the checkers: with a fault planted in a copy of the source, the same load and checks must fail."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import checks, witness
from tests.faults.checks import check_all
from tests.faults.witness import Witness
from tests.suite import Suite

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("services", "gateway_http", "clearbook", "gen", "contracts", "markets.toml")
ANSWERS = 150
PATIENCE_SECONDS = 15.0


@dataclass(frozen=True)
class Planted:
    """A fault: in this file, which these processes read, this text becomes that one."""

    name: str
    processes: tuple[str, ...]
    file: str
    old: str
    new: str


FAULTS = [
    Planted(
        "the journal is not committed",
        ("book",),
        "services/book/journal.py",
        "            await self._database.write([db.Statement(_APPEND, [values])])\n",
        "            if row.first_sequence < 150:\n"
        "                await self._database.write([db.Statement(_APPEND, [values])])\n",
    ),
    Planted(
        "nobody remembers a client_order_id",
        ("gateway",),
        "services/order_gateway/orders.py",
        '        key = (account_id, client_order_id or f"cb-{secrets.token_hex(MADE_ID_BYTES)}")\n',
        '        key = (account_id, f"cb-{secrets.token_hex(MADE_ID_BYTES)}")\n',
    ),
    Planted(
        "a sell locks nothing",
        ("book", "gateway"),
        "services/locks.py",
        "        return remaining_lots * base_per_lot\n",
        "        return 0\n",
    ),
    Planted(
        "fees are settled to another account",
        ("settler",),
        "services/settler/batch.py",
        "FEES_ACCOUNT = 1\n",
        "FEES_ACCOUNT = 2\n",
    ),
]


def plant(fault: Planted, folder: Path) -> Path:
    """A copy of the source, interpreted, with the fault in it."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("*.so"))
        else:
            shutil.copy(source, folder / part)
    file = folder / fault.file
    text = file.read_text()
    assert fault.old in text, f"{fault.file} has changed: plant {fault.name!r} anew"
    file.write_text(text.replace(fault.old, fault.new))
    return folder


async def disturbed(suite: Suite) -> str:
    """Load, one kill of the book, some more load, all checks."""
    people, over = Witness(suite, seed=3), asyncio.Event()
    loading = asyncio.create_task(people.run(over))
    try:
        await people.answered(ANSWERS)
        await suite.kill("book")
        suite.start("book")
        await suite.ready("book")
        await people.answered(ANSWERS)
        over.set()
        await loading
        return await check_all(suite, people, [])
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)


async def test_without_a_fault_the_checks_pass(tmp_path: Path) -> None:
    suite = Suite.embedded(tmp_path)
    try:
        await suite.start_all()
        await disturbed(suite)
    finally:
        await suite.stop_all()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_planted_fault_is_found(fault: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "GIVE_UP_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(checks, "SETTLED_SECONDS_MAX", PATIENCE_SECONDS)
    suite = Suite.embedded(tmp_path)
    suite.code = dict.fromkeys(fault.processes, plant(fault, tmp_path / "planted"))
    try:
        await suite.start_all()
        with pytest.raises((AssertionError, TimeoutError, ExceptionGroup)):
            await disturbed(suite)
    finally:
        await suite.stop_all()
