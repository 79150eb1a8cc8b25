"""Depth, by tables: what happens, and the book that is left."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.depth import Depth

BUY, SELL = True, False
Step = Callable[[Depth], None]


def rest(buys: bool, price: int, lots: int) -> Step:
    return lambda depth: depth.rest(buys, price, lots)


def take(taker_buys: bool, price: int, lots: int) -> Step:
    return lambda depth: depth.take(taker_buys, price, lots)


def cancel(buys: bool, price: int, lots: int) -> Step:
    return lambda depth: depth.cancel(buys, price, lots)


def put(buys: bool, price: int, lots: int) -> Step:
    return lambda depth: depth.put(buys, price, lots)


BOOK = [rest(BUY, 99, 5), rest(BUY, 98, 1), rest(SELL, 101, 2), rest(SELL, 103, 4)]
CASES: list[tuple[str, list[Step], list[tuple[int, int]], list[tuple[int, int]]]] = [
    ("empty", [], [], []),
    ("best first", BOOK, [(99, 5), (98, 1)], [(101, 2), (103, 4)]),
    ("same level adds", [*BOOK, rest(BUY, 99, 7)], [(99, 12), (98, 1)], [(101, 2), (103, 4)]),
    ("a better level goes first", [*BOOK, rest(SELL, 100, 1)], [(99, 5), (98, 1)], [(100, 1), (101, 2), (103, 4)]),
    ("a level between", [*BOOK, rest(SELL, 102, 1)], [(99, 5), (98, 1)], [(101, 2), (102, 1), (103, 4)]),
    ("a buyer takes asks", [*BOOK, take(BUY, 101, 1)], [(99, 5), (98, 1)], [(101, 1), (103, 4)]),
    ("a seller takes bids", [*BOOK, take(SELL, 99, 5)], [(98, 1)], [(101, 2), (103, 4)]),
    ("a cancel in the middle of a level", [*BOOK, cancel(BUY, 99, 2)], [(99, 3), (98, 1)], [(101, 2), (103, 4)]),
    ("a cancel behind the best", [*BOOK, cancel(SELL, 103, 4)], [(99, 5), (98, 1)], [(101, 2)]),
    (
        "put is absolute",
        [*BOOK, put(BUY, 99, 2), put(SELL, 104, 9)],
        [(99, 2), (98, 1)],
        [(101, 2), (103, 4), (104, 9)],
    ),
    ("put 0 removes", [*BOOK, put(BUY, 99, 0), put(BUY, 97, 0)], [(98, 1)], [(101, 2), (103, 4)]),
]


@pytest.mark.parametrize(("steps", "bids", "asks"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_levels_after_steps(steps: list[Step], bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
    depth = Depth()
    for step in steps:
        step(depth)
    assert (depth.all(BUY), depth.all(SELL)) == (bids, asks)
    assert (depth.top(BUY, 1), depth.top(SELL, 1)) == (bids[:1], asks[:1])
    assert (depth.count(BUY), depth.count(SELL)) == (len(bids), len(asks))
    assert depth.best(BUY) == (bids[0][0] if bids else None)
    assert depth.best(SELL) == (asks[0][0] if asks else None)
    assert all(depth.quantity(BUY, price) == lots for price, lots in bids)


@pytest.mark.parametrize(
    "step",
    [
        take(BUY, 101, 3),
        take(SELL, 101, 1),
        take(BUY, 102, 1),
        cancel(BUY, 99, 6),
        cancel(SELL, 99, 1),
        rest(BUY, 99, 0),
        rest(BUY, 99, -1),
        rest(BUY, 0, 1),
        take(BUY, 101, 0),
        cancel(BUY, 99, -1),
        put(BUY, 99, -1),
    ],
)
def test_what_cannot_be_is_an_assertion_and_changes_nothing(step: Step) -> None:
    depth = Depth()
    for made in BOOK:
        made(depth)
    with pytest.raises(AssertionError):
        step(depth)
    assert (depth.all(BUY), depth.all(SELL)) == ([(99, 5), (98, 1)], [(101, 2), (103, 4)])


@pytest.mark.parametrize(
    ("taker_buys", "lots", "expected"),
    [
        (BUY, 0, (0, 0)),
        (BUY, 1, (101, 1)),
        (BUY, 2, (202, 2)),
        (BUY, 3, (202 + 103, 3)),
        (BUY, 6, (202 + 412, 6)),
        (BUY, 7, (202 + 412, 6)),
        (SELL, 5, (495, 5)),
        (SELL, 100, (495 + 98, 6)),
    ],
)
def test_sweep(taker_buys: bool, lots: int, expected: tuple[int, int]) -> None:
    depth = Depth()
    for step in BOOK:
        step(depth)
    assert depth.sweep(taker_buys, lots) == expected


def test_sweep_of_an_empty_book_finds_nothing() -> None:
    assert Depth().sweep(BUY, 10) == (0, 0)


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 30), st.integers(1, 12), st.booleans())
def test_the_best_levels_change_with_those_among_them_only(prices: list[int], price: int, n: int, buys: bool) -> None:
    depth = Depth()
    for level in prices:
        depth.rest(buys, level, 5)
    before = depth.top(buys, n)
    for lots in (7, 0):
        depth.put(buys, price, lots)
        changed, before = depth.top(buys, n) != before, depth.top(buys, n)
        assert depth.among(buys, price, n) or not changed
    depth.put(buys, price, 7)
    assert depth.among(buys, price, n) == (price in dict(depth.top(buys, n)) or depth.count(buys) < n)
