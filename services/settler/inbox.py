"""Settlement messages in: kept durably, then acknowledged, in whatever order and however often they come.

Two sources, one inbox. RabbitMQ, where there is one; what is missing there (a gap, a message that cannot be read, a
queue that was lost) is fetched from the book. Without RabbitMQ everything comes from the book.
"""

import asyncio
from typing import Final

import grpc
from clearbook.internal.v1 import matching_service_pb2

from services.runtime import log, metrics
from services.runtime.amqp import Consumer, Delivery
from services.runtime.run import Closing
from services.runtime.streams import reconnecting
from services.settler import wire
from services.settler.alarms import Alarms
from services.settler.store import Store

BEYOND_ENTRIES_MAX: Final = 100_000
"""Entries kept beyond a gap before the broker must wait for it to close."""
GAP_SECONDS: Final = 0.5
"""How long a gap may be mere reordering."""
BEHIND_SECONDS: Final = 3.0
"""How long the broker may owe what the journal has."""
QUIET_SECONDS: Final = 5.0

_entries = metrics.counter("settler_entries", "Entries kept.", ["source"])
_duplicates = metrics.counter("settler_duplicates", "Entries that were kept already.", ["source"])
_poison = metrics.counter("settler_poison", "Messages that cannot be read.")
_refetches = metrics.counter("settler_refetches", "Times that missing entries were fetched from the book.")

_LOST = (grpc.RpcError, OSError, TimeoutError, wire.Malformed)

logger = log.get("inbox")


class Inbox:
    """Takes messages of one shard."""

    def __init__(self, store: Store, alarms: Alarms, shard: int) -> None:
        self._store = store
        self._alarms = alarms
        self._shard = shard
        self.owed_through = store.number("owed_through")
        """The highest settlement sequence that the journal is known to have."""

    async def take(self, message: wire.Message, source: str) -> None:
        """Keeps what is new of a message; returns when it is durable.

        Raises:
            Malformed: it is of another shard or another journal.
        """
        if message.shard != self._shard:
            raise wire.Malformed(f"a message of shard {message.shard}, this is shard {self._shard}")
        if message.incarnation != self._store.meta["incarnation"]:
            raise wire.Malformed(f"a message of another journal ({message.incarnation[:40]!r})")
        new = await self._store.take_entries([(each.item, each.body) for each in message.received])
        _entries.labels(source).inc(new)
        _duplicates.labels(source).inc(len(message.received) - new)

    async def from_broker(self, consumer: Consumer) -> None:
        """Takes deliveries for ever: stored, then acknowledged; what cannot be read goes to the dead-letter queue."""
        await self._incarnation_known()
        async for delivery in consumer:
            await self._deliver(delivery)
            while len(self._store.beyond) > BEYOND_ENTRIES_MAX:
                await self._store.news.wait()

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self.take(wire.message_of_bytes(delivery.body), "broker")
        except wire.Malformed as malformed:
            _poison.inc()
            self._alarms.once("poison", f"message {delivery.message_id[:100]!r} is dead-lettered: {malformed}")
            await delivery.reject()
        else:
            await delivery.ack()

    async def from_book(self, closing: Closing, stub: wire.Stub) -> None:
        """Takes everything from the book until `closing`, reconnecting for ever."""
        await self._incarnation_known()
        await reconnecting(closing, "settlement messages from book", lambda: self._read(stub, None), retry_on=_LOST)

    async def fill_gaps(self, closing: Closing, stub: wire.Stub) -> None:
        """Beside the broker: fetches from the book what the broker does not bring, until `closing`."""
        await self._incarnation_known()

        async def fill() -> None:
            while True:
                await self._until_missing()
                _refetches.inc()
                logger.warning("fetching from the book", after=self._store.contiguous, owed=self.owed_through)
                await self._read(stub, QUIET_SECONDS)

        await reconnecting(closing, "missing settlement messages from book", fill, retry_on=_LOST)

    async def _read(self, stub: wire.Stub, quiet_seconds: float | None) -> None:
        """Reads the book's messages; with `quiet_seconds` until nothing is missing, or nothing comes for so long."""
        call = stub.StreamSettlementMessages(wire.messages_request(self._store.contiguous))
        try:
            while True:
                async with asyncio.timeout(quiet_seconds):
                    response = await call.read()
                if response is grpc.aio.EOF:
                    return
                assert isinstance(response, matching_service_pb2.StreamSettlementMessagesResponse)
                await self.take(wire.message_of(response.message), "book")
                self._alarms.clear("book")
                if quiet_seconds is not None and not self._missing:
                    return
        except TimeoutError:
            if quiet_seconds is None:
                raise
        except wire.Malformed as malformed:
            self._alarms.raise_("book", f"the book sent what cannot be settled: {malformed}")
            raise
        finally:
            call.cancel()

    @property
    def _missing(self) -> bool:
        return bool(self._store.beyond) or self.owed_through > self._store.contiguous

    async def _until_missing(self) -> None:
        """Returns when something stays missing for longer than delivery takes."""
        while True:
            if not self._missing:
                await self._store.news.wait(BEHIND_SECONDS)
                continue
            before = self._store.contiguous
            await asyncio.sleep(GAP_SECONDS if self._store.beyond else BEHIND_SECONDS)
            if self._missing and self._store.contiguous == before:
                return

    async def _incarnation_known(self) -> None:
        """A message can be judged only when the book has said which journal is the right one."""
        while "incarnation" not in self._store.meta:
            await self._store.news.wait()
