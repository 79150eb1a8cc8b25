"""The ASGI application: routes, errors in one shape, a request id and a count for every request."""

import time
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway_http import routes, stream
from gateway_http.errors import answer
from gateway_http.headers import DOCS_PATH, Headers, docs_page
from gateway_http.origins import Origins
from gateway_http.state import State
from services.errors import Reason, Rejected
from services.runtime import log, metrics

CORS_HEADERS: Final = ("authorization", "content-type", "x-mbx-apikey", "x-request-id")
CORS_HEADERS_SHOWN: Final = (
    *("x-request-id", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
)

CLIENT_GONE: Final = 499
"""What is counted, by nginx's custom, when the client left before the answer began."""

_HTTP_REASONS: Final = {404: Reason.ROUTE_NOT_FOUND, 405: Reason.METHOD_NOT_ALLOWED}

logger = log.get("http")
_requests = metrics.counter("http_requests", "HTTP requests answered", ("route", "status"))
_seconds = metrics.histogram("http_seconds", "Seconds to the answer of a request", ("route",))


def build(state: State, cors_origins: Sequence[str] = (), *, open_mode: bool = True) -> FastAPI:
    """The application.

    Args:
        state: with the two clients.
        cors_origins: whose pages may use it from a browser.
        open_mode: whoever asks may name any user.
    """
    app = FastAPI(
        title="Clearbook", version="1", description="An order book that clears.", docs_url=None, redoc_url=None
    )
    app.state.clearbook = state
    _add_docs(app)
    app.include_router(routes.router)
    app.include_router(stream.router)
    app.add_exception_handler(Rejected, _on_rejected)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_middleware(Origins, allowed=cors_origins, open_mode=open_mode)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=CORS_HEADERS,
            expose_headers=CORS_HEADERS_SHOWN,
        )
    app.add_middleware(_Observed)
    app.add_middleware(Headers)
    return app


def _add_docs(app: FastAPI) -> None:
    page, policy = docs_page(app.title, "/openapi.json")

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
    return answer(Rejected(Reason.INVALID_FIELD, f"{field}: {first['msg']}", field))


async def _on_http(_request: Request, error: Exception) -> Response:
    """Unknown routes and methods."""
    assert isinstance(error, HTTPException)
    reason = _HTTP_REASONS.get(error.status_code, Reason.MALFORMED_REQUEST)
    response = answer(Rejected(reason), error.status_code)
    response.headers.update(error.headers or {})
    return response


class _Observed:
    """Binds the request id, sends it back, counts and times; a bug becomes an answer and a line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"x-request-id"), None)
        request_id = log.bind_request(given)
        started, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception:
            logger.exception("bug", path=scope["path"])
            if status:
                raise  # the answer has begun: the server cuts it off
            await answer(Rejected(Reason.INTERNAL))(scope, receive, observed)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            _requests.labels(route, status or CLIENT_GONE).inc()
            _seconds.labels(route).observe(time.perf_counter() - started)
