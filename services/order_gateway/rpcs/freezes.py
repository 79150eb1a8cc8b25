"""Frozen accounts: rows of AdminService."""

from clearbook.v1 import admin_service_pb2 as pb

from services.order_gateway import money_wire
from services.order_gateway.freezing import Freezing
from services.order_gateway.identity.who import Identity, checked_user
from services.order_gateway.methods import Access, Method
from services.order_gateway.rpcs.admin import SERVICE


class FreezeHandlers:
    """See the proto for what each method does."""

    def __init__(self, freezing: Freezing) -> None:
        self._freezing = freezing

    def methods(self) -> list[Method]:
        """Rows of the service's table."""
        return [
            Method(SERVICE, "FreezeAccount", Access.ADMIN, pb.FreezeAccountRequest, self.freeze),
            Method(SERVICE, "UnfreezeAccount", Access.ADMIN, pb.UnfreezeAccountRequest, self.unfreeze),
        ]

    async def freeze(
        self, _admin: Identity, request: pb.FreezeAccountRequest, seconds: float
    ) -> pb.FreezeAccountResponse:
        """FreezeAccount."""
        user, reason = checked_user(request.user, "user"), money_wire.reason(request.reason)
        canceled = await self._freezing.freeze(user, reason, seconds, cancel_orders=request.cancel_orders)
        return pb.FreezeAccountResponse(canceled_orders=canceled)

    async def unfreeze(
        self, _admin: Identity, request: pb.UnfreezeAccountRequest, _seconds: float
    ) -> pb.UnfreezeAccountResponse:
        """UnfreezeAccount."""
        user = checked_user(request.user, "user")
        money_wire.reason(request.reason)
        await self._freezing.unfreeze(user)
        return pb.UnfreezeAccountResponse()
