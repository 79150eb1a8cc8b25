"""Everybody's requests over one ForwardService stream to order_gateway.

What waits goes together in one message, and nothing ever waits for company: while one message is written, the next one
gathers. A request that was on its way when the stream broke is sent again on the next one if that is safe: the
documented order carries the client's id, so order_gateway answers it once. A signature is good once: what is signed is
never sent again. Whoever waits longer than the limits is told UNAVAILABLE if the request never left, DEADLINE if its
outcome is unknown.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import grpc
from clearbook.internal.v1 import forward_service_pb2 as wire
from clearbook.internal.v1 import forward_service_pb2_grpc as services

from gateway_http.channels import Channels
from gateway_http.errors import refused
from gateway_http.signing import SignedRequest
from services.errors import Reason, Rejected
from services.runtime import rpc
from services.runtime.config import Tls
from services.runtime.roles import Role
from services.runtime.run import Closing
from services.runtime.streams import reconnecting

OPEN_ITEMS_MAX: Final = 2_000
SEND_SECONDS_MAX: Final = 5.0
"""How long a request waits for a stream."""
ANSWER_SECONDS_MAX: Final = 15.0
"""How long a request that was sent waits for its answer."""
RECONNECT_SECONDS_MAX: Final = 1.0
LOOK_SECONDS: Final = 0.1
"""How often it is looked who has waited too long."""
MESSAGE_ITEMS_MAX: Final = 512
MESSAGE_BYTES_ENOUGH: Final = 256 * 1024
"""Of requests in one message; one more may come on top of that."""

Call = grpc.aio.StreamStreamCall[wire.ForwardRequest, wire.ForwardResponse]


@dataclass(slots=True)
class _Item:
    """A request that somebody waits for."""

    fields: dict[str, Any]
    """Of its ForwardRequest."""
    answer: asyncio.Future[bytes]
    told: dict[str, str]
    give_up: float
    """When it is waited for no longer, in the loop's time."""
    repeatable: bool
    """Whether it may be sent again."""
    sent: bool = False

    def leaves(self, now: float) -> None:
        """From now on its outcome is unknown until it is answered."""
        if not self.sent:
            self.sent = True
            self.give_up = now + ANSWER_SECONDS_MAX


def _fields(
    number: int, method: str, request: bytes, metadata: dict[str, str], peer: str, signed: SignedRequest | None
) -> dict[str, Any]:
    fields = {"id": number, "method": method, "request": request, "metadata": metadata, "peer": peer}
    if signed is not None:
        fields["signed"] = wire.Signed(
            key_id=signed.key_id,
            payload=signed.payload,
            signature=signed.signature,
            query_bytes=signed.query_bytes,
        )
    return fields


