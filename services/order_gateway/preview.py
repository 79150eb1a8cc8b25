"""What an order would come to if it were placed now, as far as the visible book tells. Pure.

The book decides in the end: it moves on, it has what icebergs hide, and it fills order by order where this sees levels.
"""

from collections.abc import Iterable
from typing import NamedTuple

from services.depth import Depth
from services.errors import Reason, Rejected
from services.locks import lock
from services.market_rules import MarketRules, MarketState
from services.order_gateway.model import (
    CancelCause,
    Order,
    OrderState,
    Placement,
    SelfTradeMode,
    Terms,
    TimeInForce,
    Trigger,
)
from services.records import replaced
from services.units import PPM, Asset, fee

IMMEDIATE = frozenset({TimeInForce.IOC, TimeInForce.FOK})


class Fill(NamedTuple):
    """So much would trade at a price."""

    price_ticks: int
    quantity_lots: int


class Preview(NamedTuple):
    """What would come of an order.

    Attributes:
        fills: by price, best first.
        state: where it would stand then.
        cause: why it would have ended, if canceled.
        price_ticks: its limit: another than it asks for if it would be repriced; 0: none.
        remaining_lots: what would be left of it, also if it would have ended.
        lock: what it would set aside then.
        fee: of the asset that is received: as if each price were one trade.
    """

    fills: tuple[Fill, ...]
    state: OrderState
    cause: CancelCause
    price_ticks: int
    remaining_lots: int
    lock: int
    fee: int


class Previewed(NamedTuple):
    """What would come of an order, and what it needs.

    Attributes:
        asset: what it would set aside.
        needed: how much of that must be available to place it.
        budget: a market buy's, 0 for all others.
        sequence: the event as of which this is.
        preview: the rest.
    """

    asset: Asset
    needed: int
    budget: int
    sequence: int
    preview: Preview


class Moment(NamedTuple):
    """What is known of a market at the moment.

    Attributes:
        last_price_ticks: the last trade's price; 0: none yet.
        reference_ticks: what the price is elsewhere; 0: nothing fresh is known.
        own_lots: by price, what the caller himself has resting on the side that the order would meet.
    """

    state: MarketState
    rules: MarketRules | None
    depth: Depth
    last_price_ticks: int
    reference_ticks: int
    own_lots: dict[int, int]


def own_lots(orders: Iterable[Order], placement: Placement) -> dict[int, int]:
    """What of an account's open orders an order of it may meet, by price."""
    found: dict[int, int] = {}
    for order in orders:
        if order.rests and order.market_id == placement.market.market_id and order.buys != placement.buys:
            found[order.price_ticks] = found.get(order.price_ticks, 0) + order.shown_lots
    return found


def preview(placement: Placement, budget: int, taker_fee_ppm: int, now: Moment) -> Preview:
    """What would come of an order that the gateway lets through.

    Args:
        placement: with the account's self-trade mode in its place.
        budget: of a market buy, base units of the quote asset.
        taker_fee_ppm: the rate that it would pay at once.
        now: the market.

    Raises:
        Rejected: PRICE_OUT_OF_BAND, MARKET_IN_AUCTION, as the book would.
    """
    terms = placement.terms or Terms()
    waits = _waits(placement, terms, now)
    low, high = _band(now)
    if placement.limit and high and not low <= placement.price_ticks <= high and terms.trigger is Trigger.NONE:
        raise Rejected(Reason.PRICE_OUT_OF_BAND, field="price")
    if waits:
        return _ended(placement, budget, OrderState.WAITING)
    if now.state is MarketState.PRE_OPEN:
        can_rest = placement.limit and placement.time_in_force not in IMMEDIATE
        if not can_rest or placement.post_only or terms.minimum_lots:
            raise Rejected(Reason.MARKET_IN_AUCTION, field="market")
        return _ended(placement, budget, OrderState.OPEN)
    placement = _repriced(placement, terms, now.depth)
    edge = placement.price_ticks if placement.limit else (high if placement.buys else low)
    best = now.depth.best(not placement.buys)
    if best is not None and placement.post_only and not _beyond(placement.buys, best, edge):
        return _ended(placement, budget, OrderState.CANCELED, CancelCause.POST_ONLY)
    fills, lost_lots, cause = _walk(placement, terms, budget, edge, now)
    filled = sum(fill.quantity_lots for fill in fills)
    if terms.minimum_lots > filled:
        return _ended(placement, budget, OrderState.CANCELED, CancelCause.MINIMUM)
    if placement.time_in_force is TimeInForce.FOK and filled < placement.quantity_lots:
        return _ended(placement, budget, OrderState.CANCELED, CancelCause.FOK)
    left = placement.quantity_lots - filled - lost_lots
    return _told(placement, budget, fills, left, cause, taker_fee_ppm)


