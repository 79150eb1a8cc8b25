"""Between protobuf and the publisher's own types."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from clearbook.internal.v1 import journal_pb2
from clearbook.internal.v1.matching_service_pb2 import StreamEventsResponse
from clearbook.v1 import book_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services import journal_orders
from services.book.publisher.checksum import CHECKSUM_LEVELS
from services.book.publisher.events import (
    AssetEvent,
    BookEvent,
    Event,
    MarketEvent,
    OrderEvent,
    ReferenceEvent,
    Row,
    Step,
    Trade,
)
from services.book.publisher.fold import Change, Fold, Level
from services.book.publisher.page_token import page_token, read_numbers
from services.book.publisher.resting import Resting
from services.depth import Depth
from services.market_rules import PPM_PER_BASIS_POINT, MarketRules, MarketState
from services.reference import REFERENCE_AGE_SECONDS_DEFAULT
from services.units import Market

NS_PER_SECOND = 1_000_000_000
ORDERS_MAX = 20_000
"""In one message: clients take no more than 4 MiB."""
PLACE_NUMBERS = 3
"""In a page's token, behind market and depth: the side, the price and the priority of the last order told."""


def row(response: StreamEventsResponse) -> Row:
    """A journal row, with those of its events that concern market data."""
    time_ns = response.time_ns
    read = _events_by_hand if journal_orders.BY_HAND else _events
    events = read(response.events, time_ns)
    return Row(response.first_journal_sequence, response.last_journal_sequence, time_ns, response.incarnation, events)


def _events(batch: bytes, time_ns: int) -> list[Event]:
    events: list[Event] = []
    for event in journal_pb2.EventBatch.FromString(batch).events:
        if (sequence := event.market_sequence) and (placed := event.order_placed).HasField("order"):
            events.append(_placed(sequence, placed, time_ns))
        else:
            events += _others(event, time_ns)
    return events


def _events_by_hand(batch: bytes, time_ns: int) -> list[Event]:
    """As _events; whatever is not plain is read there."""
    events: list[Event] = []
    try:
        for event in journal_orders.plain_orders(batch):
            if isinstance(event, bytes):
                events += _events(event, time_ns)
            elif event[1]:
                market_id, sequence, buys, price_ticks, lots, order_id = event
                events.append(OrderEvent(market_id, sequence, buys, (), price_ticks, lots, order_id))
    except (IndexError, ValueError):  # what is damaged: what to make of it is protobuf's to say
        return _events(batch, time_ns)
    return events


def _placed(sequence: int, placed: journal_pb2.OrderPlaced, time_ns: int) -> OrderEvent:
    order = placed.order
    buys = order.side == journal_pb2.SIDE_BUY
    rested = order.quantity_lots - order.filled_lots if order.state == journal_pb2.ORDER_STATE_OPEN else 0
    # Reading anything costs, and most orders that come to rest have not traded.
    trades = tuple(_trades(placed.trades, sequence, buys, time_ns)) if order.filled_lots else ()
    return OrderEvent(order.market_id, sequence, buys, trades, order.price_ticks, rested, order.order_id)


def _others(event: journal_pb2.Event, time_ns: int) -> Sequence[Event]:
    match event.WhichOneof("kind"):
        case "order_canceled" if event.market_sequence:
            order = event.order_canceled.order
            buys, left = order.side == journal_pb2.SIDE_BUY, order.quantity_lots - order.filled_lots
            event_of = (order.market_id, event.market_sequence, buys, (), order.price_ticks, -left, order.order_id)
            return (OrderEvent(*event_of),)
        case "orders_changed":
            return _orders_changed(event.orders_changed, time_ns)
        case "asset_created":
            asset = event.asset_created.asset
            return (AssetEvent(asset.asset_id, asset.symbol, asset.decimals),)
        case "market_created":
            return (_market(event.market_created.market),)
        case "market_changed":
            return (_market(event.market_changed.market),)
        case "reference_price_set":
            told = event.reference_price_set
            return (ReferenceEvent(told.market_id, told.price_ticks, told.source, told.observed_ns),)
        case _:
            return ()


def _orders_changed(changed: journal_pb2.OrdersChanged, time_ns: int) -> list[Event]:
    """The market as it is now, if the command changed it; then every book that it changed."""
    events: list[Event] = [_market(changed.market)] if changed.HasField("market") else []
    for book in changed.books:
        levels = [(level.side == journal_pb2.SIDE_BUY, level.price_ticks, level.lots) for level in book.levels]
        steps = [
            _step(step, book.market_sequence, time_ns)
            for step in changed.steps
            if step.order.market_id == book.market_id
        ]
        trades = tuple(trade for step in steps for trade in step.trades)
        events.append(BookEvent(book.market_id, book.market_sequence, tuple(levels), trades, tuple(steps)))
    return events


