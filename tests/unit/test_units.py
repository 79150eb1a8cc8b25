"""Decimal strings and the integers inside: exact both ways, and nothing is ever rounded but a fee, up."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import Reason, Rejected
from services.units import (
    DIGITS_MAX,
    INT64_MAX,
    PPM,
    Asset,
    FixedPoint,
    Market,
    fee,
    format_fixed,
    format_plain,
    market_of,
)

BTC, USD, EUR0 = Asset(1, "BTC", 18), Asset(2, "USD", 18), Asset(3, "EUR", 0)
BTC_USD = market_of(1, "BTC-USD", BTC, USD, "0.01", "0.00001")
HALVES = market_of(2, "BTC-USD", BTC, USD, "0.50", "25")
UNREADABLE = [
    *(
        "",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1\n",
        ".5",
        "5.",
        ".",
        "1.2.3",
        "1,000",
        "1_000",
        "1e3",
        "1E3",
        "NaN",
        "inf",
        "0x10",
    ),
    *("１", "٣", "1٫5", "½", "²", "1" * (DIGITS_MAX + 2), "0." + "1" * DIGITS_MAX),
]


@pytest.mark.parametrize(
    ("text", "coefficient", "decimals"),
    [
        ("0", 0, 0),
        ("30000.00", 3_000_000, 2),
        ("0.00001", 1, 5),
        ("007.50", 750, 2),
        ("9" * DIGITS_MAX, int("9" * DIGITS_MAX), 0),
        ("0." + "9" * (DIGITS_MAX - 1), int("9" * (DIGITS_MAX - 1)), DIGITS_MAX - 1),
    ],
)
def test_what_is_read(text: str, coefficient: int, decimals: int) -> None:
    assert FixedPoint.parse(text, "price") == FixedPoint(coefficient, decimals)


@pytest.mark.parametrize("text", UNREADABLE, ids=ascii)
def test_what_is_not_read(text: str) -> None:
    for read in (lambda: FixedPoint.parse(text, "field"), lambda: BTC.parse(text, "field")):
        with pytest.raises(Rejected) as refusal:
            read()
        assert (refusal.value.reason, refusal.value.field) == (Reason.INVALID_FIELD, "field")
        assert len(refusal.value.message) < 2 * DIGITS_MAX + 60


@pytest.mark.parametrize(
    ("coefficient", "decimals", "to", "scaled"),
    [(15, 1, 3, 1500), (1500, 3, 1, 15), (1501, 3, 1, None), (0, 9, 0, 0), (7, 0, 0, 7)],
)
def test_scaling_is_exact_or_nothing(coefficient: int, decimals: int, to: int, scaled: int | None) -> None:
    assert FixedPoint(coefficient, decimals).scaled(to) == scaled


@pytest.mark.parametrize(
    ("value", "decimals", "fixed", "plain"),
    [
        (2_999_950, 2, "29999.50", "29999.5"),
        (1_000, 5, "0.01000", "0.01"),
        (0, 5, "0.00000", "0"),
        (0, 0, "0", "0"),
        (100, 0, "100", "100"),
        (100, 2, "1.00", "1"),
        (-5, 2, "-0.05", "-0.05"),
        (-1200, 2, "-12.00", "-12"),
        (10**40 + 1, 20, "1" + "0" * 20 + "." + "0" * 19 + "1", "1" + "0" * 20 + "." + "0" * 19 + "1"),
    ],
)
def test_what_is_printed(value: int, decimals: int, fixed: str, plain: str) -> None:
    assert (format_fixed(value, decimals), format_plain(value, decimals)) == (fixed, plain)


@given(st.integers(-(10**50), 10**50), st.integers(0, 36))
def test_printing_is_what_decimal_says(value: int, decimals: int) -> None:
    assert Fraction(Decimal(format_fixed(value, decimals))) == Fraction(value, 10**decimals)
    assert Fraction(Decimal(format_plain(value, decimals))) == Fraction(value, 10**decimals)


@given(st.integers(0, 10**30), st.integers(0, 18))
def test_an_amount_goes_out_and_comes_back(amount: int, decimals: int) -> None:
    asset = Asset(1, "X", decimals)
    assert asset.parse(asset.format(amount), "amount") == amount


def test_an_amount_finer_than_a_unit_is_refused() -> None:
    assert EUR0.parse("5.0", "amount") == 5
    with pytest.raises(Rejected) as refusal:
        EUR0.parse("5.5", "amount")
    assert refusal.value.reason is Reason.INVALID_FIELD


@pytest.mark.parametrize(
    ("market", "text", "ticks"),
    [
        (BTC_USD, "30000.00", 3_000_000),
        (BTC_USD, "0.01", 1),
        (BTC_USD, "0.010", 1),
        (BTC_USD, "92233720368547758.07", INT64_MAX),
        (HALVES, "1.5", 3),
        (HALVES, "2", 4),
    ],
)
def test_a_price_on_the_grid(market: Market, text: str, ticks: int) -> None:
    assert market.price_ticks(text) == ticks
    assert Decimal(market.format_price(ticks)) == Decimal(text)


@pytest.mark.parametrize(
    ("market", "text", "reason"),
    [
        (BTC_USD, "0.001", Reason.INVALID_PRICE),
        (BTC_USD, "0", Reason.INVALID_PRICE),
        (BTC_USD, "0.00", Reason.INVALID_PRICE),
        (BTC_USD, "92233720368547758.08", Reason.INVALID_PRICE),
        (BTC_USD, "9" * DIGITS_MAX, Reason.INVALID_PRICE),
        (HALVES, "1.25", Reason.INVALID_PRICE),
        (HALVES, "0.49", Reason.INVALID_PRICE),
        (BTC_USD, "-1", Reason.INVALID_FIELD),
        (BTC_USD, "", Reason.INVALID_FIELD),
    ],
)
def test_a_price_off_the_grid(market: Market, text: str, reason: Reason) -> None:
    with pytest.raises(Rejected) as refusal:
        market.price_ticks(text)
    assert (refusal.value.reason, refusal.value.field) == (reason, "price")


@pytest.mark.parametrize(
    ("text", "lots"), [("25", 1), ("50.0", 2), ("24", None), ("25.5", None), ("0", None), (str(25 * 2**63), None)]
)
def test_a_quantity(text: str, lots: int | None) -> None:
    if lots is not None:
        assert HALVES.quantity_lots(text) == lots
        return
    with pytest.raises(Rejected) as refusal:
        HALVES.quantity_lots(text, "amount")
    assert (refusal.value.reason, refusal.value.field) == (Reason.INVALID_QUANTITY, "amount")


def test_how_a_market_prints() -> None:
    assert BTC_USD.format_price(2_999_950) == "29999.50"
    assert BTC_USD.format_quantity(1_000) == "0.01"
    assert HALVES.format_price(3) == "1.5"
    assert HALVES.format_quantity(3) == "75"
    assert (HALVES.price_scaled(3), HALVES.quantity_scaled(3)) == (15, 75)


DIGITS = st.integers(0, 12)
STEPS = st.integers(1, 250)


@given(DIGITS, DIGITS, DIGITS, DIGITS, STEPS, STEPS, st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1))
def test_what_a_trade_is_worth_is_always_whole(
    base_decimals: int,
    quote_decimals: int,
    tick_decimals: int,
    lot_decimals: int,
    tick: int,
    lot: int,
    ticks: int,
    lots: int,
) -> None:
    """Or there is no such market."""
    base, quote = Asset(1, "A", base_decimals), Asset(2, "B", quote_decimals)
    tick_text, lot_text = format_fixed(tick, tick_decimals), format_fixed(lot, lot_decimals)
    exact_tick, exact_lot = Fraction(tick, 10**tick_decimals), Fraction(lot, 10**lot_decimals)
    needed = [FixedPoint.parse(text, "step").normal.decimals for text in (tick_text, lot_text)]
    if base_decimals < needed[1] or quote_decimals < sum(needed):
        with pytest.raises(Rejected) as refusal:
            market_of(1, "A-B", base, quote, tick_text, lot_text)
        assert refusal.value.reason is Reason.INVALID_MARKET
        return
    market = market_of(1, "A-B", base, quote, tick_text, lot_text)
    assert market.base_amount(lots) == lots * exact_lot * 10**base_decimals > 0
    assert market.quote_amount(ticks, lots) == ticks * exact_tick * lots * exact_lot * 10**quote_decimals > 0
    assert market.price_ticks(market.format_price(ticks)) == ticks
    assert market.quantity_lots(market.format_quantity(lots)) == lots


@pytest.mark.parametrize(
    ("tick_size", "lot_size", "reason"),
    [
        ("0.01", "0.00001", None),
        ("0.010000000000000", "0.000010000000", None),
        ("0.000000001", "0.000000001", None),
        ("0.0000000001", "0.000000001", Reason.INVALID_MARKET),
        ("1", "0.0000000000000000001", Reason.INVALID_MARKET),
        ("0", "1", Reason.INVALID_FIELD),
        ("1", "0.000", Reason.INVALID_FIELD),
        ("", "1", Reason.INVALID_FIELD),
        ("-1", "1", Reason.INVALID_FIELD),
    ],
)
def test_which_markets_there_can_be(tick_size: str, lot_size: str, reason: Reason | None) -> None:
    if reason is None:
        assert market_of(1, "BTC-USD", BTC, USD, tick_size, lot_size)
        return
    with pytest.raises(Rejected) as refusal:
        market_of(1, "BTC-USD", BTC, USD, tick_size, lot_size)
    assert refusal.value.reason is reason


def test_a_lot_finer_than_the_base_asset_is_no_market() -> None:
    with pytest.raises(Rejected) as refusal:
        market_of(1, "EUR-USD", EUR0, USD, "1", "0.1")
    assert refusal.value.reason is Reason.INVALID_MARKET


@pytest.mark.parametrize(
    ("received", "rate_ppm", "taken"),
    [
        (1_000_000, 0, 0),
        (1_000_000, 1, 1),
        (999_999, 1, 1),
        (1_000_001, 1, 2),
        (1, 1_000_000, 1),
        (10**30, 2_500, 25 * 10**26),
    ],
)
def test_a_fee(received: int, rate_ppm: int, taken: int) -> None:
    assert fee(received, rate_ppm) == taken


@given(st.integers(0, 10**60), st.integers(0, PPM))
def test_a_fee_is_the_least_that_the_rate_allows(received: int, rate_ppm: int) -> None:
    taken = fee(received, rate_ppm)
    assert 0 <= taken <= received
    assert taken - 1 < Fraction(received * rate_ppm, PPM) <= taken
