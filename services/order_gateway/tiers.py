"""Fee tiers: the rates that the gateway stamps on an account's next order. Pure.

A table of tiers from the least volume up. An account has the highest tier whose volume it has traded in 30 days, unless
an operator has fixed one. What was stamped on an order stays with it.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from services.errors import Rejected
from services.order_gateway.fees import Rates
from services.order_gateway.ledger import Ledger
from services.units import PPM, FixedPoint, format_plain

FIRST_TIER = "standard"
"""The name of the tier of those who traded little, where the table does not name one."""

_ENTRY = re.compile(r"([a-z0-9_-]{1,32}):([0-9.]+):([0-9]{1,7}):([0-9]{1,7})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tier:
    """A row of the table.

    Attributes:
        name: for people and operators.
        volume_min: held by accounts that traded at least so much, in whole units.
        rates: of its accounts.
    """

    name: str
    volume_min: FixedPoint
    rates: Rates

    @property
    def volume_text(self) -> str:
        """The volume as a decimal string."""
        return format_plain(self.volume_min.coefficient, self.volume_min.decimals)

    def reached(self, volume: int, decimals: int) -> bool:
        """Whether so many base units are enough."""
        return volume * int(10**self.volume_min.decimals) >= self.volume_min.coefficient * int(10**decimals)


def parse_tiers(text: str, first: Rates) -> tuple[Tier, ...]:
    """Reads "silver:100000:800:1600,gold:1000000:500:1000": name, least volume, maker and taker rate in ppm.

    Args:
        text: the table, the volumes growing; "" for none.
        first: the rates below the first volume, if that is not zero.

    Raises:
        ValueError: it is not such a table.
    """
    tiers: list[Tier] = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        match = _ENTRY.fullmatch(entry)
        if match is None or max(int(match[3]), int(match[4])) > PPM:
            raise ValueError(f"FEE_TIERS: {entry!r} is not name:volume:maker_ppm:taker_ppm")
        try:
            volume = FixedPoint.parse(match[2], "volume").normal
        except Rejected as rejected:
            raise ValueError(f"FEE_TIERS: {entry!r}: {rejected.message}") from None
        tiers.append(Tier(match[1], volume, Rates(int(match[3]), int(match[4]))))
    if not tiers or tiers[0].volume_min.coefficient:
        tiers.insert(0, Tier(FIRST_TIER, FixedPoint(0, 0), first))
    if len({tier.name for tier in tiers}) < len(tiers):
        raise ValueError("FEE_TIERS: two tiers share a name")
    for lower, higher in pairwise(tiers):
        if not _less(lower.volume_min, higher.volume_min):
            raise ValueError(f"FEE_TIERS: {higher.name} needs no more volume than {lower.name}")
    return tuple(tiers)


def _less(one: FixedPoint, other: FixedPoint) -> bool:
    return one.coefficient * int(10**other.decimals) < other.coefficient * int(10**one.decimals)


class Schedule:
    """Who pays which rates.

    Args:
        tiers: the table.
        ledger: has the volumes, and the time.

    Attributes:
        fixed: tiers that operators set, by account.
    """

    def __init__(self, tiers: tuple[Tier, ...], ledger: Ledger) -> None:
        self.tiers, self._ledger = tiers, ledger
        self._by_name = {tier.name: tier for tier in tiers}
        self.fixed: dict[int, str] = {}

    def named(self, name: str) -> Tier | None:
        """The tier of that name."""
        return self._by_name.get(name)

    def is_fixed(self, account_id: int) -> bool:
        """Whether an operator's choice counts, and not the volume. One that the table no longer has does not."""
        return self.fixed.get(account_id) in self._by_name

    def tier(self, account_id: int) -> Tier:
        """The account's tier now."""
        if self.is_fixed(account_id):
            return self._by_name[self.fixed[account_id]]
        ledger = self._ledger
        asset = ledger.assets_by_symbol.get(ledger.volumes.asset)
        if asset is None or len(self.tiers) == 1:
            return self.tiers[0]
        volume = ledger.volumes.volume(account_id, ledger.time_ns)
        return next(tier for tier in reversed(self.tiers) if tier.reached(volume, asset.decimals))

    def rates(self, account_id: int) -> Rates:
        """The rates for the next order of an account."""
        return self.tier(account_id).rates
