"""Whose orders are open: those of one account are found without a look at anybody else's. Pure.

Only accounts that have been asked for are followed: to note every order's owner would cost each of them a tenth. The
first time all orders are read. Orders that have ended stay here unnoticed, as bare ids; they are left out when somebody
asks, or when there are too many. Accounts that have no orders are followed no more when there are too many of them.
"""

from typing import Final, final

from services.book.side import Resting

FORGOTTEN_MIN: Final = 16
"""So many entries of an account are never too many."""
FOLLOWED_MIN: Final = 1_024
"""So many accounts are never too many."""


@final
class Owned:
    """The ids of one account's orders; one that was moved is here more than once."""

    __slots__ = ("came", "tidy_at")

    def __init__(self, came: list[int]) -> None:
        self.came = came
        self.tidy_at = max(2 * len(came), FORGOTTEN_MIN)

    def tidy(self, orders: dict[int, Resting]) -> list[int]:
        """Leaves out those that are not in `orders` any more; returns the others, each once."""
        self.came = [order_id for order_id in dict.fromkeys(self.came) if order_id in orders]
        self.tidy_at = max(2 * len(self.came), FORGOTTEN_MIN)
        return self.came


@final
class Owners:
    """The open orders of the accounts that have been asked for, by account_id."""

    __slots__ = ("_sweep_at", "followed")

    def __init__(self) -> None:
        self.followed: dict[int, Owned] = {}
        self._sweep_at = FOLLOWED_MIN

    def add(self, resting: Resting, orders: dict[int, Resting]) -> None:
        """An order is open, in `orders`."""
        owned = self.followed.get(resting.place.account_id)
        if owned is None:
            return
        owned.came.append(resting.order_id)
        if len(owned.came) >= owned.tidy_at:
            owned.tidy(orders)

    def of(self, account_id: int, orders: dict[int, Resting]) -> list[Resting]:
        """The account's orders that are in `orders`, which is all that are open."""
        owned = self.followed.get(account_id)
        if owned is None:
            if len(self.followed) >= self._sweep_at:
                self._sweep(orders)
            owned = Owned([each.order_id for each in orders.values() if each.place.account_id == account_id])
            self.followed[account_id] = owned
        return [orders[order_id] for order_id in owned.tidy(orders)]

    def tidy(self, account_id: int, orders: dict[int, Resting]) -> None:
        """Many of the account's orders have ended at once."""
        owned = self.followed.get(account_id)
        if owned is not None:
            owned.tidy(orders)

    def _sweep(self, orders: dict[int, Resting]) -> None:
        """Follows only accounts that have orders."""
        self.followed = {account_id: owned for account_id, owned in self.followed.items() if owned.tidy(orders)}
        self._sweep_at = max(2 * len(self.followed), FOLLOWED_MIN)
