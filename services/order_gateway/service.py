"""The table of methods, served: over gRPC to everybody, and over ForwardService to the shim.

Both ways end in `_call`: the gate admits, then the handler acts for whom it admitted.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from clearbook.internal.v1 import forward_service_pb2 as forward_pb
from clearbook.internal.v1 import forward_service_pb2_grpc as forward_grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError

from services.errors import Reason, Rejected
from services.order_gateway.call import Call
from services.order_gateway.forward import WRITE_SECONDS_MAX, Forwarder, Shared, Streamed, Unary
from services.order_gateway.gate import Gate
from services.order_gateway.identity.signing import (
    API_KEY,
    NONCE_KEY,
    RECV_WINDOW_KEY,
    SIGNATURE_KEY,
    TIMESTAMP_KEY,
)
from services.order_gateway.identity.who import Caller
from services.order_gateway.methods import Method, Together
from services.runtime import rpc
from services.runtime.metadata import AUTHORIZATION_KEY, USER_KEY
from services.runtime.peers import ip_of
from services.runtime.run import Closed, leaves_of
from services.runtime.streams import stream_until

FORWARD = "clearbook.internal.v1.ForwardService"
CREDENTIAL_KEYS = frozenset({AUTHORIZATION_KEY, USER_KEY, API_KEY, TIMESTAMP_KEY, RECV_WINDOW_KEY, NONCE_KEY})

Context = Any


def add_public(server: rpc.Server, gate: Gate, methods: Iterable[Method]) -> None:
    """Adds all public services before the server's start."""
    tables: dict[str, list[Method]] = {}
    for method in methods:
        tables.setdefault(method.service, []).append(method)
    for service, table in tables.items():
        _check_complete(service, table)
        handlers = {method.rpc: _grpc_handler(gate, method) for method in table}
        server.add(_add_generic, grpc.method_handlers_generic_handler(service, handlers), service)


def _add_generic(handler: grpc.GenericRpcHandler, server: grpc.aio.Server) -> None:
    """Does what generated `add_…Servicer_to_server` functions do."""
    server.add_generic_rpc_handlers((handler,))


def _check_complete(service: str, table: list[Method]) -> None:
    """No RPC of the proto without a row, and none twice."""
    declared = sorted(descriptor_pool.Default().FindServiceByName(service).methods_by_name)
    assert sorted(method.rpc for method in table) == declared, f"{service} declares {declared}"


def _grpc_handler(gate: Gate, method: Method) -> "grpc.RpcMethodHandler[Any, Any]":
    parse, serialize = method.request.FromString, _serialized
    if method.talks is not None:
        return grpc.stream_stream_rpc_method_handler(_talk(gate, method), parse, serialize)
    if method.streams is not None:
        return grpc.unary_stream_rpc_method_handler(_stream(gate, method), parse, serialize)
    return grpc.unary_unary_rpc_method_handler(_unary(gate, method), parse, serialize)


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _unary(gate: Gate, method: Method) -> Callable[[Any, Context], Any]:
    async def run(request: Any, context: Context) -> Any:
        call = call_of(method, context)
        try:
            return await _call(gate, method, call, request)
        finally:
            _tell(call, context)

    return run


def _stream(gate: Gate, method: Method) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def run(request: Any, context: Context) -> AsyncIterator[Any]:
        call = call_of(method, context)
        try:
            async with aclosing(_stream_call(gate, method, call, request)) as responses:
                async for response in responses:
                    yield response
        finally:
            _tell(call, context)

    return run


def _talk(gate: Gate, method: Method) -> Callable[[Any, Context], Any]:
    talks = method.talks
    assert talks is not None

    async def run(requests: AsyncIterator[Any], context: Context) -> None:
        call = call_of(method, context)
        write = partial(rpc.write_bounded, context, timeout_seconds=WRITE_SECONDS_MAX)
        try:
            who = await gate.admit(call, method.access)
            assert isinstance(who, Caller), f"{method.name} acts for an account"
            with gate.while_good(who) as closing:
                async with closing.guard():
                    await talks(who, requests, partial(gate.count, call, who), write)
        except Closed:
            raise Rejected(Reason.UNAUTHENTICATED) from None
        except BaseExceptionGroup as errors:
            raise leaves_of(errors)[0] from None
        finally:
            _tell(call, context)

    return run


