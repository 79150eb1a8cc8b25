"""The newest trades of a market, by command. Pure.

The store has all trades but the newest few; this has the newest, the ones that the store does not have yet included.
"""

from collections import deque
from itertools import takewhile
from typing import NamedTuple

from services.book.publisher.events import Trade
from services.book.publisher.once import Once


class Print(NamedTuple):
    """What one command traded: the trades, and the message about them."""

    trades: tuple[Trade, ...]
    once: Once

    @property
    def last_trade_id(self) -> int:
        """Of its last trade."""
        return self.trades[-1].trade_id


class Tape:
    """The prints of the newest commands.

    Attributes:
        last_trade_id: the market's last; 0 before the first.
    """

    def __init__(self, capacity: int, last_trade_id: int = 0) -> None:
        """Keeps `capacity` prints; the next trade follows `last_trade_id`."""
        self._prints: deque[Print] = deque(maxlen=capacity)
        self.last_trade_id = last_trade_id

    @property
    def tail(self) -> int:
        """The last trade id that is not here any more: who has it finds all that follows here."""
        return self._prints[0].trades[0].trade_id - 1 if self._prints else self.last_trade_id

    def append(self, entry: Print) -> None:
        """Adds the newest; the oldest goes when there is no room."""
        assert entry.trades[0].trade_id == self.last_trade_id + 1
        self._prints.append(entry)
        self.last_trade_id = entry.last_trade_id

    def after(self, trade_id: int, n: int) -> list[Print]:
        """The at most `n` prints with trades after `trade_id`, which is not before `tail`; oldest first.

        The first may begin before it: a reader may have stopped in the middle of a command.
        """
        assert trade_id >= self.tail
        found = list(takewhile(lambda entry: entry.last_trade_id > trade_id, reversed(self._prints)))
        found.reverse()
        return found[:n]

    def newest(self, before: int, n: int) -> list[Trade]:
        """The at most `n` trades with ids below `before`, newest first."""
        found: list[Trade] = []
        for entry in reversed(self._prints):
            for trade in reversed(entry.trades):
                if len(found) == n:
                    return found
                if trade.trade_id < before:
                    found.append(trade)
        return found
