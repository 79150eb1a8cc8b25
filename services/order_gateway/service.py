"""The public services: each method authenticates, reads the request, does it, and writes the answer.

A handler takes (call, request), so that a gRPC call and a forwarded item run the very same code.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from clearbook.internal.v1 import forward_service_pb2_grpc as forward_grpc
from clearbook.internal.v1 import settler_service_pb2 as settler_pb
from clearbook.internal.v1.settler_service_pb2_grpc import SettlerServiceStub
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import account_service_pb2_grpc as account_grpc
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import admin_service_pb2_grpc as admin_grpc
from clearbook.v1 import order_service_pb2 as order_pb
from clearbook.v1 import order_service_pb2_grpc as order_grpc
from clearbook.v1 import settlement_service_pb2 as settlement_pb
from clearbook.v1 import settlement_service_pb2_grpc as settlement_grpc
from google.protobuf.message import DecodeError

from services.errors import Reason, Rejected
from services.order_gateway import wire
from services.order_gateway.accounts import Accounts
from services.order_gateway.admin import Admin
from services.order_gateway.auth import (
    AUTHORIZATION_KEY,
    USER_KEY,
    Authenticator,
    Caller,
    Identity,
    Metadata,
    checked_user,
)
from services.order_gateway.faucet import TRANSFER_ID_PREFIX
from services.order_gateway.forward import Forwarder
from services.order_gateway.ledger import Ledger
from services.order_gateway.orders import Orders
from services.order_gateway.watch import Update, Watches
from services.runtime import rpc

ORDERS, ACCOUNTS = "clearbook.v1.OrderService", "clearbook.v1.AccountService"
ADMIN, SETTLEMENTS = "clearbook.v1.AdminService", "clearbook.v1.SettlementService"
FORWARD = "clearbook.internal.v1.ForwardService"
WORK = (ORDERS, ACCOUNTS, ADMIN)
"""The services that need the book."""

ANSWER_SECONDS_MAX = 10.0
"""How long an outcome is waited for; after that the same request may ask again."""
SETTLER_SECONDS_MAX = 5.0
HEARTBEAT_SECONDS = 5.0
SNAPSHOT_ORDERS_MAX = 10_000
"""In one message of StreamOrders: 2.5 MB at most. More open orders follow in the next message."""

Context = Any


@dataclass(frozen=True, slots=True)
class Call:
    """What surrounds a request, however it came.

    Attributes:
        metadata: with the caller's credentials.
        seconds: how long to wait for an outcome. (A client that gives up before that cancels its call by itself.)
    """

    metadata: Metadata
    seconds: float = ANSWER_SECONDS_MAX


class Handlers:
    """What every method does.

    Args:
        may_serve: whether what the fold says can be relied on: it has caught up with the book once, and adds up.
    """

    def __init__(
        self,
        ledger: Ledger,
        authenticator: Authenticator,
        accounts: Accounts,
        orders: Orders,
        watches: Watches,
        admin: Admin,
        settler: grpc.aio.Channel,
        may_serve: Callable[[], bool],
    ) -> None:
        self._ledger, self._authenticator, self._accounts = ledger, authenticator, accounts
        self._orders, self._watches, self._admin = orders, watches, admin
        self._settler = SettlerServiceStub(settler)
        self._may_serve = may_serve

    def _identify(self, call: Call) -> Identity:
        if not self._may_serve():
            raise Rejected(Reason.NOT_TAKEN, "the gateway does not serve now; send again with the same id")
        return self._authenticator.identify(call.metadata)

    async def _caller(self, call: Call) -> Caller:
        return await self._accounts.caller(self._identify(call), call.seconds)

    def _require_admin(self, call: Call) -> None:
        identity = self._identify(call)
        if not identity.admin:
            raise Rejected(Reason.PERMISSION_DENIED, f"{identity.user} is not an admin")

    # OrderService.

    async def place_order(self, call: Call, request: order_pb.PlaceOrderRequest) -> order_pb.PlaceOrderResponse:
        """See the proto."""
        caller = await self._caller(call)
        placement = wire.placement(request, self._ledger.markets_by_symbol)
        placed = await self._orders.place(caller.account_id, placement, request.client_order_id, call.seconds)
        return wire.placed(placed.order, placed.executions, placement.market)

    async def cancel_order(self, call: Call, request: order_pb.CancelOrderRequest) -> order_pb.CancelOrderResponse:
        """See the proto."""
        caller = await self._caller(call)
        order = await self._orders.cancel(caller.account_id, wire.order_name(request), call.seconds)
        return order_pb.CancelOrderResponse(order=wire.order(order, self._ledger.markets[order.market_id]))

    async def get_order(self, call: Call, request: order_pb.GetOrderRequest) -> order_pb.GetOrderResponse:
        """See the proto."""
        caller = await self._caller(call)
        order, executions = await self._orders.get(caller.account_id, wire.order_name(request), call.seconds)
        market = self._ledger.markets[order.market_id]
        return order_pb.GetOrderResponse(
            order=wire.order(order, market), executions=[wire.execution(item, market) for item in executions]
        )

    async def list_orders(self, call: Call, request: order_pb.ListOrdersRequest) -> order_pb.ListOrdersResponse:
        """See the proto."""
        caller = await self._caller(call)
        market_id = wire.market_filter(request.market, self._ledger.markets_by_symbol)
        size = wire.page_size(request.page_size)
        found = await self._orders.page(
            caller.account_id,
            market_id,
            open_only=request.open_only,
            before_sequence=wire.page_start(request.page_token, market_id, open_only=request.open_only),
            limit=size + 1,  # one more tells whether another page follows
        )
        page = found[:size]
        more = len(found) > size
        return order_pb.ListOrdersResponse(
            orders=[wire.order(order, self._ledger.markets[order.market_id]) for order in page],
            next_page_token=wire.page_token(page[-1].create_sequence, market_id, open_only=request.open_only)
            if more
            else "",
        )

    async def stream_orders(
        self, call: Call, request: order_pb.StreamOrdersRequest
    ) -> AsyncIterator[order_pb.StreamOrdersResponse]:
        """See the proto."""
        caller = await self._caller(call)
        market_id = wire.market_filter(request.market, self._ledger.markets_by_symbol)
        with self._watches.watch(caller.account_id, market_id) as watch:
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        updates = await watch.updates()
                except TimeoutError:
                    updates = [Update(self._ledger.sequence)]
                for update in updates:
                    for message in self._messages(update):
                        yield message

    def _messages(self, update: Update) -> list[order_pb.StreamOrdersResponse]:
        """One, but for a snapshot of very many orders: its rest follows as changes."""
        markets, size = self._ledger.markets, SNAPSHOT_ORDERS_MAX
        first = wire.stream_orders(
            update.orders[:size],
            update.executions,
            update.sequence,
            markets,
            snapshot=update.snapshot,
            lagged=update.lagged,
        )
        more = range(size, len(update.orders), size)
        return [first] + [
            wire.stream_orders(update.orders[start : start + size], (), update.sequence, markets) for start in more
        ]

    # AccountService.

    async def list_balances(
        self, call: Call, request: account_pb.ListBalancesRequest
    ) -> account_pb.ListBalancesResponse:
        """See the proto. What a command in flight has reserved counts as held."""
        caller = await self._caller(call)
        ledger = self._ledger
        rows = [
            (ledger.assets[asset_id], balance.total, balance.available, balance.held + balance.reserved)
            for asset_id, balance in ledger.balances.get(caller.account_id, {}).items()
        ]
        return wire.balances(caller.account_id, rows, ledger.sequence)

    # AdminService.

    async def create_asset(self, call: Call, request: admin_pb.CreateAssetRequest) -> admin_pb.CreateAssetResponse:
        """See the proto."""
        self._require_admin(call)
        await self._admin.create_asset(wire.new_asset(request), call.seconds)
        return admin_pb.CreateAssetResponse()

    async def create_market(self, call: Call, request: admin_pb.CreateMarketRequest) -> admin_pb.CreateMarketResponse:
        """See the proto."""
        self._require_admin(call)
        await self._admin.create_market(wire.new_market(request, self._ledger.assets_by_symbol), call.seconds)
        return admin_pb.CreateMarketResponse()

    async def set_market_state(
        self, call: Call, request: admin_pb.SetMarketStateRequest
    ) -> admin_pb.SetMarketStateResponse:
        """See the proto."""
        self._require_admin(call)
        market = wire.named_market(request.market, self._ledger.markets_by_symbol)
        await self._admin.set_market_state(market, call.seconds, halted=request.halted)
        return admin_pb.SetMarketStateResponse()

    async def grant_funds(self, call: Call, request: admin_pb.GrantFundsRequest) -> admin_pb.GrantFundsResponse:
        """See the proto."""
        self._require_admin(call)
        asset, amount = wire.grant(request, self._ledger.assets_by_symbol, TRANSFER_ID_PREFIX)
        user = checked_user(request.user, "user")
        sequence = await self._admin.grant(request.transfer_id, user, asset, amount, call.seconds)
        return admin_pb.GrantFundsResponse(settlement_sequence=sequence)

    async def create_token(self, call: Call, request: admin_pb.CreateTokenRequest) -> admin_pb.CreateTokenResponse:
        """See the proto."""
        self._require_admin(call)
        user = checked_user(request.user, "user")
        return admin_pb.CreateTokenResponse(token=await self._admin.create_token(user, admin=request.admin))

    # SettlementService: for everybody, like the chain that it speaks of.

    async def get_settlement(
        self, call: Call, request: settlement_pb.GetSettlementRequest
    ) -> settlement_pb.GetSettlementResponse:
        """See the proto."""
        wire.check_settlement_name(request)
        asked = settler_pb.GetSettlementRequest(request=request)
        try:
            answer = await self._settler.GetSettlement(asked, timeout=min(call.seconds, SETTLER_SECONDS_MAX))
        except grpc.aio.AioRpcError as error:
            raise _settler_refusal(error) from None
        return answer.response

    async def stream_settlements(
        self, request: settlement_pb.StreamSettlementsRequest
    ) -> AsyncIterator[settlement_pb.StreamSettlementsResponse]:
        """See the proto."""
        answers = self._settler.StreamSettlements(settler_pb.StreamSettlementsRequest(request=request))
        try:
            async for answer in answers:
                yield answer.response
        except grpc.aio.AioRpcError as error:
            raise _settler_refusal(error) from None
        finally:
            answers.cancel()
        raise Rejected(Reason.UNAVAILABLE, "the settler ended the stream; open it again")


def _settler_refusal(error: grpc.aio.AioRpcError) -> Rejected:
    """The settler's own refusal as it is; UNAVAILABLE for whatever else went wrong on the way to it."""
    status = rpc.status_from(error)
    refusal = rpc.refusal_in(status) if status is not None else None
    return refusal or Rejected(Reason.UNAVAILABLE, "the settler is away; try again")


