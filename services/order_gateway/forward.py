"""ForwardService: many people's unary calls over one stream, run side by side, answered in whatever order they end.

The shim is trusted to translate, never to authenticate: each item carries its caller's own credentials, and they are
judged like those of a gRPC call.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from services.errors import Reason, Rejected
from services.order_gateway import wire
from services.order_gateway.call import Call, Signed, ip_of
from services.runtime import log, metrics, rpc

ITEMS_IN_FLIGHT_MAX = 1_024
"""Of one stream; the next one is read when one of them has been answered."""
WRITE_SECONDS_MAX = 5.0
REQUEST_ID_KEY = "x-request-id"

_items = metrics.counter("gateway_forwarded_calls", "Forwarded calls answered.", ["method", "answer"])

Unary = Callable[[Call], Awaitable[bytes]]


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
    def HasField(self, name: str) -> bool: ...  # noqa: D102, N802


def call_of(item: Item) -> Call:
    """The call that an item is: credentials, signature and address are its caller's, as the shim got them."""
    signed = None
    if item.HasField("signed"):
        given = item.signed
        signed = Signed(given.key_id, given.payload, given.signature, given.route)
    return Call(item.method, item.metadata, item.request, signed=signed, peer=ip_of(item.peer))


class Forwarder:
    """Runs forwarded calls.

    Args:
        methods: by full name; takes a call with its serialized request, gives a serialized response or raises.
    """

    def __init__(self, methods: Mapping[str, Unary]) -> None:
        self._methods = methods

    async def serve(self, items: AsyncIterator[Item], context: Any) -> None:
        """Answers the items of one stream, until it ends and all are answered."""
        answers: asyncio.Queue[Any] = asyncio.Queue()
        slots = asyncio.Semaphore(ITEMS_IN_FLIGHT_MAX)
        refusal: Rejected | None = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_write(answers, slots, context), name="forward answers")
                async with asyncio.TaskGroup() as running:
                    async for item in items:
                        await slots.acquire()
                        running.create_task(self._run(item, answers), name="forwarded call")
                answers.put_nowait(None)
        except* Rejected as errors:
            refusal = _first(errors)
        if refusal is not None:
            raise refusal

    async def _run(self, item: Item, answers: "asyncio.Queue[Any]") -> None:
        """One item: its answer, or the status that says why not."""
        log.bind_request(item.metadata.get(REQUEST_ID_KEY))
        method = self._methods.get(item.method, _unknown)
        try:
            response = await method(call_of(item))
        except Exception as error:  # a bug is logged by status_for, as for any call
            status = rpc.status_for(error, item.method)
            _items.labels(item.method if item.method in self._methods else "unknown", "refused").inc()
            answers.put_nowait(wire.forward_response(item.id, status=status.SerializeToString()))
        else:
            _items.labels(item.method, "ok").inc()
            answers.put_nowait(wire.forward_response(item.id, response=response))


async def _unknown(call: Call) -> bytes:  # noqa: ARG001
    raise Rejected(Reason.MALFORMED_REQUEST, "no such method", "method")


async def _write(answers: "asyncio.Queue[Any]", slots: asyncio.Semaphore, context: Any) -> None:
    """Writes answers one after the other: a stream takes one at a time."""
    while (answer := await answers.get()) is not None:
        await rpc.write_bounded(context, answer, WRITE_SECONDS_MAX)
        slots.release()


def _first(errors: BaseExceptionGroup[Rejected]) -> Rejected:
    error: Any = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Rejected)
    return error
