"""The WebSocket API, /ws-api/v3: the routes as methods, sessions, and the user data stream."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket

from gateway_http.binance.asking import Caller, Logon
from gateway_http.binance.exchange import Exchange, why
from gateway_http.binance.market_data import now_ms
from gateway_http.binance.outbox import Outbox
from gateway_http.binance.parameters import Params
from gateway_http.binance.refusals import REJECTED_KEY, UNSUPPORTED, Refused, in_words
from gateway_http.binance.sockets import pump
from gateway_http.binance.user_stream import UserStream
from gateway_http.json_proto import UNREADABLE
from gateway_http.limits import peer_of
from gateway_http.signing import signed_texts
from services.errors import Reason, Rejected
from services.runtime import log
from services.runtime.metadata import REQUEST_ID_KEY

IN_FLIGHT_MAX: Final = 64
"""Requests of one socket; the next one is read when one of them is answered."""
USER_STREAMS_MAX: Final = 3
ID_BYTES_MAX: Final = 66
SESSION_WEIGHT: Final = 2
OK: Final = 200
NO_ID: Final = msgspec.Raw(b"null")


class Request(msgspec.Struct):
    """What a client asks."""

    method: str
    id: msgspec.Raw = NO_ID
    params: dict[str, msgspec.Raw] = {}


class Answer(msgspec.Struct, omit_defaults=True):
    """What it is answered: a result or an error."""

    id: msgspec.Raw
    status: int
    result: Any = None
    error: dict[str, Any] | None = None
    limits: list[dict[str, Any]] | None = msgspec.field(default=None, name="rateLimits")


_requests = msgspec.json.Decoder(Request)


class ApiSocket:
    """One socket of the WebSocket API."""

    def __init__(self, exchange: Exchange, socket: WebSocket) -> None:
        """`socket`: accepted."""
        self._exchange, self._socket = exchange, socket
        self._peer = peer_of(socket)
        self._outbox = Outbox(combined=False)
        self._connected_ms, self._since_ms = now_ms(), 0
        self._logon: Logon | None = None
        self._users: dict[int, UserStream] = {}
        self._next_user = 0
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._speaking = asyncio.Lock()
        """Who logs on, or subscribes, does so one after the other."""
        self._methods: dict[str, Callable[[Params, Caller], Awaitable[dict[str, Any]]]] = {
            "session.logon": self._log_on,
            "session.status": self._status,
            "session.logout": self._log_out,
            "userDataStream.subscribe": self._subscribe,
            "userDataStream.subscribe.signature": self._subscribe,
            "userDataStream.unsubscribe": self._unsubscribe,
        }

    async def serve(self) -> Rejected | Refused | None:
        """Answers until the end; why it has come."""
        try:
            async with asyncio.TaskGroup() as group:

                async def take(text: str | bytes) -> None:
                    await self._room.acquire()
                    task = group.create_task(self._answer(text), name="api request")
                    task.add_done_callback(lambda _: self._room.release())

                return await pump(self._socket, self._outbox, self._exchange.state.limits, take)
        finally:
            for user in self._users.values():
                await user.stop()
            if self._logon is not None:
                await self._logon.end()

    async def _answer(self, text: str | bytes) -> None:
        log.bind_request()
        try:
            request = _requests.decode(text)
        except UNREADABLE:
            self._say(Answer(NO_ID, 400, error=in_words(Rejected(Reason.MALFORMED_REQUEST)).body))
            return
        answer = Answer(request.id if _may_be_id(request.id) else NO_ID, OK)
        told = dict[str, str]()
        try:
            answer.result = await self._result(request, told)
        except Refused as refused:
            answer.status, answer.error = refused.status, refused.body
        answer.limits = self._exchange.rate_limits(told)
        self._say(answer)

    async def _result(self, request: Request, told: dict[str, str]) -> Any:
        texts = {name: text for name, raw in request.params.items() if (text := _text(raw)) is not None}
        caller = Caller({REQUEST_ID_KEY: log.request_id.get()}, self._peer, told)
        if "signature" in texts or ("timestamp" in texts and self._logon is None):
            stamped = texts.get("timestamp", ""), texts.get("recvWindow", "")
            caller = caller._replace(signed=signed_texts(texts), stamped=stamped)
        elif self._logon is not None:
            caller = caller._replace(metadata=self._logon.asker.caller.metadata)
        method = self._methods.get(request.method)
        try:
            if method is not None:
                self._exchange.count(caller, SESSION_WEIGHT)
                async with self._speaking:
                    return await method(Params(texts), caller)
        except Rejected as rejected:
            raise why(rejected, caller) from None
        route = self._exchange.methods.get(request.method)
        if route is None:
            raise Refused(UNSUPPORTED, "This operation is not supported.")
        return await self._exchange.answer(route, Params(texts), caller)

    async def _log_on(self, params: Params, caller: Caller) -> dict[str, Any]:
        params.done()
        logon = Logon(self._exchange.asker(caller))
        await logon.begin()
        if self._logon is not None:
            await self._logon.end()
        self._logon, self._since_ms = logon, now_ms()
        logon.ended.add_done_callback(lambda _: self._forget(logon))
        return self._state()

    async def _status(self, params: Params, _caller: Caller) -> dict[str, Any]:
        params.done()
        return self._state()

    async def _log_out(self, params: Params, _caller: Caller) -> dict[str, Any]:
        params.done()
        if self._logon is not None:
            await self._logon.end()
            self._logon = None
        return self._state()

    async def _subscribe(self, params: Params, caller: Caller) -> dict[str, Any]:
        params.done()
        if caller.signed is None and self._logon is None:
            raise Refused(REJECTED_KEY, "Invalid API-key, IP, or permissions for action.", 401)
        if len(self._users) >= USER_STREAMS_MAX:
            raise Rejected(Reason.TOO_MANY_SESSIONS, f"a socket has {USER_STREAMS_MAX} user data streams at most")
        number = self._next_user
        self._next_user += 1

        def say(event: dict[str, Any]) -> None:
            self._outbox.say(msgspec.json.encode({"subscriptionId": number, "event": event}).decode())

        logon = self._logon if caller.signed is None else None
        user = UserStream(self._exchange.asker(caller), self._exchange.markets, say)
        await user.begin()
        self._users[number] = user
        user.ended.add_done_callback(lambda ended: self._unsubscribed(number, ended.result(), logon))
        return {"subscriptionId": number}

    def _unsubscribed(self, number: int, why: Rejected, logon: Logon | None) -> None:
        """A logon's end is told on each of its streams, in any order: the first to say so ends it for this socket."""
        self._users.pop(number, None)
        if logon is not None and why.reason not in {Reason.LAGGED, Reason.UNAVAILABLE}:
            logon.cancel()
            self._forget(logon)

    async def _unsubscribe(self, params: Params, _caller: Caller) -> dict[str, Any]:
        asked = params.integer("subscriptionId") if "subscriptionId" in params else None
        params.done()
        for number in [asked] if asked is not None else list(self._users):
            if user := self._users.pop(number, None):
                await user.stop()
        return {}

    def _forget(self, logon: Logon) -> None:
        if self._logon is logon:
            self._logon = None

    def _state(self) -> dict[str, Any]:
        logon = self._logon
        return {
            "apiKey": logon.who.key_id or None if logon else None,
            "authorizedSince": self._since_ms if logon else None,
            "connectedSince": self._connected_ms,
            "returnRateLimits": False,
            "serverTime": now_ms(),
            "userDataStream": bool(self._users),
        }

    def _say(self, answer: Answer) -> None:
        self._outbox.say(msgspec.json.encode(answer).decode())


def _may_be_id(raw: msgspec.Raw) -> bool:
    text = bytes(raw)
    return len(text) <= ID_BYTES_MAX and (text.startswith(b'"') or text.isdigit())


def _text(raw: msgspec.Raw) -> str | None:
    """A parameter as text: numbers, lists and truth values as they were written; None for null."""
    text = bytes(raw)
    if text.startswith(b'"'):
        return msgspec.json.decode(text, type=str)
    return None if text == b"null" else text.decode()
