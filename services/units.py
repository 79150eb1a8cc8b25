"""Units: assets, markets, and the exact way between decimal strings and the integers that the system counts in.

Outside: plain decimal strings. Inside: price_ticks and quantity_lots (int64), amounts as unbounded ints of base units.
Nothing here rounds: what does not fit the grid is refused. Pure.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final

from services.errors import Reason, Rejected
from services.fees import PPM as PPM  # noqa: PLC0414 - one door to everything that counts
from services.fees import fee as fee  # noqa: PLC0414

DIGITS_MAX = 40
"""Longest decimal string, point excluded, that is read at all: more cannot be an int64 of any market's steps."""
NUMBERS_CACHED_MAX: Final = 10_000
"""Prices and quantities come again and again: to look one up takes a third of the time of reading it."""
INT64_MAX: Final = 2**63 - 1
FEES_ACCOUNT: Final = 1
FAUCET_ACCOUNT: Final = 2
INSURANCE_ACCOUNT: Final = 3
OUTSIDE_ACCOUNT: Final = 4
MAY_OWE: Final = frozenset({INSURANCE_ACCOUNT, OUTSIDE_ACCOUNT})
"""Whose balance may be negative: the world's is minus what is inside; and what an account that leaves by the contract
had still to pay is insurance's, whether it has it or not."""
ADJUSTMENTS_ACCOUNT: Final = 5
FIRST_USER_ACCOUNT: Final = 1001

_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """A non-negative decimal number as an integer coefficient and a count of decimals: 0.010 is (10, 3)."""

    coefficient: int
    decimals: int

    @classmethod
    def parse(cls, text: str, field: str) -> "FixedPoint":
        """Reads "30000.00". Raises Rejected(INVALID_FIELD) for signs, exponents, NaN, spaces, long text."""
        return cls(*_parsed(text, field))

    def scaled(self, decimals: int) -> int | None:
        """The number x 10^decimals, or None if that is not whole."""
        shift = decimals - self.decimals
        if shift >= 0:
            return self.coefficient * int(10**shift)
        quotient, remainder = divmod(self.coefficient, int(10**-shift))
        return None if remainder else quotient

    @property
    def normal(self) -> "FixedPoint":
        """The same number with as few decimals as it needs."""
        coefficient, decimals = self.coefficient, self.decimals
        while decimals and coefficient % 10 == 0:
            coefficient, decimals = coefficient // 10, decimals - 1
        return FixedPoint(coefficient, decimals)


def _parsed(text: str, field: str) -> tuple[int, int]:
    """A decimal string's coefficient and decimals: see FixedPoint.parse."""
    if not text:
        raise Rejected(Reason.INVALID_FIELD, f"{field} is missing", field)
    number = _number(text)
    if number is None:
        shown = text if len(text) <= DIGITS_MAX else text[:DIGITS_MAX] + "…"
        raise Rejected(Reason.INVALID_FIELD, f"{field} is not a plain decimal number: {shown!r}", field)
    return number


def _number(text: str) -> tuple[int, int] | None:
    """A text as coefficient and decimals; None if it is too long or no decimal number."""
    match = _DECIMAL.fullmatch(text) if len(text) <= DIGITS_MAX + 1 else None
    if match is None:
        return None
    whole, fraction = match.groups("")
    return int(whole + fraction), len(fraction)


def format_fixed(value: int, decimals: int) -> str:
    """A count of 10^-decimals as a decimal string with exactly that many decimals: (2999950, 2) is "29999.50"."""
    if decimals == 0:
        return str(value)
    sign, digits = ("-", -value) if value < 0 else ("", value)
    text = str(digits).rjust(decimals + 1, "0")
    return f"{sign}{text[:-decimals]}.{text[-decimals:]}"


def format_plain(value: int, decimals: int) -> str:
    """As format_fixed, without trailing zeros: (1000, 5) is "0.01", (0, 5) is "0"."""
    text = format_fixed(value, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True)
class Asset:
    """An asset. Amounts of it are ints of base units: 10^-decimals of one whole."""

    asset_id: int
    symbol: str
    decimals: int

    def parse(self, text: str, field: str) -> int:
        """A decimal string as base units. Raises Rejected(INVALID_FIELD) if finer than a base unit."""
        amount = FixedPoint.parse(text, field).scaled(self.decimals)
        if amount is None:
            raise Rejected(Reason.INVALID_FIELD, f"{field} has more than {self.decimals} decimals: {text!r}", field)
        return amount

    def format(self, amount: int) -> str:
        """Base units as a decimal string without trailing zeros."""
        return format_plain(amount, self.decimals)


