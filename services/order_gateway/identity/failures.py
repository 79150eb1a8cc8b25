"""How often somebody may show a credential that is none, by address.

Whoever shares an address with somebody who guesses must still get in: a credential is judged first, and only one that
is not good is counted, and refused with fewer words once there are too many.
"""

from collections.abc import Callable

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

    def check(self, ip: str) -> None:
        """Refuses an address that has failed too often.

        Raises:
            Rejected: OVERLOADED, with the seconds to wait in its message.
        """
        self._tally.check(ip, "wrong credentials from this address")

    def note(self, ip: str) -> None:
        """One more failure."""
        self._tally.note(ip)

    def take_back(self, ip: str) -> None:
        """What was noted was none after all."""
        self._tally.take_back(ip)
