"""Orders as Binance's clients ask for them, as requests of OrderService. What the numbers mean is for it to check."""

from types import MappingProxyType
from typing import Final, NamedTuple

from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import order_service_pb2 as order_pb

from gateway_http.binance.numbers import product, quotient, whole_steps
from gateway_http.binance.order_words import PREVENTIONS, SIDES, TIMES, TYPES
from gateway_http.binance.parameters import Params
from gateway_http.binance.refusals import NEW_ORDER_REJECTED, Refused, missing, not_valid
from gateway_http.wire import Kind

BUDGET_FACTOR: Final = "1.05"
"""A market buy that waits may spend so much more than its stopPrice says: what an order at market may, too."""
DETAILS: Final = MappingProxyType({"ACK": "ACK", "RESULT": "RESULT", "FULL": "FULL"})
_MARKED: Final = frozenset({"MARKET", "LIMIT"})


class Names(NamedTuple):
    """What an order's parameters are called: in a list of orders they begin with the part that it has there."""

    type: str = "type"
    side: str = "side"
    quantity: str = "quantity"
    time: str = "timeInForce"
    price: str = "price"
    stop: str = "stopPrice"
    trailing: str = "trailingDelta"
    iceberg: str = "icebergQty"
    client_order_id: str = "newClientOrderId"
    strategy_id: str = "strategyId"
    strategy_type: str = "strategyType"

    @classmethod
    def of(cls, part: str, *, side: str = "", quantity: str = "") -> "Names":
        """Of one order of a list; `side` and `quantity`: where it shares them with others."""
        named = {field: part + name[0].upper() + name[1:] for field, name in cls._field_defaults.items()}
        named["client_order_id"] = f"{part}ClientOrderId"
        return cls(**named | {"side": side or f"{part}Side", "quantity": quantity or f"{part}Quantity"})


PLAIN: Final = Names()


def order_request(
    params: Params, market: book_pb.Market, names: Names = PLAIN, best_ask: str = ""
) -> order_pb.PlaceOrderRequest:
    """One order.

    Args:
        params: of the request.
        market: whose order.
        names: what its parameters are called.
        best_ask: the market's, for a quoteOrderQty; "": there is none.

    Raises:
        Refused: a parameter.
    """
    kind = _type(params, names)
    side = params.choice(names.side, SIDES, order_pb.SIDE_UNSPECIFIED)
    if side == order_pb.SIDE_UNSPECIFIED:
        raise missing(names.side)
    params.integer(names.strategy_id)
    params.integer(names.strategy_type)
    params.refuse(names.trailing, "trailing stops follow by an amount here; see docs/binance.md")
    request = order_pb.PlaceOrderRequest(
        client_order_id=params.client_order_id(names.client_order_id),
        market=market.market,
        side=side,
        type=order_pb.ORDER_TYPE_LIMIT if kind.limit else order_pb.ORDER_TYPE_MARKET,
        trigger=kind.trigger,
        post_only=kind.post_only,
        quantity=params.decimal(names.quantity),
        display_quantity=params.decimal(names.iceberg),
        self_trade_prevention=params.choice(
            "selfTradePreventionMode", PREVENTIONS, order_pb.SELF_TRADE_PREVENTION_UNSPECIFIED
        ),
    )
    _add_price(request, params, names, kind)
    _add_quantity(request, params, names, market, best_ask)
    if request.trigger and not kind.limit and side == order_pb.SIDE_BUY:
        cost = product(product(request.trigger_price, request.quantity), BUDGET_FACTOR)
        request.quote_budget = whole_steps(cost, product(market.tick_size, market.lot_size))
    return request


def detail_of(params: Params) -> str:
    """How much the answer tells: as newOrderRespType says, else all of a LIMIT or MARKET order, little of others."""
    kind = params.optional("type")
    return params.choice("newOrderRespType", DETAILS, "FULL" if kind in _MARKED else "ACK")


def asks_for_quote(params: Params) -> bool:
    """Whether an order is for an amount of the quote asset."""
    return "quoteOrderQty" in params


def _type(params: Params, names: Names) -> Kind:
    kind = TYPES.get(params.text(names.type))
    if kind is None:
        raise not_valid(names.type)
    return kind


def _add_price(request: order_pb.PlaceOrderRequest, params: Params, names: Names, kind: Kind) -> None:
    if kind.trigger:
        request.trigger_price = params.decimal(names.stop)
        if not request.trigger_price:
            raise missing(names.stop)
    else:
        params.refuse(names.stop, "the order waits for nothing")
    if not kind.limit:
        params.refuse(names.price, "the order is at market")
        params.refuse(names.time, "the order is at market")
        return
    request.price = params.decimal(names.price)
    if not request.price:
        raise missing(names.price)
    if kind.post_only:
        params.refuse(names.time, "the order is for makers")
        return
    request.time_in_force = params.choice(names.time, TIMES, order_pb.TIME_IN_FORCE_UNSPECIFIED)
    if request.time_in_force == order_pb.TIME_IN_FORCE_UNSPECIFIED:
        raise missing(names.time)


def _add_quantity(
    request: order_pb.PlaceOrderRequest, params: Params, names: Names, market: book_pb.Market, best_ask: str
) -> None:
    if not asks_for_quote(params):
        if not request.quantity:
            raise missing(names.quantity)
        return
    if names is not PLAIN or request.type != order_pb.ORDER_TYPE_MARKET or request.trigger:
        params.refuse("quoteOrderQty", "it is for MARKET orders")
    params.refuse(names.quantity, "quoteOrderQty says how much")
    if request.side != order_pb.SIDE_BUY:
        params.refuse("quoteOrderQty", "it is for buying; a sell says its quantity")
    budget = params.decimal("quoteOrderQty")
    if not best_ask:
        raise Refused(NEW_ORDER_REJECTED, "There is nothing to buy.")
    request.quote_budget = budget
    request.quantity = whole_steps(quotient(budget, best_ask, len(market.lot_size)), market.lot_size)
