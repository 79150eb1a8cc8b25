"""The API that Binance's clients speak, in front of all else that the shim serves."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway_http.binance.exchange import Exchange
from gateway_http.binance.rest import Rest
from gateway_http.binance.routes import PREFIX
from gateway_http.state import State


class Binance:
    """ASGI middleware: serves these paths, and passes all else on."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        """`app`: what is inside; `state`: with the clients of the services."""
        self._app = app
        self._rest = Rest(Exchange(state))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves."""
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            await self._rest(scope, receive, send)
        else:
            await self._app(scope, receive, send)
