"""The real servers that tests speak to: RabbitMQ, PostgreSQL and an EVM node.

A test takes the fixture `backends` (started once per session by scripts/services, reused when they already run), makes
a database and a vhost of its own there, and leaves the rest alone. A test that kills the broker takes `own_backends`.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

import aiormq
import asyncpg
import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ROOT / "scripts" / "services"
DIRECTORY = ROOT / ".services"

spoken_to: dict[str, str] = {}
"""What the fixture `backends` spoke to in this session: conftest.py prints it at the end."""


class ServicesError(RuntimeError):
    """scripts/services refused; its own words follow."""


def _services(action: str, directory: Path, *arguments: str) -> str:
    command = [sys.executable, str(SERVICES), action, "--dir", str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise ServicesError(done.stderr)
    return done.stdout


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes | bytearray) else str(value)


@dataclass(frozen=True, slots=True)
class Backends:
    """Where one running set of servers answers."""

    rabbitmq_uri: str
    database_url: str
    eth_url: str
    directory: Path

    @classmethod
    def start(cls, directory: Path = DIRECTORY) -> Backends:
        """Start the set that lives in this folder, or reuse it."""
        names = dict(re.findall(r"^export (\w+)=(\S+)$", _services("start", directory), re.MULTILINE))
        return cls(names["RABBITMQ_URI"], names["DATABASE_URL"], names["ETH_TESTNET_URL"], directory)

    def stop(self) -> None:
        """Stop every server of the set."""
        _services("stop", self.directory)

    def environment(self) -> dict[str, str]:
        """The variables under which the suite uses these servers."""
        return {
            "RABBITMQ_URI": self.rabbitmq_uri,
            "DATABASE_URL": self.database_url,
            "ETH_TESTNET_URL": self.eth_url,
        }

    async def versions(self) -> dict[str, str]:
        """Asked over each server's own protocol."""
        broker = await aiormq.connect(self.rabbitmq_uri)
        properties = broker.server_properties
        await broker.close()
        database = await asyncpg.connect(self.database_url)
        server: str = await database.fetchval("show server_version")
        await database.close()
        return {
            "broker": f"RabbitMQ {_text(properties['version'])}",
            "database": f"PostgreSQL {server}",
            "node": str(await self.rpc("web3_clientVersion")),
        }

    async def new_database(self, name: str | None = None) -> str:
        """The URL of an empty database made for the caller."""
        name = name or f"t{secrets.token_hex(6)}"
        connection = await asyncpg.connect(self.database_url)
        await connection.execute(f'create database "{name}"')
        await connection.close()
        return self.database_url.rpartition("/")[0] + f"/{name}"

    async def new_vhost(self, name: str | None = None) -> str:
        """The URI of an empty vhost made for the caller."""
        name = name or f"v{secrets.token_hex(6)}"
        return (await asyncio.to_thread(_services, "new-vhost", self.directory, "--name", name)).strip()

    async def broker_kill(self) -> None:
        """End the broker by SIGKILL."""
        await asyncio.to_thread(_services, "kill-broker", self.directory)

    async def broker_start(self) -> None:
        """Start the broker again, on the same port and data; returns when it answers."""
        await asyncio.to_thread(_services, "start-broker", self.directory)

    async def rpc(self, method: str, *params: object) -> object:
        """One JSON-RPC call to the node, e.g. `anvil_mine` or `anvil_reorg`."""
        return await asyncio.to_thread(self._rpc, method, params)

    async def fund(self, address: str, wei: int = 10**21) -> None:
        """Give an address ether for its fees, so that each test signs with a key of its own."""
        await self.rpc("anvil_setBalance", address, hex(wei))

    def _rpc(self, method: str, params: tuple[object, ...]) -> object:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        with urlopen(Request(self.eth_url, body, {"content-type": "application/json"}), timeout=30) as answer:
            reply = json.load(answer)
        if "error" in reply:
            raise ServicesError(f"{method}: {reply['error']['message']}")
        return reply["result"]


@pytest.fixture(scope="session")
def backends() -> Backends:
    """The session's servers. They stay up afterwards: the next run starts at once."""
    started = Backends.start()
    spoken_to.update(asyncio.run(started.versions()))
    return started


@pytest.fixture(scope="session")
def own_backends() -> Iterator[Backends]:
    """Another set, for tests that break it: they mend it before they end.

    Not in pytest's folder: every pytest that starts closes that to all other users, and postgres must be able to enter.
    """
    with TemporaryDirectory(prefix="clearbook-services-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        link = DIRECTORY / "node"
        if link.exists():  # the node's program need not be fetched again
            (folder / "node").symlink_to(link)
        started = Backends.start(folder)
        yield started
        started.stop()
