"""ForwardService: many people's calls through the shim, each judged by its own credentials like a gRPC call.

The shim is trusted to translate, never to authenticate. Unary calls share one stream, run side by side, and are
answered in whatever order they end; a session is a call of its own, which others name as their credential meanwhile.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any, Protocol

from services.errors import Reason, Rejected
from services.order_gateway import wire
from services.order_gateway.call import Call, Signed
from services.order_gateway.gate import Gate
from services.order_gateway.identity.who import Identity
from services.runtime import log, metrics, rpc
from services.runtime.metadata import REQUEST_ID_KEY, SESSION_KEY
from services.runtime.peers import ip_of
from services.runtime.run import leaves_of

ITEMS_IN_FLIGHT_MAX = 1_024
"""Of one stream; the next one is read when one of them has been answered."""
WRITE_SECONDS_MAX = 5.0
SESSION_BYTES = 32
SESSIONS_USER_MAX = 64
"""Of one user, over all shims: twice as many as may watch an account."""

_items = metrics.counter("gateway_forwarded_calls", "Forwarded calls answered.", ["method", "answer"])
_sessions = metrics.gauge("gateway_forwarded_sessions", "Logons that last.")

Unary = Callable[[Call], Awaitable[bytes]]
Streamed = Callable[[Call], AsyncGenerator[bytes, None]]


class Item(Protocol):
    """A ForwardRequest."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def request(self) -> bytes: ...  # noqa: D102
    @property
    def metadata(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def peer(self) -> str: ...  # noqa: D102
    @property
    def signed(self) -> Any: ...  # noqa: D102
    def HasField(self, field_name: Any) -> bool: ...  # noqa: D102, N802


def call_of(item: Item) -> Call:
    """The call that an item is: credentials, signature and address are its caller's, as the shim got them."""
    signed = None
    if item.HasField("signed"):
        given = item.signed
        signed = Signed(given.key_id, given.payload, given.signature, given.query_bytes)
    return Call(item.method, item.metadata, item.request, signed=signed, peer=ip_of(item.peer))


class Forwarder:
    """Runs forwarded calls.

    Args:
        gate: who opens a session.
        unary: methods by full name; each takes a call, gives a serialized response or raises.
        streams: the same for methods that answer with a stream.
    """

    def __init__(self, gate: Gate, unary: Mapping[str, Unary], streams: Mapping[str, Streamed]) -> None:
        self._gate, self._unary, self._streams = gate, unary, streams
        self._sessions: dict[str, Identity] = {}
        self._of_user: Counter[str] = Counter()

    async def serve(self, items: AsyncIterator[Item], context: Any) -> None:
        """Answers the items of one stream, until it ends and all are answered."""
        answers: asyncio.Queue[Any] = asyncio.Queue()
        slots = asyncio.Semaphore(ITEMS_IN_FLIGHT_MAX)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_write(answers, slots, context), name="forward answers")
                async with asyncio.TaskGroup() as running:
                    async for item in items:
                        await slots.acquire()
                        running.create_task(self._run(item, answers), name="forwarded call")
                answers.put_nowait(None)
        except BaseExceptionGroup as errors:
            raise leaves_of(errors)[0] from None

    async def _run(self, item: Item, answers: "asyncio.Queue[Any]") -> None:
        """One item: its answer, or the status that says why not."""
        log.bind_request(item.metadata.get(REQUEST_ID_KEY))
        call = call_of(item)
        try:
            response = await self._unary.get(item.method, _unknown)(self._identified(call))
        except Exception as error:  # a bug is logged by status_for, as for any call
            status = rpc.status_for(error, item.method).SerializeToString()
            _items.labels(item.method if item.method in self._unary else "unknown", "refused").inc()
            answers.put_nowait(wire.forward_response(item.id, status=status, trailer=call.trailer))
        else:
            _items.labels(item.method, "ok").inc()
            answers.put_nowait(wire.forward_response(item.id, response=response, trailer=call.trailer))

    def _identified(self, call: Call) -> Call:
        """The call, with who it is if it names a session.

        Raises:
            Rejected: UNAUTHENTICATED, the session has ended.
        """
        name = call.metadata.get(SESSION_KEY)
        if name is None:
            return call
        identity = self._sessions.get(name)
        if identity is None:
            raise Rejected(Reason.UNAUTHENTICATED)
        return replace(call, session=identity)

    async def stream(self, item: Item) -> AsyncGenerator[tuple[bytes, str], None]:
        """The messages of a streaming method; or a session: a unary method's response and the session's name, once."""
        log.bind_request(item.metadata.get(REQUEST_ID_KEY))
        call = self._identified(call_of(item))
        streamed = self._streams.get(item.method)
        if streamed is not None:
            async with aclosing(streamed(call)) as responses:
                async for response in responses:
                    yield response, ""
            return
        async with aclosing(self._session(call)) as messages:
            async for message in messages:
                yield message

    async def _session(self, call: Call) -> AsyncGenerator[tuple[bytes, str], None]:
        # What is made once of one signed request, an id for an order, is not the session's.
        identity = replace(await self._gate.identify(call), made_id="")
        with self._gate.while_good(identity) as closing, self._one_of(identity.user):
            response = await self._unary.get(call.method, _unknown)(replace(call, session=identity))
            name = secrets.token_urlsafe(SESSION_BYTES)
            self._sessions[name] = identity
            _sessions.inc()
            try:
                yield response, name
                await closing.wait()  # the client may end it before that
                raise Rejected(Reason.UNAUTHENTICATED)
            finally:
                _sessions.dec()
                del self._sessions[name]

    @contextmanager
    def _one_of(self, user: str) -> Iterator[None]:
        """One more session of a user, until the block ends.

        Raises:
            Rejected: TOO_MANY_SESSIONS.
        """
        if self._of_user[user] >= SESSIONS_USER_MAX:
            what = f"{SESSIONS_USER_MAX} sockets of this user are logged on; log out of one"
            raise Rejected(Reason.TOO_MANY_SESSIONS, what)
        self._of_user[user] += 1
        try:
            yield
        finally:
            self._of_user[user] -= 1
            if not self._of_user[user]:
                del self._of_user[user]


async def _unknown(_call: Call) -> bytes:
    raise Rejected(Reason.MALFORMED_REQUEST, "no such method", "method")


async def _write(answers: "asyncio.Queue[Any]", slots: asyncio.Semaphore, context: Any) -> None:
    """Writes answers one after the other: a stream takes one at a time."""
    while (answer := await answers.get()) is not None:
        await rpc.write_bounded(context, answer, WRITE_SECONDS_MAX)
        slots.release()
