"""The lengths of candles, and where they begin: as at Binance, in UTC, weeks on Monday, months on the first. Pure."""

from enum import Enum

NS_PER_SECOND = 1_000_000_000
SECONDS_PER_DAY = 86_400
MONDAY_SECONDS = 4 * SECONDS_PER_DAY
"""1970-01-05 was one."""
_DAYS_PER_ERA = 146_097
_YEARS_PER_ERA = 400
_DAYS_BEFORE_1970 = 719_468
"""From 0000-03-01 on: years that begin in March have their leap day last."""


class Interval(Enum):
    """How long a candle is; the value is its name."""

    SECOND_1 = "1s"
    MINUTE_1 = "1m"
    MINUTE_3 = "3m"
    MINUTE_5 = "5m"
    MINUTE_15 = "15m"
    MINUTE_30 = "30m"
    HOUR_1 = "1h"
    HOUR_2 = "2h"
    HOUR_4 = "4h"
    HOUR_6 = "6h"
    HOUR_8 = "8h"
    HOUR_12 = "12h"
    DAY_1 = "1d"
    DAY_3 = "3d"
    WEEK_1 = "1w"
    MONTH_1 = "1M"

    def start_of(self, seconds: int) -> int:
        """When the candle begins that this second falls into, both since 1970."""
        if self is Interval.MONTH_1:
            return _month_start(_month_of(seconds))
        offset = MONDAY_SECONDS if self is Interval.WEEK_1 else 0
        return seconds - (seconds - offset) % _SECONDS[self]

    def after(self, start: int, count: int = 1) -> int:
        """When the `count`-th candle after one begins (before it, if less than 0), given when that one begins."""
        if self is Interval.MONTH_1:
            return _month_start(_month_of(start) + count)
        return start + count * _SECONDS[self]

    @property
    def base(self) -> "Interval":
        """The length of the stored candles that it is summed of."""
        return _BASES[self]


BASES = (Interval.SECOND_1, Interval.MINUTE_1, Interval.MINUTE_15, Interval.HOUR_1, Interval.DAY_1)
"""What is stored: all others are whole numbers of these."""

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": SECONDS_PER_DAY, "w": 7 * SECONDS_PER_DAY}
_SECONDS: dict[Interval, int] = {
    each: int(each.value[:-1]) * _UNIT_SECONDS[each.value[-1]] for each in Interval if each is not Interval.MONTH_1
}


def _base_of(interval: Interval) -> Interval:
    if interval is Interval.MONTH_1:
        return Interval.DAY_1
    whole = [base for base in BASES if _SECONDS[interval] % _SECONDS[base] == 0]
    return max(whole, key=_SECONDS.__getitem__)


_BASES = {each: _base_of(each) for each in Interval}


def _month_of(seconds: int) -> int:
    """Months since 0000-03: the civil calendar by whole numbers."""
    days = seconds // SECONDS_PER_DAY + _DAYS_BEFORE_1970
    era, day = divmod(days, _DAYS_PER_ERA)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    month = (5 * (day - (365 * year + year // 4 - year // 100)) + 2) // 153
    return (era * _YEARS_PER_ERA + year) * 12 + month


def _month_start(month: int) -> int:
    """When such a month begins."""
    years, number = divmod(month, 12)
    era, year = divmod(years, _YEARS_PER_ERA)
    day = 365 * year + year // 4 - year // 100 + (153 * number + 2) // 5
    return (era * _DAYS_PER_ERA + day - _DAYS_BEFORE_1970) * SECONDS_PER_DAY
