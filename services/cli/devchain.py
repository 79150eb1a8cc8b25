"""``clearbook devchain``: an EVM chain on loopback JSON-RPC, for the embedded run and for tests.

Chain id 31337, the four first keys of Anvil and Hardhat funded, one block per transaction. The chain is one file in
its data folder and survives kill -9: what was answered is there after a restart, with the same hashes. For blocks
without a transaction there is ``evm_mine``, as in Anvil. Nothing here is safe with money: everybody knows the keys.
"""

import asyncio
import socket
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

HOST: Final = "127.0.0.1"
PORT_DEFAULT: Final = 8545
BODY_BYTES_MAX: Final = 2 << 20
CHAIN_ID: Final = 31337

DEV_KEY: Final = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""The first key of the mnemonic "test test … junk", which Anvil and Hardhat fund as well. Worthless by design."""

DEV_ADDRESSES: Final = (
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
)
"""The accounts that hold ether from the first block; DEV_KEY is the first one's."""


def _app(handle: Callable[[bytes], Awaitable[Any]]) -> Starlette:
    async def rpc(request: Request) -> Response:
        # A web page cannot send this type across origins without asking first, so it cannot reach the chain.
        if not request.headers.get("content-type", "").startswith("application/json"):
            return JSONResponse({"error": "send application/json"}, status_code=415)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                return JSONResponse({"error": "too large"}, status_code=413)
        return JSONResponse(await handle(bytes(body)))

    return Starlette(routes=[Route("/", rpc, methods=["POST"])])


async def serve(port: int, data_dir: Path, ready: Callable[[int], None] | None = None) -> None:
    """Serves the chain on loopback until SIGINT, SIGTERM or cancellation.

    Args:
        port: the TCP port; 0 takes a free one.
        data_dir: the folder of the chain's file, made if missing.
        ready: called once, with the port, when requests are taken.

    Raises:
        OSError: the port is taken.
        sqlite3.OperationalError: another process has the data.
    """
    # Here and not above: py-evm takes most of a second to import, and every `clearbook` command imports this module.
    from services.cli.devchain_chain import DevChain
    from services.cli.devchain_rpc import answer_body

    listener = socket.create_server((HOST, port))
    loop = asyncio.get_running_loop()
    with listener, ThreadPoolExecutor(1, thread_name_prefix="devchain") as worker:
        chain = await loop.run_in_executor(worker, DevChain, data_dir)
        try:
            app = _app(lambda body: loop.run_in_executor(worker, answer_body, chain, body))
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False))
            if ready is not None:
                ready(int(listener.getsockname()[1]))
            await server.serve(sockets=[listener])
        finally:
            await loop.run_in_executor(worker, chain.close)


def main(port: int = PORT_DEFAULT, data: Path = Path("data/devchain")) -> None:
    """Runs a development EVM chain on loopback JSON-RPC."""
    try:
        asyncio.run(serve(port, data, lambda bound: print(f"devchain http://{HOST}:{bound}", flush=True)))
    except OSError as error:
        sys.exit(f"devchain: port {port} on {HOST}: {error.strerror or error}")
    except sqlite3.Error as error:
        sys.exit(f"devchain: the chain in {data} cannot be opened ({error}): is another devchain running on it?")
    except KeyboardInterrupt:
        pass
