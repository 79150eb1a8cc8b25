"""An outside book, kept by Binance's procedure: what joins, what does not, and when it is to be believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.mirror.follower import Follower, Patience, Standing
from services.mirror.messages import Change, Ending, Garbage, Quote, Snapshot, Trade, read, read_snapshot
from services.mirror.outside_book import BUFFERED_MAX, OutsideBook, Step

A, B, D = Step.APPLIED, Step.BUFFERED, Step.DUPLICATE
MS = 10**6
UNIT = 10**18


def c(first: int, last: int, bids: dict[int, int] | None = None, asks: dict[int, int] | None = None) -> Change:
    """Updates `first` to `last`."""
    return Change("X", 0, first, last, list((bids or {}).items()), list((asks or {}).items()))


def s(update: int, bids: dict[int, int] | None = None, asks: dict[int, int] | None = None) -> Snapshot:
    bids, asks = {90: 1} if bids is None else bids, {110: 1} if asks is None else asks
    return Snapshot(update, list(bids.items()), list(asks.items()))


def q(update: int, bid: int | None = 90, ask: int | None = 110) -> Quote:
    return Quote("X", update, bid, ask)


@pytest.mark.parametrize(
    ("messages", "steps", "update"),
    [
        pytest.param([s(100), c(101, 105), c(106, 106)], [A, A, A], 106, id="one after the other"),
        pytest.param([c(90, 95), c(96, 101), c(102, 103), s(100)], [B, B, B, A], 103, id="buffered, then a snapshot"),
        pytest.param([c(101, 105), s(100)], [B, A], 105, id="the buffer begins just behind it"),
        pytest.param([c(95, 105), s(100)], [B, A], 105, id="an update that the snapshot holds in part"),
        pytest.param([c(90, 95), s(100)], [B, A], 100, id="all that is buffered is in the snapshot"),
        pytest.param([c(102, 105), s(100)], [B, Step.OLD], 0, id="a snapshot older than the buffer"),
        pytest.param([c(102, 105), s(100), s(101)], [B, Step.OLD, A], 105, id="the next one is not: the buffer stays"),
        pytest.param([s(100), c(90, 99), c(100, 100), c(101, 102)], [A, D, D, A], 102, id="duplicates"),
        pytest.param([s(100), c(101, 102), c(101, 102)], [A, A, D], 102, id="the same again"),
        pytest.param([s(100), c(100, 103)], [A, A], 103, id="levels are absolute: an overlap does no harm"),
        pytest.param([s(100), c(102, 103)], [A, Step.GAP], 0, id="a gap behind the snapshot"),
        pytest.param([s(100), c(101, 101), c(103, 103)], [A, A, Step.GAP], 0, id="a gap later"),
        pytest.param(
            [s(100), c(103, 103), c(104, 104), s(102)], [A, Step.GAP, B, A], 104, id="what followed a gap is kept"
        ),
        pytest.param([c(101, 101), c(103, 103), s(100)], [B, B, Step.GAP], 0, id="a gap in the buffer"),
        pytest.param([c(101, 101), c(103, 103), s(100), s(102)], [B, B, Step.GAP, A], 103, id="kept from there on"),
        pytest.param([s(100), c(101, 101, bids={110: 1})], [A, Step.CROSSED], 0, id="an update that crosses"),
        pytest.param([s(100), c(101, 101, {110: 1}, {110: 0, 111: 1})], [A, A], 101, id="both sides move up"),
        pytest.param([c(101, 101, bids={115: 1}), s(100)], [B, Step.CROSSED], 0, id="a buffered one that crosses"),
        pytest.param([s(100, {110: 1})], [Step.CROSSED], 0, id="a crossed snapshot"),
        pytest.param([s(100, {}, {})], [A], 100, id="an empty book"),
        pytest.param([s(100), q(100)], [A, A], 100, id="a quote that agrees"),
        pytest.param([s(100), q(100, bid=91)], [A, Step.DIFFERS], 0, id="a quote that does not"),
        pytest.param([s(100), q(100, bid=None)], [A, Step.DIFFERS], 0, id="nor one of an empty side"),
        pytest.param([s(100), q(99, bid=91)], [A, A], 100, id="an old quote says nothing"),
        pytest.param([s(100), q(101, 91), c(101, 101, {91: 1})], [A, A, A], 101, id="a quote before its update"),
        pytest.param([s(100), q(101, 91), c(101, 101)], [A, A, Step.DIFFERS], 0, id="which then does not agree"),
        pytest.param([s(100), q(101, 91), c(101, 102)], [A, A, A], 102, id="an update that goes past the quote"),
        pytest.param([q(100, bid=91), s(100)], [A, Step.DIFFERS], 0, id="a quote before the snapshot"),
    ],
)  # fmt: skip
def test_what_comes_of_messages(messages: list[Any], steps: list[Step], update: int) -> None:
    book = OutsideBook()
    found = []
    for message in messages:
        match message:
            case Change():
                found.append(book.change(message))
            case Quote():
                found.append(book.quote(message))
            case Snapshot():
                found.append(book.snapshot(message))
    assert (found, book.update, book.in_step) == (steps, update, update > 0)
    if not book.in_step:
        assert (book.depth.count(buys=True), book.depth.count(buys=False)) == (0, 0), "nobody may believe it"


def test_levels_are_absolute_and_zero_removes() -> None:
    book = OutsideBook()
    book.snapshot(s(100, {90: 1, 89: 2}, {110: 1}))
    book.change(c(101, 101, {90: 0, 88: 3, 70: 0}, {110: 5}))
    assert (book.depth.all(buys=True), book.depth.all(buys=False)) == ([(89, 2), (88, 3)], [(110, 5)])


def test_the_buffer_is_bounded_and_a_snapshot_must_then_be_newer() -> None:
    book = OutsideBook()
    for number in range(BUFFERED_MAX + 10):
        book.change(c(number + 1, number + 1))
    assert book.snapshot(s(5)) is Step.OLD
    assert book.snapshot(s(10)) is Step.APPLIED
    assert book.update == BUFFERED_MAX + 10


class TestStanding:
    """Milliseconds since the start; silent after 1,000, behind after 300, late after 500."""

    @pytest.mark.parametrize(
        ("messages", "at", "expected"),
        [
            pytest.param([], 0, Standing.SYNCING, id="nothing yet"),
            pytest.param([(0, s(100))], 1, Standing.SILENT, id="a snapshot, and nothing was ever heard"),
            pytest.param([(0, c(100, 100)), (1, s(100))], 2, Standing.LIVE, id="in step"),
            pytest.param([(0, c(100, 100)), (1, s(100))], 1_000, Standing.LIVE, id="heard of just now"),
            pytest.param([(0, c(100, 100)), (1, s(100))], 1_001, Standing.SILENT, id="not any more"),
            pytest.param([(0, c(100, 100)), (900, s(100))], 1_001, Standing.SILENT, id="a snapshot is not heard of"),
            pytest.param(
                [(0, c(100, 100)), (1, s(100)), (900, q(100))], 1_500, Standing.LIVE, id="a quote is heard of"
            ),
            pytest.param([(0, c(100, 100)), (1, s(100)), (2, c(105, 105))], 3, Standing.SYNCING, id="a gap"),
            pytest.param([(0, c(100, 100)), (1, s(100)), (100, q(101))], 400, Standing.LIVE, id="quoted ahead"),
            pytest.param([(0, c(100, 100)), (1, s(100)), (100, q(101))], 401, Standing.BEHIND, id="for too long"),
            pytest.param(
                [(0, c(100, 100)), (1, s(100)), (100, q(101)), (350, q(102))], 401, Standing.BEHIND,
                id="quotes that go on do not help",
            ),
            pytest.param(
                [(0, c(100, 100)), (1, s(100)), (100, q(101)), (350, c(101, 101))], 401, Standing.LIVE,
                id="it has caught up",
            ),
            pytest.param(
                [(0, c(100, 100)), (1, s(100)), (500, Trade("X", 0, 1, 1))], 501, Standing.LIVE, id="half a second late"
            ),
            pytest.param([(0, c(100, 100)), (1, s(100)), (501, Trade("X", 0, 1, 1))], 502, Standing.LATE, id="later"),
            pytest.param(
                [(0, c(100, 100)), (1, s(100)), (501, Trade("X", 0, 1, 1)), (502, Trade("X", 501, 1, 1))], 503,
                Standing.LIVE, id="and in time again",
            ),
        ],
    )  # fmt: skip
    def test_by_what_was_heard_when(self, messages: list[tuple[int, Any]], at: int, expected: Standing) -> None:
        follower = Follower(Patience(1_000 * MS, 300 * MS, 500 * MS))
        for when, message in messages:
            if isinstance(message, Snapshot):
                follower.snapshot(message, when * MS)
            else:
                follower.message(message, when * MS)
        assert follower.standing(at * MS) is expected
        follower.disconnected()
        assert follower.standing(at * MS) is Standing.SYNCING


def depth(**other: Any) -> dict[str, Any]:
    return {"e": "depthUpdate", "E": 7, "s": "X", "U": 1, "u": 2, "b": [["0.35130000", "6195.0"]], "a": [], **other}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (depth(), Change("X", 7, 1, 2, [(3513 * UNIT // 10**4, 6195 * UNIT)], [])),
        ({"u": 3, "s": "X", "b": "1", "B": "2", "a": "3", "A": "4"}, Quote("X", 3, UNIT, 3 * UNIT)),
        ({"u": 3, "s": "X", "b": "0.000", "B": "0.000", "a": "3", "A": "4"}, Quote("X", 3, None, 3 * UNIT)),
        ({"e": "trade", "E": 7, "s": "X", "t": 1, "p": "2", "q": "3", "m": True}, Trade("X", 7, 2 * UNIT, 3 * UNIT)),
        ({"e": "serverShutdown", "E": 7}, Ending()),
        ({"e": "kline", "E": 7, "s": "X", "k": {}}, None),
    ],
)
def test_what_is_read(data: dict[str, Any], expected: object) -> None:
    assert read(json.dumps({"stream": "x@y", "data": data})) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "[]", "{}", '{"stream": "x@y"}', '{"stream": "x@y", "data": 5}', '{"data": {}}',
        *(
            json.dumps({"data": data})
            for data in (
                depth(U=3), depth(U=0), depth(U=-5, u=-4), depth(u="2"), depth(b=[["1"]]), depth(b=[["-1", "1"]]),
                depth(b=[["1e3", "1"]]), depth(b=[["NaN", "1"]]), depth(b=[["0", "1"]]), depth(b=[[1.5, "1"]]),
                depth(b=[["1", "0.0000000000000000001"]]), depth(b=[["1", "1"]] * 5_001), depth(s=None),
                {"u": 0, "s": "X", "b": "1", "B": "2", "a": "3", "A": "4"},
            )
        ),
    ],
)  # fmt: skip
def test_garbage(text: str) -> None:
    with pytest.raises(Garbage):
        read(text)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"code": -1121, "msg": "Invalid symbol."}', b'{"lastUpdateId": 0, "bids": [], "asks": []}']
)
def test_garbage_for_a_snapshot(text: bytes) -> None:
    with pytest.raises(Garbage):
        read_snapshot(text)


def test_a_snapshot() -> None:
    assert read_snapshot(b'{"lastUpdateId": 5, "bids": [["1.5", "2"]], "asks": []}') == Snapshot(
        5, [(3 * UNIT // 2, 2 * UNIT)], []
    )
