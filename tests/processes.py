"""Starting our processes quickly: each is forked from one that has imported everything once, instead of importing anew.

What is forked is a process like any other: it has its own arguments, environment and output, and is killed, frozen and
stopped by signals. Only the seconds of importing libraries are saved, some hundred times in one run of all tests.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from runpy import run_module
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IMPORTED = [
    "services.book.__main__",
    "services.book.publisher.__main__",
    "services.order_gateway.__main__",
    "services.settler.__main__",
    "gateway_http.__main__",
    "services.cli.devchain",
    "tests.processes",
]
COMMAND = [sys.executable, "-m", "services.cli.main"]

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # read when grpc is imported: nobody has used it before the fork
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(IMPORTED)


class Child(Protocol):
    """What tests use of `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Forked:
    """A `Child` of the process that has imported everything."""

    def __init__(self, process: ForkServerProcess) -> None:
        """`process` has been started."""
        assert process.pid is not None
        self._process, self.pid = process, process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    argv: Sequence[str],
    env: Mapping[str, str],
    output: IO[Any],
    cwd: Path | None = None,
    errors: IO[Any] | None = None,
) -> Child:
    """Starts a program with exactly this environment; both its outputs go to the file, or its errors to their own.

    `COMMAND` and what follows it is forked; other programs, and the code of another folder, start as they do.
    """
    if cwd is not None or list(argv[: len(COMMAND)]) != COMMAND:
        return subprocess.Popen(
            list(argv), cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=errors or output
        )
    descriptors = _Descriptor(output.fileno()), _Descriptor((errors or output).fileno())
    process = _context.Process(target=_run, args=(argv[len(COMMAND) :], dict(env), *descriptors), daemon=True)
    process.start()
    return Forked(process)


def run(argv: Sequence[str], env: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Starts a program as `start` does, and waits for its end. Raises TimeoutExpired after so many seconds."""
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        child = start(argv, env, output, errors=errors)
        try:
            code = child.wait(timeout)
        finally:
            child.kill()
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read())
    return subprocess.CompletedProcess(list(argv), code, *said)


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has reached a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def memory_bytes(pid: int) -> int:
    """What a process holds in memory now."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """What CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Descriptor:
    """A file descriptor that is sent along."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self.number),)


def _received(sent: Any) -> int:
    number: int = sent.detach()
    return number


def _run(arguments: list[str], env: dict[str, str], output: int, errors: int) -> None:
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["clearbook", *arguments]
    run_module("services.cli.main", run_name="__main__")
