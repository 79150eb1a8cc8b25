"""The OpenAPI document: what FastAPI says of the routes that it serves, and all others, by hand."""

from typing import Any, Final

from clearbook.v1 import book_service_pb2 as book_pb

from gateway_http import accounts, errors_described, looks_described, orders, orders_described
from gateway_http.binance import described as binance
from gateway_http.market_routes import LOOKS
from gateway_http.proto_schema import components

PATHS: Final = orders_described.PATHS | looks_described.PATHS | binance.PATHS
_POSTS: Final = (*orders.ROUTES.values(), *accounts.ROUTES.values())
_SCHEMAS: Final = (
    components([route.method.input_type for route in _POSTS], asked=True)
    | components(
        [
            *(route.method.output_type for route in _POSTS),
            *(look.method.output_type for look in LOOKS),
            book_pb.ListMarketsResponse.DESCRIPTOR,
        ],
        asked=False,
    )
    | {errors_described.PROBLEM_NAME: errors_described.PROBLEM, binance.PROBLEM_NAME: binance.PROBLEM}
)


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with what it does not serve, and with what both refer to."""
    document["paths"] = PATHS | document["paths"]
    known = document.setdefault("components", {})
    known["schemas"] = _SCHEMAS | known.get("schemas", {})
    known["responses"] = errors_described.ANSWERS | binance.ANSWERS
    return document
