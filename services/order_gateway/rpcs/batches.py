"""OrderService: several orders in one call."""

from collections.abc import Sequence
from typing import TypeVar

from clearbook.v1 import order_service_pb2 as pb

from services.errors import Rejected
from services.order_gateway import batch_wire, group_wire, wire
from services.order_gateway.cancels import Cancels
from services.order_gateway.identity.who import Caller
from services.order_gateway.ledger import Ledger
from services.order_gateway.limits import CANCEL_ALL_REQUESTS, Weight
from services.order_gateway.methods import Access, Method
from services.order_gateway.orders import Orders
from services.order_gateway.outcomes import Promised, good, in_place, outcomes
from services.order_gateway.replaces import Replaces
from services.order_gateway.rpcs.orders import SERVICE
from services.runtime import rpc

T = TypeVar("T")


class BatchHandlers:
    """See the proto for what each method does."""

    def __init__(self, ledger: Ledger, orders: Orders, replaces: Replaces, cancels: Cancels) -> None:
        self._ledger, self._orders, self._replaces, self._cancels = ledger, orders, replaces, cancels

    def methods(self) -> list[Method]:
        """Rows of the service's table."""
        return [
            Method(SERVICE, "PlaceOrders", Access.TRADE, pb.PlaceOrdersRequest, self.place, weight=_placed),
            Method(SERVICE, "PlaceGroup", Access.TRADE, pb.PlaceGroupRequest, self.place_group, weight=_grouped),
            Method(SERVICE, "ReplaceOrders", Access.TRADE, pb.ReplaceOrdersRequest, self.replace, weight=_placed),
            Method(SERVICE, "CancelOrders", Access.TRADE, pb.CancelOrdersRequest, self.cancel, weight=_canceled),
            Method(
                *(SERVICE, "CancelAllOrders", Access.TRADE, pb.CancelAllOrdersRequest, self.cancel_all),
                weight=_all_canceled,
            ),
            Method(SERVICE, "CancelAfter", Access.TRADE, pb.CancelAfterRequest, self.cancel_after),
        ]

    async def place(self, caller: Caller, request: pb.PlaceOrdersRequest, seconds: float) -> pb.PlaceOrdersResponse:
        """PlaceOrders."""
        batch_wire.check_size(request)
        asked = batch_wire.wanted(request, caller.identity.made_id, self._ledger.markets_by_symbol)
        begun = self._orders.begin(caller.account_id, good(asked))
        found = await told(in_place(asked, begun.promises), seconds)
        return batch_wire.placed(found, self._ledger.markets)

    async def place_group(self, caller: Caller, request: pb.PlaceGroupRequest, seconds: float) -> pb.PlaceGroupResponse:
        """PlaceGroup."""
        wanted = group_wire.wanted(request, caller.identity.made_id, self._ledger.markets_by_symbol)
        placed = []
        for outcome in await outcomes(self._orders.begin_group(caller.account_id, wanted).promises, seconds):
            if isinstance(outcome, Exception):
                raise outcome
            placed.append(outcome)
        return group_wire.placed(placed, self._ledger.markets)

    async def replace(
        self, caller: Caller, request: pb.ReplaceOrdersRequest, seconds: float
    ) -> pb.ReplaceOrdersResponse:
        """ReplaceOrders."""
        batch_wire.check_size(request)
        asked = batch_wire.replacements(request.orders)
        begun = self._replaces.begin(caller.account_id, good(asked), seconds)
        found = await told(in_place(asked, begun), seconds)
        return batch_wire.replaced(found, self._ledger.markets)

    async def cancel(self, caller: Caller, request: pb.CancelOrdersRequest, seconds: float) -> pb.CancelOrdersResponse:
        """CancelOrders."""
        batch_wire.check_size(request)
        asked = batch_wire.names(request.orders)
        begun = self._cancels.begin(caller.account_id, good(asked), seconds)
        found = await told(in_place(asked, begun), seconds)
        return batch_wire.canceled(found, self._ledger.markets)

    async def cancel_all(
        self, caller: Caller, request: pb.CancelAllOrdersRequest, seconds: float
    ) -> pb.CancelAllOrdersResponse:
        """CancelAllOrders."""
        market_id = wire.market_filter(request.market, self._ledger.markets_by_symbol)
        buys = batch_wire.buys_only(request.side)
        ended = await self._cancels.cancel_all(caller.account_id, market_id, buys, seconds)
        return batch_wire.all_canceled(ended, self._ledger.markets)

    async def cancel_after(
        self, caller: Caller, request: pb.CancelAfterRequest, seconds: float
    ) -> pb.CancelAfterResponse:
        """CancelAfter."""
        market_id = wire.market_filter(request.market, self._ledger.markets_by_symbol)
        after = batch_wire.cancel_after_seconds(request.seconds)
        deadline_ns = await self._cancels.cancel_after(caller.account_id, market_id, after, seconds)
        response = pb.CancelAfterResponse()
        if deadline_ns:
            wire.set_time(response.expire_time, deadline_ns)
        return response


async def told(items: Sequence[Promised[T] | Rejected], seconds: float) -> list[T | Rejected]:
    """What the caller hears of each: what it became, or why not."""
    found = await outcomes(items, seconds)
    return [rpc.refusal_for(item, SERVICE) if isinstance(item, Exception) else item for item in found]


def _placed(request: pb.PlaceOrdersRequest | pb.ReplaceOrdersRequest) -> Weight:
    """Each order counts."""
    return Weight(orders=len(request.orders)) if request.orders else Weight(requests=1)


def _grouped(request: pb.PlaceGroupRequest) -> Weight:
    """Each order counts."""
    return Weight(orders=max(len(request.exits) + request.HasField("entry"), 1))


def _canceled(request: pb.CancelOrdersRequest) -> Weight:
    """Each cancel counts as a request of its own."""
    return Weight(requests=max(1, len(request.orders)))


def _all_canceled(_request: pb.CancelAllOrdersRequest) -> Weight:
    return Weight(requests=CANCEL_ALL_REQUESTS)
