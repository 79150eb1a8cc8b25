"""Whose pages may use the shim from a browser: its own, and those of CORS_ORIGINS.

CORS keeps a page from reading an answer, not from asking: without this, any page that is open in a browser on the
machine of an exchange in open mode could place orders there. A browser says whose page asks (Origin); who is no
browser says nothing, and is not concerned.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway_http.errors import answer
from services.errors import Reason, Rejected
from services.runtime import log

EVERYBODY: Final = "*"
READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
ORIGIN: Final = b"origin"
ORIGIN_CHARS_SHOWN_MAX: Final = 100


class Origins:
    """ASGI middleware: other pages open no socket, and make no request that changes something."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str], *, open_mode: bool) -> None:
        """`app`: what is inside; `allowed`: origins, or "*"; `open_mode`: whoever asks may name any user."""
        self._app, self._allowed, self._open_mode = app, frozenset(allowed), open_mode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on, or refuses."""
        if scope["type"] == "lifespan" or scope.get("method") in READING or self._admits(scope):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            log.bind_request()
        origin = Headers(scope=scope)["origin"][:ORIGIN_CHARS_SHOWN_MAX]
        refused = Rejected(Reason.ORIGIN_REFUSED, f"pages of {origin} may not: CORS_ORIGINS does not name it", "origin")
        await answer(refused)(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        for name, _ in scope["headers"]:
            if name == ORIGIN:
                break
        else:
            return True  # no browser
        headers = Headers(scope=scope)
        origin = headers["origin"]
        if origin in self._allowed or EVERYBODY in self._allowed:
            return True
        host = headers.get("host", "")
        if not host or origin.partition("://")[2] != host:
            return False
        # A name can be made to lead here by whoever owns it; then his page counts as ours. Credentials would stop it.
        return not self._open_mode or _means_us(host)


def _means_us(host: str) -> bool:
    """Whether a Host is an address, or localhost: nobody else can have it mean this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False
