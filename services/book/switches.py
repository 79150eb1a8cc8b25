"""Dead man's switches: an account's orders are canceled unless it says otherwise in time. Pure.

A switch is of one market of an account, or (0) of all its markets. When it has run out, all orders that are open then
are to be canceled; a command cancels some of them, the rest is `left` for the clock's next commands.
"""

from typing import Final, final

from services.book.owners import Owners
from services.book.side import Resting

CANCEL_AFTER_SECONDS_MAX: Final = 86_400
NS_PER_SECOND: Final = 1_000_000_000


@final
class Switches:
    """When which switch runs out, by (account_id, market_id), and the orders that are left of those that have."""

    __slots__ = ("_earliest", "deadlines", "left")

    def __init__(self) -> None:
        self.deadlines: dict[tuple[int, int], int] = {}
        self.left: list[int] = []
        self._earliest = 0

    def arm(self, account_id: int, market_id: int, deadline_ns: int) -> None:
        """It runs out then, whatever was said before."""
        self.deadlines[account_id, market_id] = deadline_ns
        if self._earliest == 0 or deadline_ns < self._earliest:
            self._earliest = deadline_ns

    def disarm(self, account_id: int, market_id: int) -> None:
        """It does not run out any more."""
        self.deadlines.pop((account_id, market_id), None)

    def is_due(self, time_ns: int) -> bool:
        """Whether there is something to cancel at that time."""
        if self.left:
            return True
        if self._earliest == 0 or time_ns < self._earliest:
            return False
        # None is earlier than that, but those that were armed anew may be later.
        self._earliest = min(self.deadlines.values(), default=0)
        return 0 < self._earliest <= time_ns

    def run_out(self, time_ns: int, owners: Owners, orders: dict[int, Resting]) -> None:
        """The orders of all switches that have run out are left to be canceled, the oldest first."""
        over = {key for key, deadline_ns in self.deadlines.items() if deadline_ns <= time_ns}
        if not over:
            return
        for key in over:
            del self.deadlines[key]
        found = []
        for account_id in {key[0] for key in over}:
            for resting in owners.of(account_id, orders):
                place = resting.place
                if (place.account_id, 0) in over or (place.account_id, place.market_id) in over:
                    found.append(resting.order_id)
        self.left += sorted(found)

    def take(self, orders_max: int) -> list[int]:
        """Some orders that are left to be canceled; the caller cancels those that are open still."""
        taken = self.left[:orders_max]
        del self.left[:orders_max]
        return taken
