"""What a socket is asked: to subscribe, and to log on. Requests and answers are Binance's in form.

`{"id": 1, "method": "session.logon", "params": {…}}` → `{"id": 1, "status": 200, "result": {…}}`, or `"error"` with the
same fields as a REST error. order_gateway judges the logon and keeps it as a session, for as long as the credential is
good; what is asked for after that names the session. Market data is subscribed by items (subscribing.py), each answered
by itself; so are the account's channels, for who is logged on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import msgspec
from clearbook.internal.v1 import forward_service_pb2 as forward_pb
from clearbook.v1 import account_service_pb2 as account_pb

from gateway_http.account_messages import account_by_name
from gateway_http.errors import Problem, described
from gateway_http.feeds import Subscriber
from gateway_http.forward import Forward
from gateway_http.json_proto import UNREADABLE, read_as
from gateway_http.lasting import Begun, Lasting, has_begun
from gateway_http.signing import SignedRequest, logon
from gateway_http.subscribing import check_only, heartbeat_ms, ids_in, items_in
from gateway_http.subscriptions import Subscriptions, log_on_first
from gateway_http.watch import MarketData, Watch
from services.errors import Reason, Rejected
from services.runtime import log
from services.runtime.metadata import AUTHORIZATION_KEY, REQUEST_ID_KEY, USER_KEY

GET_SESSION: Final = "/clearbook.v1.AccountService/GetSession"
METHODS: Final = ("session.logon", "session.status", "session.logout", "subscribe", "unsubscribe")
CHANNEL: Final = "account"
SESSION: Final = "session"
DEFAULT: Final = "orderbook_update"
"""The documented channel, which is on until it is unsubscribed."""
LOGONS_FAILED_MAX: Final = 10
"""Of one socket; then it ends."""
AT_FAULT: Final = frozenset({Reason.UNAUTHENTICATED, Reason.INVALID_FIELD})
"""Of the logons that fail, those that count: all others are no fault of who tries."""
ID_BYTES_MAX: Final = 66
METHOD_CHARS_SHOWN_MAX: Final = 32
NS_PER_MS: Final = 10**6
OK: Final = 200

NO_ID: Final = msgspec.Raw(b"null")

Params = dict[str, msgspec.Raw]
Method = Callable[[Params], Awaitable[dict[str, Any]]]


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
    who: account_pb.GetSessionResponse
    since_ms: int


logger = log.get("private")

_requests = msgspec.json.Decoder(Request)


def request_in(text: str | bytes) -> Request | None:
    """The request in a message; None for all else that clients send, which is ignored as it always was."""
    try:
        return _requests.decode(text)
    except UNREADABLE:
        return None


class Private:
    """One socket's private side.

    Attributes:
        ended: resolved with the reason when the session has ended by itself.
    """

    def __init__(
        self,
        forward: Forward,
        market_data: MarketData,
        peer: str,
        out: Subscriber,
        group: asyncio.TaskGroup,
        show_default: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Nobody is logged on.

        Args:
            forward: the client of order_gateway.
            market_data: whence it comes.
            peer: the client's address.
            out: takes what is sent to it.
            group: the socket's tasks.
            show_default: has the documented channel sent, or not.
        """
        self._forward, self._peer, self._out = forward, peer, out
        self._show_default = show_default
        self._logons_failed = 0
        self._connected_ms = _now_ms()
        self._session: Session | None = None
        self._speaking = asyncio.Lock()
        """An answer comes before what follows from it."""
        self._lasting = Lasting(group)
        self.ended = self._lasting.ended
        self._watch = Watch(market_data, peer, out, group, self._lasting.end)
        self._subscriptions = Subscriptions(
            forward, peer, out, self._speaking, self._lasting, self._watch, market_data.limits.messages
        )
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
            except Exception:
                logger.exception("bug", method=request.method[:METHOD_CHARS_SHOWN_MAX])
                said = _refusal(Rejected(Reason.INTERNAL), identity)
            await self._out.say(msgspec.json.encode(said).decode())
        self._watch.told()

    async def _logon(self, params: Params) -> dict[str, Any]:
        if self._session is not None:
            raise Rejected(Reason.ALREADY_EXISTS, "this socket is logged on; log out first")
        try:
            first = await self._begin_session(params)
        except Rejected as why:
            self._logons_failed += why.reason in AT_FAULT
            if self._logons_failed >= LOGONS_FAILED_MAX:
                self._lasting.end(Rejected(Reason.RATE_LIMITED, f"{LOGONS_FAILED_MAX} logons have failed"))
            raise
        self._session = Session(first.session, account_pb.GetSessionResponse.FromString(first.response), _now_ms())
        return self._state()

    async def _begin_session(self, params: Params) -> forward_pb.ForwardStreamResponse:
        metadata, signed = _credentials(params)

        async def keep(begun: Begun) -> None:
            async with aclosing(self._forward.stream(GET_SESSION, b"", metadata, self._peer, signed)) as stream:
                async for message in stream:
                    has_begun(begun, message)
            raise Rejected(Reason.UNAVAILABLE)

        return await self._lasting.begin(SESSION, keep)

    async def _status(self, _params: Params) -> dict[str, Any]:
        return self._state()

    async def _logout(self, _params: Params) -> dict[str, Any]:
        await self._lasting.cancel_all()
        self._session = None
        return self._state()

    async def _subscribe(self, params: Params) -> dict[str, Any]:
        if "subscriptions" in params:
            check_only(params, "subscriptions", "heartbeat_milliseconds")
            session = self._session.name if self._session is not None else ""
            return {"subscriptions": await self._subscriptions.begin(items_in(params), heartbeat_ms(params), session)}
        channels = _channels(params)
        if CHANNEL in channels and CHANNEL not in self._lasting:
            await self._begin_account()
        if DEFAULT in channels:
            self._show_default(True)
        return {"channels": channels}

    async def _begin_account(self) -> None:
        if self._session is None:
            raise log_on_first()
        name = self._session.name
        await self._lasting.begin(CHANNEL, lambda begun: self._subscriptions.tell(name, account_by_name(), begun))

    async def _unsubscribe(self, params: Params) -> dict[str, Any]:
        if "subscriptions" in params:
            check_only(params, "subscriptions")
            return {"subscriptions": await self._subscriptions.end(ids_in(params))}
        channels = _channels(params)
        if CHANNEL in channels:
            await self._lasting.cancel(CHANNEL)
        if DEFAULT in channels:
            self._show_default(False)
        return {"channels": []}

    def close(self) -> None:
        """Ends the session and all that is sent."""
        self._watch.close()
        self._lasting.close()

    def _state(self) -> dict[str, Any]:
        session = self._session
        return {
            "apiKey": session.who.key_id or None if session else None,
            "user": session.who.user if session else None,
            "scopes": [account_pb.Scope.Name(scope) for scope in session.who.scopes] if session else [],
            "authorizedSince": session.since_ms if session else None,
            "connectedSince": self._connected_ms,
            "serverTime": _now_ms(),
        }


