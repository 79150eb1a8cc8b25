"""gRPC: the server of every service and the channels between them."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from services.runtime import log, reflection
from services.runtime.calls import Calls, abort, received, refusal_for, status_for, write_bounded
from services.runtime.config import Tls, host_port
from services.runtime.roles import ADMITTED, Admitted, Role
from services.runtime.run import Closing, StartError
from services.runtime.status import code_of, number_of, refusal_in, rejected_from, status_from, status_of
from services.runtime.streams import Backoff, reconnecting, stream_until

__all__ = [
    "Backoff",
    "Server",
    "abort",
    "code_of",
    "connect",
    "number_of",
    "received",
    "reconnecting",
    "refusal_for",
    "refusal_in",
    "rejected_from",
    "serves",
    "status_for",
    "status_from",
    "status_of",
    "stream_until",
    "write_bounded",
]

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
METADATA_BYTES_MAX = 16 * 1024
CONCURRENT_STREAMS_MAX = 1_000
WRITE_SECONDS_MAX = 5.0
KEEPALIVE_MS = 10_000
KEEPALIVE_TIMEOUT_MS = 5_000
PING_INTERVAL_MS_MIN = 5_000
CONNECT_MS_MAX = 5_000
RECONNECT_MS_MIN = 100
RECONNECT_MS_MAX = 2_000

logger = log.get("rpc")

Options = list[tuple[str, Any]]


class Server:
    """A gRPC server with health, reflection, and what `calls` puts around every RPC.

    Args:
        address: "host:port"; port 0 takes a free one.
        message_bytes_max: of one message, either way.
        tls: key material; plain text without. With an authority, callers need a certificate of it, and a role.
        plaintext_anywhere: allow plain text elsewhere than on loopback.
        admitted: which role may call what, where callers have roles.
        concurrent_streams_max: calls at once on one connection.
        write_seconds_max: how long a generator's response may wait for its reader, before the reader is cut off.
        log_unary: the level of the line about a unary call that is answered or refused; bugs are errors always.

    Raises:
        StartError: the key material cannot be used, or others could read along.
    """

    def __init__(
        self,
        address: str,
        *,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
        tls: Tls | None = None,
        plaintext_anywhere: bool = False,
        admitted: Admitted = ADMITTED,
        concurrent_streams_max: int = CONCURRENT_STREAMS_MAX,
        write_seconds_max: float = WRITE_SECONDS_MAX,
        log_unary: log.Level = "debug",
    ) -> None:
        check_exposure(address, tls, plaintext_anywhere=plaintext_anywhere)
        self._address = address
        self._tls = tls
        self._options = _server_options(message_bytes_max, concurrent_streams_max)
        self._ending = Closing()
        mutual = tls is not None and tls.authority is not None
        self._calls = Calls(
            self._ending,
            write_seconds_max=write_seconds_max,
            log_unary=log_unary,
            admitted=admitted if mutual else None,
        )
        self._server: grpc.aio.Server | None = None  # made at the start: grpcio complains of one that never ran
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._health = health.aio.HealthServicer()
        self._serving: dict[str, bool] = {}
        self._services: list[str] = []
        self.port = 0

    def add(self, adder: Callable[[Any, Any], None], servicer: object, service: str) -> None:
        """Adds a servicer before the start.

        Args:
            adder: the generated `add_…Servicer_to_server`.
            servicer: the implementation.
            service: its full name, as in "clearbook.v1.OrderService". It is NOT_SERVING until `set_serving`.
        """
        adder(servicer, _Registrar(self._handlers, self._calls))
        self._services.append(service)
        self._serving[service] = False

    async def start(self) -> int:
        """Listens; returns the port.

        Raises:
            StartError: the address cannot be listened on.
        """
        server = self._server = grpc.aio.server(options=self._options)
        server.add_generic_rpc_handlers(tuple(self._handlers))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.add([*self._services, health.SERVICE_NAME], server)
        await self._tell_health("", self._all_serving())
        for service, serving in self._serving.items():
            await self._tell_health(service, serving)
        try:
            self.port = self._bind(server)
        except RuntimeError:
            await server.start()  # without a port; only what has run can be stopped
            await server.stop(0)
            taken = f"cannot listen on {self._address}: the port is taken, or the address is not ours"
            raise StartError(taken) from None
        await server.start()
        logger.info("listening", address=f"{host_port(self._address).host}:{self.port}", services=self._services)
        return self.port

    def _bind(self, server: grpc.aio.Server) -> int:
        if self._tls is None:
            return server.add_insecure_port(self._address)
        assert self._tls.key is not None
        assert self._tls.certificate is not None
        credentials = grpc.ssl_server_credentials(
            [(self._tls.key, self._tls.certificate)],
            root_certificates=self._tls.authority,
            require_client_auth=self._tls.authority is not None,
        )
        return server.add_secure_port(self._address, credentials)

    async def set_serving(self, service: str, serving: bool) -> None:
        """Sets the health of a service, or of a part of it ("clearbook.v1.BookService/BTC-USD").

        The health of the whole server ("") is that all its services serve.
        """
        self._serving[service] = serving
        await self._tell_health(service, serving)
        await self._tell_health("", self._all_serving())

    def _all_serving(self) -> bool:
        return all(self._serving[service] for service in self._services)

    async def _tell_health(self, service: str, serving: bool) -> None:
        states = health_pb2.HealthCheckResponse
        await self._health.set(service, states.SERVING if serving else states.NOT_SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """NOT_SERVING; streams end with UNAVAILABLE and CLOSING at once; other calls have `grace_seconds`."""
        await self._health.enter_graceful_shutdown()
        self._ending.set()
        if self._server is not None:
            await self._server.stop(grace_seconds)


class _Registrar:
    """Stands in for the server while generated code adds a servicer, and wraps its handlers."""

    def __init__(self, wrapped: list[grpc.GenericRpcHandler], calls: Calls) -> None:
        self._wrapped, self._calls = wrapped, calls

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._wrapped += [_Wrapped(handler, self._calls) for handler in handlers]

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Says the same a second time; grpcio's asyncio server ignores it too."""


