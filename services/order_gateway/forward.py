"""ForwardService: many people's calls through the shim, each judged by its own credentials like a gRPC call.

The shim is trusted to translate, never to authenticate. Unary calls share one stream, run side by side, and are
answered in whatever order they end; a session is a call of its own, which others name as their credential meanwhile.
What comes in one message and is asked for often (`Shared`: PlaceOrder) begins in one step for each account, without a
task of its own, and what is known at the same time is answered in one message: messages and tasks are what costs.
"""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from services.errors import Reason, Rejected
from services.order_gateway import wire
from services.order_gateway.call import ANSWER_SECONDS_MAX, Call, Signed
from services.order_gateway.gate import Gate
from services.order_gateway.identity.who import Caller, Identity
from services.order_gateway.outcomes import Promise
from services.runtime import log, metrics, rpc
from services.runtime.metadata import REQUEST_ID_KEY, SESSION_KEY
from services.runtime.peers import ip_of
from services.runtime.run import leaves_of

ITEMS_IN_FLIGHT_MAX = 1_024
"""Of one stream; the next message is read when there is room for its items."""
ANSWERS_BYTES_ENOUGH = 256 * 1024
"""In one message; one more answer may come on top of that."""
WRITE_SECONDS_MAX = 5.0
SESSION_BYTES = 32
SESSIONS_USER_MAX = 64
"""Of one user, over all shims: twice as many as may watch an account."""

_items = metrics.counter("gateway_forwarded_calls", "Forwarded calls answered.", ["method", "answer"])
_sessions = metrics.gauge("gateway_forwarded_sessions", "Logons that last.")

Unary = Callable[[Call], Awaitable[bytes]]
Streamed = Callable[[Call], AsyncGenerator[bytes, None]]


class Shared(NamedTuple):
    """A method that takes several calls of one account in one step: see methods.Together.

    Attributes:
        admit: a call's request, and who asks, or what tells once it was waited for.
        begin: what each of several calls of one account will become, or why not.
        answer: what one became → serialized response.
    """

    admit: Callable[[Call], tuple[Any, Caller | Coroutine[Any, Any, Caller]]]
    begin: Callable[[int, Sequence[tuple[Caller, Any]]], "Sequence[Promise[Any] | Rejected]"]
    answer: Callable[[Any], bytes]


Answer = tuple[int, bytes, bytes, Mapping[str, str]]
"""To one item, by its id: a serialized response or a serialized google.rpc.Status, and what is told beside it."""


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
    @property
    def brief(self) -> bool: ...  # noqa: D102
    @property
    def more(self) -> Any: ...  # noqa: D102
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
        shared: of the unary ones, those that take several calls at once.
    """

    def __init__(
        self,
        gate: Gate,
        unary: Mapping[str, Unary],
        streams: Mapping[str, Streamed],
        shared: Mapping[str, Shared],
    ) -> None:
        self._gate, self._unary, self._streams, self.shared = gate, unary, streams, shared
        self._counts = {(name, word): _items.labels(name, word) for name in unary for word in ("ok", "refused")}
        self._sessions: dict[str, Identity] = {}
        self._of_user: Counter[str] = Counter()

    async def serve(self, messages: AsyncIterator[Item], context: Any) -> None:
        """Answers the items of one stream, until it ends and all are answered."""
        stream = _Stream(self, partial(rpc.write_bounded, context, timeout_seconds=WRITE_SECONDS_MAX))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(stream.write(), name="forward answers")
                async with asyncio.TaskGroup() as running:
                    async for message in messages:
                        await stream.take((message, *message.more), running)
                stream.end()
        except BaseExceptionGroup as errors:
            raise leaves_of(errors)[0] from None

    async def answer(self, call: Call) -> bytes:
        """The serialized response to a unary call. Raises what it fails with."""
        return await self._unary.get(call.method, _unknown)(self.identified(call))

    def count(self, method: str, word: str) -> None:
        """One more item answered: "ok", or "refused"."""
        counter = self._counts.get((method, word))
        (counter or _items.labels("unknown", word)).inc()

    def identified(self, call: Call) -> Call:
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
        call = self.identified(call_of(item))
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


class _Asked(Struct, eq=False):
    """An item on its way."""

    item_id: int
    call: Call
    brief: bool


class _Admitted(Struct):
    """An item of a method that takes several at once."""

    asked: _Asked
    caller: Caller
    request: Any


class _Waiting:
    """Items of one message whose outcomes are not known yet: what is not by ANSWER_SECONDS_MAX is DEADLINE.

    One timer for all of them: one for each would cost as much as its answer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, refuse: Callable[[_Asked, Exception], None]) -> None:
        self._loop, self._refuse = loop, refuse
        self._items: set[_Asked] = set()
        self._give_up: asyncio.TimerHandle | None = None

    def add(self, asked: _Asked) -> None:
        self._items.add(asked)
        if self._give_up is None:
            self._give_up = self._loop.call_later(ANSWER_SECONDS_MAX, self._end)

    def ends(self, asked: _Asked) -> bool:
        """It is known what became of one; False: too late."""
        if asked not in self._items:
            return False
        self._items.remove(asked)
        if not self._items and self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        return True

    def _end(self) -> None:
        for asked in self._items:
            self._refuse(asked, Rejected(Reason.DEADLINE))
        self._items.clear()


