"""OpenAPI of the routes that ask order_gateway, which FastAPI does not serve and so cannot describe."""

from typing import Any, Final

from gateway_http import accounts, orders
from gateway_http.errors import JSON
from gateway_http.errors_described import REFUSALS, responses
from gateway_http.examples import EXAMPLES
from gateway_http.json_proto import USER_FIELD
from gateway_http.orders import PLACE, Route
from gateway_http.proto_schema import REFERENCE, schema_of
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
}
_ORDER_EXAMPLE: Final = {
    "order_id": "unique-order-id-123",
    "user_id": "user-abc",
    "pair": "BTC-USD",
    "order_type": "limit",
    "side": "buy",
    "price": 30000.00,
    "amount": 0.001,
}
_ACCEPTED: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["message", "order_id"],
    "properties": {"message": {"type": "string"}, "order_id": {"type": "string"}},
}
_ACCEPTED_EXAMPLE: Final = {"message": "Order submitted successfully", "order_id": "unique-order-id-123"}
_USER: Final = {USER_FIELD: {"type": "string", "minLength": 1, "maxLength": 64, "description": "Who asks."}}
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
    name = route.method.name
    example = EXAMPLES[name]
    if route is PLACE:
        about, answer, answered = _ABOUT_PLACE, _ACCEPTED, _ACCEPTED_EXAMPLE
        content: dict[str, Any] = {"schema": _ORDER, "example": _ORDER_EXAMPLE}
    else:
        about = f"The body is the request of {name}, and user_id beside it; the answer is its response. {_ABOUT}"
        answer, answered = {"$ref": f"{REFERENCE}{route.method.output_type.name}"}, example.answered
        schema = schema_of(route.method.input_type, asked=True)
        schema |= {"properties": _USER | schema["properties"], "required": [USER_FIELD]}
        content = {"schema": schema, "example": {USER_FIELD: "emil"} | example.asked}
    answers = responses(*REFUSALS, body=answer, example=answered)
    return {
        "post": {
            "summary": route.summary,
            "description": about,
            "operationId": name,
            "tags": [route.method.containing_service.name],
            "requestBody": {"required": True, "content": {JSON: content}},
            "responses": {str(code): said for code, said in answers.items()},
        }
    }


PATHS: Final = {path: _described(route) for path, route in (orders.ROUTES | accounts.ROUTES).items()}
