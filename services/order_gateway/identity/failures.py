"""How often somebody may show a credential that is none, by address."""

from collections import OrderedDict
from collections.abc import Callable

from services.errors import Reason, Rejected

FAILURES_PER_IP_MAX = 100
"""In FAILURES_MS; then no credential from there is looked at until that time is over."""
FAILURES_MS = 60_000
IPS_MAX = 100_000
"""Remembered at once; the one that began first is forgotten for a new one."""


class Failures:
    """Counts failures by address, from the first of them on for FAILURES_MS.

    Args:
        clock: milliseconds, from anywhere, never back.
    """

    def __init__(self, clock: Callable[[], int], per_ip_max: int) -> None:
        self._clock, self._per_ip_max = clock, per_ip_max
        self._by_ip: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def check(self, ip: str) -> None:
        """Refuses an address that has failed too often.

        Raises:
            Rejected: OVERLOADED, with the seconds to wait in its message.
        """
        began, count = self._by_ip.get(ip, (0, 0))
        wait_ms = began + FAILURES_MS - self._clock()
        if count >= self._per_ip_max and wait_ms > 0:
            seconds = -(-wait_ms // 1_000)
            raise Rejected(Reason.OVERLOADED, f"too many wrong credentials from this address; wait {seconds} s")

    def note(self, ip: str) -> None:
        """One more failure."""
        now = self._clock()
        began, count = self._by_ip.get(ip, (now, 0))
        if now >= began + FAILURES_MS:
            del self._by_ip[ip]
            began, count = now, 0
        self._by_ip[ip] = (began, count + 1)
        if len(self._by_ip) > IPS_MAX:
            self._by_ip.popitem(last=False)
