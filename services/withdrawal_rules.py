"""What an asset's withdrawals keep to. Pure: the book decides by it, the gateway tells it."""

import json
from dataclasses import astuple, dataclass
from typing import Final

from services.errors import Reason

AMOUNTS: Final = ("amount_min", "amount_max", "day_max", "unapproved_max")
"""The rules that are amounts: their names here and in the protos."""
COOLING_SECONDS_MAX: Final = 30 * 24 * 3600
_AMOUNT_BITS: Final = 256
_NS_PER_SECOND: Final = 10**9


@dataclass(frozen=True, slots=True)
class WithdrawalRules:
    """Amounts in base units; 0: no such rule.

    Attributes:
        amount_min: the least that one withdrawal may be.
        amount_max: the most.
        day_max: the most that an account may ask for within 24 hours; what was canceled does not count.
        unapproved_max: as long as what an account asks for within 24 hours comes to no more, no operator need approve
            it; 0: an operator approves each.
        cooling_seconds: how long an approved one waits, and may be canceled, before it goes to the chain.
    """

    amount_min: int = 0
    amount_max: int = 0
    day_max: int = 0
    unapproved_max: int = 0
    cooling_seconds: int = 0

    def fit(self) -> bool:
        """Whether an asset may have such rules: every field in its range, and some amount is allowed."""
        if any(getattr(self, name) >> _AMOUNT_BITS for name in AMOUNTS):  # not zero for what is negative, too
            return False
        if not 0 <= self.cooling_seconds <= COOLING_SECONDS_MAX:
            return False
        return not any(0 < most < self.amount_min for most in (self.amount_max, self.day_max))

    def objection(self, amount: int, withdrawn: int) -> Reason | None:
        """Why an account that asked for `withdrawn` within the last 24 hours cannot ask for this amount now."""
        if amount < self.amount_min:
            return Reason.WITHDRAWAL_TOO_SMALL
        if 0 < self.amount_max < amount:
            return Reason.WITHDRAWAL_TOO_LARGE
        return Reason.WITHDRAWAL_LIMIT_EXCEEDED if 0 < self.day_max < withdrawn + amount else None

    def approves(self, amount: int, withdrawn: int) -> bool:
        """Whether it needs no operator."""
        return withdrawn + amount <= self.unapproved_max

    def release_ns(self, time_ns: int) -> int:
        """When one that is approved at that time goes to the chain."""
        return time_ns + self.cooling_seconds * _NS_PER_SECOND


def stored(rules: WithdrawalRules) -> str:
    """As databases and snapshots keep them."""
    return json.dumps(astuple(rules))


def of_stored(text: str) -> WithdrawalRules:
    """And back."""
    return WithdrawalRules(*json.loads(text))
