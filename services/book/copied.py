"""The engine's snapshot, made in a copy of the process: orders go on while it is written.

``fork`` copies the state as it is at one moment, and shares its memory until somebody changes it. The copy keeps one
pipe of all the process's files, and it runs nothing but the snapshot: other threads do not exist in it.
"""

import asyncio
import gc
import os
import signal
import warnings
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from services.book.engine import Engine
from services.book.journal import packed

NICENESS = 10
"""Of the copy: whoever trades goes first."""
SECONDS_MAX = 600.0
"""A copy that takes longer is stopped."""
_DIGEST_BYTES = 32
_THREADS, _OUT_OF_MEMORY = Path("/proc/self/task"), Path("/proc/self/oom_score_adj")
_EXIT_THREADS = 3
_ENDS = {_EXIT_THREADS: "there are other threads in the copy: gRPC's, if it was imported before `services`"}
"""What exit codes of the copy mean."""


class Failed(Exception):
    """There is no copy, or it came to its end without a snapshot: out of memory, for example."""


class Copied:
    """The copy of an engine, taken now. Raises Failed."""

    def __init__(self, engine: Engine) -> None:
        try:
            reading, writing = os.pipe()
        except OSError as error:
            raise Failed(str(error)) from error
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the copy needs none of them
                self._pid = os.fork()
        except OSError as error:
            os.close(reading)
            os.close(writing)
            raise Failed(str(error)) from error
        if self._pid == 0:
            _tell(engine, writing)
        os.close(writing)
        self._pipe = os.fdopen(reading, "rb")

    async def snapshot(self) -> tuple[str, bytes]:
        """The digest, and the snapshot as it is kept.

        Raises:
            Failed: there is none.
        """
        try:
            async with asyncio.timeout(SECONDS_MAX):
                digest, data, status = await asyncio.to_thread(self._read)
        except TimeoutError as error:
            raise Failed(f"not done after {SECONDS_MAX:.0f} seconds") from error
        finally:
            self.stop()
        if status != 0 or not data:
            raise Failed(_ENDS.get(os.waitstatus_to_exitcode(status), f"wait status {status}"))
        return digest.hex(), data

    def stop(self) -> None:
        """Ends the copy if it is still at work."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _read(self) -> tuple[bytes, bytes, int]:
        with self._pipe as pipe:
            digest, data = pipe.read(_DIGEST_BYTES), pipe.read()
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return digest, data, status


def _tell(engine: Engine, writing: int) -> NoReturn:
    """What the copy does: nothing of Python's or a library's way to end a process may run in it."""
    status = 1
    try:
        if _THREADS.exists() and len(list(_THREADS.iterdir())) > 1:
            os._exit(_EXIT_THREADS)
        gc.disable()  # what it would find is others', and their threads are not here
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to all: the last snapshot is still wanted
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.closerange(0, writing)  # sockets, whose peers must see the end of the process itself
        os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))
        os.nice(NICENESS)
        with suppress(OSError):  # where memory runs out, the copy is to end, and not the book
            _OUT_OF_MEMORY.write_text("1000")
        data = engine.snapshot()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(sha256(data).digest())
            pipe.write(packed(data))
        status = 0
    finally:
        os._exit(status)
