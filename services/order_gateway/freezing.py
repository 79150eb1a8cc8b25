"""What operators do about an account that must not go on: freeze it, perhaps with its orders canceled; unfreeze it."""

from services.errors import Reason, Rejected
from services.order_gateway.cancels import Cancels
from services.order_gateway.identity.freezes import Freezes
from services.order_gateway.ledger import SYSTEM_ACCOUNTS, Ledger
from services.order_gateway.model import CancelCause


class Freezing:
    """FreezeAccount and UnfreezeAccount without their wire."""

    def __init__(self, ledger: Ledger, cancels: Cancels, freezes: Freezes) -> None:
        self._ledger, self._cancels, self._freezes = ledger, cancels, freezes

    async def freeze(self, user: str, reason: str, seconds: float, *, cancel_orders: bool) -> int:
        """Freezes a user's account; how many of its orders were canceled, those that were on their way among them.

        Raises:
            Rejected: ACCOUNT_NOT_FOUND; DEADLINE, NOT_TAKEN, OVERLOADED for the cancels: the freeze holds all the same.
        """
        account_id = self._account(user)
        await self._freezes.freeze(user, reason)
        if not cancel_orders:
            return 0
        return len(await self._cancels.cancel_all(account_id, None, None, seconds, CancelCause.OPERATOR))

    async def unfreeze(self, user: str) -> None:
        """Lets a user's account go on. Raises Rejected: ACCOUNT_NOT_FOUND."""
        self._account(user)
        await self._freezes.unfreeze(user)

    def _account(self, user: str) -> int:
        account_id = self._ledger.account_ids.get(user)
        if account_id is None or user in SYSTEM_ACCOUNTS:
            raise Rejected(Reason.ACCOUNT_NOT_FOUND, f"no such user: {user}", "user")
        return account_id
