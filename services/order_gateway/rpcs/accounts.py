"""AccountService: one's own money."""

from clearbook.v1 import account_service_pb2 as pb

from services.order_gateway import money_wire as wire
from services.order_gateway.identity.who import Caller
from services.order_gateway.ledger import Ledger
from services.order_gateway.methods import Access, Method

SERVICE = "clearbook.v1.AccountService"


class AccountHandlers:
    """See the proto for what each method does."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def methods(self) -> list[Method]:
        """The service's table."""
        return [Method(SERVICE, "ListBalances", Access.READ, pb.ListBalancesRequest, self.balances)]

    async def balances(
        self, caller: Caller, _request: pb.ListBalancesRequest, _seconds: float
    ) -> pb.ListBalancesResponse:
        """ListBalances."""
        return wire.balances(caller.account_id, self._ledger)
