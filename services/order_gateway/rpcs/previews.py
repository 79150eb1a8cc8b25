"""OrderService: what an order would come to."""

from clearbook.v1 import order_service_pb2 as pb

from services.errors import Rejected
from services.order_gateway import batch_wire, preview_wire, wire
from services.order_gateway.identity.who import Caller
from services.order_gateway.ledger import Ledger
from services.order_gateway.methods import Access, Method
from services.order_gateway.orders import Orders
from services.order_gateway.rpcs.orders import SERVICE


class PreviewHandlers:
    """See the proto."""

    def __init__(self, ledger: Ledger, orders: Orders) -> None:
        self._ledger, self._orders = ledger, orders

    def methods(self) -> list[Method]:
        """A row of the service's table."""
        return [Method(SERVICE, "PreviewOrder", Access.READ, pb.PreviewOrderRequest, self.preview)]

    async def preview(
        self, caller: Caller, request: pb.PreviewOrderRequest, _seconds: float
    ) -> pb.PreviewOrderResponse:
        """PreviewOrder."""
        try:
            placement = wire.placement(request.order, self._ledger.markets_by_symbol)
            found = self._orders.preview(caller.account_id, placement)
        except Rejected as rejected:
            return pb.PreviewOrderResponse(refusal=batch_wire.refusal(rejected))
        return preview_wire.previewed(found, placement)
