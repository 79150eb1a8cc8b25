"""Whose orders are open: those of one account are found without a look at anybody else's. Pure.

Only accounts that have been asked for are followed: to note every order's owner would cost each of them a tenth. The
first time all orders are read. Those that have ended or moved stay here unnoticed; they are left out when somebody
asks, or when there are too many.
"""

from typing import Final, final

from services.book.side import Resting

FORGOTTEN_MIN: Final = 64
"""So many entries of an account are never too many."""


@final
class Owned:
    """Orders of one account, as they came."""

    __slots__ = ("came", "tidy_at")

    def __init__(self, came: list[Resting]) -> None:
        self.came = came
        self.tidy_at = max(2 * len(came), FORGOTTEN_MIN)

    def tidy(self, orders: dict[int, Resting]) -> list[Resting]:
        """Leaves out those that are not in `orders` any more; returns the others."""
        self.came = [each for each in self.came if orders.get(each.order_id) is each]
        self.tidy_at = max(2 * len(self.came), FORGOTTEN_MIN)
        return self.came


@final
class Owners:
    """The open orders of the accounts that have been asked for, by account_id."""

    __slots__ = ("followed",)

    def __init__(self) -> None:
        self.followed: dict[int, Owned] = {}

    def add(self, resting: Resting, orders: dict[int, Resting]) -> None:
        """An order is open, in `orders`."""
        owned = self.followed.get(resting.place.account_id)
        if owned is None:
            return
        owned.came.append(resting)
        if len(owned.came) >= owned.tidy_at:
            owned.tidy(orders)

    def of(self, account_id: int, orders: dict[int, Resting]) -> list[Resting]:
        """The account's orders that are in `orders`, which is all that are open."""
        owned = self.followed.get(account_id)
        if owned is None:
            owned = Owned([each for each in orders.values() if each.place.account_id == account_id])
            self.followed[account_id] = owned
        return owned.tidy(orders)