def _tell(call: Call, context: Context) -> None:
    """Puts what is told beside the answer where a client finds it."""
    if call.trailer:
        context.set_trailing_metadata(tuple(call.trailer.items()))


async def _stream_call(gate: Gate, method: Method, call: Call, request: Any) -> AsyncGenerator[Any, None]:
    """A stream's responses, for as long as the credential that opened it is good."""
    assert method.streams is not None
    who = await gate.admit(call, method.access)
    with gate.while_open(call, who) as closing:
        async with aclosing(method.streams(who, request, call.seconds)) as responses:  # type: ignore[type-var]
            async for response in stream_until(closing, responses, Reason.UNAUTHENTICATED):
                yield response


async def _call(gate: Gate, method: Method, call: Call, request: Any) -> Any:
    assert method.handler is not None
    who = await gate.admit(call, method.access, method.weight_of(request))
    return await method.handler(who, request, call.seconds)


def call_of(method: Method, context: Context) -> Call:
    """A gRPC call's surroundings."""
    metadata, signature = {}, b""
    for key, value in context.invocation_metadata() or ():
        if key in CREDENTIAL_KEYS:
            metadata[key] = value
        elif key == SIGNATURE_KEY:
            signature = value
    return Call(method.name, metadata, rpc.received.get(), signature, peer=ip_of(context.peer()))


# The shim's entrance.


class ForwardServicer(forward_grpc.ForwardServiceServicer):
    """ForwardService over gRPC."""

    def __init__(self, gate: Gate, methods: Iterable[Method]) -> None:
        methods = list(methods)
        unary = {method.name: _forwarded(gate, method) for method in methods if method.handler is not None}
        streams = {method.name: _streamed(gate, method) for method in methods if method.streams is not None}
        shared = {method.name: _shared(gate, method, method.together) for method in methods if method.together}
        self._forwarder = Forwarder(gate, unary, streams, shared)

    async def Forward(  # type: ignore[override]  # it writes by itself
        self, request_iterator: Any, context: Context
    ) -> None:
        """See the proto."""
        await self._forwarder.serve(request_iterator, context)

    async def ForwardStream(
        self, request: forward_pb.ForwardStreamRequest, context: Context
    ) -> AsyncIterator[forward_pb.ForwardStreamResponse]:
        """See the proto."""
        async with aclosing(self._forwarder.stream(request.request)) as messages:
            async for response, session in messages:
                yield forward_pb.ForwardStreamResponse(response=response, session=session)


def add_forward(server: rpc.Server, gate: Gate, methods: Iterable[Method]) -> None:
    """Adds the shim's entrance before the server's start."""
    servicer = ForwardServicer(gate, methods)
    server.add(forward_grpc.add_ForwardServiceServicer_to_server, servicer, FORWARD)


def _forwarded(gate: Gate, method: Method) -> Unary:
    async def run(call: Call) -> bytes:
        return _serialized(await _call(gate, method, call, _request(method, call)))

    return run


def _shared(gate: Gate, method: Method, together: Together) -> Shared:
    def admit(call: Call) -> tuple[Any, Caller | Coroutine[Any, Any, Caller]]:
        request = _request(method, call)
        return request, gate.admit_at_once(call, method.access, method.weight_of(request))

    return Shared(admit, together.begin, lambda became: _serialized(together.answer(became)))


def _streamed(gate: Gate, method: Method) -> Streamed:
    async def run(call: Call) -> AsyncGenerator[bytes, None]:
        async with aclosing(_stream_call(gate, method, call, _request(method, call))) as responses:
            async for response in responses:
                yield _serialized(response)

    return run


def _request(method: Method, call: Call) -> Any:
    try:
        return method.request.FromString(call.request)
    except (DecodeError, ValueError):
        raise Rejected(Reason.MALFORMED_REQUEST, "the request's bytes are not a message of its type") from None
