"""What subscribers of a book want to see of it. Pure."""

from dataclasses import dataclass

from services.book.publisher.pace import Pace


@dataclass(frozen=True)
class Asked:
    """What a subscriber wants of a book.

    Attributes:
        depth: levels a side; 0: all.
        orders: each order instead of levels.
        group_ticks: how wide a level is.
        pace: how often it is told.
    """

    depth: int = 0
    orders: bool = False
    group_ticks: int = 1
    pace: Pace = Pace.EACH

    @property
    def whole(self) -> bool:
        """Whether it is each change of each level: what can be resumed."""
        return self == Asked()
