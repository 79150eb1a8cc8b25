"""What the gateway says of its own health: whether the book takes our commands, and whether the money adds up."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from services.order_gateway.check import steps
from services.order_gateway.ledger import Change, Ledger
from services.order_gateway.model import Claimed
from services.order_gateway.movements import CLAIM_ID_PREFIX
from services.runtime import log, metrics
from services.runtime.run import Closing

SLICE_SECONDS = 0.0005
"""How long a self-check has the event loop at once, and how long it then leaves it to others."""
PAUSE_SECONDS = 0.002
SHOWN_MAX = 10
"""Violations that are logged of one check."""

_violations = metrics.gauge("ledger_violations", "Invariants of money now broken: must be 0.")
_checks = metrics.counter("ledger_checks", "Self-checks of the ledger.")
_unbacked = metrics.counter("ledger_unbacked_claims", "Claims of what no withdrawal backs: insurance has paid.")

logger = log.get("health")

Tell = Callable[[bool], Awaitable[None]]


class Health:
    """Serving means: a session with the book is open, and the last self-check found nothing.

    Args:
        tell: told of the first state and of every change.

    Attributes:
        sound: the last self-check found nothing.
    """

    def __init__(self, ledger: Ledger, tell: Tell) -> None:
        self._ledger, self._tell = ledger, tell
        self._session_open = False
        self.sound = True
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        """Whether to send us work."""
        return self._session_open and self.sound

    def session_changed(self, is_open: bool) -> None:
        """The book takes our commands, or does not any more."""
        self._session_open = is_open
        self._changed.set()

    def tell(self, change: Change) -> None:
        """Learns of claims: one of what no withdrawal backs is an alarm."""
        if not isinstance(change.body, Claimed):
            return
        for movement in change.effects.movements:
            if movement.transfer_id.startswith(CLAIM_ID_PREFIX):
                _unbacked.inc()
                what = {"claim": change.body.claim_index, "address": change.body.address, "amount": movement.amount}
                logger.error("ALARM: a claim that no withdrawal backs: insurance has paid", **what)

    async def run(self) -> None:
        """Tells of every change, for ever."""
        told: bool | None = None
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self.serving is not told:
                told = self.serving
                await self._tell(told)

    async def check(self, closing: Closing, seconds: float) -> None:
        """Checks the ledger every so often, until `closing`. A violation is a bug: we do not serve until it is gone."""
        while not await closing.sleep(seconds):
            count = await self.check_once(closing)
            if count is None:
                return
            _checks.inc()
            _violations.set(count)
            if bool(count) is self.sound:
                self.sound = not count
                self._changed.set()

    async def check_once(self, closing: Closing) -> int | None:
        """Checks the ledger once, in slices, and logs what is wrong.

        Returns:
            How many violations there are; None if `closing` came first.
        """
        ledger, count = self._ledger, 0
        sequence, moment = ledger.sequence, ledger.remember()
        began = perf_counter()
        try:
            for found in steps(ledger, moment):
                for line in found[: max(0, SHOWN_MAX - count)]:
                    logger.error("the ledger is wrong", what=line, journal_sequence=sequence)
                count += len(found)
                if perf_counter() - began >= SLICE_SECONDS:
                    if await closing.sleep(PAUSE_SECONDS):
                        return None
                    began = perf_counter()
        finally:
            ledger.forget(moment)
        return count
