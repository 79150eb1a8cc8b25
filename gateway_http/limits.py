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
WATCHES_MAX: Final = 800
"""Sockets with subscriptions to market data, a call each. The publisher grants an address LIMIT_IP_SUBSCRIPTIONS (1,000
in compose.yaml), and what all other sockets are told needs some of them.
"""
WATCHES_IP_MAX: Final = 200
"""Of one address, so that it takes several to have them all."""
L3_WEIGHT: Final = 20
"""As how many requests or messages a book of orders counts: it has thousands, and each of them is made into JSON."""

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
    limit_ip_watches: int = Field(default=WATCHES_IP_MAX, ge=1)
    """Sockets that have subscribed market data, by address."""


class Limits:
    """The shim's buckets, and what may be open.

    Attributes:
        requests: that the shim answers itself.
        messages: of clients.
        watches: sockets with subscriptions to market data.

    Args:
        settings: the limits.
        clock: nanoseconds that never go back.
    """

    def __init__(self, settings: LimitSettings, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.requests = Limit("requests from this address", settings.limit_ip_requests, clock)
        self.messages = Limit("messages from this address", settings.limit_ip_messages, clock)
        self._connections = Limit("sockets from this address", settings.limit_ip_connections, clock)
        self.watches = Open("sockets with market data subscribed", WATCHES_MAX, settings.limit_ip_watches)
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
