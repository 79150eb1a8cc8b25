"""A book under test: in this process or in one of its own, and a gateway to speak to it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as pb
from clearbook.internal.v1 import matching_service_pb2_grpc

from services.book.__main__ import Book, BookSettings
from services.cli.health import serving
from services.runtime import rpc
from services.runtime.run import Closing
from tests import processes

START_SECONDS_MAX = 30.0
STEP_SECONDS_MAX = 20.0
if TYPE_CHECKING:
    Stub = matching_service_pb2_grpc.MatchingServiceAsyncStub


def settings(database_url: str, **more: Any) -> BookSettings:
    defaults = {"book_address": "127.0.0.1:0", "rabbitmq_uri": "", "metrics_port": 0}
    return BookSettings.load(**{**defaults, "database_url": database_url, **more})


@asynccontextmanager
async def running(given: BookSettings, **more: Any) -> AsyncIterator[Book]:
    """A book in this process, ended in order afterwards."""
    book, closing = Book(given, **more), Closing()
    work = asyncio.create_task(book.run(closing))
    leading = asyncio.create_task(book.leading.wait())
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            await asyncio.wait({work, leading}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        yield book
    finally:
        leading.cancel()
        closing.set()
        async with asyncio.timeout(STEP_SECONDS_MAX):
            await asyncio.wait([work])
    work.result()


@asynccontextmanager
async def stub_to(port: int) -> AsyncIterator[Stub]:
    async with rpc.connect(f"127.0.0.1:{port}") as channel:
        yield matching_service_pb2_grpc.MatchingServiceStub(channel)


class Gateway:
    """Numbers commands as a gateway does."""

    def __init__(self, stub: Stub, gateway: int = 1) -> None:
        self.stub, self.gateway = stub, gateway
        self.epoch = self.number = 0
        self.opened = pb.OpenSessionResponse()

    async def open(self) -> pb.OpenSessionResponse:
        self.opened = await self.stub.OpenSession(pb.OpenSessionRequest(gateway=self.gateway), timeout=STEP_SECONDS_MAX)
        self.epoch, self.number = self.opened.epoch, 0
        return self.opened

    def id_of(self, number: int) -> int:
        return self.gateway << 56 | self.epoch << 36 | number

    def command(self, **kind: Any) -> journal.Command:
        self.number += 1
        return journal.Command(command_id=self.id_of(self.number), **kind)

    def account(self, name: str) -> journal.Command:
        return self.command(open_account=journal.OpenAccount(name=name))

    def order(self, account: int, side: int, price: int, lots: int, market: int = 1) -> journal.Command:
        return self.command(
            place_order=journal.PlaceOrder(
                account_id=account,
                market_id=market,
                side=side,  # type: ignore[arg-type]
                type=journal.ORDER_TYPE_LIMIT,
                time_in_force=journal.TIME_IN_FORCE_GTC,
                price_ticks=price,
                quantity_lots=lots,
                client_order_id=f"c{self.number}",
            )
        )

    def orders(self, count: int) -> list[journal.Command]:
        """Two accounts that trade with each other now and then."""
        made = []
        for _ in range(count):
            n = self.number + 1
            made.append(
                self.order(1001 + n % 2, 1 + n % 2, 3_000_000 + (n * 7919) % 41 * (-1 if n % 2 else 1), 1 + n % 9)
            )
        return made

    async def submit(self, *commands: journal.Command) -> pb.SubmitResponse:
        """One stream, half-closed."""
        return await self.send([pb.SubmitRequest(commands=commands)])

    async def send(self, requests: Iterable[pb.SubmitRequest]) -> pb.SubmitResponse:
        return await self.stub.Submit(iter(requests), timeout=STEP_SECONDS_MAX)


async def events_of(stub: Stub, after: int, up_to: int, incarnation: str = "") -> list[journal.Event]:
    """The events after a cursor up to a sequence, checked to be contiguous."""
    found: list[journal.Event] = []
    call = stub.StreamEvents(
        pb.StreamEventsRequest(after_journal_sequence=after, incarnation=incarnation), timeout=STEP_SECONDS_MAX
    )
    async for message in call:
        found += events_in(message, after)
        after = message.last_journal_sequence
        if after >= up_to:
            break
    call.cancel()
    return found


def events_in(message: pb.StreamEventsResponse, after: int) -> list[journal.Event]:
    events = list(journal.EventBatch.FromString(message.events).events)
    assert message.first_journal_sequence == after + 1
    assert [event.journal_sequence for event in events] == list(range(after + 1, message.last_journal_sequence + 1))
    return events


async def fails(call: Any) -> tuple[str, str]:
    """The gRPC code and our reason with which an awaitable call ends."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        reason = rpc.rejected_from(error)
        return error.code().name, reason.name if reason else ""
    raise AssertionError("it did not fail")


async def eventually(holds: Callable[[], bool], seconds: float = STEP_SECONDS_MAX) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


class BookProcess:
    """A book in a process of its own, on a port of its own choice."""

    def __init__(self, folder: Path, name: str = "book", **env: str) -> None:
        self._log = folder / f"{name}.log"
        self._env = {"BOOK_ADDRESS": "127.0.0.1:0", "METRICS_PORT": "0", "RABBITMQ_URI": "", **env}
        self._child: processes.Child | None = None
        self.port = 0

    def start(self) -> None:
        self._from = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._child = processes.start([*processes.COMMAND, "book"], os.environ | self._env, log)

    @property
    def child(self) -> processes.Child:
        assert self._child is not None
        return self._child

    def log(self) -> str:
        """What this run has logged."""
        return self._log.read_bytes()[self._from :].decode()

    async def ready(self) -> int:
        """Waits until it serves; returns its port."""
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                while not (found := re.search(r'"address":"127\.0\.0\.1:(\d+)"', self.log())):
                    assert self.child.poll() is None, self.log()
                    await asyncio.sleep(0.02)
                self.port = int(found[1])
                while not await serving(f"127.0.0.1:{self.port}"):
                    assert self.child.poll() is None, self.log()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(self.log()) from None
        return self.port

    async def up(self) -> int:
        self.start()
        return await self.ready()

    async def kill(self) -> None:
        self.child.kill()
        await self.ended()

    async def ended(self, seconds: float = STEP_SECONDS_MAX) -> int:
        return await asyncio.to_thread(self.child.wait, seconds)

    async def stop(self) -> int:
        self.child.send_signal(signal.SIGTERM)
        return await self.ended()

    def clear(self) -> None:
        """Whatever state it is in: it is gone afterwards."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGCONT)
            self._child.kill()
            self._child.wait()
