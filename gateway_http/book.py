"""A local order book kept from BookService's stream: snapshot, then deltas, each checked. No I/O.

The procedure: a snapshot replaces all; a delta applies if its previous_sequence is ours; after it, the CRC32 of the top
ten must be the message's. Anything else means that the book must be had anew.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from zlib import crc32

from clearbook.v1 import book_service_pb2 as wire

from gateway_http.wire import Level

CHECKSUM_LEVELS = 10


class OutOfStep(Exception):
    """The stream and the local book differ: subscribe again without resuming."""


class BookSide:
    """Price levels of one side, best first."""

    def __init__(self, *, buys: bool) -> None:
        """`buys`: the best price is the highest."""
        self._sign = -1 if buys else 1
        self._keys: list[int] = []
        self._levels: dict[int, Level] = {}

    def replace(self, levels: Iterable[wire.Level]) -> None:
        """Discards all before."""
        self._levels = {self._key(level.price): (level.price, level.quantity) for level in levels}
        self._keys = sorted(self._levels)

    def apply(self, levels: Iterable[wire.Level]) -> None:
        """Sets absolute quantities; "0" removes."""
        for level in levels:
            key = self._key(level.price)
            if level.quantity == "0":
                if self._levels.pop(key, None) is None:
                    raise OutOfStep(f"level {level.price} is not here to be removed")
                del self._keys[bisect_left(self._keys, key)]
                continue
            if key not in self._levels:
                insort(self._keys, key)
            self._levels[key] = (level.price, level.quantity)

    def top(self, count: int) -> list[Level]:
        """The best `count` levels."""
        return [self._levels[key] for key in self._keys[:count]]

    def _key(self, price: str) -> int:
        # All prices of a market have the same decimals, so their digits compare as they do.
        return self._sign * int(price.replace(".", ""))


class Book:
    """Both sides of a market, and where the stream stands."""

    def __init__(self, lot_size: str) -> None:
        """`lot_size` as BookService.ListMarkets gives it: its decimals are those of the checksum's quantities."""
        self._quantity_decimals = len(lot_size.rstrip("0").partition(".")[2])
        self.bids, self.asks = BookSide(buys=True), BookSide(buys=False)
        self.sequence = 0
        self.incarnation = ""

    def apply(self, message: wire.StreamOrderBookResponse) -> bool:
        """Applies one message of the stream; True if the book may have changed. Raises OutOfStep."""
        match message.WhichOneof("kind"):
            case "snapshot":
                self._replace(message.snapshot)
            case "delta":
                self._advance(message.delta)
            case _:
                self.incarnation = message.heartbeat.incarnation
                if message.heartbeat.sequence != self.sequence:
                    raise OutOfStep(f"heartbeat of {message.heartbeat.sequence}, we are at {self.sequence}")
                return False
        return True

    def _replace(self, snapshot: wire.BookSnapshot) -> None:
        self.bids.replace(snapshot.bids)
        self.asks.replace(snapshot.asks)
        self.sequence, self.incarnation = snapshot.sequence, snapshot.incarnation
        self._check(snapshot.checksum)

    def _advance(self, delta: wire.BookDelta) -> None:
        if delta.previous_sequence != self.sequence:
            raise OutOfStep(f"delta after {delta.previous_sequence}, we are at {self.sequence}")
        self.bids.apply(delta.bids)
        self.asks.apply(delta.asks)
        self.sequence = delta.sequence
        self._check(delta.checksum)

    def _check(self, expected: int) -> None:
        if self.checksum() != expected:
            raise OutOfStep(f"checksum differs at {self.sequence}")

    def checksum(self) -> int:
        """CRC32 of the ten best asks, then the ten best bids: digits of price and quantity, Kraken's published rule."""
        top = self.asks.top(CHECKSUM_LEVELS) + self.bids.top(CHECKSUM_LEVELS)
        return crc32("".join(self._digits(price, quantity) for price, quantity in top).encode())

    def _digits(self, price: str, quantity: str) -> str:
        whole, _, fraction = quantity.partition(".")
        scaled = whole + fraction.ljust(self._quantity_decimals, "0")
        return price.replace(".", "").lstrip("0") + scaled.lstrip("0")
