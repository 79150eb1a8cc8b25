"""Whose orders are open: those of one account are found without a look at anybody else's. Pure.

Orders that have ended or moved stay here unnoticed; they are left out when somebody asks, or when there are too many.
"""

from typing import Final, final

from services.book.side import Resting

FORGOTTEN_MIN: Final = 64
"""So many entries of an account are never too many."""


@final
class Owned:
    """Orders of one account, as they came."""

    __slots__ = ("came", "tidy_at")

    def __init__(self) -> None:
        self.came: list[Resting] = []
        self.tidy_at = FORGOTTEN_MIN

    def tidy(self, orders: dict[int, Resting]) -> list[Resting]:
        """Leaves out those that are not in `orders` any more; returns the others."""
        self.came = [each for each in self.came if orders.get(each.order_id) is each]
        self.tidy_at = max(2 * len(self.came), FORGOTTEN_MIN)
        return self.came


@final
class Owners:
    """The open orders of each account."""

    __slots__ = ("_owned",)

    def __init__(self) -> None:
        self._owned: dict[int, Owned] = {}

    def add(self, resting: Resting, orders: dict[int, Resting]) -> None:
        """An order is open, in `orders`."""
        account_id = resting.place.account_id
        owned = self._owned.get(account_id)
        if owned is None:
            owned = self._owned[account_id] = Owned()
        owned.came.append(resting)
        if len(owned.came) >= owned.tidy_at:
            owned.tidy(orders)

    def of(self, account_id: int, orders: dict[int, Resting]) -> list[Resting]:
        """The account's orders that are in `orders`."""
        owned = self._owned.get(account_id)
        return [] if owned is None else owned.tidy(orders)
