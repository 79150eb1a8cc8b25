"""How much one account and one address may ask for, over gRPC and through the shim alike.

Wrong credentials are counted where they are judged: identity/failures.py.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from pydantic import Field

from services.order_gateway.call import Call
from services.runtime.config import Settings
from services.runtime.limits import GENEROUS, Limit, Open, RateText, of_ip


class Weight(NamedTuple):
    """What a request counts for. Cancels count as requests only: who has sent too many orders can still end them.

    Attributes:
        orders: that it places.
        requests: all else that it asks for.
        references: reference prices that it sets.
    """

    orders: int = 0
    requests: int = 0
    references: int = 0


ONE_REQUEST = Weight(requests=1)
ONE_ORDER = Weight(orders=1)
ONE_REFERENCE = Weight(requests=1, references=1)
REFERENCES: Final = "20/40"
"""Reference prices of an account: each is an entry of the journal, and one a second is enough for a market."""
CANCEL_ALL_REQUESTS: Final = 16
"""What a CancelAllOrders counts for: the book looks through all open orders of the account, even if it ends none."""

STREAMS_MAX: Final = 1_000
"""Streams that nobody needs to be known for, open at once."""
IP_STREAMS_MAX: Final = 20
"""Of one address: the settler serves 200 in all."""


class LimitSettings(Settings):
    """Rates of the gateway, each "a second / at once"."""

    limit_account_orders: RateText = GENEROUS
    """Orders placed, by account."""
    limit_account_requests: RateText = GENEROUS
    """Everything else that an account asks for, by account."""
    limit_account_references: RateText = REFERENCES
    """Reference prices set, by account."""
    limit_ip_requests: RateText = GENEROUS
    """Whatever is asked for, by address, before it is known who asks."""
    limit_ip_streams: int = Field(default=IP_STREAMS_MAX, ge=1)
    """Streams that are open without a credential, by address. (With one, they are limited by account.)"""


class Limits:
    """The gateway's buckets.

    Args:
        settings: the rates.
        clock: nanoseconds that never go back.
    """

    def __init__(self, settings: LimitSettings, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._orders = Limit("orders of this account", settings.limit_account_orders, clock)
        self._requests = Limit("requests of this account", settings.limit_account_requests, clock)
        self._references = Limit("reference prices of this account", settings.limit_account_references, clock)
        self._arrivals = Limit("requests from this address", settings.limit_ip_requests, clock)
        self._streams = Open("streams without a credential", STREAMS_MAX, settings.limit_ip_streams)

    def arrived(self, call: Call) -> None:
        """Counts a call for its address.

        Raises:
            Rejected: RATE_LIMITED; the call's trailer says how long to wait, here and below.
        """
        self._arrivals.take(of_ip(call.peer), call.trailer)

    def stream(self, call: Call) -> AbstractContextManager[None]:
        """Counts a stream of somebody unknown for its address, while it is open. Entering it raises OVERLOADED."""
        return self._streams.one(call.peer)

    def identified(self, call: Call, user: str, weight: Weight = ONE_REQUEST) -> None:
        """Counts a call for whose it is.

        Raises:
            Rejected: RATE_LIMITED; TOO_LARGE for a call that no wait would make room for.
        """
        if weight.requests:
            self._requests.take(user, call.trailer, weight.requests)
        if weight.orders:
            self._orders.take(user, call.trailer, weight.orders)
        if weight.references:
            self._references.take(user, call.trailer, weight.references)
