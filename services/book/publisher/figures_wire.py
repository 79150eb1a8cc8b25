"""Tickers and candles as protobuf has them."""

from collections.abc import Iterable

from clearbook.v1 import book_service_pb2 as pb

from services.book.publisher.candle import Candle
from services.book.publisher.candles import Candles
from services.book.publisher.events import ReferenceEvent
from services.book.publisher.fold import Fold
from services.book.publisher.interval import NS_PER_SECOND, Interval
from services.book.publisher.wire import timestamp
from services.errors import Reason, Rejected
from services.units import Market, format_fixed

PERCENT_DECIMALS = 3

INTERVALS = dict(enumerate(Interval, start=1))
"""By the proto's number."""
NUMBERS = {interval: number for number, interval in INTERVALS.items()}
_PREFIX = "CANDLE_INTERVAL_"


def interval_of(number: int) -> Interval:
    """The length that a request asks for. Raises Rejected(INVALID_FIELD)."""
    interval = INTERVALS.get(number)
    if interval is None:
        names = ", ".join(name.removeprefix(_PREFIX).lower() for name in pb.CandleInterval.keys()[1:])
        example = f"in gRPC {pb.CandleInterval.keys()[1]}"
        raise Rejected(Reason.INVALID_FIELD, f"interval must be one of {names} ({example} and so on)", "interval")
    return interval


def ticker(
    fold: Fold, candles: Candles, time_ns: int, reference: ReferenceEvent | None = None, *, stale: bool = False
) -> pb.Ticker:
    """A market at a glance, at a time that is not before its last change; `stale`: the reference price is, by then."""
    market, last = fold.market, fold.last_trade
    time_ns = max(time_ns, fold.time_ns)
    day = candles.day(time_ns // NS_PER_SECOND)
    told = pb.Ticker(
        market=market.symbol,
        sequence=fold.sequence,
        volume=market.format_quantity(day.lots),
        quote_volume=market.quote.format(day.tick_lots * market.quote_per_tick_lot),
        trade_count=day.trades,
        first_trade_id=day.first_trade_id,
        last_trade_id=fold.last_trade_id,
        open_time=timestamp(day.start * NS_PER_SECOND),
        close_time=timestamp(time_ns),
        state=fold.state.value,  # type: ignore[arg-type]  # the numbers are the proto's
    )
    for ticks, lots in fold.depth.top(True, 1):
        told.bid_price, told.bid_quantity = market.format_price(ticks), market.format_quantity(lots)
    for ticks, lots in fold.depth.top(False, 1):
        told.ask_price, told.ask_quantity = market.format_price(ticks), market.format_quantity(lots)
    if day.previous_close_ticks:
        told.previous_close_price = market.format_price(day.previous_close_ticks)
    if last is not None:
        opened, high, low = day.prices
        told.last_price, told.last_quantity = (
            market.format_price(last.price_ticks),
            market.format_quantity(last.quantity_lots),
        )
        told.last_trade_time.FromNanoseconds(last.time_ns)
        told.open_price = market.format_price(opened)
        told.high_price, told.low_price = market.format_price(high), market.format_price(low)
        told.price_change = market.format_price(last.price_ticks - opened)
        told.price_change_percent = percent(last.price_ticks - opened, opened)
    if reference is not None:
        told.reference_price, told.reference_source = market.format_price(reference.price_ticks), reference.source
        told.reference_time.FromNanoseconds(reference.observed_ns)
        told.reference_stale = stale
    return told


def percent(part: int, whole: int) -> str:
    """A part in percent of the whole, half to even: (1, 3) is "33.333"."""
    scaled, rest = divmod(abs(part) * 10 ** (PERCENT_DECIMALS + 2), whole)
    scaled += rest * 2 > whole or (rest * 2 == whole and scaled % 2)
    return format_fixed(-scaled if part < 0 else scaled, PERCENT_DECIMALS)


def tickers(told: Iterable[pb.Ticker]) -> bytes:
    """Tickers (none: a heartbeat), as a stream's message. Several such messages joined are one with all of them."""
    return pb.StreamTickersResponse(tickers=told).SerializeToString()


def candle(market: Market, interval: Interval, candle: Candle, closed: bool) -> pb.Candle:
    """A candle; `closed`: it is over."""
    price, quantity = market.format_price, market.format_quantity
    return pb.Candle(
        market=market.symbol,
        interval=NUMBERS[interval],  # type: ignore[arg-type]  # the numbers are the proto's
        start_time=timestamp(candle.start * NS_PER_SECOND),
        end_time=timestamp(interval.after(candle.start) * NS_PER_SECOND),
        open=price(candle.open_ticks),
        high=price(candle.high_ticks),
        low=price(candle.low_ticks),
        close=price(candle.close_ticks),
        volume=quantity(candle.lots),
        quote_volume=market.quote.format(candle.tick_lots * market.quote_per_tick_lot),
        trade_count=candle.trades,
        taker_buy_volume=quantity(candle.taker_lots),
        taker_buy_quote_volume=market.quote.format(candle.taker_tick_lots * market.quote_per_tick_lot),
        first_trade_id=candle.first_trade_id,
        last_trade_id=candle.last_trade_id,
        closed=closed,
    )


def candles(told: Iterable[pb.Candle]) -> bytes:
    """Candles (none: a heartbeat), as a stream's message. Several such messages joined are one with all of them."""
    return pb.StreamCandlesResponse(candles=told).SerializeToString()
