"""`clearbook health ADDRESS`: does a process serve? For people, `clearbook up` and container health checks."""

import asyncio
import urllib.request

from services.runtime import rpc

CHECK_SECONDS_MAX = 3.0


async def serving(address: str, service: str = "") -> bool:
    """Whether the gRPC server at "host:port" says that `service` ("" is all of it) is SERVING."""
    async with rpc.connect(address) as channel:
        return await rpc.serves(channel, service, seconds_max=CHECK_SECONDS_MAX)


async def http_ready(url: str) -> bool:
    """Whether an HTTP GET of `url` answers 200."""

    def get() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=CHECK_SECONDS_MAX) as answer:  # noqa: S310 (our own URL)
                return bool(answer.status == 200)
        except OSError:
            return False

    return await asyncio.to_thread(get)
