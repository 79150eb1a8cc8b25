"""The whole exchange as tests run it: real processes on free ports, each of which can be killed, frozen and started.

`Suite.embedded(folder)` needs nothing else; `Suite.production(folder, backends)` is on RabbitMQ, PostgreSQL and Anvil.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import grpc
from clearbook.v1 import settlement_service_pb2_grpc
from eth_account import Account

from services.cli import clients
from services.cli.clients import ADMIN, user
from services.cli.health import http_ready, serving
from services.cli.supervisor import Process
from services.cli.up import Plan, plan_from
from services.runtime import rpc
from services.runtime.roles import Role
from tests import processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.backends import Backends

__all__ = ["ADMIN", "Clients", "Suite", "free_ports", "fresh", "fresh_symbol", "suite_ports", "until", "user"]

READY_SECONDS_MAX = 180.0
"""A cold start on a busy machine."""
STOP_SECONDS_MAX = 30.0
POLL_SECONDS = 0.05
LISTENING_PORTS = range(16_384, 32_760)
"""Linux gives outgoing connections those from 32,768."""
WORKERS_MAX = 8
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Which of several that share the tests this is: each takes ports of its own share."""
PORT_NAMES = ("http", "gateway", "publisher", "book", "settler", "forward", "devchain")
METRICS_PORTS = 4


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different, and none that an outgoing connection is given: who starts again
    finds its port as it left it.
    """
    found: list[int] = []
    share = len(LISTENING_PORTS) // WORKERS_MAX
    with ExitStack() as stack:
        while len(found) < count:
            port = LISTENING_PORTS[WORKER % WORKERS_MAX * share + secrets.randbelow(share)]
            try:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found


def suite_ports() -> dict[str, int]:
    """Free ports for all processes of an exchange, by name; `metrics` is the first of four in a row, all others."""
    while True:
        first, *others = free_ports(1 + len(PORT_NAMES))
        metrics = range(first, first + METRICS_PORTS)
        if set(metrics) & set(others):
            continue
        try:
            with ExitStack() as stack:
                for port in metrics:
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            continue
        return dict(zip(PORT_NAMES, others, strict=True)) | {"metrics": first}


class Suite:
    """Processes by name: devchain (embedded only), book, publisher, gateway, settler, http."""

    def __init__(self, folder: Path, env: dict[str, str], *, own_chain: bool, certificates: Path | None = None) -> None:
        """Nothing runs yet. `env` comes on top of what `clearbook up` tells its processes."""
        ports = suite_ports()
        self.folder = folder
        self.env = env
        self.code: dict[str, Path] = {}
        """By process, a copy of the repository to run instead of this one: for planted faults."""
        plan = plan_from("127.0.0.1", folder / "data", ports, certificates)
        self.plan = Plan(**{**vars(plan), "own_chain": own_chain})
        self.tls, self.public_tls = plan.tls(), plan.public_tls()
        self._specs: dict[str, Process] = {process.name: process for process in self.plan.processes()}
        self._running: dict[str, processes.Child] = {}
        self._logs: dict[str, IO[bytes]] = {}

    @classmethod
    def embedded(cls, folder: Path, *, certificates: Path | None = None, **env: str) -> Self:
        """SQLite, no broker, a devchain of its own; with certificates, TLS everywhere."""
        blank = dict.fromkeys(("DATABASE_URL", "RABBITMQ_URI", "SETTLEMENT_CONTRACT_ADDRESS"), "")
        return cls(folder, blank | env, own_chain=True, certificates=certificates)

    @classmethod
    async def production(
        cls, folder: Path, backends: Backends, *, certificates: Path | None = None, **env: str
    ) -> Self:
        """RabbitMQ, PostgreSQL and Anvil: a vhost, a database and a signing key of its own."""
        account = Account.create()
        await backends.fund(account.address)
        own = {
            "RABBITMQ_URI": await backends.new_vhost(),
            "DATABASE_URL": await backends.new_database(),
            "ETH_TESTNET_URL": backends.eth_url,
            "SETTLEMENT_PRIVATE_KEY": "0x" + bytes(account.key).hex(),
            "SETTLEMENT_CONTRACT_ADDRESS": "",
            "CLEARBOOK_FAUCET": "1",
        }
        return cls(folder, own | env, own_chain=False, certificates=certificates)

    @property
    def names(self) -> list[str]:
        """All processes, in the order of starting."""
        return list(self._specs)

    @property
    def gateway(self) -> str:
        """Address of order_gateway."""
        return str(self.plan.gateway)

    @property
    def publisher(self) -> str:
        """Address of the publisher."""
        return str(self.plan.publisher)

    @property
    def http(self) -> str:
        """Base URL of the shim."""
        return f"{self.plan.scheme}://{self.plan.http}"

    @property
    def eth_url(self) -> str:
        """The chain's JSON-RPC."""
        return f"http://127.0.0.1:{self.plan.devchain_port}" if self.plan.own_chain else self.env["ETH_TESTNET_URL"]

    def start(self, name: str, *, as_name: str = "", **env: str) -> None:
        """Starts one process. Its output goes to NAME.log. `as_name`: one more of its kind, under a name of its own."""
        spec, name = self._specs[name], as_name or name
        if name not in self._logs:
            self._logs[name] = (self.folder / f"{name}.log").open("ab")
        code = self.code.get(name)
        paths = {"PYTHONPATH": os.pathsep.join(str(code / part) for part in ("", "gen"))} if code else {}
        env = os.environ | spec.env | self.env | paths | env
        self._running[name] = processes.start(spec.argv, env, self._logs[name], code)

    def pid(self, name: str) -> int:
        """Process id."""
        return self._running[name].pid

    def returncode(self, name: str) -> int | None:
        """Exit code, or None while it runs."""
        return self._running[name].poll()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Sends a signal."""
        self._running[name].send_signal(number)

    async def kill(self, name: str) -> None:
        """SIGKILL, and waits for the end."""
        self.signal(name, signal.SIGKILL)
        await asyncio.to_thread(self._running[name].wait)

    async def stop(self, name: str) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(name, signal.SIGTERM)
        return await asyncio.to_thread(self._running[name].wait, STOP_SECONDS_MAX)

    async def start_all(self) -> None:
        """Starts everything and waits until it serves."""
        for name in self.names:
            self.start(name)
        for name in self.names:
            await self.ready(name)

    async def stop_all(self) -> None:
        """Stops what runs, from the last to the first; kills what does not stop."""
        for name in [*(self._running.keys() - set(self.names)), *reversed(self.names)]:
            child = self._running.get(name)
            if child is None or child.poll() is not None:
                continue
            child.send_signal(signal.SIGCONT)
            child.terminate()
            try:
                await asyncio.to_thread(child.wait, STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                child.kill()
                await asyncio.to_thread(child.wait)
        for log in self._logs.values():
            log.close()
        self._logs.clear()

    async def ready(self, name: str, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Waits until a process serves; raises with the end of its log if it ended or took too long."""
        try:
            async with asyncio.timeout(seconds_max):
                while not await self._serves(name):
                    if self.returncode(name) is not None:
                        raise AssertionError(f"{name} ended with {self.returncode(name)}:\n{self.log_tail(name)}")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{name} does not serve:\n{self.log_tail(name)}") from None

    def log_tail(self, name: str, bytes_max: int = 4000) -> str:
        """The end of a process's log."""
        return (self.folder / f"{name}.log").read_bytes()[-bytes_max:].decode(errors="replace")

    async def _serves(self, name: str) -> bool:
        if name == "http":
            return await http_ready(f"{self.http}/readyz", self.public_tls)
        if name == "devchain":
            return _listens(self.plan.devchain_port)
        if public := {"gateway": self.gateway, "publisher": self.publisher}.get(name):
            return await serving(public, tls=self.public_tls)
        port = {"book": self.plan.book_port, "settler": self.plan.settler_port}[name]
        return await serving(f"127.0.0.1:{port}", tls=self.tls, role=Role(name))

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[Clients]:
        """Stubs of all public services."""
        tls = self.public_tls
        async with rpc.connect(self.gateway, tls) as orders, rpc.connect(self.publisher, tls) as data:
            yield Clients(orders, data)


class Clients(clients.Clients):
    """One stub for each public service: the command line's, and those that it has no need of."""

    def __init__(self, gateway: grpc.aio.Channel, publisher: grpc.aio.Channel) -> None:
        """The two channels stay the caller's."""
        super().__init__(gateway, publisher)
        self.settlements = settlement_service_pb2_grpc.SettlementServiceStub(gateway)


def fresh(prefix: str) -> str:
    """A name that nobody has used."""
    return f"{prefix}-{secrets.token_hex(6)}"


def fresh_symbol() -> str:
    """An asset's symbol that nobody has used."""
    return f"T{secrets.token_hex(5).upper()}"


async def until(holds: Callable[[], Awaitable[bool]], seconds_max: float, what: str = "") -> None:
    """Asks again and again until it holds; raises TimeoutError."""
    try:
        async with asyncio.timeout(seconds_max):
            while not await holds():
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise TimeoutError(f"not within {seconds_max:g} s: {what or holds}") from None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
