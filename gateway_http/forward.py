"""Everybody's requests over one ForwardService stream to order_gateway.

A request that was on its way when the stream broke is sent again on the next one: the documented order carries the
client's id, so order_gateway answers it once. A signature is good once: a signed request is never sent again. Whoever
waits longer than the limits is told UNAVAILABLE if the request never left, DEADLINE if its outcome is unknown.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import count
from typing import Final

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

Call = grpc.aio.StreamStreamCall[wire.ForwardRequest, wire.ForwardResponse]


@dataclass(slots=True)
class _Item:
    """A request that somebody waits for."""

    request: wire.ForwardRequest
    answer: asyncio.Future[bytes]
    limit: asyncio.Timeout
    told: dict[str, str]
    sent: bool = False

    def leaves(self) -> None:
        """From now on its outcome is unknown until it is answered."""
        if not self.sent:
            self.sent = True
            self.limit.reschedule(asyncio.get_running_loop().time() + ANSWER_SECONDS_MAX)


def _request(
    number: int, method: str, request: bytes, metadata: dict[str, str], peer: str, signed: SignedRequest | None
) -> wire.ForwardRequest:
    item = wire.ForwardRequest(id=number, method=method, request=request, metadata=metadata, peer=peer)
    if signed is not None:
        item.signed.key_id, item.signed.payload = signed.key_id, signed.payload
        item.signed.signature, item.signed.query_bytes = signed.signature, signed.query_bytes
    return item


class Forward:
    """A multiplexing client. `run` keeps its stream; `call` asks."""

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        """`address` of ForwardService, "host:port"; `tls`: who we are to it."""
        self._address, self._tls = address, tls
        self._ids = count(1)
        self._open: dict[int, _Item] = {}
        self._waiting: asyncio.Queue[int] = asyncio.Queue()
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
    ) -> bytes:
        """The serialized response of a unary method that may safely be sent twice.

        Args:
            method: full name.
            request: the serialized message.
            metadata: the caller's credentials.
            peer: the caller's address.
            signed: the caller's signature.
            told: takes what order_gateway tells beside the answer, whatever that is.

        Raises:
            Rejected: order_gateway's refusal, OVERLOADED past the limit of open items, UNAVAILABLE, DEADLINE.
        """
        if len(self._open) >= OPEN_ITEMS_MAX:
            raise Rejected(Reason.OVERLOADED)
        number = next(self._ids)
        message = _request(number, method, request, metadata, peer, signed)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        limit = asyncio.timeout(SEND_SECONDS_MAX)
        item = self._open[number] = _Item(message, answer, limit, {} if told is None else told)
        try:
            async with limit:
                self._waiting.put_nowait(number)
                return await answer
        except TimeoutError:
            raise Rejected(Reason.DEADLINE if item.sent else Reason.UNAVAILABLE) from None
        finally:
            del self._open[number]

    async def stream(
        self, method: str, request: bytes, metadata: dict[str, str], peer: str, signed: SignedRequest | None = None
    ) -> AsyncGenerator[wire.ForwardStreamResponse, None]:
        """The messages of a stream of somebody's, or of a session: see the proto. The call ends with the generator.

        Raises Rejected: order_gateway's refusal; UNAVAILABLE when the stream breaks.
        """
        item = _request(0, method, request, metadata, peer, signed)
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
        self._waiting = asyncio.Queue()
        for number, item in self._open.items():
            if not (item.sent and item.request.HasField("signed")):
                self._waiting.put_nowait(number)
            elif not item.answer.done():
                item.answer.set_exception(Rejected(Reason.DEADLINE))
        async with rpc.connect(self._address, self._tls, role=Role.GATEWAY) as channel:
            call = services.ForwardServiceStub(channel).Forward(wait_for_ready=True)
            await call.wait_for_connection()  # until then nothing has been sent
            writing = asyncio.create_task(self._write(call), name="forward items")
            try:
                async for response in call:
                    self._resolve(response)
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)  # a write that failed: the read says why

    async def _write(self, call: Call) -> None:
        waiting = self._waiting
        while True:
            item = self._open.get(await waiting.get())
            if item is not None:  # else nobody waits for it any more
                item.leaves()
                await call.write(item.request)

    def _resolve(self, response: wire.ForwardResponse) -> None:
        item = self._open.get(response.id)
        if item is None or item.answer.done():
            return
        item.told.update(response.trailer)
        if response.status:
            item.answer.set_exception(refused(response.status))
        else:
            item.answer.set_result(response.response)
