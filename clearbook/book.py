"""A local order book, kept from BookService's stream: snapshot, then deltas, each checked. No I/O.

The procedure: a snapshot replaces all; a delta applies if its previous_sequence is ours; after it, the CRC32 of the top
ten must be the message's. Anything else means that the book must be had anew.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Iterable
from zlib import crc32

from clearbook.v1 import book_service_pb2 as book_pb

CHECKSUM_LEVELS = 10

Level = tuple[str, str]
"""(price, quantity): plain decimal strings, as on the wire."""


class OutOfStep(Exception):
    """A change that does not follow, or a checksum that does not fit: begin again with a snapshot."""


class _Side:
    """Price levels of one side, best first, by their price in counts of the market's last decimal."""

    def __init__(self, price_decimals: int, *, buys: bool) -> None:
        """`buys`: the best price is the highest."""
        self._decimals = price_decimals
        self._sign = -1 if buys else 1
        self._keys: list[int] = []
        self._levels: dict[int, Level] = {}

    def replace(self, levels: Iterable[book_pb.Level]) -> None:
        """Discards all before."""
        self._levels = {self._key(level.price): (level.price, level.quantity) for level in levels}
        self._keys = sorted(self._levels)

    def apply(self, levels: Iterable[book_pb.Level]) -> None:
        """Sets absolute quantities; "0" removes. Raises OutOfStep if what is to be removed is not there."""
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

    def best(self, count: int | None = None) -> list[Level]:
        """The best `count` levels; all of them by default."""
        return [self._levels[key] for key in self._keys[:count]]

    def digits(self, count: int, quantity_decimals: int) -> str:
        """The best `count` levels as the checksum takes them: price and quantity without point and leading zeros."""
        keys = self._keys[:count]
        return "".join(f"{abs(key)}{scaled(self._levels[key][1], quantity_decimals)}" for key in keys)

    def _key(self, price: str) -> int:
        return self._sign * scaled(price, self._decimals)


class Followed(ABC):
    """What is kept by the messages of StreamOrderBook, in the order in which they come.

    Attributes:
        sequence: of the last change applied.
        incarnation: of the journal that it belongs to; "" before the first snapshot or heartbeat.
        lagged: whether the last snapshot came because we had been too slow.
        state: whether the market takes orders; MARKET_STATE_UNSPECIFIED before the first snapshot or heartbeat.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.sequence = 0
        self.incarnation = ""
        self.lagged = False
        self.state: book_pb.MarketState.ValueType = book_pb.MARKET_STATE_UNSPECIFIED

    def apply(self, message: book_pb.StreamOrderBookResponse) -> bool:
        """Takes the next message; returns whether the book changed.

        Raises:
            OutOfStep: something was missed. The book is not to be used any more until the next snapshot.
        """
        match message.WhichOneof("kind"):
            case "snapshot":
                self._replace(message.snapshot)
                self.incarnation, self.lagged = message.snapshot.incarnation, message.snapshot.lagged
                self.state = message.snapshot.state
                self._reached(message.snapshot)
            case "delta":
                previous = message.delta.previous_sequence
                if previous != self.sequence:
                    raise OutOfStep(f"change {message.delta.sequence} follows {previous}, we have {self.sequence}")
                self._change(message.delta)
                self._reached(message.delta)
            case "heartbeat":
                if message.heartbeat.sequence != self.sequence:
                    raise OutOfStep(f"the book is at {message.heartbeat.sequence}, we have {self.sequence}")
                self.incarnation, self.state = message.heartbeat.incarnation, message.heartbeat.state
                return False
            case _:
                return False  # a kind of message that is younger than this client
        return True

    @abstractmethod
    def checksum(self) -> int:
        """CRC32 of the best that is here."""

    @abstractmethod
    def _replace(self, snapshot: book_pb.BookSnapshot) -> None: ...

    @abstractmethod
    def _change(self, delta: book_pb.BookDelta) -> None: ...

    @property
    def _checks(self) -> bool:
        """Whether enough is here to compare checksums."""
        return True

    def _reached(self, part: book_pb.BookSnapshot | book_pb.BookDelta) -> None:
        self.sequence = part.sequence
        if self._checks and self.checksum() != part.checksum:
            raise OutOfStep(f"the book's checksum is wrong after change {part.sequence}")


class LocalBook(Followed):
    """One market's book by levels (L1, L2)."""

    def __init__(self, market: book_pb.Market, depth: int = 0) -> None:
        """An empty book of a market as listed; `depth`: the one that is subscribed."""
        super().__init__()
        price_decimals = decimals_of(market.tick_size)
        self._quantity_decimals = decimals_of(market.lot_size)
        self._depth = depth
        self._bids = _Side(price_decimals, buys=True)
        self._asks = _Side(price_decimals, buys=False)

    @property
    def bids(self) -> list[Level]:
        """Best (highest) first."""
        return self._bids.best()

    @property
    def asks(self) -> list[Level]:
        """Best (lowest) first."""
        return self._asks.best()

    def top(self, count: int) -> tuple[list[Level], list[Level]]:
        """The best `count` bids and asks."""
        return self._bids.best(count), self._asks.best(count)

    def checksum(self) -> int:
        """CRC32 of the ten best asks, then the ten best bids, by Kraken's published rule."""
        sides = (self._asks, self._bids)
        text = "".join(side.digits(CHECKSUM_LEVELS, self._quantity_decimals) for side in sides)
        return crc32(text.encode("ascii"))

    @property
    def _checks(self) -> bool:
        return self._depth == 0 or self._depth >= CHECKSUM_LEVELS

    def _replace(self, snapshot: book_pb.BookSnapshot) -> None:
        self._bids.replace(snapshot.bids)
        self._asks.replace(snapshot.asks)

    def _change(self, delta: book_pb.BookDelta) -> None:
        self._bids.apply(delta.bids)
        self._asks.apply(delta.asks)


def decimals_of(step: str) -> int:
    """How many decimals a market's step has: "0.01" has 2."""
    return len(step.partition(".")[2])


def scaled(number: str, decimals: int) -> int:
    """The digits without point and leading zeros: "29999.5" with 2 decimals is 2999950."""
    whole, _, fraction = number.partition(".")
    return int(whole + fraction.ljust(decimals, "0"))
