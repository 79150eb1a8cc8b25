"""Routes that ask order_gateway: plain ASGI, for orders come often. Each decodes, asks, encodes. Here: those of orders.

What FastAPI and pydantic would do for a request costs several times what the request itself does.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from clearbook.v1 import order_service_pb2 as order_pb
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway_http import wire
from gateway_http.errors import DOCUMENTED, JSON, OF_PROTO, Names, answer
from gateway_http.headers import TOLD
from gateway_http.json_proto import request_in
from gateway_http.proto_json import json_value
from gateway_http.signing import is_form, signed_request
from gateway_http.state import State
from services.errors import Reason, Rejected
from services.runtime import log
from services.runtime.metadata import AUTHORIZATION_KEY, REQUEST_ID_KEY, USER_KEY

BODY_SECONDS_MAX: Final = 10.0
LARGE_BODY_BYTES_MAX: Final = 512 * 1024
"""Of several orders: as JSON they take twice what order_gateway admits of them."""
SERVICE: Final = order_pb.DESCRIPTOR.services_by_name["OrderService"]

_JSON: Final = (b"content-type", JSON.encode())
_CONTENT_TYPE: Final = b"content-type"
_AUTHORIZATION: Final = AUTHORIZATION_KEY.encode()


class Route(NamedTuple):
    """One route, which takes POST.

    Attributes:
        path: its own.
        method: whom it asks.
        name: that method's, as gRPC has it.
        summary: what it does.
        decode: body → request, and the user_id that it names.
        encode: request, serialized response → body.
        repeatable: the same may be sent twice, and nothing more comes of it, whatever was asked for between: a replace
            or a setting would undo a later one.
        body_bytes_max: of a body.
        brief: `encode` does not look at the response.
        form: whether the body may be a form.
        names: of fields, as the body has them.
    """

    path: str
    method: MethodDescriptor
    name: str
    summary: str
    decode: Callable[[bytes], tuple[Any, str]]
    encode: Callable[[Any, bytes], bytes]
    repeatable: bool
    body_bytes_max: int = wire.BODY_BYTES_MAX
    brief: bool = False
    form: bool = False
    names: Names = OF_PROTO


def name_of(method: MethodDescriptor) -> str:
    """A method's full name, as it goes over the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


def route_to(
    service: ServiceDescriptor, path: str, rpc: str, summary: str, *, repeatable: bool, large: bool = False
) -> Route:
    """A route whose body is the RPC's request, with a user_id beside its fields, and whose answer is its response."""
    method = service.methods_by_name[rpc]
    request, response = (GetMessageClass(kind) for kind in (method.input_type, method.output_type))

    def encode(_request: Any, data: bytes) -> bytes:
        return msgspec.json.encode(json_value(response.FromString(data)))

    bytes_max = LARGE_BODY_BYTES_MAX if large else wire.BODY_BYTES_MAX
    return Route(path, method, name_of(method), summary, partial(request_in, request), encode, repeatable, bytes_max)


_route: Final = partial(route_to, SERVICE)
_PLACE_ORDER: Final = SERVICE.methods_by_name["PlaceOrder"]

