"""`clearbook health ADDRESS`: does a process serve? For people, `clearbook up` and container health checks."""

import asyncio
import ssl
import urllib.request

from services.runtime import rpc
from services.runtime.config import Tls
from services.runtime.roles import Role

CHECK_SECONDS_MAX = 3.0


async def serving(address: str, service: str = "", *, tls: Tls | None = None, role: Role | None = None) -> bool:
    """Whether the gRPC server at "host:port" says that `service` ("" is all of it) is SERVING.

    Args:
        address: of the server.
        service: full name, or part of one.
        tls: whom to believe and who we are; plain text without.
        role: who it must be, at a port between our own processes.
    """
    async with rpc.connect(address, tls, role=role) as channel:
        return await rpc.serves(channel, service, seconds_max=CHECK_SECONDS_MAX)


async def http_ready(url: str, tls: Tls | None = None) -> bool:
    """Whether an HTTP GET of `url` answers 200. `tls`: whom to believe; without, whom this machine believes."""
    believed = (tls.authority or b"").decode() if tls is not None else None
    context = ssl.create_default_context(cadata=believed) if url.startswith("https:") else None

    def get() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=CHECK_SECONDS_MAX, context=context) as answer:  # noqa: S310 (ours)
                return bool(answer.status == 200)
        except OSError:
            return False

    return await asyncio.to_thread(get)
