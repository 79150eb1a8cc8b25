"""The routes under /api/v3 as plain ASGI."""

from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gateway_http.binance.asking import Caller
from gateway_http.binance.exchange import Exchange, why
from gateway_http.binance.parameters import Params, given
from gateway_http.binance.refusals import Refused, in_words
from gateway_http.binance.routes import Route
from gateway_http.errors import JSON
from gateway_http.headers import TOLD
from gateway_http.orders import body_of
from gateway_http.signing import FORM, signed_request
from gateway_http.wire import BODY_BYTES_MAX
from services.errors import Reason, Rejected
from services.runtime import log
from services.runtime.metadata import AUTHORIZATION_KEY, REQUEST_ID_KEY, RETRY_KEY

_JSON: Final = (b"content-type", f"{JSON};charset=UTF-8".encode())
_CONTENT_TYPE: Final = b"content-type"
_AUTHORIZATION: Final = AUTHORIZATION_KEY.encode()


class Rest:
    """Serves the routes."""

    def __init__(self, exchange: Exchange) -> None:
        """`exchange`: what answers."""
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        told: dict[str, str] = scope[TOLD]
        try:
            status, words = 200, await self._answer(scope, receive, told)
        except Refused as refused:
            status, words = refused.status, refused.body
            if refused.retry_after_seconds:
                told[RETRY_KEY] = str(refused.retry_after_seconds)
        except ClientDisconnect:
            return  # nobody is there to be told
        body = msgspec.json.encode(words)
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive, told: dict[str, str]) -> Any:
        route = self._route(scope)
        caller = Caller({REQUEST_ID_KEY: log.request_id.get()}, scope["client"][0] if scope["client"] else "", told)
        try:
            scope["route"] = route
            query, form = scope["query_string"], await _form(scope, receive)
            found = given(query, form)
            if route.private is not None:
                caller = _identified(caller, scope, query, form, found)
        except Rejected as rejected:
            raise why(rejected, caller) from None
        return await self._exchange.answer(route, Params(found), caller)

    def _route(self, scope: Scope) -> Route:
        """What is asked for. Raises Refused: there is no such thing."""
        routes = self._exchange.routes
        route = routes.get((scope["method"], scope["path"]))
        if route is None:
            methods = [method for method, path in routes if path == scope["path"]]
            if methods:
                scope[TOLD]["allow"] = ", ".join(methods)
            raise in_words(Rejected(Reason.METHOD_NOT_ALLOWED if methods else Reason.ROUTE_NOT_FOUND))
        return route


async def _form(scope: Scope, receive: Receive) -> bytes:
    """The body, which is parameters. Raises Rejected: UNSUPPORTED_MEDIA_TYPE, TOO_LARGE, TOO_SLOW."""
    body = await body_of(receive, BODY_BYTES_MAX)
    kind = next((value for name, value in scope["headers"] if name == _CONTENT_TYPE), b"").partition(b";")[0]
    if body and kind.strip().lower() != FORM.encode():
        raise Rejected(Reason.UNSUPPORTED_MEDIA_TYPE, f"a body must be {FORM}")
    return body


def _identified(caller: Caller, scope: Scope, query: bytes, form: bytes, found: dict[str, str]) -> Caller:
    """The caller with the credential that it shows. Raises Rejected for what may be read in two ways."""
    signed = signed_request(scope["headers"], query, form, form=bool(form))
    metadata = dict(caller.metadata)
    for name, value in scope["headers"]:
        if name == _AUTHORIZATION:
            metadata[AUTHORIZATION_KEY] = value.decode("latin-1")
    stamped = found.get("timestamp", ""), found.get("recvWindow", "")
    return caller._replace(metadata=metadata, signed=signed, stamped=stamped)
