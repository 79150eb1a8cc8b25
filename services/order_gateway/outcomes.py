"""What is promised: outcomes that are not known yet, and how long they are waited for."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from services.errors import Reason, Rejected

T = TypeVar("T")
R = TypeVar("R")


def promised() -> "asyncio.Future[Any]":
    """An outcome that somebody will `give`; perhaps nobody waits for it any more by then."""
    return asyncio.get_running_loop().create_future()


def give(promise: "asyncio.Future[T]", outcome: T | Exception) -> None:
    """Keeps a promise: with what became of it, or why not."""
    if isinstance(outcome, Exception):
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


async def outcomes(pending: "Sequence[asyncio.Future[T]]", seconds: float) -> list[T | Exception]:
    """What became of each, or why not, in the same order; Rejected(DEADLINE) for what is not known in `seconds`.

    What is waited for goes on, whoever stops waiting.
    """
    waiting = [done for done in pending if not done.done()]
    if waiting:
        try:
            async with asyncio.timeout(seconds):
                for done in waiting:
                    if not done.done():
                        await asyncio.wait([done])
        except TimeoutError:
            pass  # what is known by now is told
    found: list[T | Exception] = []
    for done in pending:
        outcome = _now(done)
        found.append(outcome)
    return found


def _now(done: "asyncio.Future[T]") -> T | Exception:
    """What became of one, if it is known by now."""
    if not done.done():
        return Rejected(Reason.DEADLINE)
    error = done.exception()
    if error is None:
        return done.result()
    if not isinstance(error, Exception):
        raise error
    return error


async def answer(pending: "asyncio.Future[T]", seconds: float) -> T:
    """What became of one. Raises what it failed with; Rejected: DEADLINE.

    What is waited for goes on, whoever stops waiting.
    """
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(pending)
    except TimeoutError:
        raise Rejected(Reason.DEADLINE) from None
