"""AdminService: the operator's, but for what moves money (money.py)."""

import time
from dataclasses import asdict

from clearbook.v1 import admin_service_pb2 as pb

from services.order_gateway import history_wire, market_wire, money_wire, wire
from services.order_gateway.accounts import Accounts
from services.order_gateway.admin import Admin
from services.order_gateway.audit import Audit
from services.order_gateway.history import History
from services.order_gateway.identity.freezes import Freezes
from services.order_gateway.identity.who import Identity, checked_user
from services.order_gateway.ledger import Ledger
from services.order_gateway.limits import ONE_REFERENCE
from services.order_gateway.methods import Access, Method
from services.order_gateway.paging import NEWEST, OLDEST, Page
from services.order_gateway.tiers import Schedule

SERVICE = "clearbook.v1.AdminService"


class AdminHandlers:
    """See the proto for what each method does."""

    def __init__(
        self,
        ledger: Ledger,
        admin: Admin,
        accounts: Accounts,
        history: History,
        fees: Schedule,
        audit: Audit,
        freezes: Freezes,
    ) -> None:
        self._ledger, self._admin, self._accounts = ledger, admin, accounts
        self._history, self._fees, self._audit, self._freezes = history, fees, audit, freezes

    def methods(self) -> list[Method]:
        """The service's table."""
        return [
            Method(SERVICE, "CreateAsset", Access.ADMIN, pb.CreateAssetRequest, self.create_asset),
            Method(SERVICE, "CreateMarket", Access.ADMIN, pb.CreateMarketRequest, self.create_market),
            Method(SERVICE, "SetMarketState", Access.ADMIN, pb.SetMarketStateRequest, self.set_market_state),
            Method(SERVICE, "SetMarketRules", Access.ADMIN, pb.SetMarketRulesRequest, self.set_market_rules),
            Method(
                SERVICE,
                "SetReferencePrice",
                Access.REFERENCE_PRICE,
                pb.SetReferencePriceRequest,
                self.set_reference_price,
                weight=lambda _: ONE_REFERENCE,
            ),
            Method(SERVICE, "CreateAccount", Access.ADMIN, pb.CreateAccountRequest, self.create_account),
            Method(SERVICE, "ListAccounts", Access.ADMIN, pb.ListAccountsRequest, self.accounts, reads=True),
            Method(SERVICE, "ListAuditEntries", Access.ADMIN, pb.ListAuditEntriesRequest, self.entries, reads=True),
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
        state, reason = market_wire.state(request)
        await self._admin.set_market_state(market, state, reason, seconds)
        return pb.SetMarketStateResponse()

    async def set_market_rules(
        self, _admin: Identity, request: pb.SetMarketRulesRequest, seconds: float
    ) -> pb.SetMarketRulesResponse:
        """SetMarketRules."""
        market = wire.named_market(request.market, self._ledger.markets_by_symbol)
        reason = money_wire.reason(request.reason)
        rules = market_wire.rules(request, market, self._admin.rules(market))
        await self._admin.set_market_rules(market, rules, reason, seconds)
        return pb.SetMarketRulesResponse()

    async def set_reference_price(
        self, _teller: Identity, request: pb.SetReferencePriceRequest, seconds: float
    ) -> pb.SetReferencePriceResponse:
        """SetReferencePrice."""
        market = wire.named_market(request.market, self._ledger.markets_by_symbol)
        await self._admin.set_reference_price(market_wire.reference(request, market, time.time_ns()), seconds)
        return pb.SetReferencePriceResponse()

    async def create_account(
        self, _admin: Identity, request: pb.CreateAccountRequest, seconds: float
    ) -> pb.CreateAccountResponse:
        """CreateAccount."""
        account_id = await self._accounts.open(checked_user(request.user, "user"), seconds)
        return pb.CreateAccountResponse(account_id=str(account_id))

    async def accounts(
        self, _admin: Identity, request: pb.ListAccountsRequest, _seconds: float
    ) -> pb.ListAccountsResponse:
        """ListAccounts."""
        page = Page.of(request.page_size, request.page_token, "accounts", request.user, first=OLDEST)
        found = await self._history.accounts(request.user, page)
        shown = found[: page.size]
        tiers = {account_id: self._fees.tier(account_id).name for account_id, _ in shown}
        return pb.ListAccountsResponse(
            accounts=[
                history_wire.account(*item, tiers[item[0]], self._freezes.reason(item[1]), self._ledger)
                for item in shown
            ],
            next_page_token=page.next_token(len(found), (shown[-1][0], 0) if shown else OLDEST),
        )

    async def entries(
        self, _admin: Identity, request: pb.ListAuditEntriesRequest, _seconds: float
    ) -> pb.ListAuditEntriesResponse:
        """ListAuditEntries."""
        page = Page.of(request.page_size, request.page_token, "audit")
        found = await self._audit.page(page)
        shown = found[: page.size]
        return pb.ListAuditEntriesResponse(
            entries=[history_wire.audit_entry(**asdict(item)) for item in shown],
            next_page_token=page.next_token(len(found), (shown[-1].index, 0) if shown else NEWEST),
        )
