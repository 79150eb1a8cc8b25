"""Cancel on disconnect: orders whose stream has ended are canceled, however long it takes to reach the book.

What is on its way is waited for without a bound: a promise forgotten is an order that stays open. That ends by itself:
sooner or later the fold tells what became of each command, or that a lost session never took it.
"""

import asyncio
from collections.abc import Iterable, Sequence

from services.errors import Rejected
from services.order_gateway.call import ANSWER_SECONDS_MAX
from services.order_gateway.cancels import Cancels
from services.order_gateway.model import CancelCause, Placed
from services.order_gateway.outcomes import Promise
from services.runtime import log, metrics
from services.runtime.db import Unavailable
from services.runtime.streams import Backoff

_left = metrics.gauge("gateway_disconnects", "Ended streams whose orders are being canceled.")
_canceled = metrics.counter("gateway_disconnect_cancels", "Orders canceled because their stream ended.")

logger = log.get("disconnects")


def placed_ids(known: "Iterable[Promise[Placed]]") -> set[int]:
    """The orders among outcomes that are known; the others were refused."""
    return {outcome.result().order.order_id for outcome in known if outcome.exception() is None}


class Disconnects:
    """Cleans up after streams.

    Args:
        cancels: ends the orders.
    """

    def __init__(self, cancels: Cancels) -> None:
        self._cancels = cancels
        self._ended: asyncio.Queue[tuple[int, set[int], Sequence[Promise[Placed]]]] = asyncio.Queue()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def leave(self, account_id: int, order_ids: set[int], pending: "Sequence[Promise[Placed]]") -> None:
        """A stream has ended: what it placed, and what it has on its way, is to be canceled."""
        self._busy += 1
        self._idle.clear()
        _left.set(self._busy)
        self._ended.put_nowait((account_id, order_ids, pending))

    async def run(self) -> None:
        """Cancels what is left, for ever; each stream's orders apart."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._clean_up(*await self._ended.get()), name="cancel on disconnect")

    async def finish(self, seconds: float) -> None:
        """Returns when nothing is left to cancel, or after so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("orders of ended streams stay open", streams=self._busy)

    async def _clean_up(self, account_id: int, order_ids: set[int], pending: "Sequence[Promise[Placed]]") -> None:
        try:
            await self._cancel(account_id, order_ids)
            if pending:
                await asyncio.wait([promise.future() for promise in pending])
                await self._cancel(account_id, placed_ids(pending))
        finally:
            self._busy -= 1
            _left.set(self._busy)
            if not self._busy:
                self._idle.set()

    async def _cancel(self, account_id: int, order_ids: set[int]) -> None:
        """Cancels those that are open, tried until it is done."""
        backoff = Backoff()
        while True:
            try:
                canceled = await self._cancels.cancel_these(
                    account_id, order_ids, ANSWER_SECONDS_MAX, CancelCause.DISCONNECT
                )
                break
            except (Rejected, Unavailable) as error:
                delay = backoff.next_seconds()
                logger.warning("orders of an ended stream are open yet", account=account_id, why=str(error))
                await asyncio.sleep(delay)
        if canceled:
            _canceled.inc(len(canceled))
            logger.info("canceled on disconnect", account=account_id, orders=len(canceled))
