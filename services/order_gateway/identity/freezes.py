"""The users whose accounts operators froze, in the database of keys: a freeze, like a key, says who may ask.

In memory, in step with the database, which several gateways may share.
"""

import asyncio
import time
from collections.abc import Callable

from services.runtime import log
from services.runtime.db import Database, Statement, Unavailable

REFRESH_SECONDS = 0.4
"""From one look at the database to the next: what another gateway froze goes on here for so much longer."""

_FREEZE = (
    "INSERT INTO freezes (user_name, reason, freeze_ns) VALUES ($1, $2, $3) "
    "ON CONFLICT (user_name) DO UPDATE SET reason = excluded.reason"
)
_UNFREEZE = "DELETE FROM freezes WHERE user_name = $1"

logger = log.get("freezes")


class Freezes:
    """Who is frozen, and why.

    Args:
        database: of keys.
        clock: nanoseconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], int] = time.time_ns) -> None:
        self._database, self._clock = database, clock
        self._reasons: dict[str, str] = {}
        self._order = asyncio.Lock()
        """So that what was read before a change is not believed after it."""
        self._unwritten = 0
        """Freezes in force that the database has not been told yet."""

    async def refresh(self) -> None:
        """Reads all of them. Raises Unavailable."""
        async with self._order:
            rows = await self._database.fetch("SELECT user_name, reason FROM freezes")
            if not self._unwritten:  # else the next look will do
                self._reasons = {row[0]: row[1] for row in rows}

    async def follow(self) -> None:
        """Stays in step, for ever. A database that is away leaves what is known, and is asked again."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
            except Unavailable as error:
                logger.warning("freezes cannot be read", why=str(error))

    def reason(self, user: str) -> str:
        """Why a user is frozen; "" for one who is not."""
        return self._reasons.get(user, "")

    async def freeze(self, user: str, reason: str) -> None:
        """Freezes a user, or gives another reason. In force at once, durable on return. Raises Unavailable."""
        self._reasons[user] = reason  # a look that is under way may take its time
        self._unwritten += 1
        try:
            async with self._order:
                self._reasons[user] = reason  # should the write fail, the next look at the database decides
                await self._database.write([Statement(_FREEZE, [(user, reason, self._clock())])])
        finally:
            self._unwritten -= 1

    async def unfreeze(self, user: str) -> None:
        """Lets a user go on. Durable on return. Raises Unavailable."""
        async with self._order:
            await self._database.write([Statement(_UNFREEZE, [(user,)])])
            self._reasons.pop(user, None)
