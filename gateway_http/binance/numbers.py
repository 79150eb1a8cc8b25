"""Plain decimal strings as Binance prints them, and exact arithmetic on them. Nothing passes through float. Pure."""

from functools import lru_cache
from typing import Final

DECIMALS_MIN: Final = 8
"""What Binance prints at least; some clients know that a level has gone by "0.00000000"."""
TEXTS_CACHED_MAX: Final = 10_000
BASIS_POINTS: Final = 10_000


@lru_cache(maxsize=TEXTS_CACHED_MAX)
def padded(text: str) -> str:
    """A number with eight decimals at least; "" counts as 0."""
    whole, _, fraction = text.partition(".")
    return f"{whole or '0'}.{fraction.ljust(DECIMALS_MIN, '0')}"


def _scaled(text: str) -> tuple[int, int]:
    """Digits without the point, and how many of them are decimals."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction), len(fraction)


def _text(value: int, decimals: int) -> str:
    digits = str(abs(value)).rjust(decimals + 1, "0")
    whole, fraction = (digits[:-decimals], digits[-decimals:]) if decimals else (digits, "")
    return padded(f"{'-' if value < 0 else ''}{whole}.{fraction.rstrip('0')}")


def product(one: str, other: str) -> str:
    """One times the other, exactly, padded."""
    (left, left_decimals), (right, right_decimals) = _scaled(one), _scaled(other)
    return _text(left * right, left_decimals + right_decimals)


def total(*numbers: str) -> str:
    """The sum, exactly, padded."""
    parts = [_scaled(number) for number in numbers]
    most = max((decimals for _, decimals in parts), default=0)
    return _text(sum(value * 10 ** (most - decimals) for value, decimals in parts), most)


def difference(one: str, other: str) -> str:
    """One less the other, exactly, padded; with a minus if it is below zero."""
    (left, left_decimals), (right, right_decimals) = _scaled(one), _scaled(other)
    most = max(left_decimals, right_decimals)
    return _text(left * 10 ** (most - left_decimals) - right * 10 ** (most - right_decimals), most)


def quotient(one: str, other: str, decimals: int = DECIMALS_MIN) -> str:
    """One for each of the other, rounded down to so many decimals, padded; by zero it is zero."""
    (left, left_decimals), (right, right_decimals) = _scaled(one), _scaled(other)
    if not right:
        return padded("0")
    return _text(left * 10 ** (decimals + right_decimals) // (right * 10**left_decimals), decimals)


def whole_steps(number: str, step: str) -> str:
    """The largest multiple of a step that is not above a number, padded."""
    (value, decimals), (each, step_decimals) = _scaled(number), _scaled(step)
    most = max(decimals, step_decimals)
    each *= 10 ** (most - step_decimals)
    return _text(value * 10 ** (most - decimals) // each * each, most)


def multiplier(basis_points: int) -> str:
    """1 and so many hundredths of a percent: 500 is "1.0500"; less than zero at "0"."""
    return _text(max(BASIS_POINTS + basis_points, 0), 4)


def decimals_of(step: str) -> int:
    """How many decimals a step has: "0.01" has 2."""
    return len(step.partition(".")[2])
