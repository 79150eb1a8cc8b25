"""The addresses to which an account's funds may leave. Pure: the book decides by it, the gateway tells it.

Whatever weakens the list (another address, switching it off) comes into force only after a delay, in which its owner
can undo it; whatever strengthens it does so at once.
"""

import json
from dataclasses import astuple, dataclass, replace
from enum import IntEnum
from typing import Final

from services.errors import Reason

ADDRESSES_MAX: Final = 100
"""Of one list."""
DELAY_SECONDS_MAX: Final = 30 * 24 * 3600


class AllowListChange(IntEnum):
    """What is asked of a list. The numbers are those of the journal."""

    ADD = 1
    REMOVE = 2
    ON = 3
    OFF = 4


@dataclass(frozen=True, slots=True)
class AllowList:
    """Of one account.

    Attributes:
        addresses: each with the time from which on it may be used, nanoseconds since 1970; the oldest first.
        only: whether it was switched on.
        off_ns: from when on it is off again; 0: it was not switched off.
    """

    addresses: tuple[tuple[str, int], ...] = ()
    only: bool = False
    off_ns: int = 0

    def is_on(self, time_ns: int) -> bool:
        """Whether funds may leave to its addresses only."""
        return self.only and not 0 < self.off_ns <= time_ns

    def holds(self, address: str) -> bool:
        """Whether the address is on it, usable or not yet."""
        return any(known == address for known, _ in self.addresses)

    def objection(self, address: str, time_ns: int) -> Reason | None:
        """Why funds may not leave to that address now."""
        if not self.is_on(time_ns):
            return None
        for known, usable_ns in self.addresses:
            if known == address:
                return None if usable_ns <= time_ns else Reason.ADDRESS_TOO_NEW
        return Reason.ADDRESS_NOT_ALLOWED

    def after(self, change: AllowListChange, address: str, time_ns: int, delay_ns: int) -> "AllowList":
        """The list after a change at that time; what is so already stays as it is.

        Args:
            change: what is asked.
            address: ADD and REMOVE: which.
            time_ns: now.
            delay_ns: how long it takes what weakens the list to come into force.
        """
        match change:
            case AllowListChange.ADD:
                added = () if self.holds(address) else ((address, time_ns + delay_ns),)
                return replace(self, addresses=self.addresses + added)
            case AllowListChange.REMOVE:
                return replace(self, addresses=tuple(each for each in self.addresses if each[0] != address))
            case AllowListChange.ON:
                return replace(self, only=True, off_ns=0)
            case AllowListChange.OFF:
                waits = self.is_on(time_ns) and self.off_ns == 0
                return replace(self, off_ns=time_ns + delay_ns) if waits else self


def stored(allowed: AllowList) -> str:
    """As databases and snapshots keep it."""
    return json.dumps(astuple(allowed))


def of_stored(text: str) -> AllowList:
    """And back."""
    addresses, only, off_ns = json.loads(text)
    return AllowList(tuple((address, usable_ns) for address, usable_ns in addresses), only, off_ns)
