"""Several orders in one call: each judged by itself on the way in, answered by itself on the way out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from clearbook.v1 import order_service_pb2 as pb

from services import protobuf
from services.errors import Reason, Rejected
from services.order_gateway import encoding, group_wire, wire
from services.order_gateway.model import Order, Placed, Replacement, Wanted, WantedGroup
from services.order_gateway.wire import Markets
from services.runtime.status import MESSAGE_CHARS_MAX, number_of
from services.units import Market

Given = ParamSpec("Given")
T = TypeVar("T")

ORDERS_PER_CALL_MAX = 500
BYTES_PER_CALL_MAX = 256 * 1024
CANCEL_AFTER_SECONDS_MAX = 86_400
"""The book refuses more."""
EXECUTIONS_PER_CALL_MAX = 5_000
"""In the answer to one call, the first ones: more might not fit into a message."""
CANCELED_SHOWN_MAX = 5_000
"""In the answer to CancelAllOrders, the oldest ones: more might not fit into a message."""


def check_size(request: pb.PlaceOrdersRequest | pb.ReplaceOrdersRequest | pb.CancelOrdersRequest) -> None:
    """Refuses a call of none (INVALID_FIELD) or of too many orders, or of too many bytes (TOO_LARGE)."""
    if not request.orders:
        raise wire.invalid("orders", "is empty")
    check_bounds(len(request.orders), request.ByteSize(), "call")


def check_bounds(orders: int, size: int, what: str) -> None:
    """Refuses too many orders or bytes in one `what`. Raises Rejected: TOO_LARGE."""
    if orders > ORDERS_PER_CALL_MAX:
        raise Rejected(Reason.TOO_LARGE, f"{orders} orders, at most {ORDERS_PER_CALL_MAX} in one {what}", "orders")
    if size > BYTES_PER_CALL_MAX:
        raise Rejected(Reason.TOO_LARGE, f"{size} bytes, at most {BYTES_PER_CALL_MAX} in one {what}", "orders")


def wanted(request: pb.PlaceOrdersRequest | pb.TradeRequest, made_id: str, markets: Markets) -> list[Wanted | Rejected]:
    """What each of its orders asks for, or what is wrong with it.

    Args:
        request: as it came.
        made_id: an id made of all of it, for orders without one of their own; "": there is none.
        markets: by symbol.
    """
    orders = request.orders
    ids = [f"{made_id}-{place}" for place in range(len(orders))] if made_id else [""] * len(orders)
    number = request.DESCRIPTOR.fields_by_name["orders"].number
    bodies = protobuf.bodies(request.SerializeToString(), number) if encoding.BY_HAND else None
    if bodies is None:
        return [wanted_one(order, order_id, markets) for order, order_id in zip(orders, ids, strict=True)]
    plain = encoding.plain_wanted(bodies, ids, markets)
    return [one or wanted_one(orders[place], ids[place], markets) for place, one in enumerate(plain)]


def wanted_one(request: pb.PlaceOrderRequest, made_id: str, markets: Markets) -> Wanted | Rejected:
    """What one asks for, or what is wrong with it; `made_id`: its id, unless it has one of its own."""
    try:
        return Wanted(wire.placement(request, markets), request.client_order_id or made_id)
    except Rejected as rejected:
        return rejected


def replacements(orders: Iterable[pb.ReplaceOrderRequest]) -> list[Replacement | Rejected]:
    """What each is to become, or what is wrong with it."""
    return [_or_refusal(wire.replacement, order) for order in orders]


def names(orders: Iterable[pb.CancelOrderRequest]) -> list[int | str | Rejected]:
    """Which order each names, or what is wrong with it."""
    return [_or_refusal(wire.order_name, order) for order in orders]


def groups(asked: Iterable[pb.PlaceGroupRequest], markets: Markets) -> list[WantedGroup | Rejected]:
    """What each group asks for, or what is wrong with it."""
    return [_or_refusal(group_wire.wanted, group, "", markets) for group in asked]


def _or_refusal(read: Callable[Given, T], *args: Given.args, **named: Given.kwargs) -> T | Rejected:
    """What is read of one of several, or what is wrong with it: the others are read all the same."""
    try:
        return read(*args, **named)
    except Rejected as rejected:
        return rejected


def buys_only(side: int) -> bool | None:
    """Whether only buys (True) or only sells (False) are meant; None: both."""
    if side not in {pb.SIDE_UNSPECIFIED, pb.SIDE_BUY, pb.SIDE_SELL}:
        raise wire.invalid("side", f"has no value {side}")
    return None if side == pb.SIDE_UNSPECIFIED else side == pb.SIDE_BUY


def cancel_after_seconds(seconds: int) -> int:
    """Checks how long a switch may run. Raises Rejected: INVALID_FIELD."""
    if not 0 <= seconds <= CANCEL_AFTER_SECONDS_MAX:
        raise wire.invalid("seconds", f"must be 0 to {CANCEL_AFTER_SECONDS_MAX}, not {seconds}")
    return seconds


def refusal(rejected: Rejected) -> pb.Refusal:
    """Why one of several was refused."""
    reason, message = rejected.reason, rejected.message[:MESSAGE_CHARS_MAX]
    return pb.Refusal(code=number_of(reason), reason=reason.name, message=message, field=rejected.field)


def placed(outcomes: Sequence[Placed | Rejected], markets: Mapping[int, Market]) -> pb.PlaceOrdersResponse:
    """The answer to PlaceOrders."""
    response, room = pb.PlaceOrdersResponse(), EXECUTIONS_PER_CALL_MAX
    for outcome in outcomes:
        message = response.outcomes.add()
        if isinstance(outcome, Rejected):
            message.refusal.CopyFrom(refusal(outcome))
        else:
            executions = outcome.executions[:room]
            room -= len(executions)
            message.placed.CopyFrom(wire.placed(outcome.order, executions, markets[outcome.order.market_id]))
    return response


def replaced(outcomes: Sequence[Placed | Rejected], markets: Mapping[int, Market]) -> pb.ReplaceOrdersResponse:
    """The answer to ReplaceOrders."""
    response, room = pb.ReplaceOrdersResponse(), EXECUTIONS_PER_CALL_MAX
    for outcome in outcomes:
        message = response.outcomes.add()
        if isinstance(outcome, Rejected):
            message.refusal.CopyFrom(refusal(outcome))
        else:
            executions, market = outcome.executions[:room], markets[outcome.order.market_id]
            room -= len(executions)
            message.replaced.order.CopyFrom(wire.order(outcome.order, market))
            message.replaced.executions.extend([wire.execution(item, market) for item in executions])
    return response


def canceled(outcomes: Sequence[Order | Rejected], markets: Mapping[int, Market]) -> pb.CancelOrdersResponse:
    """The answer to CancelOrders."""
    response = pb.CancelOrdersResponse()
    for outcome in outcomes:
        message = response.outcomes.add()
        if isinstance(outcome, Rejected):
            message.refusal.CopyFrom(refusal(outcome))
        else:
            message.canceled.order.CopyFrom(wire.order(outcome, markets[outcome.market_id]))
    return response


def all_canceled(orders: Sequence[Order], markets: Mapping[int, Market]) -> pb.CancelAllOrdersResponse:
    """The answer to CancelAllOrders."""
    shown = [wire.order(order, markets[order.market_id]) for order in orders[:CANCELED_SHOWN_MAX]]
    return pb.CancelAllOrdersResponse(orders=shown, canceled_count=len(orders))
