"""One side of a book: price levels, best first, each a queue of resting orders, oldest first. Pure.

A level is found by its key, the price as the side ranks it: the price itself for bids, its negative for asks, so that a
greater key is always the better one. `keys` is sorted and the best key stands last: most of a market's life happens
near its best price, where a list is cheap to change.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, final

from services.book.model import PlaceOrder


@final
class Resting:
    """An order in the book: its id, what it asks, when it came (the journal_sequence), what of it remains, and its
    neighbours. `place` is replaced, never changed, when the order comes to ask for something else.
    """

    __slots__ = ("arrival", "level", "newer", "older", "order_id", "place", "remaining_lots")

    def __init__(self, order_id: int, place: PlaceOrder, arrival: int, remaining_lots: int) -> None:
        self.order_id: Final = order_id
        self.place = place
        self.arrival = arrival
        self.remaining_lots = remaining_lots
        self.level: Level | None = None
        self.older: Resting | None = None
        self.newer: Resting | None = None


@final
class Level:
    """All resting orders at one price: a doubly linked queue, so that any of them leaves at once."""

    __slots__ = ("key", "newest", "oldest", "price_ticks", "total_lots")

    def __init__(self, key: int, price_ticks: int) -> None:
        self.key: Final = key
        self.price_ticks: Final = price_ticks
        self.total_lots = 0
        self.oldest: Resting | None = None
        self.newest: Resting | None = None

    def orders(self) -> Iterator[Resting]:
        """From the oldest to the newest."""
        resting = self.oldest
        while resting is not None:
            yield resting
            resting = resting.newer


@final
class Side:
    """The bids or the asks of one market."""

    __slots__ = ("best", "buys", "keys", "levels")

    def __init__(self, buys: bool) -> None:
        self.buys: Final = buys
        self.levels: dict[int, Level] = {}
        self.keys: list[int] = []
        self.best: Level | None = None

    def key(self, price_ticks: int) -> int:
        """The price as this side ranks it: greater is better."""
        return price_ticks if self.buys else -price_ticks

    def insert(self, resting: Resting) -> None:
        """Puts an order behind all others of its price."""
        price_ticks = resting.place.price_ticks
        key = price_ticks if self.buys else -price_ticks
        level = self.levels.get(key)
        if level is None:
            level = self._open_level(key, price_ticks)
        newest = level.newest
        if newest is None:
            level.oldest = resting
        else:
            newest.newer = resting
            resting.older = newest
        level.newest = resting
        level.total_lots += resting.remaining_lots
        resting.level = level

    def fill(self, resting: Resting, lots: int) -> None:
        """Takes lots of an order; the order leaves when none remain."""
        level = resting.level
        assert level is not None, "the order does not rest"
        assert 0 < lots <= resting.remaining_lots, "more than remains"
        if lots == resting.remaining_lots:
            self.remove(resting)
            resting.remaining_lots = 0
        else:
            resting.remaining_lots -= lots
            level.total_lots -= lots

    def shrink(self, resting: Resting, place: PlaceOrder, lots: int) -> None:
        """An order asks for so many fewer lots now; it keeps its place in the queue."""
        level = resting.level
        assert level is not None, "the order does not rest"
        assert 0 <= lots < resting.remaining_lots, "nothing would remain"
        resting.place = place
        resting.remaining_lots -= lots
        level.total_lots -= lots

    def lots_at(self, price_ticks: int) -> int:
        """What is shown at a price."""
        level = self.levels.get(self.key(price_ticks))
        return 0 if level is None else level.total_lots

    def remove(self, resting: Resting) -> None:
        """Takes an order out, and its level with it if it was the last one there."""
        level = resting.level
        assert level is not None, "the order does not rest"
        older, newer = resting.older, resting.newer
        if older is None:
            level.oldest = newer
        else:
            older.newer = newer
        if newer is None:
            level.newest = older
        else:
            newer.older = older
        level.total_lots -= resting.remaining_lots
        resting.level = resting.older = resting.newer = None
        if level.oldest is None:
            self._close_level(level)

    def levels_best_first(self) -> Iterator[Level]:
        """Every level, from the best price on."""
        for key in reversed(self.keys):
            yield self.levels[key]

    def _open_level(self, key: int, price_ticks: int) -> Level:
        level = Level(key, price_ticks)
        self.levels[key] = level
        best = self.best
        if best is None or key > best.key:
            self.keys.append(key)
            self.best = level
        else:
            self.keys.insert(bisect_left(self.keys, key), key)
        return level

    def _close_level(self, level: Level) -> None:
        del self.levels[level.key]
        keys = self.keys
        if level is self.best:
            keys.pop()
            self.best = self.levels[keys[-1]] if keys else None
        else:
            del keys[bisect_left(keys, level.key)]

    def validate(self) -> None:
        """Checks everything above against everything else. Raises AssertionError."""
        assert self.keys == sorted(self.levels), "the price list and the levels differ"
        assert self.best is (self.levels[self.keys[-1]] if self.keys else None), "the best level is not the best"
        for key, level in self.levels.items():
            assert key == level.key == self.key(level.price_ticks), f"level {key} is misfiled"
            self._validate_level(level)

    def _validate_level(self, level: Level) -> None:
        name = f"level {level.price_ticks}"
        assert level.price_ticks > 0, f"{name} is no price"
        assert level.oldest is not None, f"{name} is empty"
        total = 0
        last: Resting | None = None
        for resting in level.orders():
            assert resting.level is level, f"{name} holds an order of another level"
            assert resting.place.price_ticks == level.price_ticks, f"{name} holds an order of another price"
            assert resting.older is last, f"{name} has a broken link"
            assert last is None or last.arrival <= resting.arrival, f"{name} is not first in, first out"
            assert 0 < resting.remaining_lots <= resting.place.quantity_lots, f"{name} holds an order of no size"
            total, last = total + resting.remaining_lots, resting
        assert last is level.newest, f"{name} does not end with its newest order"
        assert total == level.total_lots, f"{name} says {level.total_lots} lots, its orders sum to {total}"
