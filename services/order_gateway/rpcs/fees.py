"""Fees: rows of AccountService for users, of AdminService for operators."""

from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb

from services.errors import Reason, Rejected
from services.order_gateway.fixed_tiers import FixedTiers
from services.order_gateway.identity.who import Caller, Identity, checked_user
from services.order_gateway.ledger import Ledger
from services.order_gateway.methods import Access, Method
from services.order_gateway.rpcs import accounts, admin
from services.order_gateway.tiers import Schedule


class FeeHandlers:
    """See the protos for what each method does."""

    def __init__(self, ledger: Ledger, schedule: Schedule, fixed: FixedTiers) -> None:
        self._ledger, self._schedule, self._fixed = ledger, schedule, fixed

    def methods(self) -> list[Method]:
        """The rows of both services' tables."""
        mine, theirs = accounts.SERVICE, admin.SERVICE
        tiers = Method(theirs, "ListFeeTiers", Access.ADMIN, admin_pb.ListFeeTiersRequest, self.tiers, reads=True)
        return [
            Method(mine, "GetFees", Access.READ, pb.GetFeesRequest, self.get),
            Method(theirs, "SetFeeTier", Access.ADMIN, admin_pb.SetFeeTierRequest, self.fix),
            tiers,
        ]

    async def get(self, caller: Caller, _request: pb.GetFeesRequest, _seconds: float) -> pb.GetFeesResponse:
        """GetFees."""
        ledger, account_id = self._ledger, caller.account_id
        tier, symbol = self._schedule.tier(account_id), ledger.volumes.asset
        asset = ledger.assets_by_symbol.get(symbol)
        volume = ledger.volumes.volume(account_id, ledger.time_ns)
        return pb.GetFeesResponse(
            tier=tier.name,
            maker_fee_ppm=tier.rates.maker_ppm,
            taker_fee_ppm=tier.rates.taker_ppm,
            volume=asset.format(volume) if asset is not None else "0",
            volume_asset=symbol,
            fixed=self._schedule.is_fixed(account_id),
        )

    async def fix(
        self, _admin: Identity, request: admin_pb.SetFeeTierRequest, _seconds: float
    ) -> admin_pb.SetFeeTierResponse:
        """SetFeeTier."""
        account_id = self._ledger.account_ids.get(checked_user(request.user, "user"))
        if account_id is None:
            raise Rejected(Reason.ACCOUNT_NOT_FOUND, f"no such user: {request.user}", "user")
        await self._fixed.fix(account_id, request.tier)
        return admin_pb.SetFeeTierResponse()

    async def tiers(
        self, _admin: Identity, _request: admin_pb.ListFeeTiersRequest, _seconds: float
    ) -> admin_pb.ListFeeTiersResponse:
        """ListFeeTiers."""
        return admin_pb.ListFeeTiersResponse(
            tiers=[
                admin_pb.FeeTier(
                    tier=tier.name,
                    volume_min=tier.volume_text,
                    maker_fee_ppm=tier.rates.maker_ppm,
                    taker_fee_ppm=tier.rates.taker_ppm,
                )
                for tier in self._schedule.tiers
            ],
            volume_asset=self._ledger.volumes.asset,
        )