def call_of(context: Context) -> Call:
    """A gRPC call's surroundings."""
    metadata = {
        key: value
        for key, value in context.invocation_metadata() or ()
        if key in {AUTHORIZATION_KEY, USER_KEY} and isinstance(value, str)
    }
    return Call(metadata)


class OrderServicer(order_grpc.OrderServiceServicer):
    """OrderService over gRPC."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def PlaceOrder(self, request: order_pb.PlaceOrderRequest, context: Context) -> order_pb.PlaceOrderResponse:
        """See the proto."""
        return await self._handlers.place_order(call_of(context), request)

    async def CancelOrder(self, request: order_pb.CancelOrderRequest, context: Context) -> order_pb.CancelOrderResponse:
        """See the proto."""
        return await self._handlers.cancel_order(call_of(context), request)

    async def GetOrder(self, request: order_pb.GetOrderRequest, context: Context) -> order_pb.GetOrderResponse:
        """See the proto."""
        return await self._handlers.get_order(call_of(context), request)

    async def ListOrders(self, request: order_pb.ListOrdersRequest, context: Context) -> order_pb.ListOrdersResponse:
        """See the proto."""
        return await self._handlers.list_orders(call_of(context), request)

    def StreamOrders(
        self, request: order_pb.StreamOrdersRequest, context: Context
    ) -> AsyncIterator[order_pb.StreamOrdersResponse]:
        """See the proto."""
        return self._handlers.stream_orders(call_of(context), request)


class AccountServicer(account_grpc.AccountServiceServicer):
    """AccountService over gRPC."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def ListBalances(
        self, request: account_pb.ListBalancesRequest, context: Context
    ) -> account_pb.ListBalancesResponse:
        """See the proto."""
        return await self._handlers.list_balances(call_of(context), request)


