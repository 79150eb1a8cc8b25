"""The ASGI application: what is asked for often by itself, all else with FastAPI; errors in one shape.

From outside in: Edge, CORS where it is asked for, Origins, Binance, Orders, FastAPI.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from gateway_http import accounts, market_routes, orders, routes, stream
from gateway_http.binance.app import Binance
from gateway_http.edge import Edge
from gateway_http.errors import JSON, answer
from gateway_http.headers import DOCS_PATH, OPENAPI_PATH, docs_page
from gateway_http.openapi import completed
from gateway_http.orders import Orders
from gateway_http.origins import Origins
from gateway_http.state import State
from services.errors import Reason, Rejected

CORS_HEADERS: Final = ("authorization", "content-type", "x-mbx-apikey", "x-request-id")
CORS_HEADERS_SHOWN: Final = (
    *("x-request-id", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
)

_HTTP_REASONS: Final = {404: Reason.ROUTE_NOT_FOUND, 405: Reason.METHOD_NOT_ALLOWED}
_HINTS: Final = {Reason.ROUTE_NOT_FOUND: f"no such route; {DOCS_PATH} shows them all"}
_INVALID: Final = {
    "int_parsing": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
"""Of pydantic's errors, our words."""


def build(state: State, cors_origins: Sequence[str] = (), *, open_mode: bool = True) -> ASGIApp:
    """The application.

    Args:
        state: with the two clients.
        cors_origins: whose pages may use it from a browser.
        open_mode: whoever asks may name any user.
    """
    inner = FastAPI(
        title="Clearbook",
        version="1",
        description="An order book that clears.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    inner.state.clearbook = state
    _add_docs(inner)
    inner.include_router(routes.router)
    inner.include_router(market_routes.router)
    inner.include_router(stream.router)
    inner.add_exception_handler(Rejected, _on_rejected)
    inner.add_exception_handler(RequestValidationError, _on_invalid)
    inner.add_exception_handler(HTTPException, _on_http)
    inner.add_exception_handler(Exception, _on_bug)
    app: ASGIApp = Origins(
        Binance(Orders(inner, state, orders.ROUTES | accounts.ROUTES), state), allowed=cors_origins, open_mode=open_mode
    )
    if cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=CORS_HEADERS,
            expose_headers=CORS_HEADERS_SHOWN,
        )
    return Edge(app)


def _add_docs(app: FastAPI) -> None:
    """Adds the OpenAPI document, made once when it is first asked for, and the page that shows it."""
    page, policy = docs_page(app.title, OPENAPI_PATH)
    document = cache(lambda: msgspec.json.encode(completed(app.openapi())))

    @app.get(OPENAPI_PATH, include_in_schema=False)
    async def openapi() -> Response:
        return Response(document(), media_type=JSON)

    @app.get(DOCS_PATH, include_in_schema=False)
    async def docs() -> Response:
        return Response(page, headers={"content-security-policy": policy}, media_type="text/html")


async def _on_rejected(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Rejected)
    return answer(error)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = dict(error.errors()[0])
    field = str(first["loc"][-1])
    ours = _INVALID.get(first["type"])
    words = first["msg"] if ours is None else ours.format(**first.get("ctx", {}))
    return answer(Rejected(Reason.INVALID_FIELD, f"{field} {words}", field))


async def _on_bug(_request: Request, _error: Exception) -> Response:
    """Starlette raises it again: Edge writes it down."""
    return answer(Rejected(Reason.INTERNAL))


async def _on_http(_request: Request, error: Exception) -> Response:
    """Unknown routes and methods."""
    assert isinstance(error, HTTPException)
    reason = _HTTP_REASONS.get(error.status_code, Reason.MALFORMED_REQUEST)
    response = answer(Rejected(reason, _HINTS.get(reason, "")), error.status_code)
    response.headers.update(error.headers or {})
    return response
