"""AccountService: one's own money."""

from collections.abc import AsyncIterator

from clearbook.v1 import account_service_pb2 as pb

from services.order_gateway import history_wire, money_wire, wire
from services.order_gateway.history import KINDS, History
from services.order_gateway.identity.who import Caller
from services.order_gateway.ledger import Ledger
from services.order_gateway.methods import Access, Method
from services.order_gateway.paging import NEWEST, Page
from services.order_gateway.resume import resume
from services.order_gateway.views import AccountView
from services.order_gateway.watch import Watches

SERVICE = "clearbook.v1.AccountService"


class AccountHandlers:
    """See the proto for what each method does."""

    def __init__(self, ledger: Ledger, history: History, watches: Watches) -> None:
        self._ledger, self._history, self._watches = ledger, history, watches

    def methods(self) -> list[Method]:
        """The service's table."""
        return [
            Method(SERVICE, "ListBalances", Access.READ, pb.ListBalancesRequest, self.balances),
            Method(SERVICE, "ListLedgerEntries", Access.READ, pb.ListLedgerEntriesRequest, self.entries),
            Method(SERVICE, "ListTransfers", Access.READ, pb.ListTransfersRequest, self.transfers),
            Method(SERVICE, "StreamAccount", Access.READ, pb.StreamAccountRequest, streams=self.stream),
        ]

    async def balances(
        self, caller: Caller, _request: pb.ListBalancesRequest, _seconds: float
    ) -> pb.ListBalancesResponse:
        """ListBalances."""
        return money_wire.balances(caller.account_id, self._ledger)

    async def entries(
        self, caller: Caller, request: pb.ListLedgerEntriesRequest, _seconds: float
    ) -> pb.ListLedgerEntriesResponse:
        """ListLedgerEntries."""
        asset_id = wire.asset_filter(request.asset, self._ledger.assets_by_symbol)
        kind, span = history_wire.entry_kind(request.kind), history_wire.span(request)
        page = Page.of(request.page_size, request.page_token, "entries", asset_id, kind, span)
        found = await self._history.entries(caller.account_id, asset_id, kind, span, page)
        shown = found[: page.size]
        last = (shown[-1].journal_sequence, shown[-1].line) if shown else NEWEST
        return pb.ListLedgerEntriesResponse(
            entries=[history_wire.entry(item, self._ledger.assets[item.asset_id]) for item in shown],
            next_page_token=page.next_token(len(found), last),
        )

    async def transfers(
        self, caller: Caller, request: pb.ListTransfersRequest, _seconds: float
    ) -> pb.ListTransfersResponse:
        """ListTransfers."""
        asset_id = wire.asset_filter(request.asset, self._ledger.assets_by_symbol)
        kind, span = history_wire.transfer_kind(request.kind), history_wire.span(request)
        page = Page.of(request.page_size, request.page_token, "transfers", asset_id, kind, span)
        found = await self._history.movements(caller.account_id, asset_id, KINDS.get(kind), span, page)
        shown = found[: page.size]
        return pb.ListTransfersResponse(
            transfers=[money_wire.transfer(item, caller.account_id, self._ledger) for item in shown],
            next_page_token=page.next_token(len(found), (shown[-1].create_sequence, 0) if shown else NEWEST),
        )

    async def stream(
        self, caller: Caller, request: pb.StreamAccountRequest, _seconds: float
    ) -> AsyncIterator[pb.StreamAccountResponse]:
        """StreamAccount."""
        view = AccountView(self._ledger, caller.account_id)
        with self._watches.watch(view) as watch:
            await resume(watch, view, request.after_index, self._history, self._ledger)
            while True:
                for update in await watch.updates():
                    *first, last = update.parts()
                    for part in first:
                        yield history_wire.account_change(part, caller.account_id, self._ledger, last=False)
                    yield history_wire.account_change(last, caller.account_id, self._ledger, last=True)
