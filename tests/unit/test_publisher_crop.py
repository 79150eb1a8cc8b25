"""The best n levels by their changes, also by changes that no single command of today's engine makes."""

import pytest

from services.book.publisher.crop import Crop
from services.book.publisher.fold import Change, Level
from services.depth import Depth

BIDS = [(10, 1), (9, 2), (8, 3)]

CASES: list[tuple[str, int, list[Level], list[Level]]] = [
    ("behind the best n", 2, [(8, 5)], []),
    ("a new level behind", 2, [(7, 5)], []),
    ("a level changes", 2, [(9, 5)], [(9, 5)]),
    ("a better one comes, the last falls out", 2, [(11, 5)], [(11, 5), (9, 0)]),
    ("one goes, the next comes in", 2, [(10, 0)], [(10, 0), (8, 3)]),
    ("one goes and a new one stands behind the next", 2, [(10, 0), (7, 4)], [(10, 0), (8, 3)]),
    ("one goes and a new one comes in", 2, [(10, 0), (11, 4)], [(10, 0), (11, 4)]),
    ("all that is shown goes", 2, [(10, 0), (9, 0)], [(10, 0), (9, 0), (8, 3)]),
    ("all goes", 2, [(10, 0), (9, 0), (8, 0)], [(10, 0), (9, 0)]),
    ("there is room", 5, [(7, 4)], [(7, 4)]),
    ("exactly full", 3, [(7, 4)], []),
    ("comes and goes in one", 2, [(10, 1)], []),
]


@pytest.mark.parametrize("buys", [True, False])
@pytest.mark.parametrize(("n", "changed", "told"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_told(n: int, changed: list[Level], told: list[Level], buys: bool) -> None:
    def mirrored(levels: list[Level]) -> list[Level]:
        return levels if buys else [(20 - price, lots) for price, lots in levels]

    full = Depth()
    for price, lots in mirrored(BIDS):
        full.put(buys, price, lots)
    crop = Crop(n, full)
    for price, lots in mirrored(changed):
        full.put(buys, price, lots)
    both = (mirrored(changed), []) if buys else ([], mirrored(changed))
    bids, asks = crop.apply(Change(1, 0, *both, 0, 0), full)
    assert sorted(bids if buys else asks) == sorted(mirrored(told))
    assert (asks if buys else bids) == []
    assert crop.levels(buys) == full.top(buys, n)
