"""OrderService.Trade: requests judged as a whole, outcomes told at the level that was asked for."""

from collections.abc import Mapping, Sequence

from clearbook.v1 import order_service_pb2 as pb

from services.errors import Reason, Rejected
from services.order_gateway import wire
from services.order_gateway.batch_wire import BYTES_PER_CALL_MAX, EXECUTIONS_PER_CALL_MAX, ORDERS_PER_CALL_MAX, refusal
from services.order_gateway.model import Order, Placed
from services.units import Market

Outcome = Placed | Order | Rejected


def items(request: pb.TradeRequest) -> int:
    """How many cancels and orders a request holds."""
    return len(request.cancels) + len(request.orders)


def check(request: pb.TradeRequest) -> None:
    """Refuses a request of nothing or of an unknown level (INVALID_FIELD), or of too much (TOO_LARGE)."""
    count, size = items(request), request.ByteSize()
    if not count:
        raise wire.invalid("orders", "is empty, and so is cancels")
    if count > ORDERS_PER_CALL_MAX:
        raise Rejected(Reason.TOO_LARGE, f"{count} orders, at most {ORDERS_PER_CALL_MAX} in one request", "orders")
    if size > BYTES_PER_CALL_MAX:
        raise Rejected(Reason.TOO_LARGE, f"{size} bytes, at most {BYTES_PER_CALL_MAX} in one request", "orders")
    if request.ack not in pb.AckLevel.values():
        raise wire.invalid("ack", f"has no value {request.ack}")


def fits(count: int, executions: int) -> bool:
    """Whether one message may answer requests of so many orders, with so many executions."""
    return count <= ORDERS_PER_CALL_MAX and executions <= EXECUTIONS_PER_CALL_MAX


def executions(outcomes: Sequence[Outcome]) -> int:
    """How many executions an answer of level FULL shows."""
    taken = sum(len(outcome.executions) for outcome in outcomes if isinstance(outcome, Placed))
    return min(taken, EXECUTIONS_PER_CALL_MAX)


def add_answer(
    response: pb.TradeResponse,
    request_id: int,
    ack: int,
    cancels: Sequence[Outcome],
    orders: Sequence[Outcome],
    markets: Mapping[int, Market],
) -> None:
    """Adds the answer to one request."""
    answer = response.answers.add(request_id=request_id)
    room = EXECUTIONS_PER_CALL_MAX
    for outcome in cancels:
        _tell(answer.cancels.add(), outcome, ack, markets, 0)
    for outcome in orders:
        room -= _tell(answer.orders.add(), outcome, ack, markets, room)


def add_refusal(response: pb.TradeResponse, request_id: int, rejected: Rejected) -> None:
    """Adds the answer to a request of which nothing was taken."""
    response.answers.add(request_id=request_id, refusal=refusal(rejected))


def _tell(message: pb.TradeOutcome, outcome: Outcome, ack: int, markets: Mapping[int, Market], room: int) -> int:
    """Says what became of one; how many executions it shows, at most `room`."""
    if isinstance(outcome, Rejected):
        message.refusal.CopyFrom(refusal(outcome))
        return 0
    order = outcome.order if isinstance(outcome, Placed) else outcome
    message.order_id, message.client_order_id = str(order.order_id), order.client_order_id
    if ack == pb.ACK_LEVEL_ACCEPTED:
        return 0
    market = markets[order.market_id]
    message.state = order.state.value  # type: ignore[assignment]  # the numbers are the proto's
    message.cancel_cause = order.cause.value  # type: ignore[assignment]
    message.filled_quantity = market.format_quantity(order.filled_lots)
    message.filled_quote = market.quote.format(order.filled_quote)
    if ack != pb.ACK_LEVEL_FULL:
        return 0
    message.order.CopyFrom(wire.order(order, market))
    shown = outcome.executions[:room] if isinstance(outcome, Placed) else ()
    message.executions.extend(wire.execution(item, market) for item in shown)
    return len(shown)
