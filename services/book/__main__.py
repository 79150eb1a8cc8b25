"""The book: `python -m services.book`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pydantic import Field

from services.book.journal import Journal, OtherEdition
from services.book.leader import take_lead
from services.book.loop import SNAPSHOT_EVENTS, Loop
from services.book.recovery import recover
from services.book.relay import Relay
from services.book.seed import seeds
from services.book.service import SERVICE, Lead, MatchingServicer
from services.book.sessions import Sessions
from services.book.tail import Tail
from services.runtime import log, metrics, rpc
from services.runtime.amqp import Publisher, settlement_topology
from services.runtime.config import (
    SHARD_MAX,
    Address,
    BrokerSettings,
    DatabaseSettings,
    LogSettings,
    MetricsSettings,
    TlsSettings,
)
from services.runtime.run import Closed, Closing, StartError, freeze_gc, run

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""An event is never split, however many trades it holds."""
DRAIN_SECONDS_MAX = 2.0
GRACE_SECONDS = 0.5
MARKETS = "markets.toml"

logger = log.get("book")


class BookSettings(LogSettings, DatabaseSettings, BrokerSettings, TlsSettings, MetricsSettings):
    """The book's settings, each an environment variable in capitals."""

    book_address: Address = "127.0.0.1:50061"
    metrics_port: int = 9101
    book_shard: int = Field(default=0, ge=0, le=SHARD_MAX)
    book_markets: Path | None = None
    """The first assets and markets; default: markets.toml here, else the one beside the source."""
    book_snapshot_events: int = Field(default=SNAPSHOT_EVENTS, ge=1)

    def markets_file(self) -> Path:
        """Where the first assets and markets are."""
        here = Path(MARKETS)
        return self.book_markets or (here if here.exists() else Path(__file__).parents[2] / MARKETS)


class Book:
    """A running book.

    Attributes:
        leading: set once it serves.
    """

    def __init__(self, settings: BookSettings, clock: Callable[[], int] = time.time_ns) -> None:
        self._settings, self._clock = settings, clock
        self._servicer = MatchingServicer()
        self._server = rpc.Server(
            settings.book_address,
            tls=settings.tls(),
            plaintext_anywhere=settings.clearbook_plaintext_bind,
            message_bytes_max=MESSAGE_BYTES_MAX,
        )
        self._servicer.add_to(self._server)
        self.leading = asyncio.Event()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    @property
    def lead(self) -> Lead | None:
        """What it leads with; None until it does."""
        return self._servicer.lead

    async def run(self, closing: Closing) -> None:
        """Recovers, takes the lead, serves until `closing`, and ends in order.

        Raises:
            StartError: the port is taken, the first markets are wrong, or another build has led by rules of its own.
            Damaged, NotLeader, CommitUnknown: see there; nothing more was said.
        """
        # The port first: who cannot listen must not take the lead from somebody who can.
        await self._server.start()
        try:
            async with await Journal.open(self._settings.database("book"), self._settings.book_shard) as journal:
                with suppress(Closed):
                    await self._lead(journal, closing)
        finally:
            await self._server.stop(0)

    async def _lead(self, journal: Journal, closing: Closing) -> None:
        try:
            engine, last_hash = await recover(journal, closing)
        except OtherEdition as error:
            raise StartError(str(error)) from error
        first = [] if engine.assets else seeds(self._settings.markets_file())
        row = await take_lead(journal, engine, last_hash, self._clock(), first)
        tail = Tail(journal, row.last_sequence, row.last_settlement_sequence)
        loop = Loop(engine, journal, tail, row.hash, self._clock, self._settings.book_snapshot_events)
        leading = Lead(engine, journal, tail, loop, Sessions(engine.sessions))
        self._servicer.lead = leading
        freeze_gc()
        async with asyncio.TaskGroup() as group:
            work = group.create_task(loop.run(), name="loop")
            async with self._relaying(group, leading):
                await self._server.set_serving(SERVICE, True)
                self.leading.set()
                await closing.wait()
                await self._server.set_serving(SERVICE, False)
                leading.sessions.close()
                loop.close()
                await asyncio.wait([work])  # all that was taken is durable; what it raises, the group tells
            await self._drain(tail)

    @asynccontextmanager
    async def _relaying(self, group: asyncio.TaskGroup, leading: Lead) -> AsyncIterator[None]:
        """Publishes to RabbitMQ beside its body, where there is one."""
        uri = self._settings.rabbitmq_uri
        if not uri:
            yield
            return
        async with Publisher(uri, settlement_topology(leading.engine.shard)) as publisher:
            relay = Relay(leading.journal, leading.tail, leading.engine, publisher)
            work = group.create_task(relay.run(), name="relay")
            yield
            work.cancel()
            await asyncio.wait([work])
            await relay.save()

    async def _drain(self, tail: Tail) -> None:
        """Lets the readers have the last rows: whoever reads gets them, then CLOSING."""
        tail.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                await tail.all_read()
        await self._server.stop(GRACE_SECONDS)


async def main(closing: Closing) -> None:
    """Runs the book as the environment says."""
    settings = BookSettings.load()
    log.configure("book", settings.log_level)
    async with await metrics.serve(settings.metrics_port, settings.metrics_host):
        await Book(settings).run(closing)


def run_service() -> None:
    """Runs the process and exits it."""
    run(main)


if __name__ == "__main__":
    run_service()
