"""The fee tiers that operators fixed: kept in a table of their own, for the journal does not know them."""

from services.errors import Reason, Rejected
from services.order_gateway.tiers import Schedule
from services.runtime import log
from services.runtime.db import Database, Statement

_FIX = (
    "INSERT INTO fixed_tiers (account_id, tier) VALUES ($1, $2) "
    "ON CONFLICT (account_id) DO UPDATE SET tier = excluded.tier"
)
_FREE = "DELETE FROM fixed_tiers WHERE account_id = $1"

logger = log.get("fees")


class FixedTiers:
    """Keeps `schedule.fixed` and its table the same."""

    def __init__(self, schedule: Schedule, database: Database) -> None:
        self._schedule, self._database = schedule, database

    async def load(self) -> None:
        """Reads what was fixed. Raises Unavailable."""
        rows = await self._database.fetch("SELECT account_id, tier FROM fixed_tiers")
        self._schedule.fixed = dict[int, str]((row[0], row[1]) for row in rows)
        gone = sorted({tier for _, tier in rows if self._schedule.named(tier) is None})
        if gone:
            logger.warning("fixed tiers that the table no longer has do not count", tiers=gone)

    async def fix(self, account_id: int, tier: str) -> None:
        """Fixes an account's tier from its next order on, or with "" lets it follow the volume. Durable on return.

        Raises:
            Rejected: INVALID_FIELD for a tier that the table does not have.
            Unavailable: the database is away.
        """
        if tier and self._schedule.named(tier) is None:
            names = ", ".join(known.name for known in self._schedule.tiers)
            raise Rejected(Reason.INVALID_FIELD, f"tier must be one of {names}, or empty", "tier")
        if tier:
            await self._database.write([Statement(_FIX, [(account_id, tier)])])
            self._schedule.fixed[account_id] = tier
        else:
            await self._database.write([Statement(_FREE, [(account_id,)])])
            self._schedule.fixed.pop(account_id, None)
