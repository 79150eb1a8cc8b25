"""OpenAPI of the routes that orders take, which FastAPI does not serve and so cannot describe; and of every error."""

from typing import Any, Final

from gateway_http.errors import JSON

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


PATHS: Final[dict[str, Any]] = {
    "/api/v1/order": {
        "post": {
            "summary": "Place an order",
            "description": (
                "Places an order; the answer comes when it is durable. The same order_id again is the same order.\n\n"
                "Signed by Binance's scheme (X-MBX-APIKEY, timestamp, recvWindow, signature) or with a bearer token, "
                "user_id must be the credential's own user. With a credential, the body may be a form as well."
            ),
            "operationId": "place_order",
            "requestBody": {"required": True, "content": {JSON: {"schema": _ORDER}}},
            "responses": {str(code): of for code, of in responses(*REFUSALS, body=_ACCEPTED).items()},
        }
    },
}
