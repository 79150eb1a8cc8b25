"""What the mirror quotes, and how what rests becomes that: never across the outside's prices, nor across itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.depth import Depth
from services.mirror.__main__ import MirrorSettings, Pair
from services.mirror.messages import UNIT_DECIMALS
from services.mirror.moves import Move, Moves, Place, Resting, moves
from services.mirror.quotes import BASIS_POINTS, Grid, Terms, Wanted, wanted
from services.runtime.run import StartError
from services.units import FixedPoint

BUY, SELL = True, False
UNIT = 10**UNIT_DECIMALS
CENT = UNIT // 100
GRID = Grid(tick=CENT, lot=CENT)
PLENTY = 10**12 * UNIT
ALL = Terms(levels=10, share_ppm=10**6, spread_bps=0, notional_max=PLENTY)


def book(bids: dict[int, int], asks: dict[int, int]) -> Depth:
    """Levels in thousandths, of price and of quantity."""
    depth = Depth()
    for buys, levels in ((BUY, bids), (SELL, asks)):
        for price, quantity in levels.items():
            depth.put(buys, price * UNIT // 1000, quantity * UNIT // 1000)
    return depth


@pytest.mark.parametrize(
    ("bids", "asks", "terms", "grid", "expected"),
    [
        pytest.param({99_990: 50}, {100_010: 70}, {}, {}, {(BUY, 9999): 5, (SELL, 10_001): 7}, id="as it is"),
        pytest.param({99_999: 50}, {100_001: 70}, {}, {}, {(BUY, 9999): 5, (SELL, 10_001): 7}, id="off our ticks"),
        pytest.param({99_998: 55, 99_991: 55}, {}, {}, {}, {(BUY, 9999): 11}, id="two of theirs are one of ours"),
        pytest.param({99_990: 59}, {}, {}, {}, {(BUY, 9999): 5}, id="off our lots"),
        pytest.param({99_990: 9}, {}, {}, {}, {}, id="less than a lot"),
        pytest.param({99_990: 100}, {}, {"share_ppm": 250_000}, {}, {(BUY, 9999): 2}, id="a quarter"),
        pytest.param(
            {100_000: 100}, {101_000: 100}, {"spread_bps": 100}, {}, {(BUY, 9900): 10, (SELL, 10_201): 10}, id="1 %"
        ),
        pytest.param({3: 10}, {}, {"spread_bps": 9999}, {}, {}, id="no price is left"),
        pytest.param(
            {99_990: 100, 99_980: 100, 99_970: 100}, {}, {"levels": 2}, {}, {(BUY, 9999): 10, (BUY, 9998): 10},
            id="two levels",
        ),
        pytest.param(
            {100_000: 1000, 99_000: 1000}, {101_000: 1000}, {"notional_max": 300 * UNIT}, {},
            {(BUY, 10_000): 100, (BUY, 9900): 50, (SELL, 10_100): 100}, id="half of the limit a side, the best first",
        ),
        pytest.param({100_000: 100}, {}, {}, {"lots_min": 11}, {}, id="below the market's least quantity"),
        pytest.param({100_000: 100}, {}, {}, {"lots_max": 3}, {(BUY, 10_000): 3}, id="above its largest"),
        pytest.param(
            {100_000: 100, 99_000: 100}, {}, {}, {"notional_min": 10 * UNIT * UNIT}, {(BUY, 10_000): 10},
            id="below its least notional",
        ),
    ],
)  # fmt: skip
def test_wanted(
    bids: dict[int, int], asks: dict[int, int], terms: dict[str, int], grid: dict[str, int], expected: Wanted
) -> None:
    given_terms, given_grid = Terms(**(vars(ALL) | terms)), Grid(**(vars(GRID) | grid))
    assert wanted(book(bids, asks), given_grid, given_terms) == expected


LEVELS = st.dictionaries(st.integers(1, 400), st.integers(1, 10_000), max_size=8)


@given(
    levels=LEVELS,
    middle=st.integers(2, 400),
    tick=st.integers(1, 30),
    lot=st.integers(1, 3_000),
    terms=st.builds(
        Terms,
        levels=st.integers(1, 4),
        share_ppm=st.integers(1, 10**6),
        spread_bps=st.integers(0, 2_000),
        notional_max=st.integers(1, 10_000).map(lambda whole: whole * UNIT // 1000),
    ),
)
def test_quotes_never_better_than_the_outside_never_crossed_never_beyond_the_limit(
    levels: dict[int, int], middle: int, tick: int, lot: int, terms: Terms
) -> None:
    bids = {price: quantity for price, quantity in levels.items() if price < middle}
    asks = {price: quantity for price, quantity in levels.items() if price > middle}
    grid = Grid(tick * UNIT // 1000, lot * UNIT // 1000)
    found = wanted(book(bids, asks), grid, terms)
    assert all(lots > 0 and ticks > 0 for (_, ticks), lots in found.items())
    for buys, side in ((BUY, bids), (SELL, asks)):
        ours = {ticks * tick: lots * lot for (of, ticks), lots in found.items() if of is buys}
        assert len(ours) <= terms.levels
        for price, quantity in ours.items():
            if buys:
                behind = [p for p in side if p * (BASIS_POINTS - terms.spread_bps) >= price * BASIS_POINTS]
            else:
                behind = [p for p in side if p * (BASIS_POINTS + terms.spread_bps) <= price * BASIS_POINTS]
            assert behind, "no better than a price of theirs, by the spread"
            assert quantity * 10**6 <= sum(side[p] for p in behind) * terms.share_ppm
        spent = sum(price * quantity for price, quantity in ours.items())  # millionths
        assert spent * 2 * UNIT <= terms.notional_max * 10**6
    best = {buys: [ticks for of, ticks in found if of is buys] for buys in (BUY, SELL)}
    assert not best[BUY] or not best[SELL] or max(best[BUY]) < min(best[SELL])


def r(order_id: str, buys: bool, ticks: int, left: int, filled: int = 0) -> Resting:
    return Resting(order_id, buys, ticks, left, filled)


@pytest.mark.parametrize(
    ("goal", "resting", "expected"),
    [
        pytest.param({}, [], Moves(), id="nothing"),
        pytest.param(
            {(BUY, 9): 5, (SELL, 11): 6}, [], Moves(places=[Place(BUY, 9, 5), Place(SELL, 11, 6)]), id="the first"
        ),
        pytest.param({}, [r("a", BUY, 9, 5), r("b", SELL, 11, 5)], Moves(cancels=["a", "b"]), id="the last"),
        pytest.param({(BUY, 9): 5}, [r("a", BUY, 9, 5)], Moves(), id="as it is"),
        pytest.param({(BUY, 9): 6}, [r("a", BUY, 9, 3, 3)], Moves(), id="half is left: it stays"),
        pytest.param(
            {(BUY, 9): 7}, [r("a", BUY, 9, 3, 4)], Moves(replaces=[Move("a", 9, 11)]), id="less: it is filled up"
        ),
        pytest.param({(BUY, 9): 4}, [r("a", BUY, 9, 5, 1)], Moves(replaces=[Move("a", 9, 5)]), id="too much"),
        pytest.param(
            {(BUY, 8): 5, (SELL, 10): 5}, [r("a", BUY, 9, 5), r("b", SELL, 11, 5, 1)],
            Moves(replaces=[Move("a", 8, 5), Move("b", 10, 6)]), id="down: bids make way first",
        ),
        pytest.param(
            {(BUY, 10): 5, (SELL, 12): 5}, [r("a", BUY, 9, 5), r("b", SELL, 11, 5)],
            Moves(replaces=[Move("b", 12, 5), Move("a", 10, 5)]), id="up: asks make way first",
        ),
        pytest.param(
            {(BUY, 9): 5}, [r("a", BUY, 9, 5), r("b", BUY, 9, 5)], Moves(cancels=["b"]), id="two of one price"
        ),
        pytest.param(
            {(BUY, 9): 5, (BUY, 7): 5}, [r("a", BUY, 8, 5)],
            Moves(replaces=[Move("a", 7, 5)], places=[Place(BUY, 9, 5)]), id="one moves, one is new",
        ),
    ],
)  # fmt: skip
def test_moves(goal: Wanted, resting: list[Resting], expected: Moves) -> None:
    assert moves(goal, resting) == expected
    assert bool(expected) == (expected != Moves())


@given(goal=st.data(), old=LEVELS, old_middle=st.integers(2, 400), new=LEVELS, new_middle=st.integers(2, 400))
def test_moves_lead_there_and_our_orders_never_meet_on_the_way(
    goal: Any, old: dict[int, int], old_middle: int, new: dict[int, int], new_middle: int
) -> None:
    resting = [r(str(ticks), ticks < old_middle, ticks, lots, lots % 3) for ticks, lots in old.items()]
    target = {(ticks < new_middle, ticks): lots for ticks, lots in new.items()}
    todo = moves(target, resting)
    now = {order.order_id: order for order in resting}
    for order_id in todo.cancels:
        del now[order_id]
    for move in todo.replaces:
        order = now[move.order_id]
        now[move.order_id] = r(move.order_id, order.buys, move.ticks, move.lots - order.filled, order.filled)
        check_apart(list(now.values()))
    for place in todo.places:
        now[f"new {place.ticks}"] = r("", place.buys, place.ticks, place.lots)
        check_apart(list(now.values()))
    assert {(order.buys, order.ticks) for order in now.values()} == set(target)
    for order in now.values():
        lots = target[order.buys, order.ticks]
        assert lots / 2 <= order.left <= lots


def check_apart(orders: list[Resting]) -> None:
    bids, asks = ([order.ticks for order in orders if order.buys is buys] for buys in (BUY, SELL))
    assert not bids or not asks or max(bids) < min(asks)


@pytest.mark.parametrize(
    ("tick", "lot", "limits", "expected"),
    [
        ("0.01", "0.001", {}, Grid(CENT, UNIT // 1000)),
        ("5", "10", {}, Grid(5 * UNIT, 10 * UNIT)),
        ("0.01", "0.01", {"quantity_min": "0.025", "quantity_max": "0.05"}, Grid(CENT, CENT, 3, 5)),
        ("0.01", "0.01", {"notional_min": "2", "quantity_min": "0"}, Grid(CENT, CENT, 1, None, 2 * UNIT * UNIT)),
        ("0.0000000000000000001", "1", {}, None),
    ],
)
def test_grid(tick: str, lot: str, limits: dict[str, str], expected: Grid | None) -> None:
    named = {name: FixedPoint.parse(text, name) for name, text in limits.items()}
    assert Grid.of(FixedPoint.parse(tick, "tick"), FixedPoint.parse(lot, "lot"), **named) == expected


NOTHING: dict[str, Any] = {"mirror_user": "", "clearbook_token": "", "mirror_key_id": "", "mirror_key_file": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BTC-USD=BTCUSDT", [Pair("BTC-USD", "BTCUSDT", None)]),
        (
            "BTC-USD=BTCUSDT:10000, ETH-BTC=ETHBTC:0.5",
            [Pair("BTC-USD", "BTCUSDT", 10_000 * UNIT), Pair("ETH-BTC", "ETHBTC", UNIT // 2)],
        ),
        ("", None), (",", None), ("BTC-USD", None), ("BTC-USD=btcusdt", None), ("A=B:", None), ("A=B:1e5", None),
        ("A=B:1..5", None), ("A=B,A=C", None), ("A=C,B=C", None), ("A=B/../C", None),
    ],
)  # fmt: skip
def test_which_markets(text: str, expected: list[Pair] | None) -> None:
    settings = MirrorSettings(mirror_markets=text, **NOTHING)
    if expected is None:
        with pytest.raises(StartError, match="MIRROR_MARKETS"):
            settings.pairs()
    else:
        assert settings.pairs() == expected


@pytest.mark.parametrize(
    "given_fields",
    [
        {}, {"mirror_user": "m", "clearbook_token": "t"}, {"mirror_user": "m", "mirror_key_id": "k"},
        {"mirror_key_id": "k"}, {"mirror_key_file": "/no/such/file"},
        {"mirror_key_id": "k", "mirror_key_file": "/no/such/file"},
    ],
)  # fmt: skip
def test_who_quotes_is_said_once_and_wholly(given_fields: dict[str, str]) -> None:
    with pytest.raises(StartError):
        MirrorSettings(**{**NOTHING, **given_fields}).credential()


@pytest.mark.parametrize(
    ("given_fields", "header"),
    [({"mirror_user": "m"}, ("x-clearbook-user", "m")), ({"clearbook_token": "t"}, ("authorization", "Bearer t"))],
)
def test_who_quotes(given_fields: dict[str, str], header: tuple[str, str]) -> None:
    assert header in MirrorSettings(**{**NOTHING, **given_fields}).credential().metadata("/x", b"")
