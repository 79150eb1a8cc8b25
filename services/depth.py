"""Depth: both sides of one market as sums of lots by price level. Pure.

A fold over the journal's order events, kept by everybody who needs the book's shape but not its orders: the publisher
shows it, the gateway prices a market order's hold with it. A level never goes below zero and never stays at zero:
anything else means that an event was missed or applied twice, so it is an assertion, not a refusal.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator


class _Side:
    """One side. `keys` ascend towards the best level, which is so the cheapest to add and remove."""

    __slots__ = ("_keys", "_lots", "_sign")

    def __init__(self, buys: bool) -> None:
        self._sign = 1 if buys else -1
        self._keys: list[int] = []
        self._lots: dict[int, int] = {}

    def change(self, price_ticks: int, lots: int) -> int:
        before = self._lots.get(price_ticks, 0)
        after = before + lots
        assert price_ticks > 0, f"{price_ticks} is no price"
        assert after >= 0, f"level {price_ticks} holds {before} lots: cannot change by {lots}"
        key = price_ticks * self._sign
        if after == 0:
            if before:
                del self._lots[price_ticks]
                position = len(self._keys) - 1 if self._keys[-1] == key else bisect_left(self._keys, key)
                del self._keys[position]
            return 0
        if before == 0:
            insort(self._keys, key)
        self._lots[price_ticks] = after
        return after

    def quantity(self, price_ticks: int) -> int:
        return self._lots.get(price_ticks, 0)

    def among(self, price_ticks: int, n: int) -> bool:
        return len(self._keys) < n or price_ticks * self._sign >= self._keys[-n]

    def best(self) -> int | None:
        return self._keys[-1] * self._sign if self._keys else None

    def levels(self) -> Iterator[tuple[int, int]]:
        for key in reversed(self._keys):
            price_ticks = key * self._sign
            yield price_ticks, self._lots[price_ticks]

    def slice(self, skip: int, n: int) -> list[tuple[int, int]]:
        end = max(len(self._keys) - skip, 0)
        keys = self._keys[max(end - n, 0) : end]
        return [(key * self._sign, self._lots[key * self._sign]) for key in reversed(keys)]

    def between(self, low_ticks: int, high_ticks: int) -> int:
        low, high = sorted((low_ticks * self._sign, high_ticks * self._sign))
        keys = self._keys[bisect_left(self._keys, low) : bisect_right(self._keys, high)]
        return sum([self._lots[key * self._sign] for key in keys])

    def __len__(self) -> int:
        return len(self._keys)


class Depth:
    """Both sides of one market's book, in ticks and lots. Starts empty."""

    __slots__ = ("_asks", "_bids")

    def __init__(self) -> None:
        """An empty book."""
        self._bids = _Side(buys=True)
        self._asks = _Side(buys=False)

    def rest(self, buys: bool, price_ticks: int, lots: int) -> None:
        """An order came to rest: `lots` (> 0) more at its price."""
        assert lots > 0, f"nothing can rest with {lots} lots"
        (self._bids if buys else self._asks).change(price_ticks, lots)

    def take(self, taker_buys: bool, price_ticks: int, lots: int) -> None:
        """A trade took `lots` (> 0) from the level at the maker's price, on the side opposite to the taker's."""
        assert lots > 0, f"a trade cannot take {lots} lots"
        self._side(not taker_buys).change(price_ticks, -lots)

    def cancel(self, buys: bool, price_ticks: int, lots: int) -> None:
        """A resting order ended with `lots` (> 0) untraded."""
        assert lots > 0, f"a resting order cannot end with {lots} lots"
        self._side(buys).change(price_ticks, -lots)

    def put(self, buys: bool, price_ticks: int, lots: int) -> None:
        """Sets a level to an absolute quantity; 0 removes it. For loading a stored book and for followers of deltas."""
        side = self._side(buys)
        side.change(price_ticks, lots - side.quantity(price_ticks))

    def move(self, buys: bool, price_ticks: int, lots: int) -> int:
        """Adds `lots` to a level, or takes them away if they are less than 0; returns what is there now."""
        return self._side(buys).change(price_ticks, lots)

    def best(self, buys: bool) -> int | None:
        """The highest bid or the lowest ask in ticks; None if the side is empty."""
        return self._side(buys).best()

    def top(self, buys: bool, n: int, skip: int = 0) -> list[tuple[int, int]]:
        """The best `n` levels of a side behind the `skip` best, as (price_ticks, lots), best first."""
        return self._side(buys).slice(skip, n)

    def all(self, buys: bool) -> list[tuple[int, int]]:
        """All levels of a side as (price_ticks, lots), best first."""
        return list(self._side(buys).levels())

    def levels(self, buys: bool) -> Iterator[tuple[int, int]]:
        """The same one by one. The side must not change meanwhile."""
        return self._side(buys).levels()

    def quantity(self, buys: bool, price_ticks: int) -> int:
        """Lots at a level; 0 if there is none."""
        return self._side(buys).quantity(price_ticks)

    def between(self, buys: bool, low_ticks: int, high_ticks: int) -> int:
        """The sum of lots at the prices from one to another, both included."""
        return self._side(buys).between(low_ticks, high_ticks)

    def among(self, buys: bool, price_ticks: int, n: int) -> bool:
        """Whether a level is one of the `n` best, or would be if it were there: whether they change with it."""
        return self._side(buys).among(price_ticks, n)

    def count(self, buys: bool) -> int:
        """How many levels a side has."""
        return len(self._side(buys))

    def sweep(self, taker_buys: bool, lots: int) -> tuple[int, int]:
        """What a taker of `lots` would meet at this moment, best price first.

        Returns the sum of price_ticks x lots over what it would trade, and the lots it would find, at most `lots`.
        """
        cost = found = 0
        for price_ticks, level_lots in self._side(not taker_buys).levels():
            if found >= lots:
                break
            traded = min(level_lots, lots - found)
            cost += price_ticks * traded
            found += traded
        return cost, found

    def _side(self, buys: bool) -> _Side:
        return self._bids if buys else self._asks