class AdminServicer(admin_grpc.AdminServiceServicer):
    """AdminService over gRPC."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def CreateAsset(self, request: admin_pb.CreateAssetRequest, context: Context) -> admin_pb.CreateAssetResponse:
        """See the proto."""
        return await self._handlers.create_asset(call_of(context), request)

    async def CreateMarket(
        self, request: admin_pb.CreateMarketRequest, context: Context
    ) -> admin_pb.CreateMarketResponse:
        """See the proto."""
        return await self._handlers.create_market(call_of(context), request)

    async def SetMarketState(
        self, request: admin_pb.SetMarketStateRequest, context: Context
    ) -> admin_pb.SetMarketStateResponse:
        """See the proto."""
        return await self._handlers.set_market_state(call_of(context), request)

    async def GrantFunds(self, request: admin_pb.GrantFundsRequest, context: Context) -> admin_pb.GrantFundsResponse:
        """See the proto."""
        return await self._handlers.grant_funds(call_of(context), request)

    async def CreateToken(self, request: admin_pb.CreateTokenRequest, context: Context) -> admin_pb.CreateTokenResponse:
        """See the proto."""
        return await self._handlers.create_token(call_of(context), request)


class SettlementServicer(settlement_grpc.SettlementServiceServicer):
    """SettlementService over gRPC."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def GetSettlement(
        self, request: settlement_pb.GetSettlementRequest, context: Context
    ) -> settlement_pb.GetSettlementResponse:
        """See the proto."""
        return await self._handlers.get_settlement(call_of(context), request)

    def StreamSettlements(
        self, request: settlement_pb.StreamSettlementsRequest, context: Context
    ) -> AsyncIterator[settlement_pb.StreamSettlementsResponse]:
        """See the proto."""
        return self._handlers.stream_settlements(request)


