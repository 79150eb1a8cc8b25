"""What an order asks beyond the usual: judged field by field on the way in, told on the way out, and to the book."""

from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.v1 import order_service_pb2 as pb

from services.errors import Reason, Rejected
from services.order_gateway import signed_wire
from services.order_gateway.model import Order, SelfTradeMode, Terms, TimeInForce, Trigger
from services.order_gateway.paging import NS_PER_SECOND
from services.units import INT64_MAX, Market

IMMEDIATE = frozenset({TimeInForce.IOC, TimeInForce.FOK})
"""Nothing of such an order may rest."""

_TRIGGERS = {item.value: item for item in Trigger}
_SELF_TRADE_MODES = {
    pb.SELF_TRADE_PREVENTION_UNSPECIFIED: SelfTradeMode.BY_ACCOUNT,
    pb.SELF_TRADE_PREVENTION_CANCEL_NEWEST: SelfTradeMode.CANCEL_NEWEST,
    pb.SELF_TRADE_PREVENTION_CANCEL_OLDEST: SelfTradeMode.CANCEL_OLDEST,
    pb.SELF_TRADE_PREVENTION_CANCEL_BOTH: SelfTradeMode.CANCEL_BOTH,
    pb.SELF_TRADE_PREVENTION_DECREMENT: SelfTradeMode.DECREMENT,
    pb.SELF_TRADE_PREVENTION_NONE: SelfTradeMode.ALLOW,
}
_PREVENTIONS = {mode: number for number, mode in _SELF_TRADE_MODES.items() if number}
_USUAL = Terms(SelfTradeMode.BY_ACCOUNT)


def terms(
    request: pb.PlaceOrderRequest, market: Market, time_in_force: TimeInForce, quantity_lots: int, *, limit: bool
) -> Terms | None:
    """What a PlaceOrder asks beyond the usual; None: nothing.

    Raises:
        Rejected: INVALID_FIELD, INVALID_PRICE, INVALID_QUANTITY, INVALID_TRIGGER, INVALID_DISPLAY, INVALID_MINIMUM,
            INVALID_EXPIRY, INVALID_SIGNATURE with the field.
    """
    if not (
        request.trigger
        or request.self_trade_prevention
        or request.post_only_mode
        or request.display_quantity
        or request.min_quantity
        or request.trigger_price
        or request.trail
        or request.trigger_source
        or time_in_force is TimeInForce.GTD
        or request.HasField("expire_time")
        or request.HasField("signature")
    ):
        return None  # as nearly always
    trigger = _trigger(request)
    asked = Terms(
        self_trade(request.self_trade_prevention),
        _expires_ns(request, time_in_force),
        _minimum_lots(request, market, time_in_force, quantity_lots),
        _reprices(request),
        trigger,
        request.trigger_source == pb.TRIGGER_SOURCE_QUOTE,
        market.price_ticks(request.trigger_price, "trigger_price") if request.trigger_price else 0,
        market.price_ticks(request.trail, "trail") if request.trail else 0,
        _display_lots(request, market, quantity_lots, can_rest=limit and time_in_force not in IMMEDIATE),
    )
    if request.HasField("signature"):
        asked = asked._replace(signed=signed_wire.signed(request, market, time_in_force, asked, quantity_lots))
    if trigger and request.side == pb.SIDE_BUY and not limit and not request.quote_budget:
        raise _invalid("quote_budget", "is missing: a market buy that waits must say what it may spend")
    return None if asked == _USUAL else asked


def self_trade(number: pb.SelfTradePrevention.ValueType) -> SelfTradeMode:
    """What a request says about it. Raises Rejected: INVALID_FIELD."""
    mode = _SELF_TRADE_MODES.get(number)
    if mode is None:
        raise _invalid("self_trade_prevention", f"has no value {number}")
    return mode


def prevention(mode: SelfTradeMode) -> pb.SelfTradePrevention.ValueType:
    """The same as clients see it."""
    return _PREVENTIONS[mode]


def _trigger(request: pb.PlaceOrderRequest) -> Trigger:
    trigger, source = _TRIGGERS.get(request.trigger), request.trigger_source
    if trigger is None:
        raise _invalid("trigger", f"has no value {request.trigger}")
    if source not in pb.TriggerSource.values():
        raise _invalid("trigger_source", f"has no value {source}")
    waits, trails = trigger is not Trigger.NONE, trigger is Trigger.TRAILING
    if source and not waits:
        raise Rejected(Reason.INVALID_TRIGGER, "trigger_source is for orders with a trigger", "trigger_source")
    if trails and source == pb.TRIGGER_SOURCE_QUOTE:
        raise Rejected(Reason.INVALID_TRIGGER, "a trailing stop follows the last price", "trigger_source")
    _belongs(
        request.trigger_price, Reason.INVALID_TRIGGER, "trigger_price", "STOP or TAKE_PROFIT", waits and not trails
    )
    _belongs(request.trail, Reason.INVALID_TRIGGER, "trail", "TRAILING", trails)
    return trigger


