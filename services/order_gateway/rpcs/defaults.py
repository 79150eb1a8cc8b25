"""OrderService: what an account's orders do unless they say otherwise."""

from clearbook.v1 import order_service_pb2 as pb

from services.order_gateway import terms_wire, wire
from services.order_gateway.identity.who import Caller
from services.order_gateway.ledger import Ledger
from services.order_gateway.methods import Access, Method
from services.order_gateway.model import SelfTradeMode, SetTradingDefaults
from services.order_gateway.rpcs.orders import SERVICE
from services.order_gateway.session import Session, outcome


class DefaultsHandlers:
    """See the proto for what each method does."""

    def __init__(self, ledger: Ledger, session: Session) -> None:
        self._ledger, self._session = ledger, session

    def methods(self) -> list[Method]:
        """Rows of the service's table."""
        return [
            Method(SERVICE, "GetTradingDefaults", Access.READ, pb.GetTradingDefaultsRequest, self.get),
            Method(SERVICE, "SetTradingDefaults", Access.TRADE, pb.SetTradingDefaultsRequest, self.set),
        ]

    async def get(
        self, caller: Caller, _request: pb.GetTradingDefaultsRequest, _seconds: float
    ) -> pb.GetTradingDefaultsResponse:
        """GetTradingDefaults."""
        mode = self._ledger.self_trade_mode(caller.account_id)
        return pb.GetTradingDefaultsResponse(self_trade_prevention=terms_wire.prevention(mode))

    async def set(
        self, caller: Caller, request: pb.SetTradingDefaultsRequest, seconds: float
    ) -> pb.SetTradingDefaultsResponse:
        """SetTradingDefaults."""
        mode = terms_wire.self_trade(request.self_trade_prevention)
        if mode is SelfTradeMode.BY_ACCOUNT:
            raise wire.invalid("self_trade_prevention", "is missing")
        asked = SetTradingDefaults(caller.account_id, mode)
        await outcome(self._session.submit(asked, caller.account_id), seconds)
        return pb.SetTradingDefaultsResponse(self_trade_prevention=request.self_trade_prevention)
