"""Accounts that the journal freezes, for their owners leave by the contract or they owe insurance: what they have open
is ended here.

Every gateway does it for all of them: what another one has ended is not open any more. The exit itself is journaled
once nothing is open.
"""

import asyncio

from services.errors import Rejected
from services.order_gateway.call import ANSWER_SECONDS_MAX
from services.order_gateway.cancels import Cancels
from services.order_gateway.ledger import Change, Ledger
from services.order_gateway.model import CancelCause, CancelWithdrawal, DebtNoted, ExitRequested, MovementState
from services.order_gateway.session import Session, outcome
from services.runtime import log
from services.runtime.db import Unavailable
from services.runtime.streams import Backoff

LEAVES = "the owner leaves by the contract"
OWES = "the account owes insurance what it could not pay on chain"

logger = log.get("leaving")


class Leaving:
    """Run :meth:`run`.

    Args:
        ledger: knows who leaves or owes, and what they have open.
        session: takes commands.
        cancels: ends orders.
    """

    def __init__(self, ledger: Ledger, session: Session, cancels: Cancels) -> None:
        self._ledger, self._session, self._cancels = ledger, session, cancels
        self._wake = asyncio.Event()
        self._wake.set()

    def tell(self, change: Change) -> None:
        """Learns of requests, and of debts."""
        if isinstance(change.body, ExitRequested | DebtNoted):
            self._wake.set()

    def session_changed(self, is_open: bool) -> None:
        """A new session: what the last one could not end is tried again."""
        if is_open:
            self._wake.set()

    async def run(self) -> None:
        """Ends what they have open, for ever."""
        backoff = Backoff()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                for account_id in sorted({*self._ledger.leaving, *self._ledger.debtors.values()}):
                    await self._end(account_id)
                backoff.reset()
            except (Rejected, Unavailable) as error:
                logger.warning("not all is ended yet of who is frozen", why=str(error))
                await asyncio.sleep(backoff.next_seconds())
                self._wake.set()

    async def _end(self, account_id: int) -> None:
        if self._ledger.open_orders(account_id):
            orders = await self._cancels.cancel_all(account_id, None, None, ANSWER_SECONDS_MAX, CancelCause.OPERATOR)
            logger.info("orders ended", account=account_id, orders=len(orders))
        for movement in list(self._ledger.open_withdrawals(account_id).values()):
            if movement.state is MovementState.REQUESTED:
                command = CancelWithdrawal(
                    movement.withdrawal_id, LEAVES if account_id in self._ledger.leaving else OWES
                )
                await outcome(self._session.submit(command, account_id), ANSWER_SECONDS_MAX)
