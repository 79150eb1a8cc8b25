"""Between protobuf and the publisher's own types."""

from collections.abc import Iterable, Sequence

from clearbook.internal.v1 import journal_pb2
from clearbook.internal.v1.matching_service_pb2 import StreamEventsResponse
from clearbook.v1 import book_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.book.publisher.events import AssetEvent, BookEvent, Event, MarketEvent, OrderEvent, Row, Trade
from services.book.publisher.fold import Change, Fold, Level
from services.market_rules import PPM_PER_BASIS_POINT, MarketRules, MarketState
from services.units import Market

NS_PER_SECOND = 1_000_000_000


def row(response: StreamEventsResponse) -> Row:
    """A journal row, with those of its events that concern market data."""
    time_ns = response.time_ns
    events: list[Event] = []
    for event in journal_pb2.EventBatch.FromString(response.events).events:
        if (sequence := event.market_sequence) and (placed := event.order_placed).HasField("order"):
            events.append(_placed(sequence, placed, time_ns))
        else:
            events += _others(event, time_ns)
    return Row(response.first_journal_sequence, response.last_journal_sequence, time_ns, response.incarnation, events)


def _placed(sequence: int, placed: journal_pb2.OrderPlaced, time_ns: int) -> OrderEvent:
    order = placed.order
    buys = order.side == journal_pb2.SIDE_BUY
    rested = order.quantity_lots - order.filled_lots if order.state == journal_pb2.ORDER_STATE_OPEN else 0
    # Reading anything costs, and most orders that come to rest have not traded.
    trades = tuple(_trades(placed.trades, sequence, buys, time_ns)) if order.filled_lots else ()
    return OrderEvent(order.market_id, sequence, buys, trades, order.price_ticks, rested)


def _others(event: journal_pb2.Event, time_ns: int) -> Sequence[Event]:
    match event.WhichOneof("kind"):
        case "order_canceled" if event.market_sequence:
            order = event.order_canceled.order
            buys, left = order.side == journal_pb2.SIDE_BUY, order.quantity_lots - order.filled_lots
            return (OrderEvent(order.market_id, event.market_sequence, buys, (), order.price_ticks, -left),)
        case "orders_changed":
            return _orders_changed(event.orders_changed, time_ns)
        case "asset_created":
            asset = event.asset_created.asset
            return (AssetEvent(asset.asset_id, asset.symbol, asset.decimals),)
        case "market_created":
            return (_market(event.market_created.market),)
        case "market_changed":
            return (_market(event.market_changed.market),)
        case _:
            return ()


def _orders_changed(changed: journal_pb2.OrdersChanged, time_ns: int) -> list[Event]:
    """The market as it is now, if the command changed it; then every book that it changed."""
    events: list[Event] = [_market(changed.market)] if changed.HasField("market") else []
    for book in changed.books:
        levels = [(level.side == journal_pb2.SIDE_BUY, level.price_ticks, level.lots) for level in book.levels]
        trades: list[Trade] = []
        for step in changed.steps:
            if step.order.market_id == book.market_id:
                buys = step.order.side == journal_pb2.SIDE_BUY
                trades += _trades(step.trades, book.market_sequence, buys, time_ns)
        events.append(BookEvent(book.market_id, book.market_sequence, tuple(levels), tuple(trades)))
    return events


def _trades(trades: Iterable[journal_pb2.Trade], sequence: int, taker_buys: bool, time_ns: int) -> list[Trade]:
    return [
        Trade(t.trade_id, sequence, t.price_ticks, t.quantity_lots, taker_buys, t.settlement_sequence, time_ns)
        for t in trades
    ]


def _market(market: journal_pb2.Market) -> MarketEvent:
    return MarketEvent(
        market.market_id,
        market.symbol,
        market.base_asset_id,
        market.quote_asset_id,
        market.tick_size,
        market.lot_size,
        int(market.notional_min or "0"),
        MarketState(market.state),
        _rules(market.rules) if market.HasField("rules") else None,
    )


def _rules(m: journal_pb2.MarketRules) -> MarketRules:
    return MarketRules(
        m.quantity_min_lots,
        m.quantity_max_lots,
        int(m.notional_max or 0),
        m.band_ppm,
        int(m.notional_min or 0),
        m.open_orders_max,
    )


