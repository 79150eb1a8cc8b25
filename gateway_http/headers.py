"""Headers that every answer has: what browsers must not do with it, and what order_gateway told beside it."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.types import Scope

TOLD: Final = "clearbook.told"
"""Where a request's scope keeps the headers that its answer will have, whatever that is."""
DOCS_PATH: Final = "/docs"
OPENAPI_PATH: Final = "/openapi.json"
HSTS_SECONDS: Final = 365 * 24 * 3600

NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"
"""A policy for answers that are no pages."""
_DOCS_SOURCE: Final = "https://cdn.jsdelivr.net"
_INLINE_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_PUBLIC_PREFIXES: Final = (
    "/api/v1/orderbook/",
    "/api/v1/markets",
    "/api/v1/book/",
    "/api/v1/trades/",
    "/api/v1/candles/",
    "/api/v1/ticker",
    "/api/v1/settlement",
    "/api/v1/reconciliation",
    DOCS_PATH,
    OPENAPI_PATH,
    "/healthz",
    "/readyz",
    "/metrics",
)
_ALWAYS: Final = {b"x-content-type-options": b"nosniff", b"referrer-policy": b"no-referrer"}
_PRIVATE: Final = {**_ALWAYS, b"cache-control": b"no-store"}
_POLICY: Final = b"content-security-policy"
_NOTHING_ALLOWED: Final = NOTHING.encode()
_HSTS: Final = f"max-age={HSTS_SECONDS}".encode()


def complete(given: Iterable[tuple[bytes, bytes]], scope: Scope, told: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer.

    Args:
        given: its own.
        scope: of the request.
        told: what order_gateway told beside it.
    """
    headers = {_POLICY: _NOTHING_ALLOWED}
    headers.update(given)
    headers.update(_ALWAYS if scope["path"].startswith(_PUBLIC_PREFIXES) else _PRIVATE)
    if scope["scheme"] == "https":
        headers[b"strict-transport-security"] = _HSTS
    for name, value in told.items():
        headers[name.encode()] = value.encode()
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
