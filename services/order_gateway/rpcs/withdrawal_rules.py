"""What withdrawals keep to: rows of AccountService for users, of AdminService for operators."""

import time

from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb

from services.allow_list import AllowList, AllowListChange
from services.order_gateway import money_wire
from services.order_gateway import withdrawal_wire as wire
from services.order_gateway.identity.who import Caller, Identity
from services.order_gateway.ledger import Ledger
from services.order_gateway.methods import Access, Method
from services.order_gateway.model import ChangeAllowList, SetWithdrawalRules
from services.order_gateway.money import OPERATOR
from services.order_gateway.rpcs import accounts, admin
from services.order_gateway.session import Session, outcome
from services.order_gateway.wire import invalid, known_asset
from services.withdrawal_rules import WithdrawalRules


class WithdrawalRulesHandlers:
    """See the protos for what each method does."""

    def __init__(self, ledger: Ledger, session: Session, delay_seconds: int) -> None:
        """`delay_seconds`: how long it takes what weakens a list of addresses to come into force."""
        self._ledger, self._session, self._delay_seconds = ledger, session, delay_seconds

    def methods(self) -> list[Method]:
        """The rows of both services' tables."""
        mine, theirs = accounts.SERVICE, admin.SERVICE
        return [
            Method(mine, "ListWithdrawalRules", Access.READ, pb.ListWithdrawalRulesRequest, self.rules),
            Method(mine, "GetWithdrawalAddresses", Access.READ, pb.GetWithdrawalAddressesRequest, self.addresses),
            Method(mine, "AddWithdrawalAddress", Access.WITHDRAW, pb.AddWithdrawalAddressRequest, self.add),
            Method(mine, "RemoveWithdrawalAddress", Access.WITHDRAW, pb.RemoveWithdrawalAddressRequest, self.remove),
            Method(
                mine, "SetWithdrawalAddressesOnly", Access.WITHDRAW, pb.SetWithdrawalAddressesOnlyRequest, self.only
            ),
            Method(theirs, "SetWithdrawalRules", Access.ADMIN, admin_pb.SetWithdrawalRulesRequest, self.set_rules),
        ]

    async def rules(
        self, _caller: Caller, _request: pb.ListWithdrawalRulesRequest, _seconds: float
    ) -> pb.ListWithdrawalRulesResponse:
        """ListWithdrawalRules."""
        return wire.told_rules(self._ledger.withdrawal_rules, self._ledger.assets)

    async def addresses(
        self, caller: Caller, _request: pb.GetWithdrawalAddressesRequest, _seconds: float
    ) -> pb.GetWithdrawalAddressesResponse:
        """GetWithdrawalAddresses."""
        return pb.GetWithdrawalAddressesResponse(addresses=self._list(caller))

    async def add(
        self, caller: Caller, request: pb.AddWithdrawalAddressRequest, seconds: float
    ) -> pb.AddWithdrawalAddressResponse:
        """AddWithdrawalAddress."""
        await self._change(caller, AllowListChange.ADD, seconds, wire.listed(request.address))
        return pb.AddWithdrawalAddressResponse(addresses=self._list(caller))

    async def remove(
        self, caller: Caller, request: pb.RemoveWithdrawalAddressRequest, seconds: float
    ) -> pb.RemoveWithdrawalAddressResponse:
        """RemoveWithdrawalAddress."""
        await self._change(caller, AllowListChange.REMOVE, seconds, wire.listed(request.address))
        return pb.RemoveWithdrawalAddressResponse(addresses=self._list(caller))

    async def only(
        self, caller: Caller, request: pb.SetWithdrawalAddressesOnlyRequest, seconds: float
    ) -> pb.SetWithdrawalAddressesOnlyResponse:
        """SetWithdrawalAddressesOnly."""
        if not request.HasField("only"):
            raise invalid("only", "is missing")
        await self._change(caller, AllowListChange.ON if request.only else AllowListChange.OFF, seconds)
        return pb.SetWithdrawalAddressesOnlyResponse(addresses=self._list(caller))

    async def set_rules(
        self, _admin: Identity, request: admin_pb.SetWithdrawalRulesRequest, seconds: float
    ) -> admin_pb.SetWithdrawalRulesResponse:
        """SetWithdrawalRules."""
        asset = known_asset(request.asset, self._ledger.assets_by_symbol, "asset")
        reason = money_wire.reason(request.reason)
        before = self._ledger.withdrawal_rules.get(asset.asset_id)
        after = wire.rules(request, asset, before or WithdrawalRules())
        if after != before:
            asked = SetWithdrawalRules(asset.asset_id, after, reason)
            await outcome(self._session.submit(asked, OPERATOR), seconds)
        return admin_pb.SetWithdrawalRulesResponse()

    async def _change(self, caller: Caller, change: AllowListChange, seconds: float, address: str = "") -> None:
        asked = ChangeAllowList(caller.account_id, change, address, self._delay_seconds)
        await outcome(self._session.submit(asked, caller.account_id), seconds)

    def _list(self, caller: Caller) -> pb.WithdrawalAddresses:
        return wire.told_list(self._ledger.allow_lists.get(caller.account_id, AllowList()), time.time_ns())
