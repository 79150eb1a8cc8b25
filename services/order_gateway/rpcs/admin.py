"""AdminService: the operator's, but for what moves money (money.py)."""

from clearbook.v1 import admin_service_pb2 as pb

from services.order_gateway import wire
from services.order_gateway.admin import Admin
from services.order_gateway.identity.who import Identity
from services.order_gateway.ledger import Ledger
from services.order_gateway.methods import Access, Method

SERVICE = "clearbook.v1.AdminService"


class AdminHandlers:
    """See the proto for what each method does."""

    def __init__(self, ledger: Ledger, admin: Admin) -> None:
        self._ledger, self._admin = ledger, admin

    def methods(self) -> list[Method]:
        """The service's table."""
        return [
            Method(SERVICE, "CreateAsset", Access.ADMIN, pb.CreateAssetRequest, self.create_asset),
            Method(SERVICE, "CreateMarket", Access.ADMIN, pb.CreateMarketRequest, self.create_market),
            Method(SERVICE, "SetMarketState", Access.ADMIN, pb.SetMarketStateRequest, self.set_market_state),
        ]

    async def create_asset(
        self, _admin: Identity, request: pb.CreateAssetRequest, seconds: float
    ) -> pb.CreateAssetResponse:
        """CreateAsset."""
        await self._admin.create_asset(wire.new_asset(request), seconds)
        return pb.CreateAssetResponse()

    async def create_market(
        self, _admin: Identity, request: pb.CreateMarketRequest, seconds: float
    ) -> pb.CreateMarketResponse:
        """CreateMarket."""
        await self._admin.create_market(wire.new_market(request, self._ledger.assets_by_symbol), seconds)
        return pb.CreateMarketResponse()

    async def set_market_state(
        self, _admin: Identity, request: pb.SetMarketStateRequest, seconds: float
    ) -> pb.SetMarketStateResponse:
        """SetMarketState."""
        market = wire.named_market(request.market, self._ledger.markets_by_symbol)
        await self._admin.set_market_state(market, seconds, halted=request.halted)
        return pb.SetMarketStateResponse()
