"""`clearbook up`: the whole exchange on this machine, on embedded defaults, under one supervisor."""

import asyncio
import fcntl
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from services.cli import certs
from services.cli.chain_note import note
from services.cli.health import http_ready, serving
from services.cli.supervisor import Process, Supervisor
from services.cli.welcome import SECRETS, welcome
from services.runtime.config import (
    DataSettings,
    HostPort,
    Tls,
    TlsSettings,
    host_port,
)
from services.runtime.roles import Role
from services.runtime.run import Closing, StartError

READY_POLL_SECONDS: Final = 0.2
READY_SECONDS_MAX: Final = 120.0
LOOPBACK: Final = "127.0.0.1"
MEASURED: Final = ("book", "publisher", "gateway", "settler")
"""Who has a metrics port of its own, in the order of these ports."""


class UpSettings(DataSettings):
    """What decides which processes run, and where they keep their data; from `.env` too, as every process reads it."""

    eth_testnet_url: str = Field(default="", repr=False)
    clearbook_faucet: str = "1"
    """On a chain of our own."""
    clearbook_auth: Literal["open", "required"] = "open"
    clearbook_admin_token: str = Field(default="", repr=False)
    clearbook_secrets_key: str = Field(default="", repr=False)


@dataclass(frozen=True)
class Plan:
    """Where everything listens and keeps its data."""

    data: Path
    http: HostPort
    gateway: HostPort
    publisher: HostPort
    book_port: int
    settler_port: int
    forward_port: int
    devchain_port: int
    metrics_port: int
    """The book's; publisher, gateway and settler take the next three."""
    own_chain: bool
    """No chain is configured: run our own."""
    faucet: str = "1"
    """CLEARBOOK_FAUCET on a chain of our own."""
    certificates: Path | None = None
    """What `clearbook certs` made; without it plain text."""
    open_mode: bool = True
    """Callers just name a user."""
    missing: tuple[str, ...] = ()
    """Secrets of required mode that are not set, as in the environment."""

    def tls(self) -> Tls | None:
        """With what the supervisor asks the internal ports for health: any role may."""
        if self.certificates is None:
            return None
        mine = certs.environment(self.certificates, Role.GATEWAY)
        return TlsSettings.load(**{name.lower(): value for name, value in mine.items()}).tls()

    def public_tls(self) -> Tls | None:
        """Whom to believe at the public ports."""
        tls = self.tls()
        return tls._replace(certificate=None, key=None) if tls is not None else None

    @property
    def scheme(self) -> str:
        """Of the shim's URLs."""
        return "http" if self.certificates is None else "https"

    def listeners(self) -> dict[str, HostPort]:
        """Everything that will listen, by name."""
        internal = {"book": self.book_port, "settler": self.settler_port, "forward": self.forward_port}
        if self.own_chain:
            internal["devchain"] = self.devchain_port
        internal |= {f"{name} metrics": self.metrics_port + place for place, name in enumerate(MEASURED)}
        public = {"http": self.http, "gateway": self.gateway, "publisher": self.publisher}
        return public | {name: HostPort(LOOPBACK, port) for name, port in internal.items()}

    def env(self) -> dict[str, str]:
        """What every process is told. What the caller has set stays."""
        env = {
            "CLEARBOOK_DATA": str(self.data),
            "BOOK_ADDRESS": f"{LOOPBACK}:{self.book_port}",
            "SETTLER_ADDRESS": f"{LOOPBACK}:{self.settler_port}",
            "FORWARD_ADDRESS": f"{LOOPBACK}:{self.forward_port}",
            "GATEWAY_ADDRESS": str(self.gateway),
            "PUBLISHER_ADDRESS": str(self.publisher),
            "HTTP_ADDRESS": str(self.http),
        }
        if self.own_chain:
            env["ETH_TESTNET_URL"] = f"http://{LOOPBACK}:{self.devchain_port}"
            env["CLEARBOOK_FAUCET"] = self.faucet
        return env

    def processes(self) -> list[Process]:
        """All processes, in the order of starting."""
        env = self.env()
        names = ["book", "publisher", "gateway", "settler", "http"]
        made = [Process(name, _argv(name), env | self._metrics(name) | self._certificates(name)) for name in names]
        if self.own_chain:
            argv = [*_argv("devchain"), "--port", str(self.devchain_port), "--data", str(self.data / "devchain")]
            made.insert(0, Process("devchain", argv, env))
        return made

    def _certificates(self, name: str) -> dict[str, str]:
        return {} if self.certificates is None else certs.environment(self.certificates, Role(name))

    def _metrics(self, name: str) -> dict[str, str]:
        return {"METRICS_PORT": str(self.metrics_port + MEASURED.index(name))} if name in MEASURED else {}


