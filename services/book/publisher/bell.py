"""Wakes everybody who waits for something new, and everybody who has heard nothing for a while."""

import asyncio


class Bell:
    """One for each thing that is streamed. `beats` counts how often it was time for a sign of life."""

    def __init__(self) -> None:
        self.beats = 0
        self._rung = False
        self._waiting = asyncio.Event()

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

    def _wake(self) -> None:
        self._waiting.set()
        self._waiting = asyncio.Event()
