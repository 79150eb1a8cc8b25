"""How often somebody may show a credential that is none, by address.

Whoever shares an address with somebody who guesses must still get in: a credential is judged first, and only one that
is not good is counted, and refused with fewer words once there are too many.
"""

from collections.abc import Callable

from services.errors import Reason, Rejected
from services.order_gateway.identity.tally import Tally

FAILURES_PER_IP_MAX = 100
"""In FAILURES_MS."""
FAILURES_MS = 60_000


class Failures:
    """Counts failures by address, from the first of them on for FAILURES_MS.

    Args:
        clock: milliseconds, from anywhere, never back.
        per_ip_max: in that time.
    """

    def __init__(self, clock: Callable[[], int], per_ip_max: int) -> None:
        self._tally = Tally(clock, FAILURES_MS, per_ip_max)

    def too_many(self, ip: str) -> bool:
        """Whether an address has failed too often."""
        return self._tally.wait_seconds(ip) > 0

    def check(self, ip: str) -> None:
        """Refuses an address that has failed too often.

        Raises:
            Rejected: OVERLOADED, with the seconds to wait in its message.
        """
        seconds = self._tally.wait_seconds(ip)
        if seconds:
            what = f"too many wrong credentials from this address; wait {seconds} s"
            raise Rejected(Reason.OVERLOADED, what, retry_after_seconds=seconds)

    def note(self, ip: str) -> None:
        """One more failure."""
        self._tally.note(ip)
