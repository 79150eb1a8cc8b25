"""SettlementService, the settler's answers passed on: for everybody, like the chain that it speaks of."""

from collections.abc import AsyncIterator, Iterable

import grpc
from clearbook.internal.v1 import settler_service_pb2 as settler_pb
from clearbook.internal.v1.settler_service_pb2_grpc import SettlerServiceStub
from clearbook.v1 import settlement_service_pb2 as pb

from services.errors import Reason, Rejected
from services.order_gateway import transfer_ids, wire
from services.order_gateway.methods import Access, Method
from services.runtime import rpc

SERVICE = "clearbook.v1.SettlementService"
SETTLER_SECONDS_MAX = 5.0


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
            Method(SERVICE, "StreamSettlements", Access.PUBLIC, pb.StreamSettlementsRequest, streams=self.stream),
        ]

    async def get(self, _nobody: None, request: pb.GetSettlementRequest, seconds: float) -> pb.GetSettlementResponse:
        """GetSettlement."""
        wire.check_settlement_name(request)
        if transfer_ids.is_users(request.transfer_id):
            raise Rejected(Reason.SETTLEMENT_NOT_FOUND)
        asked = settler_pb.GetSettlementRequest(request=request)
        try:
            answer = await self._settler.GetSettlement(asked, timeout=min(seconds, SETTLER_SECONDS_MAX))
        except grpc.aio.AioRpcError as error:
            raise _refusal(error) from None
        _hide_users_ids([answer.response.settlement])
        return answer.response

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
