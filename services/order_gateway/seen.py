"""Which client order ids may have been used: a filter that forgets by journal time and never grows.

It answers "surely not" or "maybe": only a maybe costs a look into the database. (A new order's id is nearly always
"surely not", and a look for each of them would be a third of an order's cost.)
"""

from zlib import crc32

FILTER_BYTES = 4 * 1024 * 1024
"""Of one of the two: 3,300,000 ids at one false alarm in a hundred. More ids are more false alarms, never an error."""
Key = tuple[int, str]
"""account_id, client_order_id."""

_SPREAD = 0x9E3779B1
"""Odd, and half of its bits are ones: a product with it looks like another checksum."""
_BITS_MASK = FILTER_BYTES * 8 - 1
assert FILTER_BYTES & (FILTER_BYTES - 1) == 0, "a power of two, so that a mask picks a bit"


class Seen:
    """Ids of the last `window_ns` at least and twice that at most (two Bloom filters, used in turns)."""

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._current = bytearray(FILTER_BYTES)
        self._previous = bytearray(FILTER_BYTES)
        self._turned_ns = 0
        self._everything_until_ns = 0

    def add(self, key: Key, now_ns: int) -> None:
        """Remembers an id from now on."""
        self._turn(now_ns)
        for bit in _bits(_checksum(key)):
            self._current[(bit & _BITS_MASK) >> 3] |= 1 << (bit & 7)

    def maybe(self, key: Key, now_ns: int) -> bool:
        """False: surely not added within the window. True: maybe it was."""
        if now_ns < self._everything_until_ns:
            return True
        self._turn(now_ns)
        found = _checksum(key)
        place = (found & _BITS_MASK) >> 3
        if not (self._current[place] | self._previous[place]) & 1 << (found & 7):
            return False  # as nearly always
        bits = _bits(found)
        return _has(self._current, bits) or _has(self._previous, bits)

    def saturate(self, now_ns: int) -> None:
        """From now on and for one window everything is a maybe: there was too much to be added one by one."""
        self._everything_until_ns = now_ns + self._window_ns

    def _turn(self, now_ns: int) -> None:
        """Both filters are replaced after two windows without a word, the older one after one window."""
        passed = (now_ns - self._turned_ns) // self._window_ns
        if passed >= 1:
            self._previous = self._current if passed == 1 else bytearray(FILTER_BYTES)
            self._current = bytearray(FILTER_BYTES)
            self._turned_ns = now_ns


def _checksum(key: Key) -> int:
    """It will do for a hash: two ids of one are a false alarm in a thousand at the most."""
    return crc32(f"{key[0]} {key[1]}".encode())


def _bits(found: int) -> tuple[int, ...]:
    """Five bits of a filter."""
    step = (found * _SPREAD) >> 7 | 1
    return found, found + step, found + 2 * step, found + 3 * step, found + 4 * step


def _has(ids: bytearray, bits: tuple[int, ...]) -> bool:
    return all(ids[(bit & _BITS_MASK) >> 3] & 1 << (bit & 7) for bit in bits)
