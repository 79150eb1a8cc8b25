"""The commonest events of the journal, for who needs little of them: plain orders that traded nothing. Pure, compiled.

Nearly all that a journal tells is that an order came to rest or was canceled. What these are on the wire can be read in
journal.proto; whoever follows the journal reads the others with protobuf.
"""

from typing import Final

from services.protobuf import element_at, fields, read

BY_HAND: Final = not __file__.endswith(".py")
"""Whether this is compiled: else protobuf, which is, is the shorter way."""

PlainOrder = tuple[int, int, bool, int, int, int]
"""market_id, market_sequence, whether it buys, price_ticks, lots, order_id.

The lots came to rest at that price; less than 0: so many left the book.
"""
_BUY: Final = 1
_OPEN: Final = 1
_FIELDS: Final = 18
"""An order with terms has a field of that number."""


def plain_orders(batch: bytes) -> list[PlainOrder | bytes]:
    """Of an EventBatch, each order without terms that was placed and did not trade, or was canceled; all else as an
    EventBatch of its own.

    Raises:
        ValueError, IndexError: it is not made of whole elements, and of nothing else.
    """
    found = list[PlainOrder | bytes]()
    start, end = 0, len(batch)
    while start < end:
        place, behind = element_at(batch, start)
        plain = _plain(batch, place, behind)
        if plain is None:
            found.append(batch[start:behind])
        else:
            found.append(plain)
        start = behind
    return found


def others(batch: bytes) -> bytes:
    """An EventBatch without those; one that is damaged as it is."""
    try:
        return b"".join([event for event in plain_orders(batch) if isinstance(event, bytes)])
    except (IndexError, ValueError):
        return batch


def _plain(batch: bytes, place: int, end: int) -> PlainOrder | None:
    sequence = 0
    while place < end:
        tag = batch[place]
        value, place = read(batch, place + 1)
        if tag == 0x18:
            sequence = value
        elif tag in (0x22, 0x2A):
            return _order(batch, place, end, sequence, tag == 0x22) if place + value == end else None
        elif tag not in (0x08, 0x10):
            return None
    return None


def _order(batch: bytes, place: int, end: int, sequence: int, placed: bool) -> PlainOrder | None:
    """From there to the end: an order, and no trades."""
    if place == end or batch[place] != 0x0A:
        return None
    length, place = read(batch, place + 1)
    numbers, texts = [0] * _FIELDS, [b""] * _FIELDS
    if place + length != end or not fields(batch, place, end, numbers, texts):
        return None
    left = numbers[9] - numbers[10]
    lots = -left if not placed else left if numbers[15] == _OPEN else 0
    return numbers[3], sequence, numbers[4] == _BUY, numbers[8], lots, numbers[1]