def market(market: Market, event: MarketEvent, auction: tuple[int, int] | None = None) -> pb.Market:
    """A market as listed.

    Args:
        market: its names and units.
        event: as it is now.
        auction: at which price, in ticks, how many lots would trade if it opened now; None: nobody would.
    """
    rules = event.rules or MarketRules(notional_min=event.notional_min)
    listed = pb.Market(
        market=market.symbol,
        base_asset=market.base.symbol,
        quote_asset=market.quote.symbol,
        tick_size=market.format_price(1),
        lot_size=market.format_quantity(1),
        notional_min=market.quote.format(rules.notional_min),
        state=event.state.value,  # type: ignore[arg-type]  # the numbers are the proto's
        rules=pb.MarketRules(
            quantity_min=market.format_quantity(rules.quantity_min_lots) if rules.quantity_min_lots else "",
            quantity_max=market.format_quantity(rules.quantity_max_lots) if rules.quantity_max_lots else "",
            notional_max=market.quote.format(rules.notional_max) if rules.notional_max else "",
            price_band_basis_points=rules.band_ppm // PPM_PER_BASIS_POINT,
            open_orders_max=rules.open_orders_max,
        ),
    )
    if auction is not None:
        listed.auction.price = market.format_price(auction[0])
        listed.auction.quantity = market.format_quantity(auction[1])
    return listed


def markets(listed: Iterable[pb.Market]) -> bytes:
    """Markets that have changed (none: a heartbeat), as a stream's message."""
    return pb.StreamMarketsResponse(markets=listed).SerializeToString()


def book(fold: Fold, depth: int) -> pb.GetOrderBookResponse:
    """The top `depth` levels."""
    return pb.GetOrderBookResponse(
        market=fold.market.symbol,
        sequence=fold.sequence,
        bids=_levels(fold.market, fold.depth.top(True, depth)),
        asks=_levels(fold.market, fold.depth.top(False, depth)),
        checksum=fold.checksum,
        event_time=_time(fold.time_ns),
    )


def snapshot(fold: Fold, depth: int, lagged: bool, incarnation: str) -> bytes:
    """The whole book (depth 0) or its top, as a stream's message."""
    bids = fold.depth.top(True, depth) if depth else fold.depth.all(True)
    asks = fold.depth.top(False, depth) if depth else fold.depth.all(False)
    return pb.StreamOrderBookResponse(
        snapshot=pb.BookSnapshot(
            market=fold.market.symbol,
            sequence=fold.sequence,
            bids=_levels(fold.market, bids),
            asks=_levels(fold.market, asks),
            checksum=fold.checksum,
            lagged=lagged,
            incarnation=incarnation,
            event_time=_time(fold.time_ns),
        )
    ).SerializeToString()


def delta(market: Market, change: Change) -> bytes:
    """A change, as a stream's message."""
    response = pb.StreamOrderBookResponse()
    message = response.delta  # filled in place: copies took half of the time
    message.sequence, message.previous_sequence = change.sequence, change.previous_sequence
    price, quantity = market.format_price, market.format_quantity
    for ticks, lots in change.bids:
        message.bids.add(price=price(ticks), quantity=quantity(lots))
    for ticks, lots in change.asks:
        message.asks.add(price=price(ticks), quantity=quantity(lots))
    message.checksum = change.checksum
    if change.time_ns:
        message.event_time.seconds, message.event_time.nanos = divmod(change.time_ns, NS_PER_SECOND)
    return response.SerializeToString()


def chained(data: bytes, previous_sequence: int) -> bytes:
    """A delta that follows on another sequence."""
    response = pb.StreamOrderBookResponse.FromString(data)
    response.delta.previous_sequence = previous_sequence
    return response.SerializeToString()


def heartbeat(sequence: int, incarnation: str) -> bytes:
    """A sign of life in a book's stream."""
    return pb.StreamOrderBookResponse(
        heartbeat=pb.BookHeartbeat(sequence=sequence, incarnation=incarnation)
    ).SerializeToString()


def trade(market: Market, trade: Trade) -> pb.Trade:
    """A public trade."""
    return pb.Trade(
        trade_id=trade.trade_id,
        market=market.symbol,
        price=market.format_price(trade.price_ticks),
        quantity=market.format_quantity(trade.quantity_lots),
        taker_side=pb.TAKER_SIDE_BUY if trade.taker_buys else pb.TAKER_SIDE_SELL,
        settlement_sequence=trade.settlement_sequence,
        event_time=_time(trade.time_ns),
    )


def trades(market: Market, trades: Iterable[Trade], last_trade_id: int) -> bytes:
    """Trades (none: a heartbeat), as a stream's message."""
    return pb.StreamTradesResponse(
        trades=[trade(market, each) for each in trades], last_trade_id=last_trade_id
    ).SerializeToString()


def _levels(market: Market, levels: list[Level]) -> list[pb.Level]:
    price, quantity = market.format_price, market.format_quantity
    return [pb.Level(price=price(ticks), quantity=quantity(lots)) for ticks, lots in levels]


def _time(time_ns: int) -> Timestamp | None:
    if not time_ns:
        return None
    seconds, nanos = divmod(time_ns, NS_PER_SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)
