"""What surrounds every RPC that we serve: request id, refusals as statuses, one log line, metrics, bounded writes.

The handlers are wrapped once, when a servicer is added: a call pays a few microseconds and no interceptor pipeline.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from prometheus_client import Counter, Histogram

from services.errors import Reason, Rejected
from services.runtime import db, log, metrics, roles
from services.runtime.metadata import REQUEST_ID_KEY, RETRY_KEY
from services.runtime.roles import Admitted
from services.runtime.run import Closed, Closing
from services.runtime.status import DETAILS_KEY, code_of, internal_error, refusal_in, status_of

ABORT_SECONDS_MAX = 1.0

Context = grpc.aio.ServicerContext[Any, Any]
Behavior = Callable[[Any, Context], Any]

_count = metrics.counter("rpc_calls", "Calls answered.", ["method", "code"])
_seconds = metrics.histogram("rpc_seconds", "From the request to the end of the answer.", ["method"])
_open = metrics.gauge("rpc_streams_open", "Streaming calls now open.", ["method"])

logger = log.get("rpc")


received: ContextVar[bytes] = ContextVar("received", default=b"")
"""The bytes of the request now being handled, as they were received: what a signature covers."""


class _Received(NamedTuple):
    """A request and its bytes; no message if they do not parse."""

    message: Any
    data: bytes


class Calls:
    """Wraps the handlers of one server.

    Args:
        ending: set when the server ends.
        write_seconds_max: see Server.
        log_unary: see Server.
        admitted: which role may call what; None where callers have no roles.
    """

    def __init__(
        self, ending: Closing, *, write_seconds_max: float, log_unary: log.Level, admitted: Admitted | None = None
    ) -> None:
        self._ending = ending
        self._write_seconds_max = write_seconds_max
        self._log_unary = log_unary
        self._admitted = admitted
        self._logger = logger.bind()

    def wrap(self, method: str, handler: Any) -> Any:
        """The same RPC, surrounded."""
        meter = _Meter(method)
        parse = _lenient(handler.request_deserializer)
        serialize = handler.response_serializer
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary, meter), parse, serialize)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream, meter), parse, serialize)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(self._stream(handler.stream_unary, meter), parse, serialize)
        return grpc.stream_stream_rpc_method_handler(self._stream(handler.stream_stream, meter), parse, serialize)

    def _unary(self, behavior: Behavior, meter: "_Meter") -> Behavior:
        async def call(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            _bind(context)
            try:
                self._admit(context, meter)
                response = await behavior(_parsed(request), context)
            except BaseException as error:
                await self._end(error, context, meter, started, self._log_unary)
                raise
            self._finish(context, meter, started, _code(context), self._log_unary)
            return response

        return call

    def _stream(self, behavior: Behavior, meter: "_Meter") -> Behavior:
        async def call(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            _bind(context)
            meter.open.inc()
            try:
                self._admit(context, meter)
                source = _Requests(request) if hasattr(request, "__aiter__") else _parsed(request)
                async with self._ending.guard():
                    response = await self._respond(behavior(source, context), context)
            except BaseException as error:
                await self._end(error, context, meter, started, "info")
                raise
            finally:
                meter.open.dec()
            self._finish(context, meter, started, _code(context), "info")
            return response

        return call

    def _admit(self, context: Context, meter: "_Meter") -> None:
        if self._admitted is not None:
            roles.admit(context, meter.method, self._admitted)

    async def _respond(self, answer: AsyncIterator[Any] | Awaitable[Any], context: Context) -> Any:
        """Writes what a generator yields, or awaits a handler that writes by itself (or returns the one response)."""
        if isinstance(answer, Awaitable):
            return await answer
        async with _Watch(self._write_seconds_max) as watch, aclosing(answer) as responses:  # type: ignore[type-var]
            clock, write = asyncio.get_running_loop().time, context.write
            async for response in responses:
                watch.writing_since = clock()
                await write(response)
                watch.writing_since = 0.0
        return None

    async def _end(
        self, error: BaseException, context: Context, meter: "_Meter", started: float, level: log.Level
    ) -> None:
        """Ends a call that did not succeed; raises what ends it, or returns when the error itself must go on."""
        if isinstance(error, asyncio.CancelledError):
            self._finish(context, meter, started, grpc.StatusCode.CANCELLED, level)
            return
        if isinstance(error, grpc.aio.AbortError):
            self._finish(context, meter, started, _code(context), level)
            return
        ended = context.cancelled() or context.done()  # or nobody has said so yet: then it is the write that fails
        if isinstance(error, grpc.aio.InternalError) or (ended and isinstance(error, grpc.aio.BaseError)):
            self._finish(context, meter, started, grpc.StatusCode.CANCELLED, level)
            raise asyncio.CancelledError from None  # the client has left: nobody to tell
        if not isinstance(error, Exception):
            return
        status = status_for(error, meter.method)
        self._finish(context, meter, started, code_of(status), level, reason=str(error))
        await abort(context, status)

    def _finish(
        self, context: Context, meter: "_Meter", started: float, code: grpc.StatusCode, level: log.Level, **more: str
    ) -> None:
        seconds = time.perf_counter() - started
        meter.seconds.observe(seconds)
        meter.count(code).inc()
        if self._logger.is_enabled_for(_LEVELS[level]):
            write = getattr(self._logger, level)
            write("rpc", method=meter.method, code=code.name, ms=round(seconds * 1e3, 3), peer=context.peer(), **more)


_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class _Watch:
    """Cuts off a reader that has stalled. One timer for a stream: one for each message would cost 11 µs of its 50."""

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self.writing_since = 0.0

    async def __aenter__(self) -> "_Watch":
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._stalled = False
        self._arm()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._stalled and self._task is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise _lagged(self._seconds_max) from None

    def _arm(self) -> None:
        self._timer = self._loop.call_later(self._seconds_max / 4, self._look)

    def _look(self) -> None:
        if self.writing_since and self._loop.time() - self.writing_since >= self._seconds_max:
            self._stalled = True
            assert self._task is not None
            self._task.cancel()
        else:
            self._arm()


class _Meter:
    """The metrics of one method, looked up once."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.seconds: Histogram = _seconds.labels(method)
        self.open = _open.labels(method)
        self._counts: dict[grpc.StatusCode, Counter] = {}

    def count(self, code: grpc.StatusCode) -> Counter:
        counter = self._counts.get(code)
        if counter is None:
            counter = self._counts[code] = _count.labels(self.method, code.name)
        return counter


