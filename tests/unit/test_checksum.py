"""The checksum: by hand, and against every checksum that Kraken sent in a recorded session."""

import json
import lzma
from decimal import Decimal
from zlib import crc32

import pytest

from services.book.publisher.checksum import CHECKSUM_LEVELS, checksum, text_of
from services.depth import Depth
from tests.recordings import RECORDED

Levels = list[tuple[int, int]]

# Kraken's own worked example (API guide, "Book checksum"): asks 0.05005 to 0.05050, bids 0.05000 to 0.04955.
EXAMPLE_ASKS = [
    *[(5005, 500), (5010, 500), (5015, 500), (5020, 500), (5025, 500)],
    *[(5030, 500), (5035, 500), (5040, 500), (5045, 500), (5050, 500)],
]
EXAMPLE_BIDS = [
    *[(5000, 500), (4995, 500), (4990, 500), (4980, 500), (4975, 500)],
    *[(4970, 500), (4965, 500), (4960, 500), (4955, 500), (4950, 500)],
]
CASES: list[tuple[str, Levels, Levels, str]] = [
    ("an empty book", [], [], ""),
    ("asks come first", [(3000050, 300)], [(2999950, 500)], "30000503002999950500"),
    ("asks only", [(1, 2), (3, 4)], [], "1234"),
    ("bids only", [], [(3, 4), (1, 2)], "3412"),
    ("below one: no leading zeros", [(5, 1)], [(4, 99999999)], "51499999999"),
    ("beyond int64 it is still text", [(10**20, 10**21)], [], "1" + "0" * 20 + "1" + "0" * 21),
    (
        "ten a side",
        EXAMPLE_ASKS,
        EXAMPLE_BIDS,
        (
            "5005500501050050155005020500502550050305005035500504050050455005050500"
            "5000500499550049905004980500497550049705004965500496050049555004950500"
        ),
    ),
]


def summed(asks: Levels, bids: Levels) -> int:
    return checksum(text_of(asks), text_of(bids))


@pytest.mark.parametrize(("asks", "bids", "text"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_by_hand(asks: Levels, bids: Levels, text: str) -> None:
    assert summed(asks, bids) == crc32(text.encode())


def test_known_values() -> None:
    assert summed([], []) == 0
    assert summed(EXAMPLE_ASKS, EXAMPLE_BIDS) == 974947235  # as the guide says
    assert summed([(1, 2)], []) == 0x4F5344CD  # CRC32 of "12"


def scaled(text: str) -> int:
    """ "354.12000000" as a count of 10^-8, whatever digits it came with: exactly the digits, no point."""
    return int(text.replace(".", ""))


@pytest.mark.recorded_feeds
def test_every_checksum_that_kraken_sent() -> None:
    books: dict[str, Depth] = {}
    checked = 0
    with lzma.open(RECORDED / "kraken-2021-04-17-book1000.ws.xz", "rt") as lines:
        for line in lines:
            _, _, text = line.partition(": ")
            if line.startswith("wss:") or not text.startswith("["):
                continue
            _, *parts, _, pair = json.loads(text)
            for part in parts:
                if "as" in part:
                    books[pair] = Depth()
                for key, levels in part.items():
                    if key != "c":
                        set_levels(books[pair], key.startswith("b"), levels)
            expected = [part["c"] for part in parts if "c" in part]
            if expected:
                top = [books[pair].top(buys, CHECKSUM_LEVELS) for buys in (False, True)]
                assert str(summed(*top)) == expected[0], f"{pair} at checksum {checked}"
                checked += 1
            trim(books[pair])
    assert checked == 4269


def set_levels(depth: Depth, buys: bool, levels: list[list[str]]) -> None:
    for price, quantity, *_ in levels:
        assert Decimal(price) > 0
        depth.put(buys, scaled(price), scaled(quantity))


def trim(depth: Depth) -> None:
    """The feed has 1,000 levels a side and does not say when one falls out."""
    for buys in (True, False):
        for price, _ in depth.top(buys, depth.count(buys), skip=1000):
            depth.put(buys, price, 0)
