"""The API that Binance's clients speak, in front of all else that the shim serves."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from gateway_http.binance.api_socket import ApiSocket
from gateway_http.binance.exchange import Exchange
from gateway_http.binance.market_streams import MarketSocket, names_in
from gateway_http.binance.refusals import Refused
from gateway_http.binance.rest import Rest
from gateway_http.binance.routes import PREFIX
from gateway_http.binance.sockets import accept, close, close_with
from gateway_http.closing import GOING_AWAY
from gateway_http.direct import write_of
from gateway_http.errors import upgrade_required
from gateway_http.limits import peer_of
from gateway_http.state import State
from services.errors import Rejected
from services.runtime import log
from services.runtime.run import Closed

STREAM: Final = "/stream"
RAW: Final = "/ws"
API: Final = "/ws-api/v3"
OURS: Final = "/ws/marketdata"
"""Of the shim's own market data."""


class Binance:
    """ASGI middleware: serves these paths, and passes all else on."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        """`app`: what is inside; `state`: with the clients of the services."""
        self._app, self._state = app, state
        self._exchange = Exchange(state)
        self._rest = Rest(self._exchange)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves."""
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith(PREFIX):
            await self._rest(scope, receive, send)
        elif scope["type"] == "websocket" and _is_ours_to_serve(path):
            await self._socket(WebSocket(scope, receive, send))
        elif scope["type"] == "http" and _is_ours_to_serve(path):
            await upgrade_required()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _socket(self, socket: WebSocket) -> None:
        log.bind_request()
        why: Rejected | Refused | None
        try:
            with self._state.limits.socket(peer_of(socket)):
                async with self._state.closing.guard():
                    why = await self._serve(socket)
        except (Rejected, Refused) as refused:
            why = refused
        except Closed:
            await accept(socket)
            await close_with(socket, GOING_AWAY, "the server is closing; connect again")
            return
        if why is not None:
            await accept(socket)
            await close(socket, why)

    async def _serve(self, socket: WebSocket) -> Rejected | Refused | None:
        path = socket.scope["path"]
        if path == API:
            await accept(socket)
            return await ApiSocket(self._exchange, socket).serve()
        names = names_in(path, socket.scope["query_string"])
        return await MarketSocket(self._exchange, write_of(socket.scope), combined=path == STREAM).serve(socket, names)


def _is_ours_to_serve(path: str) -> bool:
    return path in {STREAM, RAW, API} or (path.startswith(f"{RAW}/") and path != OURS)
