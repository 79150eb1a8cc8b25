"""The reference price: what a market's price is elsewhere, and how long that counts. Pure."""

from typing import Final

NS_PER_SECOND: Final = 10**9
REFERENCE_AGE_SECONDS_DEFAULT: Final = 30
"""How old a reference price may be and still count, unless the market's rules say otherwise."""
REFERENCE_AGE_SECONDS_MAX: Final = 86_400
"""What the rules may say at most."""
REFERENCE_SOURCE_CHARACTERS_MAX: Final = 64


def is_fresh(observed_ns: int, age_max_seconds: int, now_ns: int) -> bool:
    """Whether a price that was seen then still counts; `age_max_seconds` is the rules', 0: the default."""
    return now_ns - observed_ns <= (age_max_seconds or REFERENCE_AGE_SECONDS_DEFAULT) * NS_PER_SECOND
