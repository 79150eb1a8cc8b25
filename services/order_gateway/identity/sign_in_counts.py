"""How many sign-ins there may be, right or wrong.

Each costs a tenth of a millisecond (five, where eth_keys has no libsecp256k1), in which nobody else is served, and a
right one a row that is kept for a month. Anybody may show a message for any wallet, so that a wallet's count begins
with its signature.
"""

from collections.abc import Callable

from services.order_gateway.identity.tally import Tally

SIGN_INS_PER_IP_MAX = 60
"""In IP_MS, right or wrong, from one address: at worst half a hundredth of a core."""
IP_MS = 60_000
SIGN_INS_PER_WALLET_MAX = 200
"""In WALLET_MS, right ones of one wallet, whose sessions last a day."""
WALLET_MS = 24 * 3600 * 1_000


class SignInCounts:
    """Counts sign-ins by address and by wallet, each from the first of them on for its time.

    Args:
        clock: milliseconds, from anywhere, never back.
    """

    def __init__(self, clock: Callable[[], int], per_ip_max: int, per_wallet_max: int) -> None:
        self._by_ip = Tally(clock, IP_MS, per_ip_max)
        self._by_wallet = Tally(clock, WALLET_MS, per_wallet_max)

    def from_address(self, ip: str) -> None:
        """One more comes. Raises Rejected: OVERLOADED, with the seconds to wait in its message."""
        self._by_ip.check(ip, "sign-ins from this address")
        self._by_ip.note(ip)

    def of_wallet(self, wallet: str) -> None:
        """One more was signed. Raises Rejected: OVERLOADED, with the seconds to wait in its message."""
        self._by_wallet.check(wallet, "sign-ins of this wallet today")
        self._by_wallet.note(wallet)
