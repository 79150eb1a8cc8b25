"""OrderService."""

from collections.abc import AsyncIterator, Sequence

from clearbook.v1 import order_service_pb2 as pb

from services.errors import Rejected
from services.order_gateway import batch_wire, history_wire, wire
from services.order_gateway.cancels import Cancels
from services.order_gateway.history import History
from services.order_gateway.identity.who import Caller
from services.order_gateway.ledger import Ledger
from services.order_gateway.limits import ONE_ORDER, Weight
from services.order_gateway.methods import Access, Method, Together
from services.order_gateway.model import Placed, Wanted
from services.order_gateway.orders import Orders
from services.order_gateway.outcomes import Promise, good, in_place
from services.order_gateway.paging import NEWEST, Page
from services.order_gateway.replaces import Replaces
from services.order_gateway.views import OrdersView
from services.order_gateway.watch import Watches

SERVICE = "clearbook.v1.OrderService"


class OrderHandlers:
    """See the proto for what each method does."""

    def __init__(
        self,
        ledger: Ledger,
        orders: Orders,
        replaces: Replaces,
        cancels: Cancels,
        history: History,
        watches: Watches,
    ) -> None:
        self._ledger, self._orders, self._replaces, self._cancels = ledger, orders, replaces, cancels
        self._history, self._watches = history, watches

    def methods(self) -> list[Method]:
        """The service's table."""
        together = Together(self.begin, self.placed)
        return [
            Method(
                *(SERVICE, "PlaceOrder", Access.TRADE, pb.PlaceOrderRequest, self.place),
                together=together,
                weight=_one_order,
            ),
            Method(SERVICE, "ReplaceOrder", Access.TRADE, pb.ReplaceOrderRequest, self.replace, weight=_one_order),
            Method(SERVICE, "CancelOrder", Access.TRADE, pb.CancelOrderRequest, self.cancel),
            Method(SERVICE, "GetOrder", Access.READ, pb.GetOrderRequest, self.get),
            Method(SERVICE, "ListOrders", Access.READ, pb.ListOrdersRequest, self.page),
            Method(SERVICE, "ListExecutions", Access.READ, pb.ListExecutionsRequest, self.executions),
            Method(SERVICE, "StreamOrders", Access.READ, pb.StreamOrdersRequest, streams=self.stream),
        ]

    async def place(self, caller: Caller, request: pb.PlaceOrderRequest, seconds: float) -> pb.PlaceOrderResponse:
        """PlaceOrder."""
        placement = wire.placement(request, self._ledger.markets_by_symbol)
        client_order_id = request.client_order_id or caller.identity.made_id
        return self.placed(await self._orders.place(caller.account_id, Wanted(placement, client_order_id), seconds))

    def begin(
        self, account_id: int, several: Sequence[tuple[Caller, pb.PlaceOrderRequest]]
    ) -> "list[Promise[Placed] | Rejected]":
        """Several PlaceOrders of one account, whoever sent each."""
        markets = self._ledger.markets_by_symbol
        asked = [batch_wire.wanted_one(request, caller.identity.made_id, markets) for caller, request in several]
        return in_place(asked, self._orders.begin(account_id, good(asked)).promises)

    def placed(self, placed: Placed) -> pb.PlaceOrderResponse:
        """The answer to PlaceOrder."""
        return wire.placed(placed.order, placed.executions, self._ledger.markets[placed.order.market_id])

    async def replace(self, caller: Caller, request: pb.ReplaceOrderRequest, seconds: float) -> pb.ReplaceOrderResponse:
        """ReplaceOrder."""
        replaced = await self._replaces.replace(caller.account_id, wire.replacement(request), seconds)
        market = self._ledger.markets[replaced.order.market_id]
        return pb.ReplaceOrderResponse(
            order=wire.order(replaced.order, market),
            executions=[wire.execution(item, market) for item in replaced.executions],
        )

    async def cancel(self, caller: Caller, request: pb.CancelOrderRequest, seconds: float) -> pb.CancelOrderResponse:
        """CancelOrder."""
        order = await self._cancels.cancel(caller.account_id, wire.order_name(request), seconds)
        return pb.CancelOrderResponse(order=wire.order(order, self._ledger.markets[order.market_id]))

    async def get(self, caller: Caller, request: pb.GetOrderRequest, seconds: float) -> pb.GetOrderResponse:
        """GetOrder."""
        order, executions = await self._orders.get(caller.account_id, wire.order_name(request), seconds)
        market = self._ledger.markets[order.market_id]
        return pb.GetOrderResponse(
            order=wire.order(order, market),
            executions=[wire.execution(item, market, self._ledger.final_through) for item in executions],
        )

    async def page(self, caller: Caller, request: pb.ListOrdersRequest, _seconds: float) -> pb.ListOrdersResponse:
        """ListOrders."""
        market_id = wire.market_filter(request.market, self._ledger.markets_by_symbol)
        span = history_wire.span(request)
        filters = ("orders", market_id, request.open_only, span)
        page = Page.of(request.page_size, request.page_token, *filters)
        found = await self._history.orders(caller.account_id, market_id, span, page, open_only=request.open_only)
        shown = found[: page.size]
        return pb.ListOrdersResponse(
            orders=[wire.order(order, self._ledger.markets[order.market_id]) for order in shown],
            next_page_token=page.next_token(len(found), (shown[-1].create_sequence, 0) if shown else NEWEST),
        )

    async def executions(
        self, caller: Caller, request: pb.ListExecutionsRequest, seconds: float
    ) -> pb.ListExecutionsResponse:
        """ListExecutions."""
        market_id = wire.market_filter(request.market, self._ledger.markets_by_symbol)
        order_id = wire.order_id(request.order_id) if request.order_id else None
        span = history_wire.span(request)
        page = Page.of(request.page_size, request.page_token, "executions", market_id, order_id, span)
        if order_id is not None:
            await self._orders.find(caller.account_id, order_id, seconds)
        found = await self._history.executions(caller.account_id, market_id, order_id, span, page)
        shown = found[: page.size]
        last = NEWEST
        if shown:
            last = (shown[-1].event_sequence, shown[-1].rank if order_id is None else shown[-1].trade_id)
        markets, final_through = self._ledger.markets, self._ledger.final_through
        return pb.ListExecutionsResponse(
            executions=[wire.execution(item, markets[item.market_id], final_through) for item in shown],
            next_page_token=page.next_token(len(found), last),
        )

    async def stream(
        self, caller: Caller, request: pb.StreamOrdersRequest, _seconds: float
    ) -> AsyncIterator[pb.StreamOrdersResponse]:
        """StreamOrders."""
        market_id = wire.market_filter(request.market, self._ledger.markets_by_symbol)
        with self._watches.watch(OrdersView(self._ledger, caller.account_id, market_id)) as watch:
            while True:
                for update in await watch.updates():
                    for part in update.parts():
                        yield wire.stream_orders(part, self._ledger.markets)


def _one_order(_request: pb.PlaceOrderRequest | pb.ReplaceOrderRequest) -> Weight:
    return ONE_ORDER