def _walk(
    placement: Placement, terms: Terms, budget: int, edge: int, now: Moment
) -> tuple[tuple[Fill, ...], int, CancelCause]:
    """The fills, what is lost to the caller's own orders, and why it must end with something left, if it must.

    The caller's own orders are taken for the last of their price.
    """
    market, left, lost, fills = placement.market, placement.quantity_lots, 0, list[Fill]()
    budgeted = placement.buys and not placement.limit
    for price_ticks, level_lots in now.depth.levels(not placement.buys):
        if left <= 0:
            break
        if edge and _beyond(placement.buys, price_ticks, edge):
            return tuple(fills), lost, CancelCause.NONE if placement.limit else CancelCause.BAND
        own = 0 if terms.self_trade is SelfTradeMode.ALLOW else now.own_lots.get(price_ticks, 0)
        lots = min(left, level_lots - own)
        if budgeted:
            affordable = budget // market.quote_amount(price_ticks, 1)
            if affordable < min(left, level_lots):
                lots = min(lots, affordable)
        if lots:
            fills.append(Fill(price_ticks, lots))
            budget -= market.quote_amount(price_ticks, lots) if budgeted else 0
            left -= lots
        if budgeted and left and budget < market.quote_amount(price_ticks, 1):
            return tuple(fills), lost, CancelCause.BUDGET
        if own and left:
            if terms.self_trade in {SelfTradeMode.CANCEL_NEWEST, SelfTradeMode.CANCEL_BOTH}:
                return tuple(fills), lost, CancelCause.SELF_TRADE
            if terms.self_trade is SelfTradeMode.DECREMENT:
                lost += min(own, left)
                left -= min(own, left)
                if left == 0:
                    return tuple(fills), lost, CancelCause.SELF_TRADE
    return tuple(fills), lost, CancelCause.NONE


def _told(
    placement: Placement, budget: int, fills: tuple[Fill, ...], left: int, cause: CancelCause, fee_ppm: int
) -> Preview:
    market = placement.market
    quotes = [market.quote_amount(fill.price_ticks, fill.quantity_lots) for fill in fills]
    bases = [market.base_amount(fill.quantity_lots) for fill in fills]
    paid = sum(fee(received, fee_ppm) for received in (bases if placement.buys else quotes))
    if left and cause is CancelCause.NONE and placement.time_in_force in IMMEDIATE:
        cause = CancelCause.IOC
    state = OrderState.CANCELED if cause is not CancelCause.NONE else OrderState.OPEN if left else OrderState.FILLED
    locked = _lock(placement, left, budget - sum(quotes)) if state is OrderState.OPEN else 0
    return Preview(fills, state, cause, placement.price_ticks, left, locked, paid)


def _ended(placement: Placement, budget: int, state: OrderState, cause: CancelCause = CancelCause.NONE) -> Preview:
    """Without a fill."""
    lots = placement.quantity_lots
    locked = 0 if state is OrderState.CANCELED else _lock(placement, lots, budget)
    return Preview((), state, cause, placement.price_ticks, lots, locked, 0)


def _lock(placement: Placement, left: int, budget: int) -> int:
    market = placement.market
    return lock(
        placement.buys,
        placement.limit,
        placement.price_ticks,
        left,
        budget,
        market.base_per_lot,
        market.quote_per_tick_lot,
    )


def _beyond(buys: bool, price_ticks: int, limit_ticks: int) -> bool:
    return price_ticks > limit_ticks if buys else price_ticks < limit_ticks


def _band(now: Moment) -> tuple[int, int]:
    """The lowest and the highest price that the market's band allows; 0 and 0: any."""
    band_ppm = now.rules.band_ppm if now.rules is not None else 0
    middle = now.reference_ticks or now.last_price_ticks
    if not band_ppm or not middle:
        return 0, 0
    low = -(-middle * (PPM - band_ppm) // PPM)
    return max(low, 1), middle * (PPM + band_ppm) // PPM


def _waits(placement: Placement, terms: Terms, now: Moment) -> bool:
    """Whether it has a trigger, and the price is not there."""
    if terms.trigger is Trigger.NONE:
        return False
    price_ticks = now.last_price_ticks
    if terms.trigger_on_quote:
        price_ticks = now.depth.best(not placement.buys) or 0
    if terms.trigger is Trigger.TRAILING or not price_ticks or now.state is not MarketState.OPEN:
        return True
    rises = placement.buys == (terms.trigger is Trigger.STOP)
    return price_ticks < terms.trigger_ticks if rises else price_ticks > terms.trigger_ticks


def _repriced(placement: Placement, terms: Terms, depth: Depth) -> Placement:
    """A post-only order that may be repriced rests one tick short of what it would trade with."""
    best = depth.best(not placement.buys)
    if not terms.reprice or best is None or _beyond(placement.buys, best, placement.price_ticks):
        return placement
    if placement.buys and best == 1:
        return placement
    return replaced(placement, price_ticks=best - 1 if placement.buys else best + 1)
