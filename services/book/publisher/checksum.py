"""The checksum of a book's top ten, by Kraken's published rule. Pure.

For the ten best asks, best (lowest) first, then the ten best bids, best (highest) first: the price and then the
quantity, each without its decimal point and without leading zeros, all joined; CRC32 of that text, unsigned. "Without
point and leading zeros" is exactly a whole count of 10^-decimals printed as an int, so ints are what it takes.
"""

from collections.abc import Iterable
from zlib import crc32

CHECKSUM_LEVELS = 10

Levels = Iterable[tuple[int, int]]


def text_of(levels: Levels) -> str:
    """What one side puts into the text: its ten best levels at most, best first, as (price, quantity), see above."""
    return "".join([f"{price}{quantity}" for price, quantity in levels])


def checksum(asks: str, bids: str) -> int:
    """CRC32 of a top ten, from the texts of both sides: 0 to 2^32 - 1; 0 for an empty book."""
    return crc32(f"{asks}{bids}".encode("ascii"))
