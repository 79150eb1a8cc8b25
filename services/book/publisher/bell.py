"""Wakes everybody who waits for something new, and everybody who has heard nothing for a while."""

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self


class Bell:
    """One for each thing that is streamed. `beats` counts how often it was time for a sign of life."""

    def __init__(self) -> None:
        self.beats = 0
        self._rung = False
        self._waiting = asyncio.Event()
        self._hearing: dict[Callable[[], None], None] = {}

    def ring(self) -> None:
        """There is something new."""
        self._rung = True
        self._wake()

    def beat(self) -> None:
        """Called at every heartbeat interval: counts a beat if nothing rang since the last call."""
        if not self._rung:
            self.beats += 1
            self._wake()
        self._rung = False

    async def wait(self) -> None:
        """Returns at the next ring or beat."""
        await self._waiting.wait()

    def hear(self, wake: Callable[[], None]) -> None:
        """Calls `wake` at each ring and beat, which must be quick, until `leave`."""
        self._hearing[wake] = None

    def leave(self, wake: Callable[[], None]) -> None:
        """No more calls."""
        self._hearing.pop(wake, None)

    def _wake(self) -> None:
        self._waiting.set()
        self._waiting = asyncio.Event()
        for wake in self._hearing:
            wake()


class Waker:
    """One who listens to several bells, and misses no ring between two waits."""

    def __init__(self, bells: Iterable[Bell]) -> None:
        self._bells = tuple(bells)
        self._rung = asyncio.Event()

    def __enter__(self) -> Self:
        for bell in self._bells:
            bell.hear(self._rung.set)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for bell in self._bells:
            bell.leave(self._rung.set)

    def clear(self) -> None:
        """What has rung until now is seen."""
        self._rung.clear()

    async def wait(self) -> None:
        """Returns at once if any rang since `clear`, else when one does."""
        await self._rung.wait()
