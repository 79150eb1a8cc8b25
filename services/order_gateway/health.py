"""What the gateway says of its own health: whether the book takes our commands, and whether the money adds up."""

import asyncio
from collections.abc import Awaitable, Callable

from services.order_gateway.check import violations
from services.order_gateway.ledger import Ledger
from services.runtime import log, metrics
from services.runtime.run import Closing

_violations = metrics.gauge("ledger_violations", "Invariants of money now broken: must be 0.")
_checks = metrics.counter("ledger_checks", "Self-checks of the ledger.")

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
        """Checks the ledger every so often, until `closing`."""
        while not await closing.sleep(seconds):
            self.check_once()

    def check_once(self) -> None:
        """Checks the ledger now. A violation is a bug: we do not serve until it is gone."""
        found = violations(self._ledger)
        _checks.inc()
        _violations.set(len(found))
        for line in found[:10]:
            logger.error("the ledger is wrong", what=line, journal_sequence=self._ledger.sequence)
        if bool(found) is self.sound:
            self.sound = not found
            self._changed.set()
