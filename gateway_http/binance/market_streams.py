"""Sockets of market data: /ws/NAME raw, /stream?streams=NAME/NAME with names, and what clients ask on them."""

from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from starlette.websockets import WebSocket

from gateway_http.binance.exchange import Exchange
from gateway_http.binance.outbox import Frame, Outbox
from gateway_http.binance.refusals import Refused
from gateway_http.binance.sockets import accept, pump
from gateway_http.binance.stream_names import NAME_CHARS_MAX, Stream, stream_of
from gateway_http.binance.user_stream import UserStream
from gateway_http.direct import Write, never
from gateway_http.json_proto import UNREADABLE
from services.errors import Rejected

STREAMS_MAX: Final = 1_024
"""Of one socket."""
KEY_LIKE_CHARS_MIN: Final = 16
"""A name without @ of so many is meant for a listen key, if for a wrong one."""
BAD_REQUEST: Final = 2
COMBINED: Final = "combined"


class Request(msgspec.Struct):
    """What a client asks."""

    method: str = ""
    params: list[Any] = []
    id: str | int | None = None


_requests = msgspec.json.Decoder(Request)


class MarketSocket:
    """One socket of market data."""

    def __init__(self, exchange: Exchange, write: Write = never, *, combined: bool) -> None:
        """`write`: to the socket, past its sender; `combined`: messages come with their stream's name."""
        self._exchange, self._hub = exchange, exchange.hub
        self._outbox = Outbox(write, combined=combined)
        self._streams: dict[str, Stream] = {}

    async def serve(self, socket: WebSocket, names: list[str]) -> Rejected | Refused | None:
        """Tells the streams of these names, and those that are asked for, until the end; why it has come.

        One of the names may be a listen key: then the account is told, too. The socket opens once they are followed:
        whoever is connected misses nothing of what it does next.

        Raises:
            Refused: a name means nothing.
            Rejected: what it means cannot be had.
        """
        user: UserStream | None = None
        try:
            keys = [name for name in names if _is_key_like(name)]
            for key in keys[:1]:
                user = await self._user(key)
            await self._subscribe([name for name in names if name not in keys])
            limits = self._exchange.state.limits
            await accept(socket)
            return await pump(socket, self._outbox, limits, self._take, user.ended if user else None)
        finally:
            self._unsubscribe(list(self._streams))
            if user is not None:
                await user.stop()

    async def _user(self, key: str) -> UserStream:
        logon = self._exchange.listen_keys.named(key).logon
        user = UserStream(logon.asker, self._exchange.markets, lambda event: self._outbox.put(Frame(key, event)))
        await user.begin()
        logon.ended.add_done_callback(lambda ended: user.finish(ended.result()))
        return user

    async def _take(self, text: str | bytes) -> None:
        try:
            request = _requests.decode(text)
        except UNREADABLE:
            self._say(
                {
                    "error": {"code": BAD_REQUEST, "msg": "Invalid request: it is no JSON object of a request"},
                    "id": None,
                }
            )
            return
        try:
            self._say({"result": await self._result(request), "id": request.id})
        except Refused as refused:
            self._say({"error": {"code": BAD_REQUEST, "msg": refused.message}, "id": request.id})

    async def _result(self, request: Request) -> Any:
        match request.method:
            case "SUBSCRIBE":
                await self._subscribe(_names(request))
                return None
            case "UNSUBSCRIBE":
                self._unsubscribe(_names(request))
                return None
            case "LIST_SUBSCRIPTIONS":
                return list(self._streams)
            case "SET_PROPERTY":
                if len(request.params) != 2 or request.params[0] != COMBINED or not isinstance(request.params[1], bool):
                    raise Refused(BAD_REQUEST, 'Invalid request: there is ["combined", true] and ["combined", false]')
                self._outbox.combined = request.params[1]
                return None
            case "GET_PROPERTY":
                if request.params != [COMBINED]:
                    raise Refused(BAD_REQUEST, 'Invalid request: there is ["combined"]')
                return self._outbox.combined
        raise Refused(BAD_REQUEST, "Invalid request: unknown method")

    async def _subscribe(self, names: list[str]) -> None:
        symbols = await self._exchange.markets.symbols()
        wanted: dict[str, Stream] = {}
        for name in names:
            stream = stream_of(name, symbols)
            if stream is None:
                told = f"{name[:NAME_CHARS_MAX]!a}: they are like btcusdt@trade, in lower case"
                raise Refused(BAD_REQUEST, f"Invalid request: no such stream {told}")
            wanted[name] = stream
        if len(self._streams.keys() | wanted.keys()) > STREAMS_MAX:
            raise Refused(BAD_REQUEST, f"Invalid request: a socket has {STREAMS_MAX} streams at most")
        for name, stream in wanted.items():
            if name not in self._streams:
                await self._hub.add(self._outbox, stream)
                self._streams[name] = stream

    def _unsubscribe(self, names: list[str]) -> None:
        for name in names:
            if stream := self._streams.pop(name, None):
                self._hub.drop(self._outbox, stream)

    def _say(self, words: dict[str, Any]) -> None:
        self._outbox.say(msgspec.json.encode(words).decode())


def _names(request: Request) -> list[str]:
    if not all(isinstance(name, str) for name in request.params):
        raise Refused(BAD_REQUEST, "Invalid request: params are names of streams")
    return list(request.params)


def _is_key_like(name: str) -> bool:
    return "@" not in name and len(name) >= KEY_LIKE_CHARS_MIN


def names_in(path: str, query: bytes) -> list[str]:
    """The streams and listen keys that an address names. `path`: /ws or /stream, and what is behind it.

    What is too short for a listen key, and no stream's name, is a client's own number of its connection: ccxt has one.
    """
    if path == "/stream":
        return [name for text in parse_qs(query.decode("latin-1")).get("streams", []) for name in text.split("/")]
    return [name for name in path.removeprefix("/ws").split("/") if "@" in name or _is_key_like(name)]
