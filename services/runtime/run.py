"""The one lifecycle of every process: start, run until a signal, stop within bounds, say loudly why if it crashed."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NoReturn, Self

from services.runtime import log

SHUTDOWN_SECONDS_MAX = 20.0
CANCEL_SECONDS_MAX = 3.0
GC_YOUNG_OBJECTS = 50_000

EXIT_CRASHED = 1
EXIT_CANNOT_START = 2

logger = log.get("run")


class StartError(Exception):
    """A start that cannot succeed as configured: one clear line, exit 2, no stack trace."""


class Closed(Exception):
    """The end came while inside `Closing.guard`."""


class Closing(asyncio.Event):
    """Set once, when the process (or a part of it) is asked to end."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: set[Callable[[], object]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._background: set[asyncio.Task[object]] = set()

    def set(self) -> None:
        """Asks for the end. Idempotent."""
        if not self.is_set():
            super().set()
            for callback in list(self._callbacks):
                callback()

    async def sleep(self, seconds: float) -> bool:
        """Waits; True at once when the end comes before that."""
        try:
            async with asyncio.timeout(seconds):
                return await self.wait()
        except TimeoutError:
            return False

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Interrupts its body when the end comes, by raising Closed. Costs nothing while it waits."""
        if self.is_set():
            raise Closed
        task = asyncio.current_task()
        assert task is not None
        interrupted = False

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            task.cancel()

        self._callbacks.add(interrupt)
        try:
            yield
            if interrupted:  # the body's last step brought the end: the interruption is still on its way
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            if interrupted and task.uncancel() == 0:
                raise Closed from None
            raise
        finally:
            self._callbacks.discard(interrupt)

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[object]:
        """Runs `work` in the background: if it raises, the process ends; when main returns, it is cancelled."""
        assert self._group is not None, "spawn belongs to the Closing that run() hands to main"
        task = self._group.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _together(self, main: Callable[[Self], Awaitable[None]]) -> None:
        """Main and its background tasks: one falls, all fall; main ends, they end."""
        async with asyncio.TaskGroup() as self._group:
            await main(self)
            self.set()
            for task in list(self._background):
                task.cancel()


def run(main: Callable[[Closing], Awaitable[None]], *, shutdown_seconds_max: float = SHUTDOWN_SECONDS_MAX) -> NoReturn:
    """Runs `main` and exits the process.

    SIGINT and SIGTERM set `closing`; main then ends by itself within `shutdown_seconds_max`, else it is cancelled and
    the process exits 1. A second signal exits at once. Background tasks (`closing.spawn`) are cancelled once main has
    returned. Exit code 0 after a clean end, 1 after a crash of main or of any background task, 2 after a StartError.
    """
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        code = runner.run(_supervise(main, shutdown_seconds_max))
    sys.exit(code)


async def _supervise(main: Callable[[Closing], Awaitable[None]], seconds_max: float) -> int:
    closing = Closing()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _on_signal, closing, number)
    work = loop.create_task(closing._together(main), name="main")
    ended = loop.create_task(closing.wait(), name="closing")
    await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    late = not work.done() and not await _within(work, seconds_max)
    if late:
        names = sorted(task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task())
        logger.error("shutdown took too long", seconds=seconds_max, tasks=names[:20])
        work.cancel()
        if not await _within(work, CANCEL_SECONDS_MAX):
            sys.stderr.flush()
            os._exit(EXIT_CRASHED)
    return _verdict(work, late=late)


async def _within(task: asyncio.Task[None], seconds: float) -> bool:
    done, _ = await asyncio.wait({task}, timeout=seconds)
    return bool(done)


def _on_signal(closing: Closing, number: signal.Signals) -> None:
    if closing.is_set():
        logger.warning("second signal: exiting at once", signal=number.name)
        sys.stderr.flush()
        os._exit(128 + number)
    logger.info("closing", signal=number.name)
    closing.set()


def _verdict(work: asyncio.Task[None], *, late: bool) -> int:
    if work.cancelled():
        return EXIT_CRASHED
    error = work.exception()
    if error is None:
        return EXIT_CRASHED if late else 0
    leaves = list(leaves_of(error))
    for leaf in leaves:
        if isinstance(leaf, StartError):
            logger.error(str(leaf))
        else:
            logger.error("crashed", exc_info=leaf)
    return EXIT_CANNOT_START if all(isinstance(leaf, StartError) for leaf in leaves) else EXIT_CRASHED


def leaves_of(error: BaseException) -> list[BaseException]:
    """What really happened: the errors in a group of groups, in order; or the one that is no group."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves_of(inner)]
    return [error]


def freeze_gc() -> None:
    """Collects once, then takes all that lives now out of cyclic collection and makes collections rarer.

    Call it after the start, before the load: on the hot path it is worth 30 to 40 %. The garbage that later code makes
    is still collected.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 100)
