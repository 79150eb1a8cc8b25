"""Faults of money, planted one at a time in an interpreted copy of the source: the quick tests must find each.

What finds it is named beside it, so that none is found by luck; without a fault nothing is found.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import nested

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("services", "gateway_http", "clearbook", "gen", "tests", "pyproject.toml", "markets.toml")
RUNS_SECONDS_MAX = 300.0
FAILED = 1
"""pytest's exit code for tests that failed, as against tests that could not be run."""

MOVEMENTS, MONEY = "tests/unit/test_gateway_movements.py", "tests/unit/test_gateway_money.py"
ACCOUNT, WALKS = "tests/unit/test_gateway_account.py", "tests/property/test_ledger_engine.py"
WALK = f"{WALKS}::test_a_long_walk_with_everything_in_it"
RELOADED = f"{WALKS}::test_a_ledger_that_is_loaded_again_and_again_is_the_same"
GATEWAY = "services/order_gateway"


@dataclass(frozen=True)
class Fault:
    """In this file, this text becomes that one, and these tests find it."""

    name: str
    file: str
    old: str
    new: str
    found_by: str


FAULTS = [
    Fault(
        "a fee rounded down",
        "services/fees.py",
        "(rest * rate_ppm + PPM - 1) // PPM",
        "rest * rate_ppm // PPM",
        ACCOUNT,
    ),
    Fault(
        "the engine forgets to release a canceled withdrawal",
        "services/book/engine.py",
        "self.withdrawals.pop(cancel.withdrawal_id, None)",
        "self.withdrawals.get(cancel.withdrawal_id)",
        WALK,
    ),
    Fault(
        "the ledger forgets to release a canceled withdrawal",
        f"{GATEWAY}/ledger.py",
        "return movement.amount if movement.state is MovementState.REQUESTED else 0",
        "return movement.amount if movement.state in {MovementState.REQUESTED, MovementState.CANCELED} else 0",
        MOVEMENTS,
    ),
    Fault(
        "a reservation is never released",
        f"{GATEWAY}/session.py",
        "self._ledger.release(flight.reservation)",
        "pass",
        MONEY,
    ),
    Fault(
        "nobody remembers a transfer_id",
        f"{GATEWAY}/money.py",
        "        found = await self._store.movement(asked.transfer_id)\n",
        "        found: Movement | None = None\n",
        MONEY,
    ),
    Fault(
        "a posting with the wrong sign",
        f"{GATEWAY}/movements.py",
        "Posting(movement.from_account_id, asset_id, -amount, kind, number)",
        "Posting(movement.from_account_id, asset_id, amount, kind, number)",
        MOVEMENTS,
    ),
    Fault(
        "a transfer that credits twice",
        f"{GATEWAY}/movements.py",
        "Posting(movement.to_account_id, asset_id, amount, kind, number),\n",
        "Posting(movement.to_account_id, asset_id, amount, kind, number),\n" * 2,
        WALK,
    ),
    Fault(
        "finality settles nothing",
        f"{GATEWAY}/ledger.py",
        "self._balance(account_id, asset_id).unsettled -= amount",
        "self._balance(account_id, asset_id).unsettled -= 0",
        WALK,
    ),
    Fault(
        "an approved withdrawal debits nobody",
        f"{GATEWAY}/movements.py",
        "return Effects(postings=_postings(after, PostingKind.WITHDRAWAL), movements=[after])",
        "return Effects(movements=[after])",
        WALK,
    ),
    Fault(
        "the store forgets a withdrawal that was approved",
        f"{GATEWAY}/store.py",
        "            MovementState.APPROVED.value,\n",
        "            MovementState.REQUESTED.value,\n",
        RELOADED,
    ),
    Fault(
        "a changed order forgets what it traded",
        f"{GATEWAY}/account.py",
        "filled_quote=before.filled_quote + said.filled_quote,",
        "filled_quote=said.filled_quote,",
        ACCOUNT,
    ),
    Fault(
        "a changed order forgets what it was first",
        f"{GATEWAY}/account.py",
        "        first=first,\n",
        "        first=None,\n",
        ACCOUNT,
    ),
    Fault(
        "a changed order is of anybody",
        f"{GATEWAY}/account.py",
        "assert whose == (said",
        "assert True or whose == (said",
        ACCOUNT,
    ),
    Fault(
        "a maker is as it was before the event",
        f"{GATEWAY}/account.py",
        "maker = now.get(trade.maker_order_id) or known[trade.maker_order_id]\n            assert auction",
        "maker = known[trade.maker_order_id]\n            assert auction",
        ACCOUNT,
    ),
    Fault(
        "what is hidden stays hidden",
        f"{GATEWAY}/account.py",
        "return max(before.hidden_lots - before.terms.display_lots, 0)",
        "return before.hidden_lots",
        ACCOUNT,
    ),
    Fault(
        "a renamed order was never called otherwise",
        f"{GATEWAY}/account.py",
        "renamed.append(Renamed(",
        "(Renamed(",
        ACCOUNT,
    ),
]


NO_FAULT = "no fault"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    return run_planted(tmp_path_factory.mktemp("copy"), FAULTS)


def run_planted(folder: Path, faults: Sequence[Fault]) -> dict[str, tuple[int, str]]:
    """Exit code and output of the tests, by fault, and those of all of them without a fault.

    They run in one copy of the source, interpreted. Bytecode comes along: that of a file with a fault is of another
    time and is not used, nor is any written.
    """
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("*.so"))
        else:
            shutil.copy(source, folder / part)
    runs = [{"file": f.file, "old": f.old, "new": f.new, "tests": [f.found_by]} for f in faults]
    runs.append({"file": "services/fees.py", "old": "", "new": "", "tests": sorted({f.found_by for f in faults})})
    done = subprocess.run(
        [sys.executable, str(folder / "tests" / "faults" / "forked_pytest.py"), json.dumps(runs)],
        cwd=folder,
        env=nested.environment(PYTHONPATH=f"{folder}{os.pathsep}{folder / 'gen'}", PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=RUNS_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr
    names = [*(fault.name for fault in faults), NO_FAULT]
    return dict(zip(names, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_of_money_is_found(fault: Fault, results: dict[str, tuple[int, str]]) -> None:
    code, output = results[fault.name]
    assert code == FAILED, output


def test_without_a_fault_nothing_is_found(results: dict[str, tuple[int, str]]) -> None:
    code, output = results[NO_FAULT]
    assert code == 0, output
