"""kill -9 of the gateway and of the book in the middle of orders, seen by an outside witness.

Workers send orders, each again and again under its client_order_id until it is answered, and write the answers down.
Afterwards every answer is still true, nothing exists twice, and the database is what folding the whole journal gives.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.internal.v1 import matching_service_pb2
from clearbook.v1 import order_service_pb2 as pb

from services.order_gateway import wire
from services.order_gateway.check import violations
from services.order_gateway.ledger import ENDED_ORDERS_MAX, Ledger, Snapshot
from services.order_gateway.store import Store
from services.runtime.config import GATEWAY_NUMBER_MAX
from services.runtime.db import Database
from tests import books, gateways
from tests.backends import Backends
from tests.suite import free_ports

WORKERS = 8
ANSWERS_BETWEEN_KILLS = 40
READER = GATEWAY_NUMBER_MAX + 1
"""Reads the journal in a seat that is not the order gateways': theirs would end the gateway that is looked at."""


class Witness:
    """Sends orders and remembers what it was told."""

    def __init__(self, port: int, seed: int) -> None:
        self.port, self.chance = port, random.Random(seed)
        self.answers: dict[tuple[str, str], pb.PlaceOrderResponse] = {}
        self.canceled: set[tuple[str, str]] = set()
        self.retries = 0
        self.ending = asyncio.Event()

    async def run(self) -> None:
        async with gateways.clients(self.port) as user, asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                name = f"user-{number % 4}"
                group.create_task(self._work(user(name), name, number))

    async def more(self, count: int) -> None:
        """Waits for so many new answers."""
        enough = len(self.answers) + count
        await books.eventually(lambda: len(self.answers) >= enough, seconds=60)

    async def _work(self, client: gateways.Client, name: str, worker: int) -> None:
        number = 0
        while not self.ending.is_set():
            number += 1
            key = (name, f"w{worker}-{number}")
            request = self._request(key[1])
            self.answers[key] = await self._insist(lambda r=request: client.place(r, timeout=5))
            if self.answers[key].order.state == pb.ORDER_STATE_OPEN and self.chance.random() < 0.3:
                await self._cancel(client, key)

    def _request(self, client_order_id: str) -> Any:
        pick = self.chance.choice
        side, lots = pick(("BUY", "SELL")), self.chance.randint(1, 9)
        price = f"{30000 + self.chance.randint(-5, 5)}.00"
        return gateways.limit(side, price, f"0.0000{lots}", client_order_id, time_in_force=pick((1, 1, 1, 2)))

    async def _cancel(self, client: gateways.Client, key: tuple[str, str]) -> None:
        try:
            await self._insist(lambda: client.cancel(client_order_id=key[1]))
            self.canceled.add(key)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:  # filled, or canceled by a lost answer
                raise

    async def _insist(self, call: Any) -> Any:
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                    raise
                self.retries += 1
                await asyncio.sleep(0.05)


class Processes:
    """A book and a gateway, each in a process of its own, on ports that stay."""

    def __init__(self, folder: Path, book_url: str, gateway_url: str) -> None:
        book_port, gateway_port, forward_port = free_ports(3)
        self.gateway_url = gateway_url
        self.book = books.BookProcess(folder, BOOK_ADDRESS=f"127.0.0.1:{book_port}", DATABASE_URL=book_url)
        self.gateway = gateways.GatewayProcess(
            folder,
            GATEWAY_ADDRESS=f"127.0.0.1:{gateway_port}",
            FORWARD_ADDRESS=f"127.0.0.1:{forward_port}",
            BOOK_ADDRESS=f"127.0.0.1:{book_port}",
            DATABASE_URL=gateway_url,
        )

    async def up(self) -> None:
        port = await self.book.up()
        await gateways.Depositor(port).fund(**gateways.DEPOSITS)
        await self.gateway.up()

    def clear(self) -> None:
        self.gateway.clear()
        self.book.clear()


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Processes]:
    processes = Processes(tmp_path, f"sqlite:///{tmp_path}/book.sqlite", f"sqlite:///{tmp_path}/gateway.sqlite")
    yield processes
    processes.clear()