def _step(step: journal_pb2.OrderChanged, sequence: int, time_ns: int) -> Step:
    order = step.order
    buys = order.side == journal_pb2.SIDE_BUY
    rests = order.state == journal_pb2.ORDER_STATE_OPEN
    return Step(
        order.order_id,
        buys,
        order.price_ticks,
        order.quantity_lots - order.filled_lots if rests else 0,
        order.terms.display_lots,
        tuple(_trades(step.trades, sequence, buys, time_ns)),
    )


def _trades(trades: Iterable[journal_pb2.Trade], sequence: int, taker_buys: bool, time_ns: int) -> list[Trade]:
    return [
        Trade(
            t.trade_id,
            sequence,
            t.price_ticks,
            t.quantity_lots,
            taker_buys,
            t.settlement_sequence,
            time_ns,
            t.maker_order_id,
        )
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
        m.reference_age_max_seconds,
        m.signed_orders,
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
            reference_age_max_seconds=rules.reference_age_max_seconds or REFERENCE_AGE_SECONDS_DEFAULT,
            signed_orders=rules.signed_orders,
        ),
    )
    if auction is not None:
        listed.auction.price = market.format_price(auction[0])
        listed.auction.quantity = market.format_quantity(auction[1])
    return listed


def markets(listed: Iterable[pb.Market]) -> bytes:
    """Markets that have changed (none: a heartbeat), as a stream's message."""
    return pb.StreamMarketsResponse(markets=listed).SerializeToString()


def book(fold: Fold, shown: Depth, depth: int, checksum: int) -> pb.GetOrderBookResponse:
    """The `depth` best levels of a book, as they are shown."""
    return pb.GetOrderBookResponse(
        market=fold.market.symbol,
        sequence=fold.sequence,
        bids=_levels(fold.market, shown.top(True, depth)),
        asks=_levels(fold.market, shown.top(False, depth)),
        checksum=checksum,
        event_time=timestamp(fold.time_ns),
        state=fold.state.value,  # type: ignore[arg-type]  # the numbers are the proto's
    )


def book_of_orders(fold: Fold, depth: int, checksum: int, token: str) -> pb.GetOrderBookResponse:
    """A page of the orders of the `depth` best prices, bids before asks. Raises Rejected(INVALID_FIELD): the token."""
    told = pb.GetOrderBookResponse(
        market=fold.market.symbol,
        sequence=fold.sequence,
        checksum=checksum,
        event_time=timestamp(fold.time_ns),
        state=fold.state.value,  # type: ignore[arg-type]
    )
    prefix = fold.market.market_id, depth
    after = read_numbers(token, PLACE_NUMBERS, *prefix) if token else [0, 0, 0]
    found = islice(_behind(fold, depth, *after), ORDERS_MAX + 1)
    last: Resting | None = None
    for count, order in enumerate(found):
        if count == ORDERS_MAX and last is not None:
            told.next_page_token = page_token(*prefix, 0 if last.buys else 1, last.price_ticks, last.priority)
            break
        (told.bid_orders if order.buys else told.ask_orders).append(_order(fold.market, order, order.lots))
        last = order
    return told


def _behind(fold: Fold, depth: int, side: int, price_ticks: int, priority: int) -> Iterator[Resting]:
    """The orders of the `depth` best prices, bids (side 0) before asks (1), behind a place; price 0: all of a side."""
    for number, buys in ((0, True), (1, False)):
        if number < side:
            continue
        for line in fold.orders.lines(buys, fold.depth, depth):
            for order in line.values():
                if number == side and price_ticks:
                    better = order.price_ticks > price_ticks if buys else order.price_ticks < price_ticks
                    if better:
                        break  # the whole line is before the place
                    if order.price_ticks == price_ticks and order.priority <= priority:
                        continue
                yield order


def snapshot(
    fold: Fold, bids: list[Level], asks: list[Level], now: tuple[int, int, int], lagged: bool, incarnation: str
) -> bytes:
    """A book's levels as a stream's message; `now`: sequence, checksum and time of what was told."""
    market, (sequence, checksum, time_ns) = fold.market, now
    return pb.StreamOrderBookResponse(
        snapshot=pb.BookSnapshot(
            market=market.symbol,
            sequence=sequence,
            bids=_levels(market, bids),
            asks=_levels(market, asks),
            checksum=checksum,
            lagged=lagged,
            incarnation=incarnation,
            event_time=timestamp(time_ns),
            state=fold.state.value,  # type: ignore[arg-type]
        )
    ).SerializeToString()