def _belongs(given: object, reason: Reason, field: str, kind: str, is_kind: bool) -> None:
    """Refuses a field that is missing where its kind of order needs it, or is there where none may be."""
    if is_kind and not given:
        raise Rejected(reason, f"{field} is missing: {kind} needs one", field)
    if given and not is_kind:
        raise Rejected(reason, f"{field} is for {kind} only", field)


def _expires_ns(request: pb.PlaceOrderRequest, time_in_force: TimeInForce) -> int:
    given = request.HasField("expire_time")
    _belongs(given, Reason.INVALID_EXPIRY, "expire_time", "GTD", time_in_force is TimeInForce.GTD)
    if time_in_force is not TimeInForce.GTD:
        return 0
    seconds, nanos = request.expire_time.seconds, request.expire_time.nanos
    expires_ns = seconds * NS_PER_SECOND + nanos
    if not 0 <= nanos < NS_PER_SECOND or not 0 < expires_ns <= INT64_MAX:
        raise Rejected(Reason.INVALID_EXPIRY, "expire_time is no time that can be", "expire_time")
    return expires_ns


def _minimum_lots(request: pb.PlaceOrderRequest, market: Market, time_in_force: TimeInForce, quantity_lots: int) -> int:
    if not request.min_quantity:
        return 0
    lots = market.quantity_lots(request.min_quantity, "min_quantity")
    if lots > quantity_lots:
        raise Rejected(Reason.INVALID_MINIMUM, "min_quantity is more than the quantity", "min_quantity")
    if request.post_only or time_in_force is TimeInForce.FOK:
        raise Rejected(Reason.INVALID_MINIMUM, "min_quantity is not for post-only or FOK orders", "min_quantity")
    return lots


def _reprices(request: pb.PlaceOrderRequest) -> bool:
    mode = request.post_only_mode
    if mode not in pb.PostOnlyMode.values():
        raise _invalid("post_only_mode", f"has no value {mode}")
    if mode and not request.post_only:
        raise _invalid("post_only_mode", "is for post-only orders")
    return mode == pb.POST_ONLY_MODE_REPRICE


def _display_lots(request: pb.PlaceOrderRequest, market: Market, quantity_lots: int, *, can_rest: bool) -> int:
    if not request.display_quantity:
        return 0
    lots = market.quantity_lots(request.display_quantity, "display_quantity")
    if not can_rest:
        raise Rejected(Reason.INVALID_DISPLAY, "display_quantity is for limit orders that can rest", "display_quantity")
    if lots >= quantity_lots:
        raise Rejected(Reason.INVALID_DISPLAY, "display_quantity is not less than the quantity", "display_quantity")
    return lots


def tell(message: pb.Order, order: Order, market: Market) -> None:
    """Writes what an order asks beyond the usual into what clients see of it."""
    asked = order.terms
    if asked is None:
        return
    if asked.self_trade is not SelfTradeMode.CANCEL_NEWEST:
        message.self_trade_prevention = prevention(asked.self_trade)
    if asked.reprice:
        message.post_only_mode = pb.POST_ONLY_MODE_REPRICE
    if asked.trigger:
        message.trigger = asked.trigger.value  # type: ignore[assignment]  # the numbers are the proto's
        message.trigger_source = pb.TRIGGER_SOURCE_QUOTE if asked.trigger_on_quote else pb.TRIGGER_SOURCE_LAST
    if asked.trigger_ticks:
        message.trigger_price = market.format_price(asked.trigger_ticks)
    if asked.trail_ticks:
        message.trail = market.format_price(asked.trail_ticks)
    if asked.display_lots:
        message.display_quantity = market.format_quantity(asked.display_lots)
    if asked.minimum_lots:
        message.min_quantity = market.format_quantity(asked.minimum_lots)
    if asked.expires_ns:
        stamp = message.expire_time
        stamp.seconds, stamp.nanos = divmod(asked.expires_ns, NS_PER_SECOND)


def write(part: journal.OrderTerms, asked: Terms) -> None:
    """Writes them for the book."""
    part.self_trade = asked.self_trade.value  # type: ignore[assignment]
    part.expires_ns = asked.expires_ns
    part.minimum_lots = asked.minimum_lots
    part.reprice = asked.reprice
    part.trigger = asked.trigger.value  # type: ignore[assignment]
    part.trigger_source = journal.TRIGGER_SOURCE_QUOTE if asked.trigger_on_quote else journal.TRIGGER_SOURCE_UNSPECIFIED
    part.trigger_ticks = asked.trigger_ticks
    part.trail_ticks = asked.trail_ticks
    part.display_lots = asked.display_lots
    part.signed = asked.signed
    part.SetInParent()


def read(message: journal.OrderTerms) -> Terms:
    """What an event of the book tells of them."""
    return Terms(
        SelfTradeMode(message.self_trade),
        message.expires_ns,
        message.minimum_lots,
        message.reprice,
        Trigger(message.trigger),
        message.trigger_source == journal.TRIGGER_SOURCE_QUOTE,
        message.trigger_ticks,
        message.trail_ticks,
        message.display_lots,
        message.signed,
    )


def _invalid(field: str, what: str) -> Rejected:
    return Rejected(Reason.INVALID_FIELD, f"{field} {what}", field)