@pytest.fixture
async def on_postgres(tmp_path: Path, backends: Backends) -> AsyncIterator[Processes]:
    url = await backends.new_database()
    processes = Processes(tmp_path, url, url)
    yield processes
    processes.clear()


async def test_kills_embedded(embedded: Processes) -> None:
    await _kill_and_check(embedded, "gateway", "book", "gateway", "book")


async def test_kills_on_postgres(on_postgres: Processes) -> None:
    await _kill_and_check(on_postgres, "gateway", "book")


async def _kill_and_check(processes: Processes, *victims: str) -> None:
    await processes.up()
    witness = Witness(processes.gateway.port, seed=len(victims))
    working = asyncio.create_task(witness.run())
    for victim in victims:
        await witness.more(ANSWERS_BETWEEN_KILLS)
        process = getattr(processes, victim)
        await process.kill()
        await process.up()
    await witness.more(ANSWERS_BETWEEN_KILLS)
    witness.ending.set()
    await working
    assert witness.retries > 0, "no kill was felt"
    await _check_answers(processes.gateway.port, witness)
    folded = await _fold_everything(processes.book.port)
    await _check_database(processes, folded)
    assert processes.gateway.bugs() == []


async def _check_answers(port: int, witness: Witness) -> None:
    """What was said is still so, and each id made one order."""
    async with gateways.clients(port) as user:
        for name in {name for name, _ in witness.answers}:
            mine = {key[1]: answer for key, answer in witness.answers.items() if key[0] == name}
            found: dict[str, str] = {}
            token = ""
            while True:
                page = await user(name).list(page_size=500, page_token=token)
                for order in page.orders:
                    assert order.client_order_id not in found, "two orders under one id"
                    found[order.client_order_id] = order.order_id
                    if (name, order.client_order_id) in witness.canceled:
                        assert order.state == pb.ORDER_STATE_CANCELED
                token = page.next_page_token
                if not token:
                    break
            assert found == {key: answer.order.order_id for key, answer in mine.items()}
            for key in random.Random(0).sample(sorted(mine), 10):
                now = (await user(name).get(client_order_id=key)).order
                assert now.quantity == mine[key].order.quantity
                assert float(now.filled_quantity) >= float(mine[key].order.filled_quantity)


async def _fold_everything(book_port: int) -> Ledger:
    """The whole journal, folded anew."""
    ledger = Ledger()
    async with books.stub_to(book_port) as stub:
        opened = await books.Gateway(stub, READER).open()
        call = stub.StreamEvents(matching_service_pb2.StreamEventsRequest(), timeout=60)
        async for message in call:
            row = wire.event_row(message)
            for event in row.events:
                ledger.apply(event, row.time_ns)
            if ledger.sequence >= opened.journal_sequence:
                break
        call.cancel()
    assert violations(ledger) == []
    return ledger


async def _check_database(processes: Processes, folded: Ledger) -> None:
    """After an orderly end the database holds exactly what the journal says."""
    processes.gateway.child.terminate()
    assert await asyncio.to_thread(processes.gateway.child.wait, 20) == 0
    async with await Database.open(processes.gateway_url, "gateway") as database:
        store = Store(database)
        stored: Snapshot = await store.load(ENDED_ORDERS_MAX)
        postings = await database.fetch("SELECT account_id, asset_id, amount FROM postings")
    expected = {
        (account_id, asset_id): (balance.total, balance.held)
        for account_id, mine in folded.balances.items()
        for asset_id, balance in mine.items()
    }
    assert {row[:2]: row[2:] for row in stored.balances} == expected
    assert {order.order_id: order for order in stored.orders} == folded.orders
    sums: dict[tuple[int, int], int] = {}
    for account_id, asset_id, amount in postings:
        sums[account_id, asset_id] = sums.get((account_id, asset_id), 0) + int(amount)
    assert sums == {key: total for key, (total, _) in expected.items()}, "balances are the sum of their postings"
