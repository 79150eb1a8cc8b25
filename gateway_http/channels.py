"""Connections for calls that last: as many as it takes that every one of them is carried at once.

A connection carries rpc.CONCURRENT_STREAMS_MAX calls; one more would wait for another to end, and say nothing of it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import grpc

from gateway_http.limits import SOCKETS_MAX
from services.errors import Reason, Rejected
from services.runtime import rpc

PRIVATE_SUBSCRIPTIONS_MAX: Final = 4
"""Of one socket, beside its account as it is subscribed by its name."""
STREAMS_SOCKET_MAX: Final = 2 + PRIVATE_SUBSCRIPTIONS_MAX
"""Of one socket at order_gateway: its session, its account, and what it has subscribed."""
STREAMS_BESIDE_MAX: Final = 2_000
"""Listen keys, requests that take several calls, and sockets with more accounts than one."""
CHANNELS: Final = -(-(SOCKETS_MAX * STREAMS_SOCKET_MAX + STREAMS_BESIDE_MAX) // rpc.CONCURRENT_STREAMS_MAX)


class Channels:
    """Connections to one server. Each is made when it is first used."""

    def __init__(self, make: Callable[[], grpc.aio.Channel], count: int = CHANNELS) -> None:
        """`make`: a channel of its own connection; `count`: how many."""
        self._channels = [make() for _ in range(count)]
        self._calls = [0] * count

    @contextmanager
    def one(self) -> Iterator[grpc.aio.Channel]:
        """The connection with the fewest calls, which carries one more until the block ends.

        Raises:
            Rejected: OVERLOADED, all carry as many as they can.
        """
        place = min(range(len(self._calls)), key=self._calls.__getitem__)
        if self._calls[place] >= rpc.CONCURRENT_STREAMS_MAX:
            raise Rejected(Reason.OVERLOADED)
        self._calls[place] += 1
        try:
            yield self._channels[place]
        finally:
            self._calls[place] -= 1

    async def close(self) -> None:
        """Ends all calls."""
        for channel in self._channels:
            await channel.close()
