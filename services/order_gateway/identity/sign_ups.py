"""How many accounts strangers may open by signing in with a wallet.

A wallet costs nothing, an account stays for ever, and there is room for so many only (`accounts.ACCOUNTS_MAX`): at
SIGN_UPS_PER_DAY_MAX it would take a hundred days to fill it, which somebody notices.
"""

from collections.abc import Callable

from services.order_gateway.identity.tally import Tally

SIGN_UPS_PER_IP_MAX = 50
"""New accounts in DAY_MS from one address: an office behind one."""
SIGN_UPS_PER_DAY_MAX = 10_000
"""New accounts in DAY_MS from everywhere."""
DAY_MS = 24 * 3600 * 1_000

_EVERYWHERE = "everywhere"


class SignUps:
    """Counts new accounts, by address and in all, from the first of them on for DAY_MS.

    Args:
        clock: milliseconds, from anywhere, never back.
    """

    def __init__(self, clock: Callable[[], int], per_ip_max: int, per_day_max: int) -> None:
        self._by_ip = Tally(clock, DAY_MS, per_ip_max)
        self._all = Tally(clock, DAY_MS, per_day_max)

    def take(self, ip: str) -> None:
        """One more account is about to be opened.

        Raises:
            Rejected: OVERLOADED, with the seconds to wait in its message.
        """
        for tally, key, whose in ((self._by_ip, ip, "from this address"), (self._all, _EVERYWHERE, "by sign-in")):
            tally.check(key, f"new accounts {whose} today")
        self._by_ip.note(ip)
        self._all.note(_EVERYWHERE)

    def give_back(self, ip: str) -> None:
        """It was not opened."""
        self._by_ip.take_back(ip)
        self._all.take_back(_EVERYWHERE)
