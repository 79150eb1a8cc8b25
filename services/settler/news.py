"""Wakes whoever waits for news."""

import asyncio


class News:
    """Look first, then wait: what is sent after the look is not missed, as long as nothing is awaited in between."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def send(self) -> None:
        """Wakes all who wait now."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Waits for the next `send`, at most `seconds`; True if it came."""
        event = self._event
        try:
            async with asyncio.timeout(seconds):
                return await event.wait()
        except TimeoutError:
            return False
