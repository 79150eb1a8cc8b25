"""Orders in Binance's words, and back."""

from types import MappingProxyType
from typing import Any, Final

from clearbook.v1 import order_service_pb2 as order_pb

from gateway_http.binance.numbers import padded, product
from gateway_http.binance.symbols import Symbols
from gateway_http.wire import KINDS

NO_LIST: Final = -1
NOT_WORKING: Final = -1


TYPES: Final = MappingProxyType(
    {name.upper(): kind for name, kind in KINDS.items() if kind.trigger != order_pb.TRIGGER_TRAILING}
)
"""What an order's type means: ours, but for trailing stops, which Binance asks for in another way."""
SIDES: Final = MappingProxyType({"BUY": order_pb.SIDE_BUY, "SELL": order_pb.SIDE_SELL})
TIMES: Final = MappingProxyType(
    {
        "GTC": order_pb.TIME_IN_FORCE_GTC,
        "IOC": order_pb.TIME_IN_FORCE_IOC,
        "FOK": order_pb.TIME_IN_FORCE_FOK,
    }
)
PREVENTIONS: Final = MappingProxyType(
    {
        "EXPIRE_TAKER": order_pb.SELF_TRADE_PREVENTION_CANCEL_NEWEST,
        "EXPIRE_MAKER": order_pb.SELF_TRADE_PREVENTION_CANCEL_OLDEST,
        "EXPIRE_BOTH": order_pb.SELF_TRADE_PREVENTION_CANCEL_BOTH,
        "DECREMENT": order_pb.SELF_TRADE_PREVENTION_DECREMENT,
        "NONE": order_pb.SELF_TRADE_PREVENTION_NONE,
    }
)

_SIDE_NAMES: Final = {value: name for name, value in SIDES.items()}
_PREVENTION_NAMES: Final = {value: name for name, value in PREVENTIONS.items()} | {
    order_pb.SELF_TRADE_PREVENTION_UNSPECIFIED: "EXPIRE_TAKER"
}
_CANCELED_BY_SOMEBODY: Final = frozenset(
    {
        order_pb.CANCEL_CAUSE_USER,
        order_pb.CANCEL_CAUSE_LINKED,
        order_pb.CANCEL_CAUSE_CANCEL_AFTER,
        order_pb.CANCEL_CAUSE_OPERATOR,
        order_pb.CANCEL_CAUSE_DISCONNECT,
    }
)
_TIME_PREFIX: Final = "TIME_IN_FORCE_"


def type_of(order: order_pb.Order) -> str:
    """The type's name. A trailing stop is a stop."""
    limit = order.type == order_pb.ORDER_TYPE_LIMIT
    if order.trigger == order_pb.TRIGGER_UNSPECIFIED:
        return "MARKET" if not limit else "LIMIT_MAKER" if order.post_only else "LIMIT"
    kind = "TAKE_PROFIT" if order.trigger == order_pb.TRIGGER_TAKE_PROFIT else "STOP_LOSS"
    return f"{kind}_LIMIT" if limit else kind


def status_of(order: order_pb.Order) -> str:
    """Where it stands. One that found nothing more to trade with, or whose time was over, has expired."""
    if order.state == order_pb.ORDER_STATE_FILLED:
        return "FILLED"
    if order.state == order_pb.ORDER_STATE_CANCELED:
        return ended_how(order)
    if order.state == order_pb.ORDER_STATE_WAITING and order.trigger == order_pb.TRIGGER_UNSPECIFIED:
        return "PENDING_NEW"
    return "NEW" if order.filled_quantity in {"", "0"} else "PARTIALLY_FILLED"


def ended_how(order: order_pb.Order) -> str:
    """How an order ended that was not filled."""
    if order.cancel_cause in _CANCELED_BY_SOMEBODY:
        return "CANCELED"
    return "EXPIRED_IN_MATCH" if order.cancel_cause == order_pb.CANCEL_CAUSE_SELF_TRADE else "EXPIRED"


def side_of(side: order_pb.Side.ValueType) -> str:
    """BUY or SELL."""
    return _SIDE_NAMES[side]


