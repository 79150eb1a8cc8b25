"""Prometheus metrics: one registry for the process, exposed on a port of its own."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.gc_collector import GCCollector

from services.runtime.run import StartError

REQUEST_SECONDS_MAX = 5.0
REQUEST_BYTES_MAX = 8_192
LATENCY_SECONDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)

registry = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=registry)
GCCollector(registry=registry)


def counter(name: str, what: str, labels: Sequence[str] = ()) -> Counter:
    """A counter in our registry; its name starts with clearbook_."""
    return Counter(name, what, labels, namespace="clearbook", registry=registry)


def gauge(name: str, what: str, labels: Sequence[str] = ()) -> Gauge:
    """A gauge in our registry; its name starts with clearbook_."""
    return Gauge(name, what, labels, namespace="clearbook", registry=registry)


def histogram(
    name: str, what: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_SECONDS
) -> Histogram:
    """A histogram in our registry, of seconds unless `buckets` say otherwise; its name starts with clearbook_."""
    return Histogram(name, what, labels, namespace="clearbook", registry=registry, buckets=buckets)


class Exposition:
    """A running metrics endpoint: GET /metrics."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stops listening."""
        self._server.close()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()


async def serve(port: int, host: str = "127.0.0.1") -> Exposition:
    """Exposes the registry at http://host:port/metrics from this event loop; port 0 takes a free one.

    Raises:
        StartError: the port is taken.
    """
    try:
        server = await asyncio.start_server(_answer, host, port, limit=REQUEST_BYTES_MAX)
    except OSError as error:
        raise StartError(f"metrics cannot listen on {host}:{port}: {error.strerror or error}") from None
    return Exposition(server)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, one answer, then the connection is closed."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS_MAX):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(head.split(b"\r\n", 1)[0]))
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # a scraper that does not speak HTTP, or left: its own loss
    finally:
        writer.close()


def _response(request_line: bytes) -> bytes:
    method, _, rest = request_line.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method != b"GET":
        status, body = b"405 Method Not Allowed", b"only GET\n"
    elif path == b"/metrics":
        status, body = b"200 OK", generate_latest(registry)
    else:
        status, body = b"404 Not Found", b"see /metrics\n"
    kind = CONTENT_TYPE_LATEST.encode() if status.startswith(b"200") else b"text/plain"
    return b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        status,
        kind,
        len(body),
        body,
    )
