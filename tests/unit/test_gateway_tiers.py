"""Fee tiers and the volumes that they follow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.order_gateway.fees import Rates
from services.order_gateway.ledger import Ledger
from services.order_gateway.model import Execution
from services.order_gateway.tiers import Schedule, parse_tiers
from services.order_gateway.volumes import DAY_NS, DAYS_MAX, Volumes
from services.units import Asset, Market, market_of
from tests.unit.gateway_values import ALICE, BOB, ledger

BTC, ETH, USD, EUR = Asset(1, "BTC", 8), Asset(2, "ETH", 6), Asset(3, "USD", 6), Asset(4, "EUR", 6)
BTC_USD = market_of(1, "BTC-USD", BTC, USD, "0.01", "0.0001")
ETH_BTC = market_of(2, "ETH-BTC", ETH, BTC, "0.0001", "0.01")
ETH_USD = market_of(3, "ETH-USD", ETH, USD, "0.01", "0.01")
USD_EUR = market_of(4, "USD-EUR", USD, EUR, "0.001", "0.01")
MARKETS = {market.symbol: market for market in (BTC_USD, ETH_BTC, ETH_USD, USD_EUR)}
FIRST = Rates(1_000, 2_000)


def side(market: Market, price: str, quantity: str, account_id: int = ALICE) -> Execution:
    return Execution(
        trade_id=1,
        market_id=market.market_id,
        order_id=1,
        account_id=account_id,
        client_order_id="",
        buys=True,
        price_ticks=market.price_ticks(price),
        quantity_lots=market.quantity_lots(quantity),
        fee=0,
        is_maker=False,
        settlement_sequence=1,
        event_sequence=1,
        event_ns=1,
    )


VALUED: list[tuple[list[tuple[Market, str, str]], str]] = [
    # trades, and what they count in USD
    ([(BTC_USD, "30000", "0.5")], "15000"),
    ([(BTC_USD, "30000", "0.5"), (BTC_USD, "0.01", "0.0001")], "15000.000001"),
    ([(USD_EUR, "0.9", "12.34")], "12.34"),  # the base is the asset
    ([(ETH_BTC, "0.05", "2")], "0"),  # nothing traded in ETH-USD yet
    ([(ETH_USD, "2000", "1"), (ETH_BTC, "0.05", "2")], "6000"),  # valued at the last price
    ([(ETH_USD, "2000", "1"), (ETH_USD, "2500", "0.01"), (ETH_BTC, "0.05", "2")], "7025"),
    ([(ETH_BTC, "0.05", "2"), (ETH_USD, "2000", "1")], "2000"),  # no price from the future
]


@pytest.mark.parametrize(("trades", "expected"), VALUED)
def test_what_a_trade_counts(trades: list[tuple[Market, str, str]], expected: str) -> None:
    volumes = Volumes("USD", MARKETS)
    for market, price, quantity in trades:
        volumes.traded(market, [side(market, price, quantity)], 5)
    assert volumes.volume(ALICE, 5) == USD.parse(expected, "")


def test_values_round_down_and_other_markets_count_nothing() -> None:
    volumes = Volumes("USD", {"ETH-BTC": ETH_BTC}, (), ())
    volumes.traded(ETH_BTC, [side(ETH_BTC, "0.05", "2")], 5)
    assert volumes.volume(ALICE, 5) == 0, "there is no ETH-USD"
    coarse = market_of(9, "ETH-USD", ETH, Asset(3, "USD", 2), "0.01", "1")
    volumes = Volumes("USD", {"ETH-USD": coarse}, (), [(9, 1)])
    volumes.traded(ETH_BTC, [side(ETH_BTC, "0.05", "0.99")], 5)
    assert volumes.volume(ALICE, 5) == 0, "0.99 of a cent is none"


def test_thirty_days_roll_by_day() -> None:
    volumes = Volumes("USD", MARKETS)
    for day in range(40):
        volumes.traded(BTC_USD, [side(BTC_USD, "1", "1"), side(BTC_USD, "1", "2", BOB)], day * DAY_NS + day)
    now = 39 * DAY_NS
    assert volumes.volume(ALICE, now) == DAYS_MAX * 10**6
    assert volumes.volume(BOB, now + DAY_NS) == (DAYS_MAX - 1) * 2 * 10**6
    assert volumes.volume(BOB, now + DAYS_MAX * DAY_NS) == 0
    assert volumes.amount(ALICE, 39) == 10**6
    assert volumes.amount(ALICE, 9) == 10**6, "kept until it is stored"
    volumes.forget_old(now)
    assert volumes.volume(ALICE, now) == DAYS_MAX * 10**6
    assert volumes.amount(ALICE, 9) == 0, "forgotten"
    again = Volumes("USD", MARKETS, [(ALICE, day, volumes.amount(ALICE, day)) for day in range(40)])
    assert again.volume(ALICE, now) == volumes.volume(ALICE, now)


TABLES: list[tuple[str, list[tuple[str, str, int, int]]]] = [
    ("", [("standard", "0", 1_000, 2_000)]),
    ("silver:100:800:1600", [("standard", "0", 1_000, 2_000), ("silver", "100", 800, 1_600)]),
    ("basic:0:5:6, gold:1.50:0:1000000,", [("basic", "0", 5, 6), ("gold", "1.5", 0, 1_000_000)]),
]


@pytest.mark.parametrize(("text", "expected"), TABLES)
def test_tables(text: str, expected: list[tuple[str, str, int, int]]) -> None:
    found = parse_tiers(text, FIRST)
    assert [(t.name, t.volume_text, t.rates.maker_ppm, t.rates.taker_ppm) for t in found] == expected


@pytest.mark.parametrize(
    "text",
    [
        *("x", "a:1:2", "a:1:2:3:4", "a:-1:2:3", "a:1e3:2:3", "a:1:2:1000001", "A:1:2:3", "a:1..0:2:3", "a:.:1:2"),
        *("a:2:1:1,b:1:1:1", "a:1:1:1,b:1.0:1:1", "a:1:1:1,a:2:1:1", "a:0:1:1,b:0:1:1", "standard:5:1:1", "a:1:0.5:1"),
    ],
)
def test_what_is_no_table(text: str) -> None:
    with pytest.raises(ValueError, match="FEE_TIERS"):
        parse_tiers(text, FIRST)


def traded(usd: int) -> Ledger:
    book = ledger()
    book.volumes = Volumes("USD", book.markets_by_symbol, [(ALICE, 0, usd * 10**6)])
    return book


@pytest.mark.parametrize(
    ("usd", "tier"),
    [(0, "standard"), (99, "standard"), (100, "silver"), (999, "silver"), (1_000, "gold"), (10**9, "gold")],
)
def test_the_tier_follows_the_volume(usd: int, tier: str) -> None:
    schedule = Schedule(parse_tiers("silver:100:800:1600,gold:1000:0:500", FIRST), traded(usd))
    assert schedule.tier(ALICE).name == tier
    assert schedule.tier(BOB).name == "standard"
    assert schedule.rates(BOB) == FIRST


def test_a_fixed_tier_does_not_follow_it_unless_the_table_lost_it() -> None:
    schedule = Schedule(parse_tiers("silver:100:800:1600,gold:1000:0:500", FIRST), traded(150))
    schedule.fixed = {ALICE: "standard", BOB: "platinum"}
    assert (schedule.tier(ALICE).name, schedule.is_fixed(ALICE)) == ("standard", True)
    assert (schedule.tier(BOB).name, schedule.is_fixed(BOB)) == ("standard", False)
    del schedule.fixed[ALICE]
    assert schedule.tier(ALICE).name == "silver"


def test_an_asset_that_is_not_there_counts_nothing() -> None:
    book = Ledger(None, "XYZ")
    schedule = Schedule(parse_tiers("silver:1:800:1600", FIRST), book)
    assert schedule.tier(ALICE).name == "standard"


def test_a_tier_finer_than_the_asset_is_reached_above_it() -> None:
    tier = parse_tiers("fine:0.0000001:1:1", FIRST)[1]
    assert not tier.reached(0, 6)
    assert tier.reached(1, 6)
    assert replace(tier).volume_text == "0.0000001"
