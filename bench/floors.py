"""The floors: the least that the same libraries can do on this machine, each server a process of its own.

``python bench/floors.py grpc`` echoes the bytes of PlaceOrder, and sends the same bytes to every reader of its stream.
``python bench/floors.py http`` is a FastAPI route with a pydantic model that appends to a list, under uvicorn as the
shim configures it. Each prints its port. Event loop and garbage collector are set as in our own processes.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import grpc
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from bench.batch_load import PLACE_ORDERS, TRADE
from bench.load import ORDER_ROUTE, PLACE_ORDER, STREAM_ORDER_BOOK
from gateway_http.__main__ import WS_MESSAGE_BYTES_MAX, listen
from services.runtime.config import HostPort
from services.runtime.run import Closing, freeze_gc, run

LOOPBACK = "127.0.0.1"


class Echo:
    """Unary: the request's bytes. Stream: nothing first, then the bytes of every unary request.

    Of Trade, the bytes of its requests.
    """

    def __init__(self) -> None:
        self._readers: set[asyncio.Queue[bytes]] = set()

    async def place_order(self, request: bytes, _context: Any) -> bytes:
        for reader in self._readers:
            reader.put_nowait(request)
        return request

    async def talk(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def stream(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._readers.add(queue)
        try:
            yield b""
            while True:
                yield await queue.get()
        finally:
            self._readers.discard(queue)


class Order(BaseModel):
    """The documented body."""

    order_id: str
    user_id: str
    pair: str
    order_type: str
    side: str
    price: Decimal
    amount: Decimal


class Server(uvicorn.Server):
    """Leaves the signals to run()."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def grpc_floor(closing: Closing) -> None:
    echo = Echo()
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        PLACE_ORDER: grpc.unary_unary_rpc_method_handler(echo.place_order),
        PLACE_ORDERS: grpc.unary_unary_rpc_method_handler(echo.place_order),
        TRADE: grpc.stream_stream_rpc_method_handler(echo.talk),
        STREAM_ORDER_BOOK: grpc.unary_stream_rpc_method_handler(echo.stream),
    }
    server = grpc.aio.server()
    for path, handler in methods.items():
        _, service, method = path.split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    await server.start()
    freeze_gc()
    print(port, flush=True)
    await closing.wait()
    await server.stop(0)


async def http_floor(closing: Closing) -> None:
    app = FastAPI()
    taken: list[Order] = []

    @app.post(ORDER_ROUTE)
    async def place_order(order: Order) -> dict[str, str]:
        taken.append(order)
        return {"message": "Order submitted successfully", "order_id": order.order_id}

    config = uvicorn.Config(
        app,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=WS_MESSAGE_BYTES_MAX,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    server, listening = Server(config), listen(HostPort(LOOPBACK, 0))
    serving = closing.spawn(server.serve(sockets=[listening]), "uvicorn")
    freeze_gc()
    print(listening.getsockname()[1], flush=True)
    await closing.wait()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    run({"grpc": grpc_floor, "http": http_floor}[sys.argv[1]])
