"""Orders that belong together: exits of which one cancels the other, and an entry that they wait for. Pure."""

from typing import Final, final


@final
class Group:
    """Up to two exits, and the entry that brings what they dispose of.

    Attributes:
        entry_id: the order that must end before the exits begin; 0 once it has, or if there is none.
        exits: order ids. The first of two to trade, to be released or to end cancels the other.
        holder_id: the exit that sets aside for both: the one with the larger lock. While they wait for the entry, of
            what that has received; 0 while that is nothing.
        received: by the entry so far, less fees, base units.
    """

    __slots__ = ("entry_id", "exits", "holder_id", "received")

    def __init__(self, entry_id: int, exits: list[int], holder_id: int, received: int = 0) -> None:
        self.entry_id = entry_id
        self.exits: Final = exits
        self.holder_id = holder_id
        self.received = received

    def holds(self, order_id: int) -> bool:
        """Whether the order sets its own lock aside."""
        return order_id in {self.entry_id, self.holder_id}
