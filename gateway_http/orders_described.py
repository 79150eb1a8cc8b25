"""OpenAPI of the routes that orders take, which FastAPI does not serve and so cannot describe; and of every error."""

from typing import Any, Final

from gateway_http.errors import JSON
from gateway_http.json_proto import USER_FIELD
from gateway_http.orders import PLACE, ROUTES, SERVICE, Route
from gateway_http.proto_schema import schema_of
from gateway_http.wire import ENUMS, KINDS, NUMBERS

_NUMBER: Final[dict[str, Any]] = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"}]}
_ORDER: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["order_id", "user_id", "pair", "order_type", "side", "amount"],
    "properties": {
        "order_id": {"type": "string", "minLength": 1, "maxLength": 64, "description": "Yours: the idempotency key."},
        "user_id": {"type": "string", "minLength": 1, "maxLength": 64, "description": "Whose order."},
        "pair": {"type": "string", "examples": ["BTC-USD"]},
        "order_type": {"type": "string", "enum": list(KINDS), "description": "As Binance calls them, in lower case."},
        "side": {"type": "string", "enum": ["buy", "sell"]},
        "price": {**_NUMBER, "description": "Required for limit orders of every kind, ignored for all others."},
        "amount": {**_NUMBER, "description": "In the base asset."},
        **{name: {"type": "string", "enum": list(values)} for name, values in ENUMS.items()},
        **dict.fromkeys(NUMBERS, _NUMBER),
        "post_only": {"type": "boolean"},
        "expire_time": {"type": "string", "format": "date-time", "description": "For gtd."},
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


REFUSALS: Final = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504)


def responses(*codes: int, **good: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI: what a route answers."""
    described: dict[int | str, dict[str, Any]] = {
        code: {"description": "Refused", "content": {JSON: {"schema": _PROBLEM}}} for code in codes
    }
    return described | {200: {"description": "Done", "content": {JSON: {"schema": good["body"]}}}}


_ABOUT: Final = (
    "Signed by Binance's scheme (X-MBX-APIKEY, timestamp, recvWindow, signature) or with a bearer token, user_id must "
    "be the credential's own user. "
)
_ABOUT_PLACE: Final = (
    "Places an order; the answer comes when it is durable. The same order_id again is the same order.\n\n"
    f"{_ABOUT}With a credential, the body may be a form as well. Beyond the documented fields: what PlaceOrderRequest "
    "has, by its names."
)


def _described(route: Route) -> dict[str, Any]:
    if route is PLACE:
        about, request, response = _ABOUT_PLACE, _ORDER, _ACCEPTED
    else:
        method = SERVICE.methods_by_name[route.rpc]
        about = f"The body is the request of {route.rpc}, and user_id beside it; the answer is its response. {_ABOUT}"
        request, response = schema_of(method.input_type), schema_of(method.output_type)
        user = {USER_FIELD: {"type": "string", "minLength": 1, "maxLength": 64, "description": "Who asks."}}
        request = request | {"properties": user | request["properties"], "required": [USER_FIELD]}
    return {
        "post": {
            "summary": route.summary,
            "description": about,
            "operationId": route.rpc,
            "requestBody": {"required": True, "content": {JSON: {"schema": request}}},
            "responses": {str(code): answer for code, answer in responses(*REFUSALS, body=response).items()},
        }
    }


PATHS: Final = {path: _described(route) for path, route in ROUTES.items()}
