"""What one socket has going on for it: a session, streams of an account. Each begins, lasts, and may end by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from clearbook.internal.v1 import forward_service_pb2 as forward_pb

from services.errors import Reason, Rejected

ANSWER_SECONDS_MAX: Final = 15.0

Name = str | int
"""By what it is: the session, a channel; or the id of a subscription."""
Begun = asyncio.Future[forward_pb.ForwardStreamResponse]
"""Resolved with the first message."""
Work = Callable[[Begun], Awaitable[None]]
"""What lasts until it is cancelled."""


class Lasting:
    """Of one socket.

    Attributes:
        ended: resolved with the reason when one of them has ended by itself, which ends the socket.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        """`group`: the socket's tasks."""
        self._group = group
        self._tasks: dict[Name, asyncio.Task[None]] = {}
        self.ended: asyncio.Future[Rejected] = asyncio.get_running_loop().create_future()

    def __contains__(self, name: Name) -> bool:
        """Whether it goes on."""
        return name in self._tasks

    def subscriptions(self) -> set[int]:
        """Their ids."""
        return {name for name in self._tasks if isinstance(name, int)}

    async def begin(self, name: Name, work: Work, deadline: float | None = None) -> forward_pb.ForwardStreamResponse:
        """Starts work that lasts; returns once it has begun.

        Args:
            name: by which it goes on.
            work: is told when it has begun.
            deadline: when that must have been, in the loop's time; None: `answer_by`.

        Raises:
            Rejected: why it did not begin.
        """
        begun: Begun = asyncio.get_running_loop().create_future()
        self._tasks[name] = self._group.create_task(self._run(work, begun), name=str(name))
        try:
            async with asyncio.timeout_at(answer_by() if deadline is None else deadline):
                return await begun
        except TimeoutError:
            await self.cancel(name)
            raise Rejected(Reason.UNAVAILABLE) from None
        except Rejected:
            await self.cancel(name)
            raise

    async def _run(self, work: Work, begun: Begun) -> None:
        try:
            await work(begun)
        except Rejected as rejected:
            if not begun.done():
                begun.set_exception(rejected)
            elif not begun.cancelled():  # else nobody waits for what was given up
                self.end(rejected)

    def end(self, why: Rejected) -> None:
        """Ends the socket, unless it is ending already."""
        if not self.ended.done():
            self.ended.set_result(why)

    async def cancel(self, name: Name) -> None:
        """Ends one, if it goes on."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def cancel_all(self) -> None:
        """Ends all of them."""
        for name in list(self._tasks):
            await self.cancel(name)

    def close(self) -> None:
        """Has all of them end."""
        for task in self._tasks.values():
            task.cancel()


def answer_by() -> float:
    """When who asks now is answered at the latest, in the loop's time."""
    return asyncio.get_running_loop().time() + ANSWER_SECONDS_MAX


def has_begun(begun: Begun, first: forward_pb.ForwardStreamResponse) -> None:
    """Tells whoever waits, unless it was told, or has given up."""
    if not begun.done():
        begun.set_result(first)
