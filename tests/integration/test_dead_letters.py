"""`clearbook dlq` on a real broker: what is set aside is listed, shown, and put back once."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.runtime.amqp import Consumer, Publisher, settlement_topology
from tests.backends import Backends
from tests.settlers import FakeBook

SECONDS_MAX = 30


def dlq(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["dlq", *args])
    return done.exit_code, done.stdout, done.stderr


async def set_aside(uri: str, bodies: list[bytes]) -> None:
    """As the settler does with what it cannot read."""
    topology = settlement_topology(0)
    async with asyncio.timeout(SECONDS_MAX), Publisher(uri, topology) as publisher, Consumer(uri, topology) as consumer:
        for place, body in enumerate(bodies, start=1):
            await publisher.publish(body, f"m-{place}")
            await (await anext(consumer)).reject()


async def delivered(uri: str, count: int) -> list[tuple[str, bytes]]:
    async with asyncio.timeout(SECONDS_MAX), Consumer(uri, settlement_topology(0)) as consumer:
        found = [await anext(consumer) for _ in range(count)]
        for each in found:
            await each.ack()
    return [(each.message_id, each.body) for each in found]


def until_listed(count: int) -> list[list[str]]:
    """The broker moves a rejected message by itself, a moment later."""

    async def listed() -> list[list[str]]:
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                status, printed, said = await asyncio.to_thread(dlq, "list")
                assert status == 0, said
                rows = [line.split("\t") for line in printed.splitlines()]
                if len(rows) == count:
                    return rows
                await asyncio.sleep(0.1)

    return asyncio.run(listed())


@pytest.mark.backends
def test_what_was_set_aside_is_listed_shown_and_put_back_once(
    backends: Backends, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = asyncio.run(backends.new_vhost())
    monkeypatch.setenv("RABBITMQ_URI", uri)
    book = FakeBook()
    book.asset("BTC")
    book.asset("USD")
    good, poison = book.message(1, 2).SerializeToString(), b"\xff poison"
    asyncio.run(set_aside(uri, [poison, good]))
    rows = until_listed(2)
    assert [row[1:3] for row in rows] == [["m-1", "rejected"], ["m-2", "rejected"]]
    assert rows[0][5].startswith("cannot be read: not a settlement message")
    assert rows[1][5] == f"shard 0, journal {book.incarnation}, entries 1 to 2"
    assert dlq("show", "m-2") == (0, f"# {rows[1][5]}\n{good.hex()}\n", "")
    assert dlq("show", "m-3") == (1, "", "clearbook: no dead letter m-3\n")
    assert len(until_listed(2)) == 2, "looking takes nothing away"
    assert dlq("requeue", "m-3")[:2] == (1, "0 put back\n")
    assert dlq("requeue", "m-2")[:2] == (0, "1 put back\n")
    assert asyncio.run(delivered(uri, 1)) == [("m-2", good)]
    assert [row[1] for row in until_listed(1)] == ["m-1"]
    assert dlq("requeue")[:2] == (0, "1 put back\n")
    assert asyncio.run(delivered(uri, 1)) == [("m-1", poison)]
    assert until_listed(0) == []


def test_without_a_broker_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RABBITMQ_URI", raising=False)
    assert dlq("list") == (2, "", "clearbook: RABBITMQ_URI is not set: without a broker nothing is set aside\n")
    monkeypatch.setenv("RABBITMQ_URI", "amqp://guest:guest@127.0.0.1:1/")
    status, printed, said = dlq("requeue")
    assert (status, printed, said.splitlines()[-1].startswith("clearbook: the broker: ")) == (2, "", True)
