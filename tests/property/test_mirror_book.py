"""Whatever the feed loses, repeats, delays or mixes up: a mirrored book in step is the outside's as of its update."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.mirror.messages import Change, Level, Quote, Snapshot
from services.mirror.outside_book import OutsideBook

Sides = dict[bool, dict[int, int]]

LEVELS = st.dictionaries(st.integers(1, 12), st.integers(0, 3), max_size=4)
UPDATES = st.lists(st.tuples(st.integers(1, 3), LEVELS, st.integers(3, 10)), min_size=1, max_size=25)
WAYS = st.sampled_from(["sent", "sent", "sent", "lost", "twice", "late", "quoted", "snapshot", "old snapshot", "cut"])


def outside(updates: list[tuple[int, dict[int, int], int]]) -> tuple[list[Change], dict[int, Sides]]:
    """The changes of an exchange, and its book after each; prices below `middle` are bids then, above it asks."""
    book: Sides = {True: {}, False: {}}
    changes, books = [], {10: {True: dict(book[True]), False: dict(book[False])}}
    last = 10
    for count, levels, middle in updates:
        told: dict[bool, list[Level]] = {True: [], False: []}
        for buys in (True, False):
            goal = dict(book[buys]) | {price: q for price, q in levels.items() if (price < middle) is buys}
            goal = {price: q for price, q in goal.items() if q and (price < middle) is buys}
            gone = [(price, 0) for price in book[buys] if price not in goal]
            told[buys] = gone + [(price, q) for price, q in goal.items() if book[buys].get(price) != q]
            book[buys] = goal
        changes.append(Change("X", 0, last + 1, last + count, told[True], told[False]))
        last += count
        books[last] = {True: dict(book[True]), False: dict(book[False])}
    return changes, books


def snapshot(books: dict[int, Sides], update: int) -> Snapshot:
    book = books[update]
    return Snapshot(update, list(book[True].items()), list(book[False].items()))


def quote(books: dict[int, Sides], update: int) -> Quote:
    book = books[update]
    return Quote("X", update, max(book[True], default=None), min(book[False], default=None))


@settings(max_examples=300)
@given(updates=UPDATES, ways=st.lists(WAYS, min_size=25, max_size=25), data=st.data())
def test_in_step_is_true(updates: list[tuple[int, dict[int, int], int]], ways: list[str], data: st.DataObject) -> None:
    changes, books = outside(updates)
    mirrored, held = OutsideBook(), list[Change]()

    def true() -> None:
        shown = {buys: dict(mirrored.depth.all(buys)) for buys in (True, False)}
        assert shown == (books[mirrored.update] if mirrored.in_step else {True: {}, False: {}})

    for change, way in zip(changes, ways, strict=False):
        if way == "late":
            held.append(change)
            continue
        if way != "lost":
            mirrored.change(change)
        if way == "twice":
            mirrored.change(change)
        if way == "quoted":
            mirrored.quote(quote(books, change.last))
        if way == "cut":
            mirrored.forget()
        if not mirrored.in_step and way.endswith("snapshot"):
            past = [update for update in books if update <= change.last]
            mirrored.snapshot(snapshot(books, past[-1] if way == "snapshot" else data.draw(st.sampled_from(past))))
        true()
        if data.draw(st.booleans()) and held:
            mirrored.change(held.pop(0))
            true()
    if not mirrored.in_step:
        mirrored.snapshot(snapshot(books, changes[-1].last))
        assert mirrored.in_step, "a snapshot of now always helps"
    true()
