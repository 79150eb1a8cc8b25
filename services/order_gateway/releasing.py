"""Approved withdrawals whose cooling-off is over: they are sent on their way here.

Every gateway does it for all of them. The book decides, by its own clock: who comes second finds that it is done, who
comes too early comes again, and a cancel that was taken before wins.
"""

import asyncio
import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from services.errors import Reason, Rejected
from services.order_gateway.call import ANSWER_SECONDS_MAX
from services.order_gateway.ledger import Change, Ledger
from services.order_gateway.model import ReleaseWithdrawal, WithdrawalCleared, WithdrawalRequested
from services.order_gateway.money import OPERATOR
from services.order_gateway.paging import NS_PER_SECOND
from services.order_gateway.session import Session, outcome
from services.runtime import log

AGAIN_SECONDS = 1.0
"""After which one is tried again that could not go: the book's clock is behind ours, or it is away."""
FROZEN_SECONDS = 5.0
"""And of an account that is frozen: it may be for long."""

logger = log.get("releasing")


class Releasing:
    """Run :meth:`run`.

    Args:
        ledger: knows what waits.
        session: takes commands.
        clock_ns: the time, nanoseconds since 1970.
    """

    def __init__(self, ledger: Ledger, session: Session, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._ledger, self._session, self._clock_ns = ledger, session, clock_ns
        self._due: list[tuple[int, int]] = []
        """A heap of when, and which."""
        self._wake = asyncio.Event()

    def tell(self, change: Change) -> None:
        """Learns of what is approved."""
        body = change.body
        if isinstance(body, WithdrawalRequested | WithdrawalCleared) and body.release_ns:
            heappush(self._due, (body.release_ns, body.withdrawal_id))
            self._wake.set()

    def session_changed(self, is_open: bool) -> None:
        """A new session: all that waits is looked at anew."""
        if is_open:
            waiting = self._ledger.withdrawals.values()
            self._due = [(each.release_ns, each.withdrawal_id) for each in waiting if each.release_ns]
            heapify(self._due)
            self._wake.set()

    async def run(self) -> None:
        """Sends them on their way, each when it is time, for ever."""
        while True:
            self._wake.clear()
            while self._due and self._due[0][0] <= self._clock_ns():
                _, withdrawal_id = heappop(self._due)
                await self._release(withdrawal_id)
            seconds = (self._due[0][0] - self._clock_ns()) / NS_PER_SECOND if self._due else None
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _release(self, withdrawal_id: int) -> None:
        waiting = self._ledger.withdrawals.get(withdrawal_id)
        if waiting is None or not waiting.release_ns:
            return  # it has gone, or was canceled: nothing to journal
        try:
            await outcome(self._session.submit(ReleaseWithdrawal(withdrawal_id), OPERATOR), ANSWER_SECONDS_MAX)
        except Rejected as rejected:
            if rejected.reason is not Reason.WITHDRAWAL_NOT_FOUND:  # else somebody was quicker
                logger.debug("not released yet", withdrawal=withdrawal_id, why=rejected.message)
                seconds = FROZEN_SECONDS if rejected.reason is Reason.ACCOUNT_FROZEN else AGAIN_SECONDS
                heappush(self._due, (self._clock_ns() + int(seconds * NS_PER_SECOND), withdrawal_id))
        else:
            logger.info("released", withdrawal=withdrawal_id)
