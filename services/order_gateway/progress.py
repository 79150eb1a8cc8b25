"""A number that only grows, and waiting until it has grown far enough."""

import asyncio
import heapq
from itertools import count


class Progress:
    """How far something has come, for instance the last journal_sequence that was folded."""

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ties = count()

    def advance(self, value: int) -> None:
        """Says that it has come to `value`; wakes whoever waits for that or less."""
        assert value >= self.value, f"{value} is behind {self.value}"
        self.value = value
        while self._waiting and self._waiting[0][0] <= value:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    async def reach(self, value: int) -> None:
        """Returns once it has come to `value`. The caller bounds the wait."""
        if value > self.value:
            future = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (value, next(self._ties), future))
            await future