PLACE: Final = Route(
    *("/api/v1/order", _PLACE_ORDER, name_of(_PLACE_ORDER), "Place an order", wire.order_from),
    encode=lambda order, _: wire.accepted(order.client_order_id),
    repeatable=True,  # it has the client's id
    brief=True,
    form=True,
    names=DOCUMENTED,
)
ROUTES: Final = {
    route.path: route
    for route in (
        PLACE,
        _route("/api/v1/order/cancel", "CancelOrder", "Cancel an order", repeatable=False),
        _route(
            "/api/v1/order/replace", "ReplaceOrder", "Give an open order another price or quantity", repeatable=False
        ),
        _route("/api/v1/order/query", "GetOrder", "Read an order, and what it traded", repeatable=True),
        _route("/api/v1/order/preview", "PreviewOrder", "Tell what an order would come to", repeatable=True),
        _route("/api/v1/orders", "PlaceOrders", "Place up to 500 orders", repeatable=False, large=True),
        _route("/api/v1/orders/cancel", "CancelOrders", "Cancel up to 500 orders", repeatable=False, large=True),
        _route("/api/v1/orders/replace", "ReplaceOrders", "Replace up to 500 orders", repeatable=False, large=True),
        _route("/api/v1/orders/group", "PlaceGroup", "Place orders that belong together", repeatable=False),
        _route("/api/v1/orders/cancel-all", "CancelAllOrders", "Cancel all open orders", repeatable=False),
        _route("/api/v1/orders/cancel-after", "CancelAfter", "Cancel all unless asked again in time", repeatable=False),
        _route("/api/v1/orders/query", "ListOrders", "List orders, newest first", repeatable=True),
        _route("/api/v1/orders/defaults", "SetTradingDefaults", "Set what orders do unless they say", repeatable=False),
        _route("/api/v1/orders/defaults/query", "GetTradingDefaults", "Read what orders do then", repeatable=True),
        _route("/api/v1/executions/query", "ListExecutions", "List what was traded, newest first", repeatable=True),
    )
}


class Orders:
    """ASGI middleware: serves these routes, and passes all else on."""

    def __init__(self, app: ASGIApp, state: State, routes: Mapping[str, Route]) -> None:
        """`app`: what is inside; `state`: with the client of order_gateway; `routes`: by path."""
        self._app, self._forward, self._routes = app, state.forward, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        if scope["method"] != "POST":
            refusal = answer(Rejected(Reason.METHOD_NOT_ALLOWED))
            refusal.headers["allow"] = "POST"
            await refusal(scope, receive, send)
            return
        try:
            body = await self._ask(route, scope, receive)
        except Rejected as rejected:
            await answer(rejected, names=route.names)(scope, receive, send)
        except ClientDisconnect:
            return  # nobody is there to be told
        else:
            headers = [_JSON, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _ask(self, route: Route, scope: Scope, receive: Receive) -> bytes:
        content_type, authorization = b"", b""
        for name, value in scope["headers"]:
            if name == _CONTENT_TYPE:
                content_type = content_type or value
            elif name == _AUTHORIZATION:
                authorization = authorization or value
        body = await body_of(receive, route.body_bytes_max)
        form = is_form(content_type.decode("latin-1"), body)
        signed = signed_request(scope["headers"], scope["query_string"], body, form=form)
        if form and not (route.form and (signed or authorization)):
            why = f"a form must be signed; send {JSON}" if route.form else f"send {JSON}"
            raise Rejected(Reason.UNSUPPORTED_MEDIA_TYPE, why)
        request, user_id = route.decode(wire.form_order(body) if form else body)
        response = await self._forward.call(
            route.name,
            request.SerializeToString(),
            credentials(user_id, authorization),
            scope["client"][0] if scope["client"] else "",
            signed=signed,
            told=scope[TOLD],
            brief=route.brief,
            repeatable=route.repeatable,
        )
        return route.encode(request, response)


def credentials(user_id: str, authorization: bytes) -> dict[str, str]:
    """What the caller says of itself, as gRPC metadata. order_gateway judges it. Raises Rejected for a bad user_id."""
    if not (user_id.isascii() and user_id.isprintable()):
        raise Rejected(Reason.INVALID_FIELD, "user_id must be printable ASCII", "user_id")
    metadata = {USER_KEY: user_id, REQUEST_ID_KEY: log.request_id.get()}
    if authorization:
        metadata[AUTHORIZATION_KEY] = authorization.decode("latin-1")
    return metadata


async def body_of(receive: Receive, bytes_max: int) -> bytes:
    """The whole body.

    Raises:
        Rejected: TOO_LARGE past the limit, however it is sent; TOO_SLOW if it does not come.
        ClientDisconnect: the client has gone.
    """
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientDisconnect
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > bytes_max:
                    raise Rejected(Reason.TOO_LARGE, f"the body is larger than {bytes_max} bytes")
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Rejected(Reason.TOO_SLOW, f"the body did not come within {BODY_SECONDS_MAX:g} s") from None
