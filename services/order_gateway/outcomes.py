"""What is promised: outcomes that are not known yet, and how long they are waited for. Compiled."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, final

from services.errors import Reason, Rejected

T = TypeVar("T")
R = TypeVar("R")


@final
class Promise(Generic[T]):
    """An outcome that somebody will give; perhaps nobody waits for it any more by then.

    It is asked as an asyncio.Future is, and costs less where several are waited for together: only who waits for one
    makes a Future of it.
    """

    __slots__ = ("_callbacks", "_futures", "_known", "_outcome")

    def __init__(self) -> None:
        """Not known yet."""
        self._known = False
        self._outcome: T | Exception | None = None
        self._futures: list[asyncio.Future[T]] | None = None
        self._callbacks: list[Callable[[Promise[T]], object]] | None = None

    def done(self) -> bool:
        """Whether it is known."""
        return self._known

    def outcome(self) -> T | Exception:
        """What became of it, or why not. It is known."""
        assert self._known, "it is not known yet"
        return self._outcome  # type: ignore[return-value]

    def exception(self) -> Exception | None:
        """Why not; None if something became of it. It is known."""
        found = self.outcome()
        return found if isinstance(found, Exception) else None

    def result(self) -> T:
        """What became of it. It is known. Raises why not."""
        found = self.outcome()
        if isinstance(found, Exception):
            raise found
        return found

    def give(self, outcome: T | Exception) -> None:
        """Keeps the promise."""
        assert not self._known, f"{self._outcome} was given, now {outcome}"
        self._known, self._outcome = True, outcome
        if self._futures is not None:
            for future in self._futures:
                if not future.done():  # whoever waited may have given up
                    give(future, outcome)
            self._futures = None
        if self._callbacks is not None:
            loop = asyncio.get_running_loop()
            for callback in self._callbacks:
                loop.call_soon(callback, self)
            self._callbacks = None

    def future(self) -> "asyncio.Future[T]":
        """For one who waits: what is done to it is nobody else's concern."""
        future: asyncio.Future[T] = promised()
        if self._known:
            give(future, self.outcome())
        elif self._futures is None:
            self._futures = [future]
        else:
            self._futures.append(future)
        return future

    def add_done_callback(self, callback: "Callable[[Promise[T]], object]") -> None:
        """Calls back in the turn of the event loop after it is known."""
        if self._known:
            asyncio.get_running_loop().call_soon(callback, self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)


Promised: TypeAlias = Promise[T] | asyncio.Future[T]
"""Made here, or of a task."""


def promised() -> "asyncio.Future[Any]":
    """An outcome that somebody will `give`, which is waited for by itself."""
    return asyncio.get_running_loop().create_future()


def give(promise: Promised[T], outcome: T | Exception) -> None:
    """Keeps a promise: with what became of it, or why not."""
    if isinstance(promise, Promise):
        promise.give(outcome)
    elif isinstance(outcome, Exception):
        promise.set_exception(outcome)
        heard(promise)
    else:
        promise.set_result(outcome)


def heard(done: "asyncio.Future[Any]") -> None:
    """Takes note of how something ended, so that asyncio does not complain that nobody did."""
    if not done.cancelled():
        done.exception()


def good(items: Sequence[T | Rejected]) -> list[T]:
    """Those that were not refused."""
    return [item for item in items if not isinstance(item, Rejected)]


def in_place(items: Sequence[T | Rejected], made: Iterable[R]) -> list[R | Rejected]:
    """What was made of the good ones, in their order, each in its place among the refusals."""
    rest = iter(made)
    return [item if isinstance(item, Rejected) else next(rest) for item in items]


def known(items: Sequence[Promised[T] | Rejected]) -> bool:
    """Whether what becomes of each is known; of one that was refused at once it is."""
    return all([isinstance(item, Rejected) or item.done() for item in items])  # noqa: C419 - a list is compiled


async def outcomes(pending: Sequence[Promised[T] | Rejected], seconds: float) -> list[T | Exception]:
    """What became of each, or why not, in the same order; Rejected(DEADLINE) for what is not known in `seconds`.

    What is waited for goes on, whoever stops waiting.
    """
    if not known(pending):
        try:
            async with asyncio.timeout(seconds):
                for item in pending:
                    if not isinstance(item, Rejected) and not item.done():
                        await asyncio.wait([item.future() if isinstance(item, Promise) else item])
        except TimeoutError:
            pass  # what is known by now is told
    found = list[T | Exception]()
    for item in pending:
        outcome: T | Exception = _now(item)
        found.append(outcome)
    return found


def _now(item: Promised[T] | Rejected) -> T | Exception:
    """What became of one, if it is known by now."""
    if isinstance(item, Rejected):
        return item
    if not item.done():
        return Rejected(Reason.DEADLINE)
    if isinstance(item, Promise):
        return item.outcome()
    error = item.exception()
    if error is None:
        return item.result()
    if not isinstance(error, Exception):
        raise error
    return error


async def answer(pending: Promised[T], seconds: float) -> T:
    """What became of one. Raises what it failed with; Rejected: DEADLINE.

    What is waited for goes on, whoever stops waiting.
    """
    if isinstance(pending, Promise):
        future = pending.future()
        timer = asyncio.get_running_loop().call_later(seconds, _give_up, future)
        try:
            return await future
        finally:
            timer.cancel()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(pending)
    except TimeoutError:
        raise Rejected(Reason.DEADLINE) from None


def _give_up(future: "asyncio.Future[Any]") -> None:
    if not future.done():
        future.set_exception(Rejected(Reason.DEADLINE))