class _Wrapped(grpc.GenericRpcHandler):
    """Finds a method's handler, wrapped, once."""

    def __init__(self, inner: Any, calls: Calls) -> None:
        self._inner, self._calls = inner, calls
        self._handlers: dict[str, Any] = {}

    def service(self, handler_call_details: Any) -> Any:
        method: str = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            inner = self._inner.service(handler_call_details)
            if inner is None:
                return None
            handler = self._handlers[method] = self._calls.wrap(method, inner)
        return handler


def check_exposure(address: str, tls: Tls | None, *, plaintext_anywhere: bool) -> None:
    """What every listener asks for before it listens: usable key material, or an address that only we can reach.

    Raises:
        StartError: otherwise.
    """
    if tls is not None:
        from services.runtime import certificates  # X.509 is a seventh of a second of CPU, and not for plain text

        certificates.check(tls, address)
    elif not (plaintext_anywhere or host_port(address).loopback):
        raise StartError(
            f"plain text on {address} could be read and changed on its way: set TLS_… for a port between our own "
            "processes or PUBLIC_TLS_… for a public one, listen on 127.0.0.1, or say CLEARBOOK_PLAINTEXT_BIND=1"
        )


def connect(
    address: str,
    tls: Tls | None = None,
    *,
    role: Role | None = None,
    message_bytes_max: int = MESSAGE_BYTES_MAX,
) -> grpc.aio.Channel:
    """A channel to another service: connects when used, keeps alive, reconnects by itself within 2 s.

    Args:
        address: "host:port".
        tls: whom to believe and who we are; plain text without.
        role: what the other side's certificate must say that it is, whatever its address.
        message_bytes_max: of one message, either way.
    """
    options: Options = [
        *_both_sides(message_bytes_max),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS_MIN),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MAX),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, whatever else the process talks to
        ("grpc.enable_http_proxy", 0),
    ]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    if name := role.host if role is not None else tls.name:
        options.append(("grpc.ssl_target_name_override", name))
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)
    return grpc.aio.secure_channel(address, credentials, options=options)


async def serves(channel: grpc.aio.Channel, service: str = "", *, seconds_max: float) -> bool:
    """Whether the server behind a channel says in time that `service` ("" is all of it) is SERVING."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=seconds_max)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _server_options(message_bytes_max: int, concurrent_streams_max: int) -> Options:
    return [
        *_both_sides(message_bytes_max),
        ("grpc.so_reuseport", 0),  # else a second process would share the port in silence
        ("grpc.max_concurrent_streams", concurrent_streams_max),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MS_MIN),  # else keepalive earns a GOAWAY
    ]


def _both_sides(message_bytes_max: int) -> Options:
    return [
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
