"""`clearbook health ADDRESS`: does a process serve? For people, `clearbook up` and container health checks."""

import asyncio
import ssl
import urllib.request
from typing import Any

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
    context = _context(tls or Tls()) if url.startswith("https:") else None

    def get() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=CHECK_SECONDS_MAX, context=context) as answer:  # noqa: S310 (ours)
                return bool(answer.status == 200)
        except OSError:
            return False

    return await asyncio.to_thread(get)


class _Named(ssl.SSLContext):
    """Expects one name, whatever the address."""

    name = ""

    def wrap_socket(self, *args: Any, **more: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **more | ({"server_hostname": self.name} if self.name else {}))


def _context(tls: Tls) -> ssl.SSLContext:
    context = _Named(ssl.PROTOCOL_TLS_CLIENT)
    context.name = tls.name
    if tls.authority is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=tls.authority.decode())
    return context
