"""What an opening auction would be, by what a book shows."""

from __future__ import annotations

import pytest

from services.book.publisher.indicative import indicative
from services.depth import Depth


@pytest.mark.parametrize(
    ("bids", "asks", "last", "told"),
    [
        ([], [], 0, None),
        ([(100, 5)], [], 0, None),
        ([(100, 5)], [(101, 5)], 0, None),
        ([(100, 5)], [(100, 3)], 0, (100, 3)),
        ([(103, 5), (101, 1), (90, 99)], [(100, 3), (102, 4), (110, 99)], 0, (102, 5)),
        ([(105, 5)], [(100, 5)], 0, (100, 5)),
        ([(105, 5)], [(100, 5)], 104, (105, 5)),
        ([(105, 5)], [(100, 5)], 101, (100, 5)),
        ([(105, 5), (104, 2)], [(100, 5)], 0, (105, 5)),
    ],
)
def test_the_price_of_maximum_volume(
    bids: list[tuple[int, int]], asks: list[tuple[int, int]], last: int, told: tuple[int, int] | None
) -> None:
    depth = Depth()
    for buys, levels in ((True, bids), (False, asks)):
        for ticks, lots in levels:
            depth.rest(buys, ticks, lots)
    assert indicative(depth, last) == told
