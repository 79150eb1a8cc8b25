"""`clearbook http`: the REST and WebSocket shim as a process."""

import contextlib
import ipaddress
import socket
import sys
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import uvicorn
from pydantic import AfterValidator

from gateway_http.app import build
from gateway_http.direct import DirectProtocol
from gateway_http.limits import Limits, LimitSettings
from gateway_http.state import State
from services.runtime import log
from services.runtime.config import (
    Address,
    HostPort,
    LogSettings,
    PublicClientSettings,
    PublicTlsSettings,
    TlsSettings,
    host_port,
)
from services.runtime.rpc import check_exposure
from services.runtime.run import Closing, StartError, run

WS_MESSAGE_BYTES_MAX: Final = 64 * 1024
STALLED_MS_MAX: Final = 5_000
"""A client that acknowledges nothing for that long is gone: neither pings nor close() end one that never reads."""
BACKLOG: Final = 1_024
DRAIN_SECONDS_MAX: Final = 10
TCP_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", 18)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _checked_networks(text: str) -> str:
    for part in _listed(text):
        ipaddress.ip_network(part)  # ValueError names what is wrong
    return text


class Settings(LogSettings, LimitSettings, TlsSettings, PublicTlsSettings, PublicClientSettings):
    """What the shim reads from the environment."""

    http_address: Address = "127.0.0.1:8000"
    forward_address: Address = "127.0.0.1:50063"
    publisher_address: Address = "127.0.0.1:50052"
    clearbook_auth: Literal["open", "required"] = "open"
    clearbook_open_bind: bool = False
    """Let everybody who can reach us be whoever they say."""
    trusted_proxies: Annotated[str, AfterValidator(_checked_networks)] = ""
    """Addresses and networks, separated by commas, whose X-Forwarded-For and -Proto tell who the client is."""
    cors_origins: str = ""
    """Pages of others that may use us from a browser, as "https://app.example", separated by commas; "*": all."""

    def check_exposure(self) -> None:
        """Raises StartError if strangers could name themselves: what we forward to comes from loopback."""
        if self.clearbook_auth == "open" and not (self.clearbook_open_bind or host_port(self.http_address).loopback):
            raise StartError(
                f"CLEARBOOK_AUTH=open on {self.http_address} would let everybody who can reach it act as anybody: "
                "listen on 127.0.0.1, set CLEARBOOK_AUTH=required, or say CLEARBOOK_OPEN_BIND=1"
            )


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: services/runtime/run.py has ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(address: HostPort) -> socket.socket:
    """The listening socket. Raises StartError if the port is taken."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":
        listening.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, STALLED_MS_MAX)
    try:
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise StartError(f"http cannot listen on {address}: {error.strerror}") from None
    listening.setblocking(False)
    return listening


async def serve(settings: Settings, closing: Closing) -> None:
    """Serves until `closing`, then lets open requests end and tells the sockets."""
    settings.check_exposure()
    tls, believed = settings.tls(), settings.public_authority()
    check_exposure(settings.http_address, settings.public_tls(), plaintext_anywhere=settings.clearbook_plaintext_bind)
    listening = listen(host_port(settings.http_address))
    forward, publisher = (host_port(text).from_here for text in (settings.forward_address, settings.publisher_address))
    state = State(str(forward), str(publisher), closing, tls, believed, Limits(settings))
    config = uvicorn.Config(
        build(state, _listed(settings.cors_origins), open_mode=settings.clearbook_auth == "open"),
        http="httptools",
        ws=DirectProtocol,
        ws_per_message_deflate=False,
        ws_max_size=WS_MESSAGE_BYTES_MAX,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=_listed(settings.trusted_proxies),
        timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
        ssl_certfile=settings.public_tls_certificate,
        ssl_keyfile=settings.public_tls_key,
    )
    server = _Server(config)
    forwarding = Closing()  # open requests are still answered while the server drains
    closing.spawn(state.forward.run(forwarding), "forward")
    serving = closing.spawn(server.serve(sockets=[listening]), "uvicorn")
    log.get("http").info("listening", address=settings.http_address)
    await closing.wait()
    server.should_exit = True
    await serving
    forwarding.set()
    await state.close()


def run_service() -> None:
    """Reads the environment and runs."""
    settings = Settings.load()
    log.configure("http", settings.log_level)
    run(lambda closing: serve(settings, closing))


if __name__ == "__main__":
    run_service()
