"""What is done for many readers is done a little at a time, and everything else of the process has its turn in between.

A thousand writes take tens of milliseconds, and a request passes through the loop several times on its way: it would
wait for all of them, each time. So all rounds of all who are told something share these turns: after a slice of some
steps there is a rest as long as the slice took. Half of the process is always there for who asks, and a round is spread
over time.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

STEPS_A_SLICE: Final = 32
"""Of about fifteen microseconds each: what a write to a socket takes, with what the kernel does for it."""
REST_SECONDS_MIN: Final = 0.001
"""uvloop's timers know nothing shorter."""
REST_SECONDS_MAX: Final = 0.02
"""Also after a slice that took long because the machine is busy."""

DONE: Final = object()

Work = Iterator[None]
"""Does a step each time it is asked for the next. Never raises."""


class Turns:
    """Works that take turns, a slice each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is to be done. `clock`: seconds that never go back."""
        self._clock = clock
        self._works: deque[Work] = deque()
        self._next: asyncio.Handle | None = None
        """What goes on by itself: the next slice, or the end of this one."""
        self._rests_until = 0.0

    def add(self, work: Work) -> None:
        """Does it, soon, after those that wait already."""
        self._works.append(work)
        if self._next is None:
            self._go_on_later(max(self._rests_until - self._clock(), 0.0))

    async def turn(self, steps: int = 1) -> None:
        """Returns when it is the caller's turn to do what counts as so many steps."""
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.add(_calling(come, steps))
        await come

    def _go_on_later(self, seconds: float) -> None:
        self._next = asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        began, unfinished = self._clock(), False
        for _ in range(STEPS_A_SLICE):
            unfinished = next(self._works[0], DONE) is not DONE
            if not unfinished:
                del self._works[0]
                if not self._works:
                    break
        if unfinished:
            self._works.rotate(-1)
        self._next = asyncio.get_running_loop().call_soon(self._rest, began)

    def _rest(self, began: float) -> None:
        """The loop has written by now what the slice gave it, and those whose turn had come have done what they do."""
        now = self._clock()
        seconds = min(max(now - began, REST_SECONDS_MIN), REST_SECONDS_MAX)
        if self._works:
            self._go_on_later(seconds)
        else:
            self._next, self._rests_until = None, now + seconds


def _calling(come: "asyncio.Future[None]", steps: int) -> Work:
    if come.done():  # who waited has gone
        return
    come.set_result(None)
    for _ in range(steps - 1):
        yield
