"""`clearbook settle debts`: what accounts owe insurance, which has paid on chain what they could not; and its end.

Read from the settler's database, which the journal fills. A resolution is put there; the settler journals it.
"""

from dataclasses import dataclass
from typing import Final

from services.cli.rebuild import check_exists
from services.runtime.db import Conflict, Database, Statement
from services.settler.model import DebtState

SCHEMA: Final = "settler"
RESOLUTION_CHARACTERS_MAX: Final = 200


class NotResolvable(Exception):
    """A debt that is not there, not final yet, or resolved already. One line."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A debt as it is listed.

    Attributes:
        debt_id: its number.
        account_id: who owes.
        asset: of what.
        amount: base units.
        batch_id: the batch in which insurance pays; 0 if this database has forgotten it.
        state: STORED, FROZEN (the batch is not final), PAID (by insurance), RESOLVED.
        reason: what the chain refused.
        resolution: an operator's, empty if there is none.
    """

    debt_id: int
    account_id: int
    asset: str
    amount: int
    batch_id: int
    state: str
    reason: str
    resolution: str

    def line(self) -> str:
        """For people and for cut(1): fields between tabs."""
        owed = (str(self.debt_id), f"account {self.account_id}", f"{self.amount} {self.asset}")
        return "\t".join((*owed, f"batch {self.batch_id}", self.state, self.reason, self.resolution))


async def listed(url: str) -> list[Listed]:
    """All debts, the oldest first.

    Raises:
        Refusal: there is no such database.
        Unavailable: it does not answer.
    """
    check_exists(url)
    async with await Database.open(url, SCHEMA) as database:
        rows = await database.fetch(
            "SELECT debt_id, account_id, asset, amount, batch_id, state, reason, resolution FROM debts ORDER BY debt_id"
        )
    return [
        Listed(row[0], row[1], str(row[2]), int(row[3]), row[4], DebtState(row[5]).name, str(row[6]), str(row[7]))
        for row in rows
    ]


async def resolve(url: str, debt_id: int, how: str) -> None:
    """Puts down how a debt has ended: the settler journals that, and the account is free.

    It moves nothing: what the debtor pays back is an adjustment of its own (`clearbook admin debit`).

    Raises:
        NotResolvable: insurance has not paid it, or it is resolved.
        Refusal: there is no such database.
        Unavailable: it does not answer.
    """
    if not 0 < len(how) <= RESOLUTION_CHARACTERS_MAX:
        raise NotResolvable(f"say how it ended, in 1 to {RESOLUTION_CHARACTERS_MAX} characters")
    check_exists(url)
    put = "UPDATE debts SET resolution = $1 WHERE debt_id = $2 AND state = $3 AND resolution = ''"
    async with await Database.open(url, SCHEMA) as database:
        try:
            await database.write([Statement(put, [(how, debt_id, int(DebtState.PAID))], expect=1)])
        except Conflict:
            raise NotResolvable(f"debt {debt_id} is none that insurance has paid and nobody has resolved") from None
