"""The publisher: `python -m services.book.publisher`.

With `--rebuild` it forgets its store and reads the journal from its first entry.
"""

import asyncio
import sys

from pydantic import Field

from services.book.publisher.board import Board
from services.book.publisher.feed import Feed
from services.book.publisher.service import SERVICE, SUBSCRIPTIONS_MAX, BookService, add_to_server
from services.book.publisher.store import MIGRATIONS, Store
from services.book.publisher.topic import LAG_CHANGES_MAX
from services.runtime import log, metrics, rpc
from services.runtime.config import (
    Address,
    DatabaseSettings,
    LogSettings,
    MetricsSettings,
    PublicTlsSettings,
    TlsSettings,
)
from services.runtime.db import Database, Unavailable
from services.runtime.migrate import migrate
from services.runtime.roles import Role
from services.runtime.run import Closing, StartError, freeze_gc, run

EVENTS_BYTES_MAX = 64 * 1024 * 1024
"""Of one message from the book: an event is never split, however many trades it holds."""
GRACE_SECONDS = 0.5
PULSE_SECONDS = 0.1
"""Between two of the tenths of a second at which subscribers are told who want to be told now and then only."""


class PublisherSettings(LogSettings, DatabaseSettings, TlsSettings, PublicTlsSettings, MetricsSettings):
    """The publisher's settings, each an environment variable in capitals."""

    publisher_address: Address = "127.0.0.1:50052"
    """Where it listens, and where others find it."""
    publisher_listen: Address | None = None
    """Where it listens, if that is not where others find it."""
    book_address: Address = "127.0.0.1:50061"
    metrics_port: int = 9102
    publisher_schema: str = Field(default="publisher", pattern=r"^[a-z][a-z0-9_]{0,40}$")
    """Its PostgreSQL schema: every publisher on one database needs its own."""
    publisher_rebuild: bool = False
    """Forget the store at the start and read the journal from its first entry."""
    publisher_heartbeat_seconds: float = Field(default=5.0, gt=0)
    publisher_stall_seconds_max: float = Field(default=5.0, gt=0)
    """How long a subscriber's write may wait for its reader before the reader is cut off."""
    publisher_lag_changes_max: int = Field(default=LAG_CHANGES_MAX, ge=1)
    """How far a subscriber may fall behind before it gets a snapshot instead of what it missed."""
    publisher_subscriptions_max: int = Field(default=SUBSCRIPTIONS_MAX, ge=1)
    limit_ip_subscriptions: int = Field(default=SUBSCRIPTIONS_MAX, ge=1)
    """Streams that are read from one address; the shim reads one a market."""


class Publisher:
    """A running publisher.

    Attributes:
        board: what it publishes.
        ready: set once it has caught up with the book and serves.
    """

    def __init__(self, settings: PublisherSettings) -> None:
        self._settings, self._tls = settings, settings.tls()
        self.board = Board(settings.publisher_lag_changes_max)
        self.ready = asyncio.Event()
        self._server = rpc.Server(
            settings.publisher_listen or settings.publisher_address,
            tls=settings.public_tls(),
            plaintext_anywhere=settings.clearbook_plaintext_bind,
            write_seconds_max=settings.publisher_stall_seconds_max,
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    async def run(self, closing: Closing) -> None:
        """Loads, follows the book and serves until `closing`.

        Raises:
            StartError: the port is taken, the database is away, or the store is of another journal.
        """
        url, schema = self._settings.database("publisher"), self._settings.publisher_schema
        try:
            await migrate(url, schema, MIGRATIONS)
            db = await Database.open(url, schema)
        except (Unavailable, ValueError) as error:
            raise StartError(str(error)) from None
        async with db:
            store = Store(db)
            if self._settings.publisher_rebuild:
                await store.wipe()
            await store.load(self.board)
            freeze_gc()
            await self._serve(store, closing)

    async def _serve(self, store: Store, closing: Closing) -> None:
        most = (self._settings.publisher_subscriptions_max, self._settings.limit_ip_subscriptions)
        service = BookService(self.board, store, *most)
        self._server.add(add_to_server, service, SERVICE)
        await self._server.start()
        channel = rpc.connect(
            self._settings.book_address, self._tls, role=Role.BOOK, message_bytes_max=EVENTS_BYTES_MAX
        )
        feed = Feed(channel, self.board, store)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(store.run(), name="store")
                following = group.create_task(feed.run(closing), name="feed")
                beating = group.create_task(self._beat(closing), name="heartbeats")
                pulsing = group.create_task(self._pulse(closing), name="pulses")
                opening = group.create_task(self._open(feed, service), name="opening")
                await closing.wait()
                opening.cancel()
                await asyncio.wait([following, beating, pulsing])
                await self._server.stop(GRACE_SECONDS)
                store.finish()
        finally:
            await self._server.stop(0)
            await channel.close()

    async def _open(self, feed: Feed, service: BookService) -> None:
        await feed.caught_up.wait()
        service.open = True
        await self._server.set_serving(SERVICE, True)
        self.ready.set()

    async def _beat(self, closing: Closing) -> None:
        """Lets subscribers who have heard nothing for a while have a sign of life, if the book gives us one."""
        while not await closing.sleep(self._settings.publisher_heartbeat_seconds):
            if self.board.live:
                self.board.beat()

    async def _pulse(self, closing: Closing) -> None:
        """Tells subscribers who want it now and then only."""
        while not await closing.sleep(PULSE_SECONDS):
            self.board.pulse()


async def main(closing: Closing) -> None:
    """Runs the publisher as the environment says."""
    settings = PublisherSettings.load(**({"publisher_rebuild": True} if "--rebuild" in sys.argv[1:] else {}))
    log.configure("publisher", settings.log_level)
    async with await metrics.serve(settings.metrics_port, settings.metrics_host):
        await Publisher(settings).run(closing)


def run_service() -> None:
    """Runs the process and exits it."""
    run(main)


if __name__ == "__main__":
    run_service()