class _Requests:
    """The requests of a stream; one that does not parse is a refusal."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = requests
        self._next: Callable[[], Awaitable[Any]] | None = None

    def __aiter__(self) -> "_Requests":
        return self

    async def __anext__(self) -> Any:
        if self._next is None:  # not before: grpcio complains of an iterator that is never asked
            self._next = self._requests.__aiter__().__anext__
        return _parsed(await self._next())


def status_for(error: Exception, what: str) -> status_pb2.Status:
    """The status that answers a request which failed with `error`: see refusal_for."""
    return status_of(refusal_for(error, what))


def refusal_for(error: Exception, what: str) -> Rejected:
    """What a caller hears whose request failed with `error`. A bug is logged here, with its stack.

    Args:
        error: a Rejected, what the runtime raises when it ends or a database fails, or a bug.
        what: the method, for the log.
    """
    if isinstance(error, Rejected):
        return error
    if isinstance(error, Closed):
        return Rejected(Reason.CLOSING)
    if isinstance(error, db.Unavailable):
        logger.error("database unavailable", method=what, error=str(error))
        return Rejected(Reason.UNAVAILABLE)
    logger.error("bug", method=what, exc_info=error)
    return internal_error()


async def abort(context: Context, status: status_pb2.Status) -> None:
    """Ends a call with a rich status. Bounded: a reader that has stalled would hold even this back.

    Raises:
        grpc.aio.AbortError: the client is told.
        asyncio.CancelledError: the client has left, or takes nothing any more.
    """
    told = context.trailing_metadata() or ()  # it would be lost: abort puts its own in the place of what was set
    trailer = [*told, (DETAILS_KEY, status.SerializeToString()), (REQUEST_ID_KEY, log.request_id.get())]
    refusal = refusal_in(status)
    if refusal is not None and refusal.retry_after_seconds and RETRY_KEY not in dict(told):
        trailer.append((RETRY_KEY, str(refusal.retry_after_seconds)))
    try:
        async with asyncio.timeout(ABORT_SECONDS_MAX):
            await context.abort(code_of(status), status.message, tuple(trailer))
    except grpc.aio.AbortError:
        raise  # grpcio insists on seeing its own again, and on no other
    except (TimeoutError, grpc.aio.BaseError):
        raise asyncio.CancelledError from None  # stalled, or gone: the call ends without a word


async def write_bounded(context: Context, message: Any, timeout_seconds: float) -> None:
    """Writes one message to a stream whose reader may have stalled.

    Raises:
        Rejected: LAGGED (RESOURCE_EXHAUSTED), when it was not taken in time; UNAVAILABLE, when the reader has gone.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            await context.write(message)
    except TimeoutError:
        raise _lagged(timeout_seconds) from None
    except grpc.aio.BaseError:
        raise Rejected(Reason.UNAVAILABLE, "the reader has gone") from None


def _lagged(seconds: float) -> Rejected:
    return Rejected(Reason.LAGGED, f"nothing was read for {seconds:g} s")


def _bind(context: Context) -> None:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str):
            log.bind_request(value)
            return
    log.bind_request()


def _lenient(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """A deserializer that keeps the bytes, and whose failure can be answered: grpcio would call it INTERNAL."""
    if parse is None:
        return None

    def lenient(data: bytes) -> _Received:
        try:
            return _Received(parse(data), data)
        except (DecodeError, ValueError):
            return _Received(None, data)

    return lenient


def _parsed(request: Any) -> Any:
    if not isinstance(request, _Received):
        return request
    if request.message is None:
        raise Rejected(Reason.MALFORMED_REQUEST, "the request's bytes are not a message of the expected type")
    received.set(request.data)
    return request.message


def _code(context: Context) -> grpc.StatusCode:
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return _BY_NUMBER.get(code or 0, grpc.StatusCode.UNKNOWN)


_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
