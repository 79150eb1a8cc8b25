"""The demo's quotes."""

from __future__ import annotations

import pytest

from services.cli.ladder import BUY, SELL, Ladder, Quote, moves

LADDER = Ladder("A-B", middle_ticks=1_000, gap_ticks=10, lots=5, levels=2)


def test_around() -> None:
    assert LADDER.rung(1_009) == 100
    assert LADDER.around(100) == {(SELL, 1_010): 5, (SELL, 1_020): 10, (BUY, 990): 5, (BUY, 980): 10}
    assert LADDER.around(1) == {(SELL, 20): 5, (SELL, 30): 10}, "no price below one rung"


def test_a_step_moves_the_ends_and_the_middle_only() -> None:
    cancel, place = moves(LADDER.around(101), LADDER.around(100))
    assert cancel == [(SELL, 1_010), (BUY, 980)]
    assert place == [(SELL, 1_030), (BUY, 1_000)]


WANTED: dict[Quote, int] = {(BUY, 10): 4, (SELL, 20): 4}
MOVES = [
    ({}, [], [(BUY, 10), (SELL, 20)]),
    ({(BUY, 10): 4, (SELL, 20): 4}, [], []),
    ({(BUY, 10): 2, (SELL, 20): 1}, [(SELL, 20)], [(SELL, 20)]),  # half is enough, less is not
    ({(BUY, 11): 4, (SELL, 20): 4}, [(BUY, 11)], [(BUY, 10)]),
    ({(SELL, 10): 4}, [(SELL, 10)], [(BUY, 10), (SELL, 20)]),
]


@pytest.mark.parametrize(("resting", "cancel", "place"), MOVES)
def test_moves(resting: dict[Quote, int], cancel: list[Quote], place: list[Quote]) -> None:
    found = moves(WANTED, resting)
    assert (sorted(found[0]), sorted(found[1])) == (sorted(cancel), sorted(place))
