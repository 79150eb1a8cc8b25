"""How much one address may ask of the shim itself. What goes on to order_gateway is limited there."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import Field
from starlette.requests import HTTPConnection

from services.errors import Reason, Rejected
from services.runtime import metrics
from services.runtime.config import Settings
from services.runtime.limits import GENEROUS, Limit, RateText, of_ip

SOCKETS_MAX: Final = 2_000

_open_sockets = metrics.gauge("http_sockets", "WebSocket connections that are open")


class LimitSettings(Settings):
    """Limits of the shim; the rates are "a second / at once"."""

    limit_ip_requests: RateText = GENEROUS
    """Requests that the shim answers itself, by address."""
    limit_ip_connections: RateText = GENEROUS
    """New sockets, by address."""
    limit_ip_messages: RateText = GENEROUS
    """What clients send over sockets, by address."""
    limit_ip_sockets: int = Field(default=SOCKETS_MAX, ge=1)
    """Sockets that are open, by address."""


class Limits:
    """The shim's buckets.

    Args:
        settings: the limits.
        clock: nanoseconds that never go back.
    """

    def __init__(self, settings: LimitSettings, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.requests = Limit("requests from this address", settings.limit_ip_requests, clock)
        self.messages = Limit("messages from this address", settings.limit_ip_messages, clock)
        self._connections = Limit("sockets from this address", settings.limit_ip_connections, clock)
        self._sockets_max = settings.limit_ip_sockets
        self._sockets: Counter[str] = Counter()

    @contextmanager
    def socket(self, peer: str) -> Iterator[None]:
        """A socket that is open until the block ends.

        Raises:
            Rejected: RATE_LIMITED, OVERLOADED.
        """
        address = of_ip(peer)
        if self._sockets.total() >= SOCKETS_MAX or self._sockets[address] >= self._sockets_max:
            raise Rejected(Reason.OVERLOADED, "too many sockets")
        self._connections.take(address, {})
        self._sockets[address] += 1
        _open_sockets.inc()
        try:
            yield
        finally:
            _open_sockets.dec()
            self._sockets[address] -= 1
            if not self._sockets[address]:
                del self._sockets[address]


def peer_of(connection: HTTPConnection) -> str:
    """The client's address; "" where it has none."""
    return connection.client.host if connection.client else ""