def _refusal(rejected: Rejected, identity: msgspec.Raw) -> Answer:
    return Answer(identity, rejected.reason.http_status, error=described(rejected, log.request_id.get()))


def last_words(rejected: Rejected) -> str:
    """What a client is told before its socket is closed: its session has ended by itself, or it asks too much."""
    return msgspec.json.encode(LastWords(described(rejected, log.request_id.get()))).decode()


async def _unknown(_params: Params) -> dict[str, Any]:
    raise Rejected(Reason.INVALID_FIELD, f"no such method; there are {', '.join(METHODS)}", "method")


def _may_be_id(raw: msgspec.Raw) -> bool:
    text = bytes(raw)
    return len(text) <= ID_BYTES_MAX and (text.isdigit() or read_as(str, text) is not None)


def _credentials(params: Params) -> tuple[dict[str, str], SignedRequest | None]:
    """Metadata and signature of a logon: signed, or with a bearer token, or (in open mode) by name."""
    metadata = {REQUEST_ID_KEY: log.request_id.get()}
    if params.keys() == {"token"}:
        return metadata | {AUTHORIZATION_KEY: f"Bearer {_text(params, 'token')}"}, None
    if params.keys() == {"user_id"}:
        return metadata | {USER_KEY: _text(params, "user_id")}, None
    return metadata, logon(params)


def _text(params: Params, name: str) -> str:
    text = read_as(str, params[name])
    if not text or not (text.isascii() and text.isprintable()):
        raise Rejected(Reason.INVALID_FIELD, f"{name} must be printable ASCII", name)
    return text


def _channels(params: Params) -> list[str]:
    channels = read_as(list[str], params.get("channels", msgspec.Raw(b"null")))
    if not channels or len(set(channels)) != len(channels) or not {CHANNEL, DEFAULT}.issuperset(channels):
        what = f'channels must be of "{CHANNEL}" and "{DEFAULT}"; all others are subscriptions'
        raise Rejected(Reason.INVALID_FIELD, what, "channels")
    return channels


def _now_ms() -> int:
    return time.time_ns() // NS_PER_MS
