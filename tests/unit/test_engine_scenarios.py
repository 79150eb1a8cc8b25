"""The engine's rules by tables: see scenarios.py for how they read."""

from __future__ import annotations

import pytest

from tests.unit.scenarios import Scenario, play, scenarios

ROWS_MIN = 300


@pytest.mark.parametrize("scenario", list(scenarios()), ids=lambda scenario: scenario.title)
def test_the_book_after_every_command(scenario: Scenario) -> None:
    play(scenario)
    play(scenario, restart=True)


def test_the_tables_are_not_empty() -> None:
    assert sum(len(scenario.rows) for scenario in scenarios()) >= ROWS_MIN


def test_a_wrong_row_is_found() -> None:
    scenario = next(scenarios())
    row = scenario.rows[-1]
    for wrong in (row._replace(outcome="filled"), row._replace(book=row.book.replace("cat 1", "cat 2"))):
        with pytest.raises(AssertionError):
            play(Scenario(scenario.title, [*scenario.rows[:-1], wrong]))
