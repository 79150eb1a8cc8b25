"""Orders that belong together, on the way in and out."""

from collections.abc import Mapping, Sequence

from clearbook.v1 import order_service_pb2 as pb

from services.errors import Reason, Rejected
from services.order_gateway import wire
from services.order_gateway.model import Placed, Placement, Trigger, Wanted, WantedGroup
from services.order_gateway.terms_wire import IMMEDIATE
from services.order_gateway.wire import Markets
from services.units import Market

EXITS_MAX = 2


def wanted(request: pb.PlaceGroupRequest, made_id: str, markets: Markets) -> WantedGroup:
    """What a PlaceGroup asks for.

    Args:
        request: as it came.
        made_id: an id made of the whole request, for orders without one of their own; "": there is none.
        markets: by symbol.

    Raises:
        Rejected: INVALID_GROUP; what an order of it is refused for, with the field as in "exits[1].price".
    """
    has_entry, exits = request.HasField("entry"), list(request.exits)
    if not (1 if has_entry else EXITS_MAX) <= len(exits) <= EXITS_MAX:
        raise _not_together("must be two, or one or two behind an entry")
    named = [("entry", request.entry)] if has_entry else []
    named += [(f"exits[{place}]", order) for place, order in enumerate(exits)]
    orders = []
    for place, (where, order) in enumerate(named):
        waits = where != "entry"
        if waits and order.type == pb.ORDER_TYPE_MARKET and order.side == pb.SIDE_BUY and not order.quote_budget:
            raise wire.invalid(f"{where}.quote_budget", "is missing: a market buy that waits must say it")
        try:
            placement = wire.placement(order, markets)
        except Rejected as rejected:
            raise Rejected(rejected.reason, rejected.message, f"{where}.{rejected.field}") from None
        made = f"{made_id}-{place}" if made_id else ""
        orders.append(Wanted(placement, order.client_order_id or made))
    _check(orders[0].placement if has_entry else None, [order.placement for order in orders[int(has_entry) :]])
    return WantedGroup(tuple(orders), has_entry)


def _check(entry: Placement | None, exits: Sequence[Placement]) -> None:
    """Refuses (INVALID_GROUP) orders that do not go together."""
    first = exits[0]
    if any(order.market != first.market for order in (*exits, entry or first)):
        raise _not_together("must be of one market, the entry's")
    if any(order.buys != first.buys for order in exits) or (entry is not None and entry.buys == first.buys):
        raise _not_together("must be of one side, not the entry's")
    free = [order for order in exits if order.terms is None or order.terms.trigger is Trigger.NONE]
    if len(exits) > 1 and len(free) > 1:
        raise Rejected(Reason.INVALID_GROUP, "at most one of exits may be without a trigger", "exits")
    if len(exits) > 1 and any(not order.limit or order.time_in_force in IMMEDIATE for order in free):
        raise _not_together("may have one without a trigger, a limit order that can rest")


def _not_together(what: str) -> Rejected:
    return Rejected(Reason.INVALID_GROUP, f"exits {what}", "exits")


def placed(outcomes: Sequence[Placed], markets: Mapping[int, Market]) -> pb.PlaceGroupResponse:
    """The answer."""
    return pb.PlaceGroupResponse(
        orders=[wire.placed(item.order, item.executions, markets[item.order.market_id]) for item in outcomes]
    )