def time_of(order: order_pb.Order) -> str:
    """How long it lives; GTD and DAY, which Binance has not, by their own names."""
    return order_pb.TimeInForce.Name(order.time_in_force).removeprefix(_TIME_PREFIX)


def prevention_of(order: order_pb.Order) -> str:
    """What happens when it meets an older one of its account."""
    return _PREVENTION_NAMES[order.self_trade_prevention]


def _named(order: order_pb.Order, symbols: Symbols) -> dict[str, Any]:
    return {
        "symbol": symbols.symbol(order.market),
        "orderId": int(order.order_id),
        "orderListId": NO_LIST,
        "clientOrderId": order.client_order_id,
    }


def _result(order: order_pb.Order) -> dict[str, Any]:
    """What all answers but the shortest tell of an order."""
    told = {
        "price": padded(order.price),
        "origQty": padded(order.quantity),
        "executedQty": padded(order.filled_quantity),
        "origQuoteOrderQty": padded(order.quote_budget),
        "cummulativeQuoteQty": padded(order.filled_quote),
        "status": status_of(order),
        "timeInForce": time_of(order),
        "type": type_of(order),
        "side": side_of(order.side),
    }
    if order.trigger:
        told["stopPrice"] = padded(order.trigger_price)
    if order.display_quantity:
        told["icebergQty"] = padded(order.display_quantity)
    return told


def order_words(order: order_pb.Order, symbols: Symbols) -> dict[str, Any]:
    """An order as GET /api/v3/order tells it."""
    waits = order.state == order_pb.ORDER_STATE_WAITING
    created = order.create_time.ToMilliseconds()
    return {
        **_named(order, symbols),
        "stopPrice": padded(""),
        "icebergQty": padded(""),
        **_result(order),
        "time": created,
        "updateTime": order.event_time.ToMilliseconds(),
        "isWorking": not waits,
        "workingTime": NOT_WORKING if waits else created,
        "selfTradePreventionMode": prevention_of(order),
    }


def placed_words(placed: order_pb.PlaceOrderResponse, symbols: Symbols, detail: str) -> dict[str, Any]:
    """What comes of placing an order, in so much detail: ACK, RESULT or FULL."""
    order = placed.order
    words = {**_named(order, symbols), "transactTime": order.event_time.ToMilliseconds()}
    if detail == "ACK":
        return words
    words |= _result(order)
    if order.state != order_pb.ORDER_STATE_WAITING:
        words["workingTime"] = order.create_time.ToMilliseconds()
    words["selfTradePreventionMode"] = prevention_of(order)
    if detail == "FULL":
        words["fills"] = [
            {
                "price": padded(part.price),
                "qty": padded(part.quantity),
                "commission": padded(part.fee),
                "commissionAsset": part.fee_asset,
                "tradeId": part.trade_id,
            }
            for part in placed.executions
        ]
    return words


def canceled_words(order: order_pb.Order, symbols: Symbols, cancel_id: str) -> dict[str, Any]:
    """What comes of canceling an order. `cancel_id`: what the client calls the cancel."""
    return {
        **_named(order, symbols),
        "origClientOrderId": order.client_order_id,
        "clientOrderId": cancel_id or order.client_order_id,
        "transactTime": order.event_time.ToMilliseconds(),
        **_result(order),
        "selfTradePreventionMode": prevention_of(order),
    }


def execution_words(part: order_pb.Execution, symbols: Symbols) -> dict[str, Any]:
    """A side of a trade as GET /api/v3/myTrades tells it."""
    return {
        "symbol": symbols.symbol(part.market),
        "id": part.trade_id,
        "orderId": int(part.order_id),
        "orderListId": NO_LIST,
        "price": padded(part.price),
        "qty": padded(part.quantity),
        "quoteQty": product(part.price, part.quantity),
        "commission": padded(part.fee),
        "commissionAsset": part.fee_asset,
        "time": part.event_time.ToMilliseconds(),
        "isBuyer": part.side == order_pb.SIDE_BUY,
        "isMaker": part.is_maker,
        "isBestMatch": True,
    }
