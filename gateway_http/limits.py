"""How much one address may ask of the shim itself. What goes on to order_gateway is limited there."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import Field
from starlette.requests import HTTPConnection

from services.runtime import metrics
from services.runtime.config import Settings
from services.runtime.limits import GENEROUS, Limit, Open, RateText, of_ip

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
        self._sockets = Open("sockets", SOCKETS_MAX, settings.limit_ip_sockets)

    @contextmanager
    def socket(self, peer: str) -> Iterator[None]:
        """A socket that is open until the block ends.

        Raises:
            Rejected: RATE_LIMITED, OVERLOADED.
        """
        with self._sockets.one(peer):
            self._connections.take(of_ip(peer), {})
            with _open_sockets.track_inprogress():
                yield


def peer_of(connection: HTTPConnection) -> str:
    """The client's address; "" where it has none."""
    return connection.client.host if connection.client else ""