def _argv(name: str) -> list[str]:
    return [sys.executable, "-m", "services.cli.main", name]


async def up(plan: Plan, closing: Closing) -> None:
    """Runs the suite until `closing`. Raises StartError if a port is taken or a process cannot start."""
    for name, address in plan.listeners().items():
        _check_free(name, address)
    processes = plan.processes()
    with _owned(plan.data):
        note(plan.data, plan.env().get("ETH_TESTNET_URL", ""))
        async with asyncio.TaskGroup() as group:
            announced = group.create_task(_announce(plan, processes, closing))
            try:
                await Supervisor(processes).run(closing)
            finally:
                announced.cancel()


@contextmanager
def _owned(data: Path) -> Iterator[None]:
    """Makes the folder ours: two books on one journal would fence each other off for ever. Raises StartError."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        opened = (data / "lock").open("w")
    except OSError as error:
        raise StartError(f"cannot keep data in {data}: {error.strerror}: choose another --data") from None
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"another `clearbook up` keeps its data in {data}: choose another --data") from None
        yield


def _check_free(name: str, address: HostPort) -> None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            option = f"--{name.rpartition(' ')[2]}-port"
            why = os.strerror(error.errno or 0)
            raise StartError(f"{name}: cannot listen on {address}: {why} ({option} takes another)") from None


async def _announce(plan: Plan, processes: list[Process], closing: Closing) -> None:
    """Says when everything answers, and what to do then."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    by_name = {process.name: process for process in processes}
    tls, public = plan.tls(), plan.public_tls()
    checks: dict[str, Callable[[], Awaitable[bool]]] = {
        "book": lambda: serving(f"{LOOPBACK}:{plan.book_port}", tls=tls, role=Role.BOOK),
        "publisher": lambda: serving(str(plan.publisher.from_here), tls=public),
        "settler": lambda: serving(f"{LOOPBACK}:{plan.settler_port}", tls=tls, role=Role.SETTLER),
        "gateway": lambda: serving(str(plan.gateway.from_here), tls=public),
        "http": lambda: http_ready(f"{plan.scheme}://{plan.http.from_here}/readyz", public),
    }
    for name, check in checks.items():
        while not await check():
            if await closing.sleep(READY_POLL_SECONDS):
                return
            if loop.time() - started > READY_SECONDS_MAX:
                raise StartError(f"{name} did not become ready within {READY_SECONDS_MAX:.0f} s: see its lines above")
        by_name[name].ready = True
    for process in processes:
        process.ready = True
    sys.stdout.write(welcome(plan, loop.time() - started))
    sys.stdout.flush()


def plan_from(host: str, data: Path | None, ports: dict[str, int], certificates: Path | None = None) -> Plan:
    """A plan.

    Args:
        host: where the public ports listen; the internal ones stay on loopback.
        data: where everything is kept; or as configured.
        ports: by name.
        certificates: what `clearbook certs` made; without it plain text.

    Raises:
        StartError: the certificates cannot be read.
    """
    settings = UpSettings.load()
    plan = Plan(
        data=(data or settings.clearbook_data).resolve(),
        http=host_port(f"{host}:{ports['http']}"),
        gateway=host_port(f"{host}:{ports['gateway']}"),
        publisher=host_port(f"{host}:{ports['publisher']}"),
        book_port=ports["book"],
        settler_port=ports["settler"],
        forward_port=ports["forward"],
        devchain_port=ports["devchain"],
        metrics_port=ports["metrics"],
        own_chain=not settings.eth_testnet_url,
        faucet=settings.clearbook_faucet,
        certificates=certificates.resolve() if certificates is not None else None,
        open_mode=settings.clearbook_auth == "open",
        missing=tuple(name for name in SECRETS if not getattr(settings, name.lower())),
    )
    plan.tls()
    return plan