class _Stream:
    """One call of Forward."""

    def __init__(self, forwarder: Forwarder, write: Callable[[Any], Awaitable[None]]) -> None:
        self._forwarder, self._write = forwarder, write
        self._loop = asyncio.get_running_loop()
        self._answers: deque[Answer] = deque()
        self._in_flight = 0
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._ended = False

    # In.

    async def take(self, items: Sequence[Item], running: asyncio.TaskGroup) -> None:
        """Puts items on their way, once there is room for them."""
        while self._in_flight and self._in_flight + len(items) > ITEMS_IN_FLIGHT_MAX:
            self._room.clear()
            await self._room.wait()
        self._in_flight += len(items)
        together: dict[tuple[str, int], list[_Admitted]] = {}
        for item in items:
            asked = _Asked(item.id, call_of(item), item.brief)
            shared = self._forwarder.shared.get(item.method)
            if shared is None:
                running.create_task(self._run(asked), name="forwarded call")
                continue
            try:
                request, who = shared.admit(self._forwarder.identified(asked.call))
            except Exception as error:  # a bug is logged by status_for, as for any call
                self._refuse(asked, error)
                continue
            if isinstance(who, Caller):
                together.setdefault((item.method, who.account_id), []).append(_Admitted(asked, who, request))
            else:
                running.create_task(self._run_late(asked, who, request), name="forwarded call")
        if together:
            waiting = _Waiting(self._loop, self._refuse)
            for (method, account_id), several in together.items():
                self._begin(self._forwarder.shared[method], account_id, several, waiting)

    async def _run(self, asked: _Asked) -> None:
        """One item, by itself."""
        log.bind_request(asked.call.metadata.get(REQUEST_ID_KEY))
        try:
            response = await self._forwarder.answer(asked.call)
        except Exception as error:  # a bug is logged by status_for, as for any call
            self._refuse(asked, error)
        else:
            self._succeed(asked, b"" if asked.brief else response)

    async def _run_late(self, asked: _Asked, who: Coroutine[Any, Any, Caller], request: Any) -> None:
        """One item, once it is known who asks."""
        log.bind_request(asked.call.metadata.get(REQUEST_ID_KEY))
        try:
            caller = await who
        except Exception as error:  # as above
            self._refuse(asked, error)
        else:
            shared, waiting = self._forwarder.shared[asked.call.method], _Waiting(self._loop, self._refuse)
            self._begin(shared, caller.account_id, [_Admitted(asked, caller, request)], waiting)

    def _begin(self, shared: Shared, account_id: int, several: Sequence[_Admitted], waiting: _Waiting) -> None:
        """Items of one method and one account, in one step; each is answered when it is known what became of it."""
        try:
            promises = shared.begin(account_id, [(item.caller, item.request) for item in several])
        except Exception as error:  # as above
            for item in several:
                self._refuse(item.asked, error)
            return
        for item, promise in zip(several, promises, strict=True):
            if isinstance(promise, Rejected):
                self._refuse(item.asked, promise)
            else:
                waiting.add(item.asked)
                promise.add_done_callback(partial(self._landed, shared, item.asked, waiting))

    def end(self) -> None:
        """No more items will come: `write` returns when all are answered."""
        self._ended = True
        self._news.set()

    # Out.

    def _landed(self, shared: Shared, asked: _Asked, waiting: _Waiting, promise: "Promise[Any]") -> None:
        error = promise.exception()
        if not waiting.ends(asked):
            return None  # it was answered DEADLINE
        if error is not None:
            assert isinstance(error, Exception)
            return self._refuse(asked, error)
        try:
            response = b"" if asked.brief else shared.answer(promise.result())
        except Exception as bug:  # logged by status_for, as for any call
            return self._refuse(asked, bug)
        return self._succeed(asked, response)

    def _refuse(self, asked: _Asked, error: Exception) -> None:
        log.bind_request(asked.call.metadata.get(REQUEST_ID_KEY))
        status = rpc.status_for(error, asked.call.method).SerializeToString()
        self._forwarder.count(asked.call.method, "refused")
        self._add((asked.item_id, b"", status, asked.call.trailer))

    def _succeed(self, asked: _Asked, response: bytes) -> None:
        self._forwarder.count(asked.call.method, "ok")
        self._add((asked.item_id, response, b"", asked.call.trailer))

    def _add(self, answer: Answer) -> None:
        self._answers.append(answer)
        self._news.set()

    async def write(self) -> None:
        """Writes what is known, until all items of a stream that has ended are answered."""
        while True:
            while not self._answers:
                if self._ended and not self._in_flight:
                    return
                self._news.clear()
                await self._news.wait()
            together = self._known()
            await self._write(wire.forward_response(together))
            self._in_flight -= len(together)
            self._room.set()

    def _known(self) -> list[Answer]:
        """The answers for the next message."""
        together, size = list[Answer](), 0
        while self._answers and size < ANSWERS_BYTES_ENOUGH:
            answer = self._answers.popleft()
            together.append(answer)
            size += len(answer[1]) + len(answer[2])
        return together
