"""A market of signed orders where the settler has made its contract itself: nobody tells the gateway which."""

from __future__ import annotations

import time
from typing import Any

import grpc
import httpx
from clearbook.v1 import account_service_pb2 as accounts
from clearbook.v1 import admin_service_pb2 as admin
from clearbook.v1 import order_service_pb2 as orders
from clearbook.v1 import settlement_service_pb2 as settlements
from eth_account import Account
from eth_account.messages import encode_typed_data
from google.protobuf.timestamp_pb2 import Timestamp

from services.errors import Reason
from services.runtime import rpc
from services.settler.contract import Chain, SettlementContract, load_abi
from services.signed_orders import SETTLED_WITHIN_SECONDS, Domain, SignedOrder, order_hash, typed_data
from tests.e2e.conftest import Traded, grant
from tests.suite import ADMIN, Clients, Suite, until, user

LIFE_SECONDS = 600
FINAL_SECONDS_MAX = 60.0
WHOLE = 10**18


class Trader:
    """A wallet and its account."""

    def __init__(self, clients: Clients, domain: Domain) -> None:
        self._clients, self._domain = clients, domain
        self.wallet = Account.create()
        self.name = self.wallet.address.lower()

    async def place(self, market: Traded, side: orders.Side.ValueType, name: str) -> tuple[SignedOrder, Any]:
        """One unit at 100 USD; returns what was signed, and the answer."""
        asked = accounts.GetSessionRequest()
        session = await self._clients.accounts.GetSession(asked, metadata=user(self.name), timeout=20)
        end = int(time.time()) + LIFE_SECONDS
        signed = SignedOrder(
            account_id=int(session.account_id),
            base=market.base,
            quote="USD",
            buys=side == orders.SIDE_BUY,
            base_amount=WHOLE,
            quote_amount=100 * WHOLE,
            fee_max_ppm=2_000,
            expires_at=end + SETTLED_WITHIN_SECONDS + LIFE_SECONDS,
            client_order_id=name,
        )
        message = encode_typed_data(full_message=typed_data(signed, self._domain))
        request = orders.PlaceOrderRequest(
            client_order_id=name,
            market=market.pair,
            side=side,
            type=orders.ORDER_TYPE_LIMIT,
            time_in_force=orders.TIME_IN_FORCE_GTD,
            expire_time=Timestamp(seconds=end),
            price="100.00",
            quantity="1",
            signature=orders.OrderSignature(
                fee_max_ppm=signed.fee_max_ppm,
                expires_at=signed.expires_at,
                signature=self.wallet.sign_message(message).signature.to_0x_hex(),
            ),
        )
        return signed, await self._clients.orders.PlaceOrder(request, metadata=user(self.name), timeout=20)


async def test_what_wallets_signed_is_settled_with_nobody_setting_anything_up(
    suite: Suite, clients: Clients, http: httpx.AsyncClient, market: Traded
) -> None:
    told = (await http.get("/api/v1/contract")).json()
    domain = Domain(int(told["chain_id"]), told["contract"])
    rule = admin.SetMarketRulesRequest(market=market.pair, signed_orders=True, reason="a test")
    await clients.admin.SetMarketRules(rule, metadata=ADMIN, timeout=20)
    seller, buyer = Trader(clients, domain), Trader(clients, domain)
    await grant(clients, seller.name, market.base, "1")
    await grant(clients, buyer.name, "USD", "100")

    sold, _ = await seller.place(market, orders.SIDE_SELL, "mine")
    bought, taken = await buyer.place(market, orders.SIDE_BUY, "mine")
    (execution,) = taken.executions
    asked = settlements.GetSettlementRequest(market=market.pair, trade_id=execution.trade_id)

    async def final() -> bool:
        try:
            answer = await clients.settlements.GetSettlement(asked, timeout=20)
        except grpc.aio.AioRpcError as error:
            if rpc.rejected_from(error) is Reason.SETTLEMENT_NOT_FOUND:  # the settler has not heard of it yet
                return False
            raise
        return bool(answer.settlement.state == settlements.SETTLEMENT_STATE_FINAL)

    await until(final, FINAL_SECONDS_MAX, "the trade is final")
    chain = await Chain.connect(suite.eth_url)
    try:
        contract = await SettlementContract.on(chain, domain.contract, load_abi())
        for order in (sold, bought):
            filled = await chain.call(domain.contract, contract.calldata("filled", order_hash(order, domain)))
            assert int.from_bytes(filled) == WHOLE, "settled with its signature, not netted"
    finally:
        await chain.close()
