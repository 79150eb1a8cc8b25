"""`clearbook up`, as a newcomer runs it: start, paste what it says, kill something, Ctrl-C, start again."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from services.cli.chain_note import noted
from tests.suite import READY_SECONDS_MAX, free_ports, suite_ports, until
from tests.transcript import curl

STOP_SECONDS_MAX = 60
ACCEPTED = re.compile(r'{"message":"Order submitted successfully","order_id":"(alice|bob)-[0-9a-f]{6}"}')


EMBEDDED = os.environ | {"DATABASE_URL": "", "RABBITMQ_URI": "", "ETH_TESTNET_URL": ""}
"""Ours, without servers that somebody may have started."""


class Up:
    """A `clearbook up` with ports and data of its own."""

    def __init__(self, folder: Path) -> None:
        self.ports = suite_ports()
        self.folder = folder
        self.child: subprocess.Popen[bytes]

    def argv(self) -> list[str]:
        options = [f"--{name}-port={port}" for name, port in self.ports.items()]
        return [sys.executable, "-m", "services.cli.main", "up", "--data", str(self.folder / "data"), *options]

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yields what it says when it is up; afterwards Ctrl-C must end it well, and its children with it."""
        log = self.folder / "up.log"
        with log.open("wb") as out:
            self.child = subprocess.Popen(self.argv(), env=EMBEDDED, stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + READY_SECONDS_MAX
            while "Clearbook is up" not in (said := log.read_text()):
                assert self.child.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.1)
            yield said
            children = list(self.children().values())
            self.child.send_signal(signal.SIGINT)
            assert self.child.wait(STOP_SECONDS_MAX) == 0, log.read_text()
            assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
        finally:
            self.child.kill()
            self.child.wait()

    def children(self) -> dict[str, int]:
        """Process ids by name."""
        found = {}
        for task in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(task.read_text().rpartition(")")[2].split()[1])
                argv = task.with_name("cmdline").read_text().split("\0")
            except OSError:
                continue  # it has gone meanwhile
            # A child that has not called exec yet still bears our own command line, one that has ended none.
            if parent == self.child.pid and len(argv) > 3 and argv[3] != "up":
                found[argv[3]] = int(task.parent.name)
        return found

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.ports['http']}", timeout=30) as client:
            return await client.get(path)


def pasted(said: str) -> list[list[str]]:
    """The commands that it shows."""
    shown = re.findall(r"^  (curl (?:.*\\\n)*.*)$", said, re.MULTILINE)
    return [shlex.split(command.replace("\\\n", "")) for command in shown]


async def test_the_first_minute(tmp_path: Path) -> None:
    up = Up(tmp_path)
    with up.running() as said:
        sell, look, buy = pasted(said)
        assert ACCEPTED.fullmatch(await curl(sell))
        assert await curl(look) == '{"bids":[],"asks":[{"price":30000.00,"amount":0.001}]}'
        assert noted(tmp_path / "data") == f"http://127.0.0.1:{up.ports['devchain']}"
        before = up.children()
        assert set(before) == {"devchain", "book", "publisher", "gateway", "settler", "http"}
        os.kill(before["book"], signal.SIGKILL)

        async def again() -> bool:
            return "book" in up.children() and up.children()["book"] != before["book"]

        await until(again, 30, "the book is started again")

        async def bought() -> bool:  # not taken while the book is away: the same order may be sent again
            return ACCEPTED.fullmatch(await curl(buy)) is not None

        await until(bought, 60, "the order is taken")
        assert {name for name, pid in up.children().items() if pid != before[name]} == {"book"}

    with up.running() as said:
        assert pasted(said)[0] != sell, "each start shows an order of its own"
        assert ACCEPTED.fullmatch(await curl(sell)), "the same order again, after a restart, is the same order"
        book = await up.get("/api/v1/orderbook/BTC-USD")
        assert book.text == '{"bids":[],"asks":[]}', "and not one more"

        done = subprocess.run(Up(tmp_path).argv(), capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert f"another `clearbook up` keeps its data in {tmp_path / 'data'}" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["http", "book", "devchain"])
def test_a_taken_port_is_one_clear_line(tmp_path: Path, name: str) -> None:
    up = Up(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", up.ports[name]))
        taken.listen()
        done = subprocess.run(up.argv(), env=EMBEDDED, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"{name}: cannot listen on 127.0.0.1:{up.ports[name]}: Address already in use" in done.stderr
    assert f"(--{name}-port takes another)" in done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_data_that_cannot_be_kept_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    done = subprocess.run(Up(tmp_path).argv(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"cannot keep data in {tmp_path / 'data'}: " in done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_the_shim_alone_says_what_is_missing(tmp_path: Path) -> None:
    gone, port = free_ports(2)
    env = {"HTTP_ADDRESS": f"127.0.0.1:{port}"} | dict.fromkeys(
        ("FORWARD_ADDRESS", "PUBLISHER_ADDRESS"), f"127.0.0.1:{gone}"
    )
    argv = [sys.executable, "-m", "services.cli.main", "http"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(argv, env=os.environ | env, stderr=log) as child:
        try:
            asyncio.run(_missing(port))
        finally:
            child.terminate()
            assert child.wait(STOP_SECONDS_MAX) == 0, (tmp_path / "log").read_text()


async def _missing(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

        async def alive() -> bool:
            try:
                return (await client.get("/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(alive, READY_SECONDS_MAX)
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.text) == (503, "not serving: order_gateway, publisher\n")
        book = await client.get("/api/v1/orderbook/BTC-USD")
        assert (book.status_code, book.json()["code"], book.headers["retry-after"]) == (503, "UNAVAILABLE", "1")
        body = b'{"order_id":"1","user_id":"u","pair":"BTC-USD","order_type":"market","side":"buy","amount":1}'
        order = await client.post("/api/v1/order", content=body, headers={"content-type": "application/json"})
        assert (order.status_code, order.json()["code"]) == (503, "UNAVAILABLE"), "it never left: nothing was taken"