def orders_snapshot(fold: Fold, sequence: int, checksum: int, lagged: bool, incarnation: str) -> list[bytes]:
    """All orders of a book as a stream's messages: a snapshot, and if they are many, changes that change no sequence.

    The snapshot has the ten best prices whole, so the checksum is that of each message.
    """
    snapshot = pb.StreamOrderBookResponse(
        snapshot=pb.BookSnapshot(
            market=fold.market.symbol,
            sequence=sequence,
            checksum=checksum,
            lagged=lagged,
            incarnation=incarnation,
            event_time=timestamp(fold.time_ns),
            bid_orders=_line_up(fold, True, CHECKSUM_LEVELS),
            ask_orders=_line_up(fold, False, CHECKSUM_LEVELS),
            state=fold.state.value,  # type: ignore[arg-type]
        )
    )
    messages, first = [snapshot], snapshot.snapshot
    place: pb.BookSnapshot | pb.BookDelta = first
    told = {"bid_orders": len(first.bid_orders), "ask_orders": len(first.ask_orders)}
    room = ORDERS_MAX - sum(told.values())
    for buys, name in ((True, "bid_orders"), (False, "ask_orders")):
        for order in islice(_line_up(fold, buys), told[name], None):
            if room <= 0:
                numbers = pb.BookDelta(sequence=sequence, previous_sequence=sequence, checksum=checksum)
                messages.append(pb.StreamOrderBookResponse(delta=numbers))
                place, room = messages[-1].delta, ORDERS_MAX
            getattr(place, name).append(order)
            room -= 1
    return [message.SerializeToString() for message in messages]


def orders_delta(
    market: Market, numbers: tuple[int, int, int, int], bids: list[tuple[Resting, int]], asks: list[tuple[Resting, int]]
) -> bytes:
    """Orders that are not what they were, as a stream's message.

    Args:
        market: where.
        numbers: sequence, the one before it, the checksum, the time.
        bids: each with what it shows now; 0: it is gone.
        asks: the same.
    """
    sequence, previous_sequence, checksum, time_ns = numbers
    return pb.StreamOrderBookResponse(
        delta=pb.BookDelta(
            sequence=sequence,
            previous_sequence=previous_sequence,
            checksum=checksum,
            event_time=timestamp(time_ns),
            bid_orders=[_order(market, order, lots) for order, lots in bids],
            ask_orders=[_order(market, order, lots) for order, lots in asks],
        )
    ).SerializeToString()


def _line_up(fold: Fold, buys: bool, depth: int | None = None) -> Iterator[pb.BookOrder]:
    lines = fold.orders.lines(buys, fold.depth, depth)
    return (_order(fold.market, order, order.lots) for line in lines for order in line.values())


def _order(market: Market, order: Resting, lots: int) -> pb.BookOrder:
    return pb.BookOrder(
        order_id=str(order.order_id),
        price=market.format_price(order.price_ticks),
        quantity=market.format_quantity(lots),
        priority=order.priority,
        event_time=timestamp(order.time_ns),
    )


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


def heartbeat(sequence: int, incarnation: str, state: MarketState) -> bytes:
    """A sign of life in a book's stream, and what the market's state is."""
    return pb.StreamOrderBookResponse(
        heartbeat=pb.BookHeartbeat(sequence=sequence, incarnation=incarnation, state=state.value)  # type: ignore[arg-type]
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
        event_time=timestamp(trade.time_ns),
    )


def trades(market: Market, trades: Iterable[Trade], last_trade_id: int) -> bytes:
    """Trades (none: a heartbeat), as a stream's message."""
    return pb.StreamTradesResponse(
        trades=[trade(market, each) for each in trades], last_trade_id=last_trade_id
    ).SerializeToString()


def _levels(market: Market, levels: list[Level]) -> list[pb.Level]:
    price, quantity = market.format_price, market.format_quantity
    return [pb.Level(price=price(ticks), quantity=quantity(lots)) for ticks, lots in levels]


def timestamp(time_ns: int) -> Timestamp | None:
    """As protobuf has it; 0: none."""
    if not time_ns:
        return None
    seconds, nanos = divmod(time_ns, NS_PER_SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)
