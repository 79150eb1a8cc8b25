"""Everybody's requests over one ForwardService stream to order_gateway.

A request that was on its way when the stream broke is sent again on the next one: the documented order carries the
client's id, so order_gateway answers it once. Whoever waits longer than the limit gets DEADLINE_EXCEEDED.
"""

import asyncio
from itertools import count
from typing import Final

import grpc
from clearbook.internal.v1 import forward_service_pb2 as wire
from clearbook.internal.v1 import forward_service_pb2_grpc as services

from gateway_http.errors import refused
from services.errors import Reason, Rejected
from services.runtime import rpc
from services.runtime.run import Closing
from services.runtime.streams import reconnecting

OPEN_ITEMS_MAX: Final = 2_000
ANSWER_SECONDS_MAX: Final = 15.0
RECONNECT_SECONDS_MAX: Final = 1.0

Call = grpc.aio.StreamStreamCall[wire.ForwardRequest, wire.ForwardResponse]


class Forward:
    """A multiplexing client. `run` keeps its stream; `call` asks."""

    def __init__(self, address: str) -> None:
        """`address` of ForwardService, "host:port"."""
        self._address = address
        self._ids = count(1)
        self._open: dict[int, tuple[wire.ForwardRequest, asyncio.Future[bytes]]] = {}
        self._waiting: asyncio.Queue[wire.ForwardRequest] = asyncio.Queue()

    async def call(self, method: str, request: bytes, metadata: dict[str, str], peer: str) -> bytes:
        """The serialized response of a unary method that may safely be sent twice.

        Raises Rejected: order_gateway's refusal, OVERLOADED past the limit of open items, DEADLINE.
        """
        if len(self._open) >= OPEN_ITEMS_MAX:
            raise Rejected(Reason.OVERLOADED)
        number = next(self._ids)
        item = wire.ForwardRequest(id=number, method=method, request=request, metadata=metadata, peer=peer)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._open[number] = (item, answer)
        self._waiting.put_nowait(item)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await answer
        except TimeoutError:
            raise Rejected(Reason.DEADLINE) from None
        finally:
            del self._open[number]

    async def run(self, closing: Closing) -> None:
        """Keeps the stream until `closing`."""
        await reconnecting(closing, "order_gateway", self._session, delay_seconds_max=RECONNECT_SECONDS_MAX)

    async def _session(self) -> None:
        self._waiting = asyncio.Queue()
        for item, _ in self._open.values():
            self._waiting.put_nowait(item)
        async with rpc.connect(self._address) as channel:
            call = services.ForwardServiceStub(channel).Forward()
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
            item = await waiting.get()
            if item.id in self._open:  # nobody waits for it any more otherwise
                await call.write(item)

    def _resolve(self, response: wire.ForwardResponse) -> None:
        _, answer = self._open.get(response.id, (None, None))
        if answer is None or answer.done():
            return
        if response.status:
            answer.set_exception(refused(response.status))
        else:
            answer.set_result(response.response)
