"""Around every answer: a request id, headers, a count and the time; a bug is an answer, and a line in the log."""

import time
from functools import cache
from typing import Final

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway_http.errors import answer
from gateway_http.headers import TOLD, complete
from services.errors import Reason, Rejected
from services.runtime import log, metrics

CLIENT_GONE: Final = 499
"""What is counted, by nginx's custom, when the client left before the answer began."""
REQUEST_ID_HEADER: Final = b"x-request-id"

logger = log.get("http")
_requests = metrics.counter("http_requests", "HTTP requests answered", ("route", "status"))
_seconds = metrics.histogram("http_seconds", "Seconds to the answer of a request", ("route",))


@cache
def _meters(route: str, status: int) -> tuple[Counter, Histogram]:
    """Looked up once: there are as many routes as there are, and HTTP has few statuses."""
    return _requests.labels(route, status), _seconds.labels(route)


class Edge:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp) -> None:
        """`app`: what is inside."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = None
        for name, value in scope["headers"]:
            if name == REQUEST_ID_HEADER:
                given = value.decode("latin-1")
                break
        request_id = log.bind_request(given).encode()
        told: dict[str, str] = {}
        scope[TOLD] = told
        started, status, ended = time.perf_counter(), 0, False

        async def edged(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = complete(message["headers"], scope, told)
                headers.append((REQUEST_ID_HEADER, request_id))
                message["headers"] = headers
            else:
                ended = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, edged)
        except Exception:
            logger.exception("bug", path=scope["path"])
            if not status:
                await answer(Rejected(Reason.INTERNAL))(scope, receive, edged)
            elif not ended:
                raise  # the answer has begun: the server cuts it off
        finally:
            counter, histogram = _meters(getattr(scope.get("route"), "path", "none"), status or CLIENT_GONE)
            counter.inc()
            histogram.observe(time.perf_counter() - started)