class Forward:
    """A multiplexing client. `run` keeps its stream; `call` asks."""

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        """`address` of ForwardService, "host:port"; `tls`: who we are to it."""
        self._address, self._tls = address, tls
        self._ids = count(1)
        self._open: dict[int, _Item] = {}
        self._waiting: deque[int] = deque()
        self._news = asyncio.Event()
        self._looking: asyncio.TimerHandle | None = None
        self._streams = Channels(lambda: rpc.connect(address, tls, role=Role.GATEWAY))

    async def call(
        self,
        method: str,
        request: bytes,
        metadata: dict[str, str],
        peer: str,
        *,
        signed: SignedRequest | None = None,
        told: dict[str, str] | None = None,
        brief: bool = False,
        repeatable: bool = True,
    ) -> bytes:
        """The serialized response of a unary method.

        Args:
            method: full name.
            request: the serialized message.
            metadata: the caller's credentials.
            peer: the caller's address.
            signed: the caller's signature.
            told: takes what order_gateway tells beside the answer, whatever that is.
            repeatable: it may safely be sent twice (if it is not signed: a signature is good once).
            brief: only whether it succeeds is asked for; the response is empty.

        Raises:
            Rejected: order_gateway's refusal, OVERLOADED past the limit of open items, UNAVAILABLE, DEADLINE.
        """
        if len(self._open) >= OPEN_ITEMS_MAX:
            raise Rejected(Reason.OVERLOADED)
        number, loop = next(self._ids), asyncio.get_running_loop()
        fields = _fields(number, method, request, metadata, peer, signed)
        if brief:
            fields["brief"] = True
        item = _Item(
            fields=fields,
            answer=loop.create_future(),
            told={} if told is None else told,
            give_up=loop.time() + SEND_SECONDS_MAX,
            repeatable=repeatable and signed is None,
        )
        self._open[number] = item
        self._waiting.append(number)
        self._news.set()
        if self._looking is None:
            self._looking = loop.call_later(LOOK_SECONDS, self._look)
        try:
            return await item.answer
        finally:
            del self._open[number]

    def _look(self) -> None:
        """Tells those who have waited too long. One timer for all: one for each would cost more than the request."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for item in self._open.values():
            if item.give_up <= now and not item.answer.done():
                item.answer.set_exception(Rejected(Reason.DEADLINE if item.sent else Reason.UNAVAILABLE))
        self._looking = loop.call_later(LOOK_SECONDS, self._look) if self._open else None

    async def stream(
        self, method: str, request: bytes, metadata: dict[str, str], peer: str, signed: SignedRequest | None = None
    ) -> AsyncGenerator[wire.ForwardStreamResponse, None]:
        """The messages of a stream of somebody's, or of a session: see the proto. The call ends with the generator.

        Raises Rejected: order_gateway's refusal; UNAVAILABLE when the stream breaks.
        """
        item = wire.ForwardRequest(**_fields(0, method, request, metadata, peer, signed))
        with self._streams.one() as channel:
            call = services.ForwardServiceStub(channel).ForwardStream(wire.ForwardStreamRequest(request=item))
            try:
                async for message in call:
                    yield message
            except grpc.aio.AioRpcError as error:
                status = rpc.status_from(error)
                refusal = rpc.refusal_in(status) if status is not None else None
                raise refusal or Rejected(Reason.UNAVAILABLE) from None
            finally:
                call.cancel()

    async def close(self) -> None:
        """Ends all streams."""
        await self._streams.close()

    async def run(self, closing: Closing) -> None:
        """Keeps the stream until `closing`."""
        await reconnecting(closing, "order_gateway", self._session, delay_seconds_max=RECONNECT_SECONDS_MAX)

    async def _session(self) -> None:
        self._waiting.clear()
        for number, item in self._open.items():
            if not item.sent or item.repeatable:
                self._waiting.append(number)
            elif not item.answer.done():
                item.answer.set_exception(Rejected(Reason.DEADLINE))
        async with rpc.connect(self._address, self._tls, role=Role.GATEWAY) as channel:
            call = services.ForwardServiceStub(channel).Forward(wait_for_ready=True)
            await call.wait_for_connection()  # until then nothing has been sent
            writing = asyncio.create_task(self._write(call), name="forward items")
            try:
                async for response in call:
                    self._resolve(response)
                    for another in response.more:
                        self._resolve(another)
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)  # a write that failed: the read says why

    async def _write(self, call: Call) -> None:
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            items = self._next()
            if items:
                first, *others = items
                message = wire.ForwardRequest(**first)
                for fields in others:
                    message.more.add(**fields)
                await call.write(message)

    def _next(self) -> list[dict[str, Any]]:
        """What goes into the next message: all that waits, if it fits."""
        now, items, size = asyncio.get_running_loop().time(), list[dict[str, Any]](), 0
        while self._waiting and len(items) < MESSAGE_ITEMS_MAX and size < MESSAGE_BYTES_ENOUGH:
            item = self._open.get(self._waiting.popleft())
            if item is not None:  # else nobody waits for it any more
                item.leaves(now)
                items.append(item.fields)
                size += len(item.fields["request"])
        return items

    def _resolve(self, response: wire.ForwardResponse) -> None:
        item = self._open.get(response.id)
        if item is None or item.answer.done():
            return
        item.told.update(response.trailer)
        if response.status:
            item.answer.set_exception(refused(response.status))
        else:
            item.answer.set_result(response.response)
