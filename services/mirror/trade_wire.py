"""What the mirror asks on its Trade stream, and what the answers tell it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import grpc
from clearbook.v1 import book_service_pb2 as book
from clearbook.v1 import order_service_pb2 as orders

from services.mirror.moves import Moves, Resting
from services.mirror.quotes import Grid
from services.units import Asset, FixedPoint, Market, market_of

POST_ONLY = "POST_ONLY"
DECIMALS_ENOUGH = 36
"""Amounts are not counted here: any decimals that are enough will do."""

Request = orders.TradeRequest
Answer = orders.TradeAnswer
Stream = grpc.aio.StreamStreamCall[orders.TradeRequest, orders.TradeResponse]


@dataclass
class Refused:
    """What of a request was not done: how often for which reason, and the orders that could not be moved."""

    reasons: Counter[str] = field(default_factory=Counter)
    stuck: list[str] = field(default_factory=list)


def market_from(entry: book.Market) -> Market:
    """Our market's steps and how its numbers are written."""
    base, quote = (Asset(n, name, DECIMALS_ENOUGH) for n, name in ((1, entry.base_asset), (2, entry.quote_asset)))
    return market_of(1, entry.market, base, quote, entry.tick_size, entry.lot_size)


def grid_from(entry: book.Market) -> Grid | None:
    """Our market's steps and least orders in units; None if they are finer than that."""
    limits = {
        "quantity_min": entry.rules.quantity_min,
        "quantity_max": entry.rules.quantity_max,
        "notional_min": entry.notional_min,
    }
    market = market_from(entry)
    return Grid.of(
        market.tick, market.lot, **{name: FixedPoint.parse(text, name) for name, text in limits.items() if text}
    )


def resting_from(found: Iterable[orders.Order], market: Market) -> list[Resting]:
    """Open orders of ours, but not those that wait, or have no price: these the mirror did not place."""
    return [_resting(order, market) for order in found if order.state == orders.ORDER_STATE_OPEN]


def _resting(order: orders.Order, market: Market) -> Resting:
    filled = market.quantity_lots(order.filled_quantity) if order.filled_quantity != "0" else 0
    left = market.quantity_lots(order.quantity) - filled
    return Resting(order.order_id, order.side == orders.SIDE_BUY, market.price_ticks(order.price), left, filled)


def request_of(moves: Moves, market: Market, number: int) -> orders.TradeRequest:
    """All moves in one request; new quotes are post-only."""
    return orders.TradeRequest(
        request_id=number,
        cancel_on_disconnect=True,
        ack=orders.ACK_LEVEL_RESULT,
        cancels=[orders.CancelOrderRequest(order_id=order_id) for order_id in moves.cancels],
        replaces=[
            orders.ReplaceOrderRequest(
                order_id=move.order_id,
                price=market.format_price(move.ticks),
                quantity=market.format_quantity(move.lots),
            )
            for move in moves.replaces
        ],
        orders=[
            orders.PlaceOrderRequest(
                market=market.symbol,
                side=orders.SIDE_BUY if place.buys else orders.SIDE_SELL,
                type=orders.ORDER_TYPE_LIMIT,
                price=market.format_price(place.ticks),
                quantity=market.format_quantity(place.lots),
                post_only=True,
            )
            for place in moves.places
        ],
    )


def withdrawal_of(market: Market, number: int) -> orders.TradeRequest:
    """All that we have open in the market is canceled."""
    return orders.TradeRequest(
        request_id=number,
        cancel_on_disconnect=True,
        ack=orders.ACK_LEVEL_ACCEPTED,
        cancel_all=orders.CancelAllOrdersRequest(market=market.symbol),
    )


def refused_in(answer: orders.TradeAnswer, moves: Moves) -> Refused:
    """What of the moves was not done. A new quote that would have traded at once counts as refused, POST_ONLY."""
    found = Refused()
    if answer.HasField("refusal"):
        found.reasons[answer.refusal.reason] += 1
        return found
    for move, outcome in zip(moves.replaces, answer.replaces, strict=True):
        if outcome.HasField("refusal"):
            found.reasons[outcome.refusal.reason] += 1
            found.stuck.append(move.order_id)
    for outcome in answer.orders:
        if outcome.HasField("refusal"):
            found.reasons[outcome.refusal.reason] += 1
        elif outcome.cancel_cause == orders.CANCEL_CAUSE_POST_ONLY:
            found.reasons[POST_ONLY] += 1
    return found


def answer_in(read: object) -> Answer | None:
    """The answer in what was read while one request was on its way; None: the stream has ended."""
    return read.answers[0] if isinstance(read, orders.TradeResponse) else None


def withdrawal_refused(answer: Answer) -> str:
    """Why a withdrawal was not done, perhaps not wholly; empty if it was."""
    if answer.HasField("refusal"):
        return answer.refusal.reason
    return answer.cancel_all.refusal.reason
