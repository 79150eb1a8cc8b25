"""Who may write: one settler at a time holds the lease of a database, and each of its writes says so.

The lease is a row: a token that only grows, and a beat that its holder moves as long as it lives. Whoever waits for it
watches the beat by its own clock, so no two clocks are compared, and takes it when the beat stood still for the whole
lease. The token is the fence: it is checked in the transaction that it guards, so a holder who slept, and wakes after
another has taken over, writes nothing any more, however late it is.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from services.runtime import log, metrics
from services.runtime.db import Conflict, Database, Statement
from services.runtime.run import Closed

BEATS_PER_LEASE: Final = 4
LOOKS_PER_LEASE: Final = 10
_FREE: Final = 0
"""The beat of a lease that its holder has given back."""

_token = metrics.gauge("settler_lease_token", "The fencing token of the lease that this settler holds.")

logger = log.get("lease")


class Superseded(Exception):
    """Another settler has taken over this database."""


class Lease:
    """Make it with :meth:`take`; work with it :meth:`during`."""

    def __init__(self, db: Database, token: int, seconds: float) -> None:
        """Use :meth:`take`."""
        self._db = db
        self._seconds = seconds
        self.token = token
        """Larger than that of any holder before."""

    @classmethod
    async def take(cls, db: Database, seconds: float) -> "Lease":
        """Waits until nobody holds the lease, and takes it.

        Args:
            db: the database, migrated.
            seconds: how long its holder must show no sign of life; 0: it is taken at once, whoever holds it.
        """
        clock = asyncio.get_running_loop().time
        seen, since = await _row(db), clock()
        waited = False
        while True:
            token, beat = seen
            if beat == _FREE or clock() - since >= seconds:
                try:
                    await db.write([Statement(_TAKE, [(token + 1, token, beat)], expect=1)])
                except Conflict:
                    logger.info("somebody else moved the lease")
                else:
                    _token.set(token + 1)
                    logger.info("holds the lease", token=token + 1, given_back=beat == _FREE)
                    return cls(db, token + 1, seconds)
            elif not waited:
                waited = True
                logger.info("waiting for the lease", held_by=token)
            await asyncio.sleep(seconds / LOOKS_PER_LEASE)  # a database tells nobody: it must be asked again
            found = await _row(db)
            if found != seen:
                seen, since = found, clock()

    @property
    def guard(self) -> Statement:
        """Goes first into every transaction: a Conflict if the lease is not ours any more; else a sign of life."""
        return Statement("UPDATE lease SET beat = beat + 1 WHERE token = $1", [(self.token,)], expect=1)

    async def lost(self) -> bool:
        """Whether somebody else holds the lease by now."""
        token, _ = await _row(self._db)
        return token != self.token

    async def during(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` and shows signs of life meanwhile; gives the lease back if it ends in order.

        Raises:
            Superseded: another settler has taken over; `work` is cancelled.
            Closed: the end came; what else `work` raises goes through, and the lease runs out by itself.
        """
        tasks = [asyncio.create_task(work, name="work"), asyncio.create_task(self._keep(), name="lease")]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Closed:
            await self.release()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self.release()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / BEATS_PER_LEASE)
            try:
                await self._db.write([self.guard])
            except Conflict:
                raise Superseded("another settler has taken over this database") from None

    async def release(self) -> None:
        """Gives the lease back, so that the next settler need not wait; nothing if it is not ours any more."""
        await self._db.write([Statement("UPDATE lease SET beat = $1 WHERE token = $2", [(_FREE, self.token)])])


_TAKE: Final = "UPDATE lease SET token = $1, beat = 1 WHERE token = $2 AND beat = $3"


async def _row(db: Database) -> tuple[int, int]:
    (row,) = await db.fetch("SELECT token, beat FROM lease")
    return int(row[0]), int(row[1])
