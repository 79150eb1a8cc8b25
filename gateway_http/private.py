"""A socket's private side: logged on as somebody, it is sent that account. Requests and answers are Binance's in form.

`{"id": 1, "method": "session.logon", "params": {…}}` → `{"id": 1, "status": 200, "result": {…}}`, or `"error"` with the
same fields as a REST error. order_gateway judges the logon and keeps it as a session, for as long as the credential is
good; what is asked for after that names the session.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import msgspec
from clearbook.internal.v1 import forward_service_pb2 as forward_pb
from clearbook.v1 import account_service_pb2 as accounts

from gateway_http.errors import Problem, described
from gateway_http.feeds import Subscriber
from gateway_http.forward import Forward
from gateway_http.proto_json import json_value
from gateway_http.signing import SignedRequest, logon
from services.errors import Reason, Rejected
from services.runtime import log
from services.runtime.metadata import AUTHORIZATION_KEY, REQUEST_ID_KEY, SESSION_KEY, USER_KEY

GET_SESSION: Final = "/clearbook.v1.AccountService/GetSession"
STREAM_ACCOUNT: Final = "/clearbook.v1.AccountService/StreamAccount"
METHODS: Final = ("session.logon", "session.status", "session.logout", "subscribe", "unsubscribe")
CHANNEL: Final = "account"
ID_BYTES_MAX: Final = 66
ANSWER_SECONDS_MAX: Final = 15.0
NS_PER_MS: Final = 10**6
OK: Final = 200

NO_ID: Final = msgspec.Raw(b"null")

Params = dict[str, msgspec.Raw]
Method = Callable[[Params], Awaitable[dict[str, Any]]]
Begun = asyncio.Future[forward_pb.ForwardStreamResponse]
"""Resolved with the first message."""


class Request(msgspec.Struct):
    """What a client asks."""

    method: str
    id: msgspec.Raw = NO_ID
    params: Params = {}


class Answer(msgspec.Struct, omit_defaults=True):
    """What it is answered: a result or an error."""

    id: msgspec.Raw
    status: int
    result: dict[str, Any] | None = None
    error: Problem | None = None


class LastWords(msgspec.Struct, tag_field="type", tag="closing"):
    """The last thing that is said on a socket, and why."""

    error: Problem


class Session(NamedTuple):
    """A logon that stands."""

    name: str
    who: accounts.GetSessionResponse
    since_ms: int


_requests = msgspec.json.Decoder(Request)


def request_in(text: str | bytes) -> Request | None:
    """The request in a message; None for all else that clients send, which is ignored as it always was."""
    try:
        return _requests.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class Private:
    """One socket's private side.

    Attributes:
        ended: resolved with the reason when the session has ended by itself.
    """

    def __init__(self, forward: Forward, peer: str, out: Subscriber, group: asyncio.TaskGroup) -> None:
        """`peer`: the client's address. `out` takes what is sent to it; `group`: the socket's tasks."""
        self._forward, self._peer, self._out, self._group = forward, peer, out, group
        self._connected_ms = _now_ms()
        self._session: Session | None = None
        self._speaking = asyncio.Lock()
        """An answer comes before what follows from it."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.ended: asyncio.Future[Rejected] = asyncio.get_running_loop().create_future()
        does = (self._logon, self._status, self._logout, self._subscribe, self._unsubscribe)
        self._methods: dict[str, Method] = dict(zip(METHODS, does, strict=True))

    async def answer(self, request: Request) -> None:
        """Does what is asked, and says what came of it."""
        log.bind_request()
        identity = request.id if _may_be_id(request.id) else NO_ID
        method = self._methods.get(request.method, _unknown)
        async with self._speaking:
            try:
                said = Answer(identity, OK, await method(request.params))
            except Rejected as rejected:
                said = _refusal(rejected, identity)
            await self._out.say(msgspec.json.encode(said).decode())

    async def _logon(self, params: Params) -> dict[str, Any]:
        if self._session is not None:
            raise Rejected(Reason.ALREADY_EXISTS, "this socket is logged on; log out first")
        metadata, signed = _credentials(params)

        async def keep(begun: Begun) -> None:
            async with aclosing(self._forward.stream(GET_SESSION, b"", metadata, self._peer, signed)) as stream:
                async for message in stream:
                    _has_begun(begun, message)
            raise Rejected(Reason.UNAVAILABLE)

        first = await self._begin("session", keep)
        self._session = Session(first.session, accounts.GetSessionResponse.FromString(first.response), _now_ms())
        return self._state()

    async def _status(self, _params: Params) -> dict[str, Any]:
        return self._state()

    async def _logout(self, _params: Params) -> dict[str, Any]:
        for name in list(self._tasks):
            await self._cancel(name)
        self._session = None
        return self._state()

    async def _subscribe(self, params: Params) -> dict[str, Any]:
        _check_channels(params)
        session = self._session
        if session is None:
            raise Rejected(Reason.UNAUTHENTICATED, "log on first: session.logon")
        if CHANNEL not in self._tasks:
            await self._begin(CHANNEL, lambda begun: self._tell(session, begun))
        return {"channels": [CHANNEL]}

    async def _unsubscribe(self, params: Params) -> dict[str, Any]:
        _check_channels(params)
        await self._cancel(CHANNEL)
        return {"channels": []}

    async def _begin(self, name: str, work: Callable[[Begun], Awaitable[None]]) -> forward_pb.ForwardStreamResponse:
        """Starts work that lasts; returns once it has begun. What ends it after that ends the socket.

        Raises Rejected: why it did not begin.
        """
        begun: Begun = asyncio.get_running_loop().create_future()
        self._tasks[name] = self._group.create_task(self._run(work, begun), name=name)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await begun
        except TimeoutError:
            await self._cancel(name)
            raise Rejected(Reason.UNAVAILABLE) from None
        except Rejected:
            await self._cancel(name)
            raise

    async def _run(self, work: Callable[[Begun], Awaitable[None]], begun: Begun) -> None:
        try:
            await work(begun)
        except Rejected as rejected:
            if not begun.done():
                begun.set_exception(rejected)
            elif not (begun.cancelled() or self.ended.done()):  # nobody waits for what was given up
                self.ended.set_result(rejected)

    async def _cancel(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def close(self) -> None:
        """Ends the session and what it is sent."""
        for task in self._tasks.values():
            task.cancel()

    def _state(self) -> dict[str, Any]:
        session = self._session
        return {
            "apiKey": session.who.key_id or None if session else None,
            "user": session.who.user if session else None,
            "scopes": [accounts.Scope.Name(scope) for scope in session.who.scopes] if session else [],
            "authorizedSince": session.since_ms if session else None,
            "connectedSince": self._connected_ms,
            "serverTime": _now_ms(),
        }

    async def _tell(self, session: Session, begun: Begun) -> None:
        """Sends the account for as long as there is one to send. Who reads too slowly gets the state anew."""
        request = accounts.StreamAccountRequest().SerializeToString()
        named = {SESSION_KEY: session.name}
        while True:
            async with aclosing(self._forward.stream(STREAM_ACCOUNT, request, named, self._peer)) as stream:
                try:
                    async for message in stream:
                        _has_begun(begun, message)
                        if words := account_update(message.response):
                            async with self._speaking:
                                await self._out.say(words)
                except Rejected as rejected:
                    if rejected.reason is not Reason.LAGGED or not begun.done():
                        raise
                else:
                    raise Rejected(Reason.UNAVAILABLE)


def _has_begun(begun: Begun, first: forward_pb.ForwardStreamResponse) -> None:
    """Tells whoever waits, unless it was told, or has given up."""
    if not begun.done():
        begun.set_result(first)


def _refusal(rejected: Rejected, identity: msgspec.Raw) -> Answer:
    return Answer(identity, rejected.reason.http_status, error=described(rejected, log.request_id.get()))


def last_words(rejected: Rejected) -> str:
    """What a client is told before its socket is closed: its session has ended by itself, or it asks too much."""
    return msgspec.json.encode(LastWords(described(rejected, log.request_id.get()))).decode()


def account_update(response: bytes) -> str:
    """A StreamAccountResponse as JSON, with the names of the proto; "" for a heartbeat."""
    message = accounts.StreamAccountResponse.FromString(response)
    if not (message.snapshot or message.balances or message.orders or message.executions or message.transfers):
        return ""
    return msgspec.json.encode({"type": "account_update", "data": json_value(message)}).decode()


async def _unknown(_params: Params) -> dict[str, Any]:
    raise Rejected(Reason.INVALID_FIELD, f"no such method; there are {', '.join(METHODS)}", "method")


def _may_be_id(raw: msgspec.Raw) -> bool:
    text = bytes(raw)
    return len(text) <= ID_BYTES_MAX and (text.startswith(b'"') or text.isdigit())


def _credentials(params: Params) -> tuple[dict[str, str], SignedRequest | None]:
    """Metadata and signature of a logon: signed, or with a bearer token, or (in open mode) by name."""
    metadata = {REQUEST_ID_KEY: log.request_id.get()}
    if params.keys() == {"token"}:
        return metadata | {AUTHORIZATION_KEY: f"Bearer {_text(params, 'token')}"}, None
    if params.keys() == {"user_id"}:
        return metadata | {USER_KEY: _text(params, "user_id")}, None
    return metadata, logon(params)


def _text(params: Params, name: str) -> str:
    try:
        text = msgspec.json.decode(params[name], type=str)
    except msgspec.MsgspecError:
        text = ""
    if not text or not (text.isascii() and text.isprintable()):
        raise Rejected(Reason.INVALID_FIELD, f"{name} must be printable ASCII", name)
    return text


def _check_channels(params: Params) -> None:
    try:
        channels = msgspec.json.decode(params.get("channels", msgspec.Raw(b"null")), type=list[str])
    except msgspec.MsgspecError:
        channels = []
    if channels != [CHANNEL]:
        raise Rejected(Reason.INVALID_FIELD, f'channels must be ["{CHANNEL}"]', "channels")


def _now_ms() -> int:
    return time.time_ns() // NS_PER_MS
