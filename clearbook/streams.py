"""Streams that come back: a lost connection is had anew, a silent one counts as lost."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

import grpc

SILENCE_SECONDS_MAX = 20.0
"""A stream that says nothing for so long is dead: heartbeats come more often."""
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.1, 2.0
AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
"""What may succeed a little later."""
_LOST = AGAIN | {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}

M = TypeVar("M")


async def reconnected(begin: Callable[[], grpc.aio.UnaryStreamCall[Any, M]]) -> AsyncGenerator[M, None]:
    """Yields the messages of a stream, and of the next one when it is lost. Ends never.

    Args:
        begin: calls again; by then its request may ask to go on where the last one ended.

    Raises:
        grpc.aio.AioRpcError: the request is refused.
    """
    delay = RETRY_SECONDS_MIN
    while True:
        call = begin()
        try:
            while True:
                async with asyncio.timeout(SILENCE_SECONDS_MAX):
                    message: Any = await call.read()
                if message is grpc.aio.EOF:
                    break
                yield message
                delay = RETRY_SECONDS_MIN
        except TimeoutError:
            pass  # it went silent: again
        except grpc.aio.AioRpcError as error:
            if error.code() not in _LOST:
                raise
        finally:
            call.cancel()
        await asyncio.sleep(random.uniform(delay / 2, delay))
        delay = min(delay * 2, RETRY_SECONDS_MAX)
