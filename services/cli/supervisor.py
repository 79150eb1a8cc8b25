"""A small supervisor: starts processes, prefixes their logs, restarts the fallen with backoff, drains them in order.

Our own because the kept ones do not fit: honcho does not restart, supervisord gives up after a count and reads ini
files, circus brings ZeroMQ and Tornado.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

from services.runtime.run import EXIT_CANNOT_START, Closing, StartError

RESTART_SECONDS_MIN: Final = 0.25
RESTART_SECONDS_MAX: Final = 10.0
STABLE_SECONDS: Final = 30.0
"""A process that ran this long starts again without delay."""
STOP_SECONDS_MAX: Final = 25.0
"""More than a process takes for itself (services/runtime/run.py): past it, it is killed."""
LINE_BYTES_MAX: Final = 1 << 20
PR_SET_PDEATHSIG: Final = 1
COLOURS: Final = (36, 33, 32, 35, 34, 31)

# Loaded before any fork: between fork and exec a child of a threaded process must not wait for the loader's lock.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass
class Process:
    """One process to keep running."""

    name: str
    argv: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    colour: int = 0
    ready: bool = False
    """Set by whoever knows. A process that cannot start (exit 2) before it was ever ready is not tried again."""
    restarts: int = 0


class Supervisor:
    """Keeps processes running until `closing`, then stops them from the last to the first."""

    def __init__(self, processes: Sequence[Process]) -> None:
        """`processes` in the order of starting; each is stopped only after all that follow it."""
        self._processes = processes
        self._width = max(len(process.name) for process in processes)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping: dict[str, Closing] = {process.name: Closing() for process in processes}
        for process, colour in zip(processes, cycle(COLOURS), strict=False):
            process.colour = colour

    async def run(self, closing: Closing) -> None:
        """Runs until `closing`. Raises StartError if a process says that it cannot start as configured."""
        async with asyncio.TaskGroup() as group:
            for process in self._processes:
                self._tasks[process.name] = group.create_task(self._keep(process), name=process.name)
            await closing.wait()
            for process in reversed(self._processes):
                self._stopping[process.name].set()
                await asyncio.wait({self._tasks[process.name]})

    async def _keep(self, process: Process) -> None:
        stopping, delay = self._stopping[process.name], RESTART_SECONDS_MIN
        loop = asyncio.get_running_loop()
        while not stopping.is_set():
            started = loop.time()
            code = await self._once(process, stopping)
            if stopping.is_set():
                return
            if code == EXIT_CANNOT_START and not process.ready:
                raise StartError(f"{process.name} cannot start: see its last line above")
            delay = RESTART_SECONDS_MIN if loop.time() - started > STABLE_SECONDS else delay * 2
            delay = min(delay, RESTART_SECONDS_MAX)
            process.restarts += 1
            self._print(process, f"ended with {_outcome(code)}; starting again in {delay:.2f} s")
            await stopping.sleep(delay)

    async def _once(self, process: Process, stopping: Closing) -> int:
        child = await asyncio.create_subprocess_exec(
            *process.argv,
            env=os.environ | process.env | ({"FORCE_COLOR": "1"} if sys.stdout.isatty() else {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LINE_BYTES_MAX,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which drains the others in order
            preexec_fn=_die_with_parent,
        )
        printer = asyncio.create_task(self._relay(process, child))
        ended = asyncio.create_task(child.wait())
        asked = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            await asyncio.shield(_stop(child, ended))
            await asyncio.shield(printer)
        return ended.result()

    async def _relay(self, process: Process, child: asyncio.subprocess.Process) -> None:
        assert child.stdout is not None
        while True:
            try:
                line = await child.stdout.readline()
            except ValueError:  # longer than the limit: asyncio drops it
                line = b"(a line too long to print)\n"
            if not line:
                return
            self._print(process, line.decode(errors="replace").rstrip("\n"))

    def _print(self, process: Process, text: str) -> None:
        name = process.name.ljust(self._width)
        prefix = f"\x1b[{process.colour}m{name} |\x1b[0m" if sys.stdout.isatty() else f"{name} |"
        sys.stdout.write(f"{prefix} {text}\n")
        sys.stdout.flush()


async def _stop(child: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> None:
    """SIGTERM, a bounded wait, SIGKILL."""
    if ended.done():
        return
    with suppress(ProcessLookupError):
        child.terminate()
    done, _ = await asyncio.wait({ended}, timeout=STOP_SECONDS_MAX)
    if not done:
        with suppress(ProcessLookupError):
            child.kill()
        await ended


def _die_with_parent() -> None:
    """A supervisor that is killed leaves nobody behind (Linux)."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _outcome(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
