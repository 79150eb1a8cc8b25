"""Long-lived streams: ending them when the process ends, opening them again when they break."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc

from services.errors import Reason, Rejected
from services.runtime import log
from services.runtime.run import Closed, Closing

DELAY_SECONDS_MIN = 0.05
DELAY_SECONDS_MAX = 5.0
STEADY_SECONDS = 10.0
STARTING_SECONDS = 30.0
"""Processes start together: in that time the other side may still be on its way, and its absence is no warning."""

T = TypeVar("T")

logger = log.get("streams")


class Backoff:
    """Exponential delays with full jitter, bounded."""

    def __init__(self, seconds_min: float = DELAY_SECONDS_MIN, seconds_max: float = DELAY_SECONDS_MAX) -> None:
        self._min, self._max = seconds_min, seconds_max
        self.failures = 0

    def next_seconds(self) -> float:
        """How long to wait after one more failure: between half of and the whole of the doubled delay."""
        ceiling = min(self._max, self._min * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return random.uniform(ceiling / 2, ceiling)

    def reset(self) -> None:
        """After a success the next failure starts small again."""
        self.failures = 0


async def reconnecting(
    closing: Closing,
    name: str,
    session: Callable[[], Awaitable[object]],
    *,
    retry_on: tuple[type[Exception], ...] = (grpc.RpcError, OSError, TimeoutError),
    delay_seconds_max: float = DELAY_SECONDS_MAX,
) -> None:
    """Runs `session` again and again until `closing`, which interrupts it.

    A session that ends, or fails with one of `retry_on`, is started anew after a growing, jittered delay; one that
    lasted STEADY_SECONDS counts as a success. Any other error goes through: it is a bug.

    Args:
        closing: ends it all; the running session sees a cancellation.
        name: for the log, as in "stream to book".
        session: connects, works, returns or raises when the connection is lost.
        retry_on: what counts as a lost connection.
        delay_seconds_max: the longest delay between two attempts.
    """
    backoff, expected = Backoff(seconds_max=delay_seconds_max), False
    clock = asyncio.get_running_loop().time
    began = clock()
    while not closing.is_set():
        started = clock()
        why = "ended"
        try:
            async with closing.guard():
                await session()
        except Closed:
            return
        except retry_on as error:
            why = describe(error)
        if clock() - started >= STEADY_SECONDS:
            backoff.reset()
            expected = True
        expected = expected or clock() - began > STARTING_SECONDS
        seconds = backoff.next_seconds()
        write = logger.warning if expected else logger.info
        write("reconnecting", stream=name, why=why, failures=backoff.failures, delay_s=round(seconds, 3))
        if await closing.sleep(seconds):
            return


async def stream_until(closing: Closing, items: AsyncIterator[T], reason: Reason = Reason.CLOSING) -> AsyncIterator[T]:
    """Yields `items` until `closing`.

    Streams of our Server end by themselves at `Server.stop`; this is for those that must end earlier.

    Raises:
        Rejected: for this reason, when the end has come.
    """
    following = items.__aiter__().__anext__
    while True:
        try:
            async with closing.guard():
                item = await following()
        except StopAsyncIteration:
            return
        except Closed:
            raise Rejected(reason) from None
        yield item


def describe(error: Exception) -> str:
    """One line about a lost connection."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}".removesuffix(": ")
