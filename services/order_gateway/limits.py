"""How much one account and one address may ask for, over gRPC and through the shim alike.

Wrong credentials are counted where they are judged: identity/failures.py.
"""

import time
from collections.abc import Callable

from services.order_gateway.call import Call
from services.runtime.config import Settings
from services.runtime.limits import GENEROUS, Limit, RateText, of_ip

PLACE_ORDER = "/clearbook.v1.OrderService/PlaceOrder"
"""Cancels count as requests only: who has sent too many orders must still be able to take them back."""


class LimitSettings(Settings):
    """Rates of the gateway, each "a second / at once"."""

    limit_account_orders: RateText = GENEROUS
    """Orders placed, by account."""
    limit_account_requests: RateText = GENEROUS
    """Everything else that an account asks for, by account."""
    limit_ip_requests: RateText = GENEROUS
    """Whatever is asked for, by address, before it is known who asks."""


class Limits:
    """The gateway's buckets.

    Args:
        settings: the rates.
        clock: nanoseconds that never go back.
    """

    def __init__(self, settings: LimitSettings, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._orders = Limit("orders of this account", settings.limit_account_orders, clock)
        self._requests = Limit("requests of this account", settings.limit_account_requests, clock)
        self._arrivals = Limit("requests from this address", settings.limit_ip_requests, clock)

    def arrived(self, call: Call) -> None:
        """Counts a call for its address.

        Raises:
            Rejected: RATE_LIMITED; the call's trailer says how long to wait, here and below.
        """
        self._arrivals.take(of_ip(call.peer), call.trailer)

    def identified(self, call: Call, user: str) -> None:
        """Counts a call for whose it is.

        Raises:
            Rejected: RATE_LIMITED.
        """
        (self._orders if call.method == PLACE_ORDER else self._requests).take(user, call.trailer)
