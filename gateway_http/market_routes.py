"""Market data, settlements and reconciliations over REST: what is asked is an RPC's request, the answer its response.

Path and query are the request's fields.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import grpc
from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import settlement_service_pb2 as settlement_pb
from fastapi import APIRouter, Request, Response
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gateway_http.book_service import LOOK_UP_SECONDS_MAX, asked
from gateway_http.errors import JSON, OF_PROTO, answer
from gateway_http.headers import TOLD
from gateway_http.json_proto import query_in
from gateway_http.limits import L3_WEIGHT, peer_of
from gateway_http.orders import name_of
from gateway_http.parameters import texts_in
from gateway_http.proto_json import long_json
from gateway_http.state import State
from services.errors import Rejected
from services.runtime import log
from services.runtime.limits import of_ip
from services.runtime.metadata import REQUEST_ID_KEY

Ask = Callable[[Request, MethodDescriptor, bytes], Awaitable[bytes]]
"""(HTTP request, method, serialized request) → serialized response."""


class Look(NamedTuple):
    """One route, which takes GET and tells everybody.

    Attributes:
        path: its own; a field of the request in braces.
        method: whom it asks.
        ask: asks it.
        summary: what it tells.
    """

    path: str
    method: MethodDescriptor
    ask: Ask
    summary: str


async def _book_service(request: Request, method: MethodDescriptor, data: bytes) -> bytes:
    state: State = request.app.state.clearbook
    requests = state.limits.requests
    requests.take(of_ip(peer_of(request)), request.scope[TOLD], min(_weight(method, data), requests.rate.burst))
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = state.publisher.unary_unary(name_of(method))
    return await asked(call(data, timeout=LOOK_UP_SECONDS_MAX))


def _weight(method: MethodDescriptor, data: bytes) -> int:
    """As how many requests one counts."""
    if method.name != "GetOrderBook":
        return 1
    return L3_WEIGHT if book_pb.GetOrderBookRequest.FromString(data).detail == book_pb.BOOK_DETAIL_L3 else 1


async def _order_gateway(request: Request, method: MethodDescriptor, data: bytes) -> bytes:
    state: State = request.app.state.clearbook
    metadata = {REQUEST_ID_KEY: log.request_id.get()}
    return await state.forward.call(name_of(method), data, metadata, peer_of(request), told=request.scope[TOLD])


_BOOK: Final = book_pb.DESCRIPTOR.services_by_name["BookService"].methods_by_name
_SETTLEMENT: Final = settlement_pb.DESCRIPTOR.services_by_name["SettlementService"].methods_by_name

LOOKS: Final = (
    Look("/api/v1/book/{market}", _BOOK["GetOrderBook"], _book_service, "Read a book: best level, levels, or orders"),
    Look("/api/v1/trades/{market}", _BOOK["ListTrades"], _book_service, "List trades, newest first"),
    Look("/api/v1/candles/{market}", _BOOK["ListCandles"], _book_service, "List candles, newest first"),
    Look("/api/v1/ticker/{market}", _BOOK["GetTicker"], _book_service, "Read a market's last 24 hours"),
    Look("/api/v1/tickers", _BOOK["ListTickers"], _book_service, "Read the last 24 hours of some markets, or of all"),
    Look("/api/v1/settlement", _SETTLEMENT["GetSettlement"], _order_gateway, "Tell how far a settlement is"),
    Look("/api/v1/settlements", _SETTLEMENT["ListSettlements"], _order_gateway, "List settlements, newest first"),
    Look("/api/v1/contract", _SETTLEMENT["GetContract"], _order_gateway, "Tell the contract that settles"),
    Look(
        "/api/v1/reconciliation",
        _SETTLEMENT["GetReconciliation"],
        _order_gateway,
        "Read what is owed and what is there",
    ),
)


def _endpoint(look: Look) -> Callable[[Request], Awaitable[Response]]:
    request_kind: type[Message] = GetMessageClass(look.method.input_type)
    response_kind: type[Message] = GetMessageClass(look.method.output_type)

    async def tell(request: Request) -> Response:
        try:
            given = [*request.path_params.items(), *texts_in(request.scope["query_string"], "the query is no query")]
            wanted = query_in(request_kind, given)
            data = await look.ask(request, look.method, wanted.SerializeToString())
        except Rejected as rejected:
            return answer(rejected, names=OF_PROTO)
        turns = request.app.state.clearbook.turns
        return Response(await long_json(response_kind.FromString(data), turns), media_type=JSON)

    return tell


router = APIRouter()
for _look in LOOKS:
    router.add_api_route(_look.path, _endpoint(_look), methods=["GET"], include_in_schema=False)
