"""OrderService.Trade: requests judged as a whole, outcomes told at the level that was asked for."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from clearbook.v1 import order_service_pb2 as pb

from services.errors import Rejected
from services.order_gateway import encoding, wire
from services.order_gateway.batch_wire import EXECUTIONS_PER_CALL_MAX, ORDERS_PER_CALL_MAX, check_bounds, refusal
from services.order_gateway.model import Order, Placed
from services.units import Market

Outcome = Placed | Order | Rejected
CANCELED_SHOWN_MAX = ORDERS_PER_CALL_MAX
"""Of all that were canceled at once, in an answer."""


class Outcomes(NamedTuple):
    """What became of all that one request asked for; None: it did not ask that all be canceled."""

    cancel_all: Sequence[Order] | Rejected | None
    cancels: Sequence[Order | Rejected]
    replaces: Sequence[Placed | Rejected]
    orders: Sequence[Placed | Rejected]
    groups: Sequence[Sequence[Placed | Rejected]]


def items(request: pb.TradeRequest) -> int:
    """How much a request holds: cancels, replaces and orders, those of groups too, and one for all."""
    count = len(request.cancels) + len(request.orders)
    if request.replaces or request.groups or request.HasField("cancel_all"):
        count += len(request.replaces) + grouped(request) + request.HasField("cancel_all")
    return count


def grouped(request: pb.TradeRequest) -> int:
    """How many orders its groups hold; a group of none counts."""
    return sum(max(len(group.exits) + group.HasField("entry"), 1) for group in request.groups)


def check(request: pb.TradeRequest) -> None:
    """Refuses a request of nothing or of an unknown level (INVALID_FIELD), or of too much (TOO_LARGE)."""
    count = items(request)
    if not count:
        raise wire.invalid("orders", "is empty, and so are all the others")
    check_bounds(count, request.ByteSize(), "request")
    if request.ack not in pb.AckLevel.values():
        raise wire.invalid("ack", f"has no value {request.ack}")


def fits(count: int, executions: int) -> bool:
    """Whether one message may answer requests of so many orders, with so many executions."""
    return count <= ORDERS_PER_CALL_MAX and executions <= EXECUTIONS_PER_CALL_MAX


def executions(outcomes: Outcomes) -> int:
    """How many executions an answer of level FULL shows."""
    all_of = chain(outcomes.replaces, outcomes.orders, *outcomes.groups)
    taken = sum([len(outcome.executions) for outcome in all_of if isinstance(outcome, Placed)])
    return min(taken, EXECUTIONS_PER_CALL_MAX)


def size(outcomes: Outcomes) -> int:
    """How many orders an answer shows."""
    count = len(outcomes.cancels) + len(outcomes.replaces) + len(outcomes.orders)
    count += sum([len(group) for group in outcomes.groups])
    if outcomes.cancel_all is not None and not isinstance(outcomes.cancel_all, Rejected):
        count += min(len(outcomes.cancel_all), CANCELED_SHOWN_MAX)
    return max(1, count)


def add_answer(
    response: pb.TradeResponse, request_id: int, ack: int, outcomes: Outcomes, markets: Mapping[int, Market]
) -> None:
    """Adds the answer to one request."""
    answer = response.answers.add(request_id=request_id)
    room = EXECUTIONS_PER_CALL_MAX
    if outcomes.cancel_all is not None:
        _tell_all(answer.cancel_all, outcomes.cancel_all, ack, markets)
    for canceled in outcomes.cancels:
        _tell(answer.cancels.add(), canceled, ack, markets, 0)
    for outcome in outcomes.replaces:
        room -= _tell(answer.replaces.add(), outcome, ack, markets, room)
    if ack == pb.ACK_LEVEL_ACCEPTED and encoding.BY_HAND:
        taken = encoding.accepted(outcomes.orders)
        answer.MergeFromString(b"".join([item if isinstance(item, bytes) else _refused(item) for item in taken]))
    else:
        for outcome in outcomes.orders:
            room -= _tell(answer.orders.add(), outcome, ack, markets, room)
    for group in outcomes.groups:
        message = answer.groups.add()
        refused = next((outcome for outcome in group if isinstance(outcome, Rejected)), None)
        if refused is not None:
            message.refusal.CopyFrom(refusal(refused))
            continue
        for outcome in group:
            room -= _tell(message.orders.add(), outcome, ack, markets, room)


def _refused(rejected: Rejected) -> bytes:
    """As one of TradeAnswer.orders."""
    return pb.TradeAnswer(orders=[pb.TradeOutcome(refusal=refusal(rejected))]).SerializeToString()


def _tell_all(
    message: pb.TradeCancelAllOutcome, ended: Sequence[Order] | Rejected, ack: int, markets: Mapping[int, Market]
) -> None:
    """Says what became of all that was open."""
    message.SetInParent()
    if isinstance(ended, Rejected):
        message.refusal.CopyFrom(refusal(ended))
        return
    message.canceled_count = len(ended)
    if ack != pb.ACK_LEVEL_ACCEPTED:
        for order in ended[:CANCELED_SHOWN_MAX]:
            _tell(message.orders.add(), order, ack, markets, 0)


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
