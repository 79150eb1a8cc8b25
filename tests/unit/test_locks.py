"""What an order sets aside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.locks import lock

BUY, SELL, LIMIT, MARKET = True, False, True, False
LARGEST = 2**63 - 1


@pytest.mark.parametrize(
    ("buys", "limit", "price_ticks", "remaining_lots", "budget", "locked"),
    [
        # One lot is 1,000 base units, one tick times one lot 7 quote units.
        (SELL, LIMIT, 100, 5, 0, 5_000),
        (SELL, MARKET, 0, 5, 0, 5_000),
        (BUY, LIMIT, 100, 5, 0, 3_500),
        (BUY, MARKET, 0, 5, 123, 123),
        (BUY, MARKET, 0, 5, 0, 0),
        (SELL, LIMIT, 100, 0, 0, 0),
        (BUY, LIMIT, 100, 0, 0, 0),
        (BUY, MARKET, 0, 0, 123, 0),  # filled: what is left of the budget is free
        (BUY, LIMIT, LARGEST, LARGEST, 0, LARGEST * LARGEST * 7),  # far beyond 64 bits
        (SELL, LIMIT, LARGEST, LARGEST, 0, LARGEST * 1_000),
    ],
)
def test_what_is_set_aside(
    buys: bool, limit: bool, price_ticks: int, remaining_lots: int, budget: int, locked: int
) -> None:
    assert lock(buys, limit, price_ticks, remaining_lots, budget, 1_000, 7) == locked


LOTS = st.integers(1, LARGEST)
PRICES = st.integers(1, LARGEST)


@given(st.booleans(), PRICES, LOTS, st.data())
def test_a_fill_frees_exactly_what_it_may_cost(buys: bool, price_ticks: int, lots: int, data: st.DataObject) -> None:
    filled = data.draw(st.integers(0, lots))
    before, after = (lock(buys, LIMIT, price_ticks, left, 0, 10, 3) for left in (lots, lots - filled))
    assert before - after == (filled * price_ticks * 3 if buys else filled * 10)
