"""The supervisor with small processes: prefixes, restarts, an orderly end, and nobody left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cli import supervisor
from services.cli.supervisor import Process, Supervisor
from services.runtime.run import Closing, StartError

SECONDS_MAX = 30.0
WAITS = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up', flush=True); signal.pause()"
)
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
)


def python(name: str, program: str, **env: str) -> Process:
    return Process(name, [sys.executable, "-c", program], env)


async def supervised(processes: list[Process], until: Callable[[], bool]) -> None:
    """Runs them until something is so, then stops them."""
    closing = Closing()
    running = asyncio.create_task(Supervisor(processes).run(closing))
    try:
        async with asyncio.timeout(SECONDS_MAX):
            while not until() and not running.done():
                await asyncio.sleep(0.02)
    finally:
        closing.set()
        async with asyncio.timeout(SECONDS_MAX):
            await running


async def test_lines_are_prefixed_and_the_environment_is_handed_on(capfd: pytest.CaptureFixture[str]) -> None:
    program = f"import os, sys; print(os.environ['WORD']); print('oops', file=sys.stderr, flush=True); {WAITS}"
    said: list[str] = []

    def up() -> bool:
        said.append(capfd.readouterr().out)
        return "up" in "".join(said)

    await supervised([python("a", program, WORD="hello"), python("long", WAITS)], up)
    lines = set("".join(said).splitlines())
    assert {"a    | hello", "a    | oops"} <= lines


async def test_a_line_without_end_does_not_stop_the_rest(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LINE_BYTES_MAX", 1_000)
    said: list[str] = []

    def up() -> bool:
        said.append(capfd.readouterr().out)
        return "| up" in "".join(said)

    await supervised([python("a", f"print('x' * 100_000, flush=True); {WAITS}")], up)
    assert "(a line too long to print)" in "".join(said)


async def test_the_fallen_are_started_again_ever_more_slowly(capfd: pytest.CaptureFixture[str]) -> None:
    fallen = python("a", "raise SystemExit(1)")
    began = time.monotonic()
    await supervised([fallen], lambda: fallen.restarts >= 3)
    assert time.monotonic() - began > 0.5 + 1.0
    out = capfd.readouterr().out
    assert [f"exit code 1; starting again in {delay} s" in out for delay in ("0.50", "1.00", "2.00")] == [True] * 3


async def test_the_killed_are_started_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pids = tmp_path / "pids"
    process = python("a", f"import os; open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); {WAITS}")

    def started() -> list[str]:
        return pids.read_text().split() if pids.exists() else []

    def killed_once() -> bool:
        if len(started()) == 1 and not process.restarts:
            os.kill(int(started()[0]), signal.SIGKILL)
        return len(started()) >= 2

    await supervised([process], killed_once)
    assert "ended with SIGKILL" in capfd.readouterr().out


async def test_what_cannot_start_as_configured_is_not_tried_again() -> None:
    hopeless = python("a", "raise SystemExit(2)")
    with pytest.raises(ExceptionGroup) as caught:
        await supervised([python("b", WAITS), hopeless], lambda: False)
    assert caught.group_contains(StartError, match="a cannot start")
    assert hopeless.restarts == 0


async def test_what_was_ready_once_is_tried_again() -> None:
    once_ready = python("a", "raise SystemExit(2)")
    once_ready.ready = True
    await supervised([once_ready], lambda: once_ready.restarts >= 1)


async def test_they_end_from_the_last_to_the_first(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def noting(name: str) -> Process:
        end = f"lambda *_: (open({str(log)!r}, 'a').write('{name} '), sys.exit(0))"
        up = f"open({str(tmp_path / name)!r}, 'w').close()"
        return python(name, f"import signal, sys; signal.signal(signal.SIGTERM, {end}); {up}; signal.pause()")

    names = ["one", "two", "three"]
    await supervised([noting(name) for name in names], lambda: all((tmp_path / name).exists() for name in names))
    assert log.read_text().split() == ["three", "two", "one"]


async def test_who_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS_MAX", 0.3)
    await supervised([python("a", STUBBORN)], lambda: "up" in capfd.readouterr().out)


def test_a_killed_supervisor_leaves_nobody_behind(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = f"import os; open({str(pid)!r}, 'w').write(str(os.getpid())); {WAITS}"
    program = (
        "import asyncio, sys; from services.cli.supervisor import *; from services.runtime.run import Closing\n"
        f"asyncio.run(Supervisor([Process('a', [sys.executable, '-c', {child!r}])]).run(Closing()))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "a | up\n"
        parent.kill()
    deadline = time.monotonic() + SECONDS_MAX
    while Path(f"/proc/{pid.read_text()}/cmdline").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid.read_text()}/cmdline").exists()
