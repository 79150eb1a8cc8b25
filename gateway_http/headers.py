"""Headers that every answer has: what browsers must not do with it, and what order_gateway told beside it."""

import base64
import hashlib
import re
from typing import Final

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOLD: Final = "clearbook.told"
"""Where a request's scope keeps the headers that its answer will have, whatever that is."""
DOCS_PATH: Final = "/docs"
HSTS_SECONDS: Final = 365 * 24 * 3600

NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"
"""A policy for answers that are no pages."""
_DOCS_SOURCE: Final = "https://cdn.jsdelivr.net"
_INLINE_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_PUBLIC_PREFIXES: Final = ("/api/v1/orderbook/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics")
_ALWAYS: Final = {b"x-content-type-options": b"nosniff", b"referrer-policy": b"no-referrer"}
_HSTS: Final = f"max-age={HSTS_SECONDS}".encode()


class Headers:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp) -> None:
        """`app`: what is inside."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves, adding headers to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told: dict[str, str] = {}
        scope[TOLD] = told

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _complete(message["headers"], scope, told)
            await send(message)

        await self._app(scope, receive, with_headers)


def _complete(given: list[tuple[bytes, bytes]], scope: Scope, told: dict[str, str]) -> list[tuple[bytes, bytes]]:
    headers = {b"content-security-policy": NOTHING.encode()} | dict(given) | _ALWAYS
    if not scope["path"].startswith(_PUBLIC_PREFIXES):
        headers[b"cache-control"] = b"no-store"
    if scope["scheme"] == "https":
        headers[b"strict-transport-security"] = _HSTS
    headers |= {name.encode(): value.encode() for name, value in told.items()}
    return list(headers.items())


def docs_page(title: str, openapi_url: str) -> tuple[str, str]:
    """The page that shows the API, and its Content-Security-Policy: its own script by its hash, styles as they are."""
    page = bytes(get_swagger_ui_html(openapi_url=openapi_url, title=title).body).decode()
    hashes = [_source_hash(script) for script in _INLINE_SCRIPT.findall(page)]
    policy = {
        "default-src": ["'none'"],
        "script-src": [_DOCS_SOURCE, *hashes],
        "style-src": [_DOCS_SOURCE, "'unsafe-inline'"],  # Swagger UI sets styles on elements
        "img-src": ["'self'", "https://fastapi.tiangolo.com", "data:"],
        "connect-src": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
    return page, "; ".join(f"{name} {' '.join(sources)}" for name, sources in policy.items())


def _source_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
