"""Installing: two at once would break each other's `.venv`."""

from __future__ import annotations

import fcntl
import os
import subprocess

import pytest

from tests.transcript import ROOT

SCRIPT = ROOT / "scripts/install"
WAITING_SECONDS = 0.5
SECONDS_MAX = 240.0


def test_who_installs_waits_for_who_is_at_it() -> None:
    env = {name: value for name, value in os.environ.items() if name != "CLEARBOOK_INSTALLING"}
    with SCRIPT.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen([SCRIPT, "run", "--no-engine"], env=env) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(WAITING_SECONDS)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert second.wait(SECONDS_MAX) == 0