@dataclass(frozen=True)
class Market:
    """A trading pair and its exact conversions. Build with `market_of`, which checks the rules."""

    market_id: int
    symbol: str
    base: Asset
    quote: Asset
    tick: FixedPoint
    lot: FixedPoint
    notional_min: int = field(compare=False)  # rules may change it

    @cached_property
    def base_per_lot(self) -> int:
        """Base units of the base asset in one lot."""
        return self.lot.coefficient * int(10 ** (self.base.decimals - self.lot.decimals))

    @cached_property
    def quote_per_tick_lot(self) -> int:
        """Base units of the quote asset in one tick x one lot."""
        shift = self.quote.decimals - self.tick.decimals - self.lot.decimals
        return self.tick.coefficient * self.lot.coefficient * int(10**shift)

    def price_ticks(self, text: str, field: str = "price") -> int:
        """A price as ticks. Raises Rejected(INVALID_PRICE) off the grid, zero, or beyond int64."""
        ticks = _steps(text, self.tick)
        if ticks is None:
            _parsed(text, field)
            raise _off_grid(Reason.INVALID_PRICE, text, field, f"tick size {self.format_price(1)}")
        return ticks

    def quantity_lots(self, text: str, field: str = "quantity") -> int:
        """A quantity as lots. Raises Rejected(INVALID_QUANTITY) off the grid, zero, or beyond int64."""
        lots = _steps(text, self.lot)
        if lots is None:
            _parsed(text, field)
            raise _off_grid(Reason.INVALID_QUANTITY, text, field, f"lot size {self.format_quantity(1)}")
        return lots

    def price_scaled(self, ticks: int) -> int:
        """The price as a count of 10^-tick.decimals (what the checksum takes)."""
        return ticks * self.tick.coefficient

    def quantity_scaled(self, lots: int) -> int:
        """The quantity as a count of 10^-lot.decimals (what the checksum takes)."""
        return lots * self.lot.coefficient

    def format_price(self, ticks: int) -> str:
        """Ticks with the market's decimals: "29999.50"."""
        return format_fixed(ticks * self.tick.coefficient, self.tick.decimals)

    def format_quantity(self, lots: int) -> str:
        """Lots without trailing zeros: "0.01"."""
        return format_plain(lots * self.lot.coefficient, self.lot.decimals)

    def base_amount(self, lots: int) -> int:
        """Base units of the base asset."""
        return lots * self.base_per_lot

    def quote_amount(self, ticks: int, lots: int) -> int:
        """Base units of the quote asset."""
        return ticks * lots * self.quote_per_tick_lot


def _steps(text: str, step: FixedPoint) -> int | None:
    """How many steps a text is; None if it is no decimal number, or they are not whole, not one, or beyond an int64."""
    return _short_steps(text, step.coefficient, step.decimals) if len(text) <= DIGITS_MAX + 1 else None


@lru_cache(maxsize=NUMBERS_CACHED_MAX)
def _short_steps(text: str, size: int, size_decimals: int) -> int | None:
    """As _steps. Texts without end have no place in a cache."""
    number = _number(text)
    if number is None:
        return None
    coefficient, decimals = number
    shift = size_decimals - decimals
    if shift >= 0:
        coefficient *= int(10**shift)
    else:
        size *= int(10**-shift)
    steps, remainder = divmod(coefficient, size)
    return None if remainder or not 0 < steps <= INT64_MAX else steps


def _off_grid(reason: Reason, text: str, field: str, step: str) -> Rejected:
    return Rejected(reason, f"{field} {text} is not a positive multiple of the {step}", field)


def market_of(
    market_id: int, symbol: str, base: Asset, quote: Asset, tick_size: str, lot_size: str, notional_min: int = 0
) -> Market:
    """A market whose price x quantity is always a whole number of base units.

    Raises Rejected: INVALID_FIELD for steps that are no positive decimals, INVALID_MARKET if quote decimals < price
    decimals + quantity decimals, or the lot is finer than the base asset's unit.
    """
    tick, lot = FixedPoint.parse(tick_size, "tick_size").normal, FixedPoint.parse(lot_size, "lot_size").normal
    for step, name in ((tick, "tick_size"), (lot, "lot_size")):
        if step.coefficient == 0:
            raise Rejected(Reason.INVALID_FIELD, f"{name} must be more than zero", name)
    if quote.decimals < tick.decimals + lot.decimals:
        raise Rejected(
            Reason.INVALID_MARKET,
            f"{symbol}: {quote.symbol} has {quote.decimals} decimals, price and quantity need "
            f"{tick.decimals} + {lot.decimals}",
        )
    if base.decimals < lot.decimals:
        raise Rejected(Reason.INVALID_MARKET, f"{symbol}: lot size {lot_size} is finer than a unit of {base.symbol}")
    return Market(market_id, symbol, base, quote, tick, lot, notional_min)
