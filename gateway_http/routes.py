"""Market data and the operator's routes. (orders.py has those that orders take.)"""

from typing import Annotated, Any, Final

import msgspec
from clearbook.v1 import book_service_pb2 as book_pb
from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway_http import wire
from gateway_http.errors import JSON
from gateway_http.errors_described import responses
from gateway_http.examples import EXAMPLES
from gateway_http.headers import TOLD
from gateway_http.limits import peer_of
from gateway_http.proto_json import json_value
from gateway_http.proto_schema import REFERENCE
from gateway_http.state import State
from services.runtime import metrics
from services.runtime.limits import of_ip

DEPTH_MAX: Final = 5_000

router = APIRouter()

_LEVELS: Final[dict[str, Any]] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["price", "amount"],
        "properties": {"price": {"type": "number"}, "amount": {"type": "number"}},
    },
}
_BOOK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["bids", "asks"],
    "properties": {"bids": _LEVELS, "asks": _LEVELS},
}
_BOOK_EXAMPLE: Final = {"bids": [{"price": 29999.50, "amount": 0.005}], "asks": [{"price": 31000.50, "amount": 0.006}]}
_MARKETS: Final = {"$ref": f"{REFERENCE}{book_pb.ListMarketsResponse.DESCRIPTOR.name}"}


def _state(request: Request) -> State:
    state: State = request.app.state.clearbook
    return state


@router.get(
    "/api/v1/orderbook/{pair}",
    summary="Read an order book",
    responses=responses(404, 422, 429, 500, 503, body=_BOOK, example=_BOOK_EXAMPLE),
)
async def order_book(
    request: Request,
    pair: str,
    depth: Annotated[int, Query(ge=1, le=DEPTH_MAX, description="Levels a side.")] = 20,
) -> Response:
    """The book of a market, best first. Prices have the market's decimals, amounts no trailing zeros."""
    state = _state(request)
    state.limits.requests.take(of_ip(peer_of(request)), request.scope[TOLD])
    feed = await state.feeds.feed(pair)
    book = await feed.current()
    return Response(wire.order_book(*book.top(depth)), media_type=JSON)


@router.get(
    "/api/v1/markets",
    summary="List the markets",
    responses=responses(429, 500, 503, body=_MARKETS, example=EXAMPLES["ListMarkets"].answered),
)
async def markets(request: Request) -> Response:
    """All markets by symbol: their steps, their rules, and whether each takes orders."""
    state = _state(request)
    state.limits.requests.take(of_ip(peer_of(request)), request.scope[TOLD])
    found = await state.feeds.markets()
    return Response(msgspec.json.encode(json_value(found)), media_type=JSON)


@router.get("/healthz", summary="Alive", responses={200: {"content": {"text/plain": {}}}})
async def healthz() -> Response:
    """This process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz", summary="Ready", responses={200: {"content": {"text/plain": {}}}, 503: {}})
async def readyz(request: Request) -> Response:
    """order_gateway and publisher serve."""
    missing = await _state(request).not_serving()
    if missing:
        return Response(f"not serving: {', '.join(missing)}\n", 503, media_type="text/plain")
    return Response("ready\n", media_type="text/plain")


@router.get("/metrics", summary="Prometheus metrics", responses={200: {"content": {"text/plain": {}}}})
async def prometheus() -> Response:
    """This process's metrics."""
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
