"""The documented REST routes and the operator's. Each decodes, asks one service, encodes."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway_http import wire
from gateway_http.errors import JSON
from gateway_http.headers import TOLD
from gateway_http.limits import peer_of
from gateway_http.signing import is_form, signed_request
from gateway_http.state import State
from services.errors import Reason, Rejected
from services.runtime import log, metrics
from services.runtime.limits import of_ip
from services.runtime.metadata import AUTHORIZATION_KEY, REQUEST_ID_KEY, USER_KEY

PLACE_ORDER: Final = "/clearbook.v1.OrderService/PlaceOrder"
DEPTH_MAX: Final = 5_000
BODY_SECONDS_MAX: Final = 10.0

router = APIRouter()

_NUMBER: Final[dict[str, Any]] = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"}]}
_ORDER: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["order_id", "user_id", "pair", "order_type", "side", "amount"],
    "properties": {
        "order_id": {"type": "string", "minLength": 1, "maxLength": 64, "description": "Yours: the idempotency key."},
        "user_id": {"type": "string", "minLength": 1, "maxLength": 64, "description": "Whose order."},
        "pair": {"type": "string", "examples": ["BTC-USD"]},
        "order_type": {"type": "string", "enum": ["limit", "market"]},
        "side": {"type": "string", "enum": ["buy", "sell"]},
        "price": {**_NUMBER, "description": "Required for limit, ignored for market."},
        "amount": {**_NUMBER, "description": "In the base asset."},
    },
    "example": {
        "order_id": "unique-order-id-123",
        "user_id": "user-abc",
        "pair": "BTC-USD",
        "order_type": "limit",
        "side": "buy",
        "price": 30000.00,
        "amount": 0.001,
    },
}
_ACCEPTED: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["message", "order_id"],
    "properties": {"message": {"type": "string"}, "order_id": {"type": "string"}},
}
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
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["code", "message", "field", "request_id"],
    "properties": {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "field": {"type": ["string", "null"]},
        "request_id": {"type": "string"},
        "retry_after": {"type": "integer", "description": "Seconds; absent where asking again does not help."},
    },
}


def _responses(*codes: int, **good: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI: what a route answers."""
    described: dict[int | str, dict[str, Any]] = {
        code: {"description": "Refused", "content": {JSON: {"schema": _PROBLEM}}} for code in codes
    }
    return described | {200: {"description": "Done", "content": {JSON: {"schema": good["body"]}}}}


def _state(request: Request) -> State:
    state: State = request.app.state.clearbook
    return state


def credentials(request: Request, user_id: str) -> dict[str, str]:
    """What the caller says of itself, as gRPC metadata. order_gateway judges it. Raises Rejected for a bad user_id."""
    if not (user_id.isascii() and user_id.isprintable()):
        raise Rejected(Reason.INVALID_FIELD, "user_id must be printable ASCII", "user_id")
    metadata = {USER_KEY: user_id, REQUEST_ID_KEY: log.request_id.get() or ""}
    if authorization := request.headers.get(AUTHORIZATION_KEY):
        metadata[AUTHORIZATION_KEY] = authorization
    return metadata


def told(request: Request) -> dict[str, str]:
    """What goes into the headers of the answer, whatever that is."""
    headers: dict[str, str] = request.scope[TOLD]
    return headers


async def body_of(request: Request) -> bytes:
    """The whole body. Raises Rejected: TOO_LARGE past the limit, however it is sent; TOO_SLOW if it does not come."""
    received = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for chunk in request.stream():
                received += chunk
                if len(received) > wire.BODY_BYTES_MAX:
                    raise Rejected(Reason.TOO_LARGE, f"the body is larger than {wire.BODY_BYTES_MAX} bytes")
    except TimeoutError:
        raise Rejected(Reason.TOO_SLOW, f"the body did not come within {BODY_SECONDS_MAX:g} s") from None
    return bytes(received)


@router.post(
    "/api/v1/order",
    summary="Place an order",
    responses=_responses(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504, body=_ACCEPTED),
    openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": _ORDER}}}},
)
async def place_order(request: Request) -> Response:
    """Places an order; the answer comes when it is durable. The same order_id again is the same order.

    Signed by Binance's scheme (X-MBX-APIKEY, timestamp, recvWindow, signature) or with a bearer token, user_id must be
    the credential's own user. With a credential, the body may be a form as well.
    """
    body = await body_of(request)
    form = is_form(request.headers.get("content-type", ""), body)
    signed = signed_request(request.headers.raw, request.scope["query_string"], body, form=form)
    if form and signed is None and AUTHORIZATION_KEY not in request.headers:
        raise Rejected(Reason.UNSUPPORTED_MEDIA_TYPE, f"a form must be signed; send {JSON}")
    order, user_id = wire.order_from(wire.form_order(body) if form else body)
    await _state(request).forward.call(
        PLACE_ORDER,
        order.SerializeToString(),
        credentials(request, user_id),
        peer_of(request),
        signed=signed,
        told=told(request),
        brief=True,
    )
    return Response(wire.accepted(order.client_order_id), media_type=JSON)


@router.get(
    "/api/v1/orderbook/{pair}",
    summary="Read an order book",
    responses=_responses(404, 422, 429, 503, body=_BOOK),
)
async def order_book(
    request: Request,
    pair: str,
    depth: Annotated[int, Query(ge=1, le=DEPTH_MAX, description="Levels a side.")] = 20,
) -> Response:
    """The book of a market, best first. Prices have the market's decimals, amounts no trailing zeros."""
    state = _state(request)
    state.limits.requests.take(of_ip(peer_of(request)), told(request))
    feed = await state.feeds.feed(pair)
    book = await feed.current()
    return Response(wire.order_book(*book.top(depth)), media_type=JSON)


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
