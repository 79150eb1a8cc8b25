"""`clearbook demo`, as its user runs it."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys

from clearbook.v1 import order_service_pb2 as orders

from services.cli.demo import MAKER
from tests.suite import Suite, user

LINE = re.compile(
    r" +\d+ s   BTC-USD [0-9.]+ / [0-9.]+   ETH-USD [0-9.]+ / [0-9.]+   ETH-BTC [0-9.]+ / [0-9.]+"
    r"   (\d+) orders   (\d+) trades   (\d+) refused(?: \((?:\d+ [A-Z_]+(?:, )?)+\))?\n"
)


def command(suite: Suite, *arguments: str) -> list[str]:
    addresses = ["--gateway", suite.gateway, "--publisher", suite.publisher]
    return [sys.executable, "-m", "services.cli.main", "demo", *addresses, *arguments]


async def quotes(suite: Suite) -> int:
    async with suite.clients() as clients:
        mine = orders.ListOrdersRequest(open_only=True, page_size=500)
        return len((await clients.orders.ListOrders(mine, metadata=user(MAKER), timeout=30)).orders)


async def test_it_trades_and_cleans_up(embedded: Suite) -> None:
    argv = command(embedded, "--seconds", "8")
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    lines = done.stdout.splitlines(keepends=True)
    assert lines[-1] == "canceling the quotes\n"
    counts = [tuple(map(int, match.groups())) for line in lines[:-1] if (match := LINE.fullmatch(line))]
    assert len(counts) >= 2, done.stdout
    placed, traded, refused = counts[-1]
    assert placed >= 3 * 16
    assert traded > 0
    assert refused < placed // 4
    assert await quotes(embedded) == 0
    shown = [line.strip() for line in lines if line.startswith("         ")]
    assert shown[:4] == ["stop: WAITING", "take-profit-limit: WAITING", "trailing stop: WAITING", "iceberg: OPEN"]


async def test_ctrl_c_cleans_up(embedded: Suite) -> None:
    argv = command(embedded)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        await asyncio.to_thread(child.stdout.readline)
        assert await quotes(embedded) > 0
        child.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(child.wait, 60) == 0, child.stderr.read()
        assert child.stdout.read().endswith("canceling the quotes\n")
    assert await quotes(embedded) == 0


def test_without_an_exchange_it_is_one_clear_line() -> None:
    argv = [sys.executable, "-m", "services.cli.main", "demo", "--gateway", "127.0.0.1:1", "--publisher", "127.0.0.1:1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is the exchange up?" in done.stderr
