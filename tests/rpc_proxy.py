"""A proxy in front of a node that lies, stalls and forgets on command: every fault that a JSON-RPC node can show."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import ClientSession, ClientTimeout, web

FORWARD_SECONDS_MAX = 30.0
SEND = "eth_sendRawTransaction"
_AT_BLOCK = {
    "eth_call": 1,
    "eth_getTransactionCount": 1,
    "eth_getBalance": 1,
    "eth_getCode": 1,
    "eth_getBlockByNumber": 0,
}
"""Where these methods name the block that they ask about."""

Request: TypeAlias = dict[str, Any]
Answer: TypeAlias = web.StreamResponse | dict[str, Any]
Fault: TypeAlias = "Callable[[RpcProxy, Request], Awaitable[Answer | None]]"
"""What becomes of a request; None: it is forwarded as if nothing were wrong."""


@dataclass
class RpcProxy:
    """One node behind one port. Set `fault`; None: all is well."""

    node: str
    url: str = ""
    fault: Fault | None = None
    seen: Counter[str] = field(default_factory=Counter)
    """Requests by method."""
    hurt: Counter[str] = field(default_factory=Counter)
    """Those that a fault has met, by method."""
    _session: ClientSession | None = None

    async def forward(self, request: Request) -> dict[str, Any]:
        """What the node says."""
        assert self._session is not None
        async with self._session.post(self.node, json=request) as answer:
            said: dict[str, Any] = await answer.json(content_type=None)
            return said

    async def ask(self, method: str, *params: Any) -> Any:
        """A request of the test's own, past all faults."""
        answer = await self.forward({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        assert "error" not in answer, answer
        return answer["result"]

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        request = json.loads(await http.read())
        self.seen[request["method"]] += 1
        answer = None if self.fault is None else await self.fault(self, request)
        if answer is not None:
            self.hurt[request["method"]] += 1
        if answer is LOST:
            transport = http.transport
            assert transport is not None
            transport.close()
            return web.Response()
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.json_response(await self.forward(request) if answer is None else answer)


@asynccontextmanager
async def rpc_proxy(node: str) -> AsyncIterator[RpcProxy]:
    """A proxy in this event loop, on a port of its own."""
    proxy = RpcProxy(node)
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/", proxy._handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    async with ClientSession(timeout=ClientTimeout(total=FORWARD_SECONDS_MAX)) as session:
        proxy._session = session
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield proxy
        finally:
            await runner.cleanup()


# Faults

LOST = web.Response()
"""Stands for: the connection is closed without an answer."""


def http_status(status: int) -> Fault:
    """The node, or what stands before it, answers with this status and no JSON."""

    async def fault(_proxy: RpcProxy, _request: Request) -> Answer:
        return web.Response(status=status, text="<html>not today</html>")

    return fault


def body(text: str) -> Fault:
    """An answer that is no JSON, or no JSON-RPC."""

    async def fault(_proxy: RpcProxy, _request: Request) -> Answer:
        return web.Response(text=text, content_type="application/json")

    return fault


def rpc_error(code: int, message: str, *, after: bool = False) -> Fault:
    """A JSON-RPC error; `after`: though the node has done what it was asked for."""

    async def fault(proxy: RpcProxy, request: Request) -> Answer:
        if after:
            await proxy.forward(request)
        return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}}

    return fault


def result(value: Any) -> Fault:
    """A plain answer, whatever the truth is."""

    async def fault(_proxy: RpcProxy, request: Request) -> Answer:
        return _says(request, value)

    return fault


def delay(seconds: float) -> Fault:
    """The truth, late."""

    async def fault(proxy: RpcProxy, request: Request) -> Answer:
        await asyncio.sleep(seconds)
        return await proxy.forward(request)

    return fault


def down() -> Fault:
    """Connections are closed without an answer, and nothing is done."""

    async def fault(_proxy: RpcProxy, _request: Request) -> Answer:
        return LOST

    return fault


def lost_reply() -> Fault:
    """The node does what it is asked for, and its answer is lost."""

    async def fault(proxy: RpcProxy, request: Request) -> Answer:
        await proxy.forward(request)
        return LOST

    return fault


def swallowed() -> Fault:
    """The request is lost; a transaction is said to be taken."""

    async def fault(_proxy: RpcProxy, request: Request) -> Answer:
        return _says(request, "0x" + "00" * 32)

    return fault


def stale(blocks: int) -> Fault:
    """A node that is so many blocks behind: whatever came later does not exist."""

    async def fault(proxy: RpcProxy, request: Request) -> Answer:
        head = max(0, int(await proxy.ask("eth_blockNumber"), 16) - blocks)
        method, params = request["method"], list(request["params"])
        if method == "eth_blockNumber":
            return _says(request, hex(head))
        if method in _AT_BLOCK:
            place = _AT_BLOCK[method]
            block = params[place] if place < len(params) else "latest"
            number = head if block in {"latest", "pending", "safe", "finalized"} else int(block, 16)
            if number > head:
                return _says(request, None)
            params[place] = hex(number)
        answer = await proxy.forward(request | {"params": params})
        found = answer.get("result")
        if method == "eth_getTransactionReceipt" and found and int(found["blockNumber"], 16) > head:
            answer["result"] = None
        if method == "eth_getLogs":
            answer["result"] = [each for each in found or [] if int(each["blockNumber"], 16) <= head]
        return answer

    return fault


def _says(request: Request, value: Any) -> Answer:
    return {"jsonrpc": "2.0", "id": request["id"], "result": value}


def only(method: str, fault: Fault) -> Fault:
    """The fault, for one method."""

    async def narrowed(proxy: RpcProxy, request: Request) -> Answer | None:
        return await fault(proxy, request) if request["method"] == method else None

    return narrowed


def every(nth: int, fault: Fault) -> Fault:
    """The fault for each n-th request that it would meet, so that some work is done in between."""
    count = 0

    async def thinned(proxy: RpcProxy, request: Request) -> Answer | None:
        nonlocal count
        count += 1
        return await fault(proxy, request) if count % nth == 0 else None

    return thinned


def once(method: str, fault: Fault) -> Fault:
    """The fault for the first request of a method."""
    done = False

    async def single(proxy: RpcProxy, request: Request) -> Answer | None:
        nonlocal done
        if done or request["method"] != method:
            return None
        done = True
        return await fault(proxy, request)

    return single