class ForwardServicer(forward_grpc.ForwardServiceServicer):
    """ForwardService over gRPC."""

    def __init__(self, handlers: Handlers) -> None:
        self._forwarder = Forwarder(unary_methods(handlers))

    async def Forward(  # type: ignore[override]  # it writes by itself
        self, request_iterator: Any, context: Context
    ) -> None:
        """See the proto."""
        await self._forwarder.serve(request_iterator, context)


def add_public(server: rpc.Server, handlers: Handlers) -> None:
    """Adds all public services before the server's start."""
    server.add(order_grpc.add_OrderServiceServicer_to_server, OrderServicer(handlers), ORDERS)
    server.add(account_grpc.add_AccountServiceServicer_to_server, AccountServicer(handlers), ACCOUNTS)
    server.add(admin_grpc.add_AdminServiceServicer_to_server, AdminServicer(handlers), ADMIN)
    server.add(settlement_grpc.add_SettlementServiceServicer_to_server, SettlementServicer(handlers), SETTLEMENTS)


def add_forward(server: rpc.Server, handlers: Handlers) -> None:
    """Adds the shim's entrance before the server's start."""
    server.add(forward_grpc.add_ForwardServiceServicer_to_server, ForwardServicer(handlers), FORWARD)


Unary = Callable[[Metadata, bytes], Awaitable[bytes]]


def unary_methods(handlers: Handlers) -> Mapping[str, Unary]:
    """All unary methods by full name, from bytes to bytes."""
    methods: dict[str, tuple[type[Any], Callable[[Call, Any], Awaitable[Any]]]] = {
        f"/{ORDERS}/PlaceOrder": (order_pb.PlaceOrderRequest, handlers.place_order),
        f"/{ORDERS}/CancelOrder": (order_pb.CancelOrderRequest, handlers.cancel_order),
        f"/{ORDERS}/GetOrder": (order_pb.GetOrderRequest, handlers.get_order),
        f"/{ORDERS}/ListOrders": (order_pb.ListOrdersRequest, handlers.list_orders),
        f"/{ACCOUNTS}/ListBalances": (account_pb.ListBalancesRequest, handlers.list_balances),
        f"/{ADMIN}/CreateAsset": (admin_pb.CreateAssetRequest, handlers.create_asset),
        f"/{ADMIN}/CreateMarket": (admin_pb.CreateMarketRequest, handlers.create_market),
        f"/{ADMIN}/SetMarketState": (admin_pb.SetMarketStateRequest, handlers.set_market_state),
        f"/{ADMIN}/GrantFunds": (admin_pb.GrantFundsRequest, handlers.grant_funds),
        f"/{ADMIN}/CreateToken": (admin_pb.CreateTokenRequest, handlers.create_token),
        f"/{SETTLEMENTS}/GetSettlement": (settlement_pb.GetSettlementRequest, handlers.get_settlement),
    }
    return {name: _unary(message, handler) for name, (message, handler) in methods.items()}


def _unary(message: type[Any], handler: Callable[[Call, Any], Awaitable[Any]]) -> Unary:
    async def run(metadata: Metadata, data: bytes) -> bytes:
        try:
            request = message.FromString(data)
        except (DecodeError, ValueError):
            raise Rejected(Reason.MALFORMED_REQUEST, "the request's bytes are not a message of its type") from None
        answer: bytes = (await handler(Call(metadata), request)).SerializeToString()
        return answer

    return run
