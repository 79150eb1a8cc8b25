"""What is promised: outcomes that are not known yet, and how long they are waited for."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from services.errors import Reason, Rejected

T = TypeVar("T")


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


async def outcomes(pending: "Sequence[asyncio.Future[T]]", seconds: float) -> list[T | Exception]:
    """What became of each, or why not, in the same order; Rejected(DEADLINE) for what is not known in `seconds`.

    What is waited for goes on, whoever stops waiting.
    """
    try:
        async with asyncio.timeout(seconds):
            for done in pending:
                if not done.done():
                    await asyncio.wait([done])
    except TimeoutError:
        pass  # what is known by now is told
    found: list[T | Exception] = []
    for done in pending:
        if not done.done():
            found.append(Rejected(Reason.DEADLINE))
            continue
        error = done.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        found.append(done.result() if error is None else error)
    return found


async def answer(pending: "asyncio.Future[T]", seconds: float) -> T:
    """What became of one. Raises what it failed with; Rejected: DEADLINE."""
    (outcome,) = await outcomes([pending], seconds)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
