"""Recorded feeds become steps: each format by example, then files whose truth is known."""

from __future__ import annotations

import json
import lzma
from decimal import Decimal

import pytest

from services.cli.recorded import FeedError, Step, Trade, steps
from tests import generated_feed
from tests.recordings import RECORDED, recorded

SNAPSHOT: dict[str, object] = {"type": "snapshot", "product_id": "A-B", "bids": [["1.0", "5"]], "asks": [["2.0", "6"]]}


def line(message: object) -> str:
    return f"1.5: {json.dumps(message)}\n"


def update(time: str, *changes: tuple[str, str, str], product: str = "A-B") -> dict[str, object]:
    return {"type": "l2update", "product_id": product, "changes": changes, "time": time}


def match(time: str, side: str, price: str, size: str, product: str = "A-B") -> dict[str, object]:
    return {"type": "match", "product_id": product, "side": side, "price": price, "size": size, "time": time}


OPENING = Step("A-B", bids=[("1.0", "5")], asks=[("2.0", "6")], snapshot=True)
COINBASE: dict[str, tuple[list[dict[str, object]], list[Step]]] = {
    "updates of one time are one step": (
        [SNAPSHOT, update("t1", ("buy", "1.0", "0")), update("t1", ("sell", "2.0", "1")), update("t2")],
        [OPENING, Step("A-B", bids=[("1.0", "0")], asks=[("2.0", "1")]), Step("A-B")],
    ),
    "a match after the update of its time comes first": (
        [SNAPSHOT, update("t1", ("sell", "2.0", "1")), match("t1", "sell", "2.0", "5")],
        [OPENING, Step("A-B", trades=[Trade("2.0", "5", True)], asks=[("2.0", "1")])],
    ),
    "the side of a match is the maker's": (
        [SNAPSHOT, match("t1", "buy", "1.0", "5")],
        [OPENING, Step("A-B", trades=[Trade("1.0", "5", False)])],
    ),
    "what came before the subscription is not played": (
        [{**match("t0", "buy", "9", "9"), "type": "last_match"}, SNAPSHOT, {"type": "ticker", "product_id": "A-B"}],
        [OPENING],
    ),
    "another product does not break a group": (
        [SNAPSHOT, update("t1", ("buy", "1.0", "1")), update("t1", product="C-D"), match("t1", "buy", "1.0", "4")],
        [OPENING, Step("A-B", trades=[Trade("1.0", "4", False)], bids=[("1.0", "1")]), Step("C-D")],
    ),
    "a snapshot comes after what waited": (
        [SNAPSHOT, update("t1", ("buy", "1.0", "1")), SNAPSHOT],
        [OPENING, Step("A-B", bids=[("1.0", "1")]), OPENING],
    ),
}


@pytest.mark.parametrize("case", COINBASE)
def test_coinbase(case: str) -> None:
    messages, expected = COINBASE[case]
    assert list(steps(map(line, messages))) == expected


def test_kraken() -> None:
    messages: list[object] = [
        {"event": "systemStatus"},
        [1, {"as": [["2.0", "6", "t"]], "bs": [["1.0", "5", "t"]]}, "book-25", "XBT/USD"],
        [
            1,
            {"a": [["2.0", "0.0", "t"], ["2.1", "1", "t", "r"]]},
            {"b": [["1.1", "7", "t"]], "c": "9"},
            "book-25",
            "XBT/USD",
        ],
    ]
    assert list(steps(map(line, messages))) == [
        Step("XBT-USD", bids=[("1.0", "5")], asks=[("2.0", "6")], snapshot=True, depth_max=25),
        Step("XBT-USD", bids=[("1.1", "7")], asks=[("2.0", "0.0"), ("2.1", "1")], depth_max=25),
    ]


def depth(first: int, last: int, bid: str) -> dict[str, object]:
    return {
        "stream": "abcusdt@depth@100ms",
        "data": {"s": "ABCUSDT", "U": first, "u": last, "b": [[bid, "1"]], "a": []},
    }


def answer(last: int) -> str:
    body = json.dumps({"lastUpdateId": last, "bids": [["1", "5"]], "asks": [["2", "6"]]})
    return f"https://api.binance.com/api/v3/depth?symbol=ABCUSDT&limit=1000 -> 1.5: {body}\n"


def test_binance_buffers_drops_what_is_older_and_goes_on() -> None:
    lines = [line(depth(5, 7, "1.1")), line(depth(8, 9, "1.2")), answer(7), line(depth(10, 11, "1.3"))]
    assert [(step.snapshot, step.bids) for step in steps(lines)] == [
        (True, [("1", "5")]),
        (False, [("1.2", "1")]),
        (False, [("1.3", "1")]),
    ]


BROKEN = {
    "a gap after the snapshot": [answer(7), line(depth(9, 10, "1"))],
    "a gap in the stream": [answer(7), line(depth(8, 9, "1")), line(depth(11, 12, "1"))],
    "a symbol without a known quote": [answer(7).replace("ABCUSDT", "USDT"), line(depth(8, 9, "1"))],
    "nothing": [],
    "another format": ["1.0: {}\n", "some text\n"],
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_followed_is_refused(case: str) -> None:
    with pytest.raises(FeedError):
        list(steps(BROKEN[case]))


Book = dict[str, tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]]


def book_of(recording: list[Step]) -> Book:
    """The feed's final book, by the plainest code."""
    books: Book = {}
    for step in recording:
        if step.snapshot:
            books[step.market] = ({}, {})
        for buys, side, levels in zip((True, False), books[step.market], (step.bids, step.asks), strict=True):
            side.update({Decimal(price): Decimal(quantity) for price, quantity in levels})
            for price in [price for price, quantity in side.items() if not quantity]:
                del side[price]
            for price in sorted(side, reverse=buys)[step.depth_max or len(side) :]:
                del side[price]
    return books


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [generated_feed.coinbase, generated_feed.kraken])
def test_made_up_feeds_end_in_their_truth(make, seed: int) -> None:  # type: ignore[no-untyped-def]
    made = make(seed, 300)
    found = list(steps(made.lines))
    assert book_of(found) == {
        name: tuple({Decimal(p): Decimal(q) for p, q in side.items()} for side in sides)
        for name, sides in made.books.items()
    }
    for name, tape in made.tapes.items():
        trades = [trade for step in found if step.market == name for trade in step.trades]
        assert [(Decimal(t.price), Decimal(t.quantity), t.taker_buys) for t in trades] == [
            (Decimal(price), Decimal(quantity), buys) for price, quantity, buys in tape
        ]
    if make is generated_feed.coinbase:
        assert any(step.trades and (step.bids or step.asks) for step in found), "no match in a group with levels"


RECORDINGS = {
    "coinbase-2021-04-17-level2-matches.ws.xz": (10, 97, 10),
    "kraken-2021-04-17-book1000.ws.xz": (10, 0, 10),
}


@pytest.mark.recorded_feeds
@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_files(name: str) -> None:
    with lzma.open(RECORDED / name, "rt") as text:
        found = list(steps(text))
    markets = {step.market for step in found}
    trades = sum(len(step.trades) for step in found)
    assert (len(markets), trades, sum(step.snapshot for step in found)) == RECORDINGS[name]
    for bids, asks in book_of(found).values():
        assert bids
        assert asks
        assert max(bids) < min(asks)


@pytest.mark.recorded_feeds
def test_recorded_binance() -> None:
    found = recorded("binance")
    assert {step.market for step in found} == {"NKN-USDT", "BLZ-ETH", "LRC-BTC", "RUNE-EUR"}
    assert sum(step.snapshot for step in found) == 4
