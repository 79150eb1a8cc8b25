"""What a stream is made of: something that has messages now and then, and bells that tell when."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from services.book.publisher.bell import Bell, Waker


class Source(Protocol):
    """What one subscriber reads. It holds a position, and no messages."""

    @property
    def bells(self) -> Sequence[Bell]:
        """They ring when there may be something new."""

    async def more(self) -> list[bytes]:
        """The next messages, serialized. None: wait for the bells.

        Raises:
            Rejected: LAGGED: the reader is too slow for what it asked.
        """


async def told(source: Source) -> AsyncIterator[bytes]:
    """All messages of a source, as they come. Ends never."""
    with Waker(source.bells) as waker:
        while True:
            waker.clear()
            messages = await source.more()
            for data in messages:
                yield data
            if not messages:
                await waker.wait()
