"""SettlementService, the settler's answers passed on: for everybody, like the chain that it speaks of.

But for an account's proof that it is among those who are owed: that is its owner's.
"""

from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import TypeVar

import grpc
from clearbook.internal.v1 import settler_service_pb2 as settler_pb
from clearbook.internal.v1.settler_service_pb2_grpc import SettlerServiceStub
from clearbook.v1 import settlement_service_pb2 as pb

from services.errors import Reason, Rejected
from services.order_gateway import transfer_ids, wire
from services.order_gateway.identity.who import Caller
from services.order_gateway.methods import Access, Method
from services.order_gateway.paging import NEWEST, Page
from services.runtime import rpc
from services.signed_orders import Domain

SERVICE = "clearbook.v1.SettlementService"
SETTLER_SECONDS_MAX = 5.0

_Answer = TypeVar("_Answer")


class SettlementHandlers:
    """See the proto for what each method does.

    Args:
        settler: where SettlerService is.
    """

    def __init__(self, settler: grpc.aio.Channel) -> None:
        self._settler = SettlerServiceStub(settler)

    def methods(self) -> list[Method]:
        """The service's table."""
        return [
            Method(SERVICE, "GetSettlement", Access.PUBLIC, pb.GetSettlementRequest, self.get),
            Method(SERVICE, "ListSettlements", Access.PUBLIC, pb.ListSettlementsRequest, self.list),
            Method(SERVICE, "GetContract", Access.PUBLIC, pb.GetContractRequest, self.contract),
            Method(SERVICE, "GetReconciliation", Access.PUBLIC, pb.GetReconciliationRequest, self.reconciliation),
            Method(SERVICE, "GetLiabilityProof", Access.READ, pb.GetLiabilityProofRequest, self.proof),
            Method(SERVICE, "StreamSettlements", Access.PUBLIC, pb.StreamSettlementsRequest, streams=self.stream),
        ]

    async def get(self, _nobody: None, request: pb.GetSettlementRequest, seconds: float) -> pb.GetSettlementResponse:
        """GetSettlement."""
        wire.check_settlement_name(request)
        if transfer_ids.is_users(request.transfer_id):
            raise Rejected(Reason.SETTLEMENT_NOT_FOUND)
        asked = settler_pb.GetSettlementRequest(request=request)
        answer = await _answered(self._settler.GetSettlement(asked, timeout=_bounded(seconds)))
        _hide_users_ids([answer.response.settlement])
        return answer.response

    async def list(
        self, _nobody: None, request: pb.ListSettlementsRequest, seconds: float
    ) -> pb.ListSettlementsResponse:
        """ListSettlements."""
        page = Page.of(request.page_size, request.page_token, "settlements", request.market)
        asked = settler_pb.ListSettlementsRequest(market=request.market, before=page.after[0], limit=page.limit)
        answer = await _answered(self._settler.ListSettlements(asked, timeout=_bounded(seconds)))
        shown = answer.settlements[: page.size]
        _hide_users_ids(shown)
        last = (shown[-1].trade_id if request.market else shown[-1].settlement_sequence, 0) if shown else NEWEST
        token = page.next_token(len(answer.settlements), last)
        return pb.ListSettlementsResponse(settlements=shown, next_page_token=token)

    async def contract(self, _nobody: None, request: pb.GetContractRequest, seconds: float) -> pb.GetContractResponse:
        """GetContract."""
        asked = settler_pb.GetContractRequest(request=request)
        return (await _answered(self._settler.GetContract(asked, timeout=_bounded(seconds)))).response

    async def domain(self) -> Domain:
        """The same for this gateway itself: what orders are signed for. Raises Rejected: UNAVAILABLE."""
        found = await self.contract(None, pb.GetContractRequest(), SETTLER_SECONDS_MAX)
        return Domain(found.chain_id, found.contract)

    async def reconciliation(
        self, _nobody: None, request: pb.GetReconciliationRequest, seconds: float
    ) -> pb.GetReconciliationResponse:
        """GetReconciliation."""
        asked = settler_pb.GetReconciliationRequest(request=request)
        return (await _answered(self._settler.GetReconciliation(asked, timeout=_bounded(seconds)))).response

    async def proof(
        self, caller: Caller, _request: pb.GetLiabilityProofRequest, seconds: float
    ) -> pb.GetLiabilityProofResponse:
        """GetLiabilityProof."""
        asked = settler_pb.GetLiabilityProofRequest(account_id=caller.account_id)
        return (await _answered(self._settler.GetLiabilityProof(asked, timeout=_bounded(seconds)))).response

    async def stream(
        self, _nobody: None, request: pb.StreamSettlementsRequest, _seconds: float
    ) -> AsyncIterator[pb.StreamSettlementsResponse]:
        """StreamSettlements."""
        answers = self._settler.StreamSettlements(settler_pb.StreamSettlementsRequest(request=request))
        try:
            async for answer in answers:
                _hide_users_ids(answer.response.settlements)
                yield answer.response
        except grpc.aio.AioRpcError as error:
            raise _refusal(error) from None
        finally:
            answers.cancel()
        raise Rejected(Reason.UNAVAILABLE, "the settler ended the stream; open it again")


def _bounded(seconds: float) -> float:
    return min(seconds, SETTLER_SECONDS_MAX)


async def _answered(call: Awaitable[_Answer]) -> _Answer:
    """The settler's answer, or its refusal."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise _refusal(error) from None


def _hide_users_ids(settlements: Iterable[pb.Settlement]) -> None:
    """What somebody called a transfer of his own is his alone; its owner knows it by its settlement_sequence."""
    for settlement in settlements:
        if transfer_ids.is_users(settlement.transfer_id):
            settlement.transfer_id = ""


def _refusal(error: grpc.aio.AioRpcError) -> Rejected:
    """The settler's own refusal as it is; UNAVAILABLE for whatever else went wrong on the way to it."""
    status = rpc.status_from(error)
    refusal = rpc.refusal_in(status) if status is not None else None
    return refusal or Rejected(Reason.UNAVAILABLE, "the settler is away; try again")
