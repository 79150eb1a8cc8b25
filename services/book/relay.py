"""The relay: what the chain must mirror goes from the journal to RabbitMQ, confirmed, from a durable cursor on.

Matching never waits for it. What the broker has confirmed is remembered afterwards, so that after a crash some messages
are published again; the settler knows them by their numbers.
"""

import asyncio
from collections import deque
from contextlib import aclosing

from clearbook.internal.v1 import settlement_pb2

from services.book.engine import Engine
from services.book.journal import Journal
from services.book.settlements import messages
from services.book.tail import Tail
from services.runtime import log, metrics
from services.runtime.amqp import Publisher, Unconfirmed
from services.runtime.streams import Backoff

WINDOW_MESSAGES = 64
CURSOR_SECONDS = 0.5
"""The cursor is written at most so often: each write is a commit in the journal's database."""

_lag = metrics.gauge("book_relay_lag_entries", "Entries committed that the broker has not confirmed.")
_relayed = metrics.counter("book_relayed_entries", "Entries that the broker has confirmed.")

logger = log.get("relay")


class _Sent:
    """A message on its way."""

    def __init__(self, last_settlement_sequence: int) -> None:
        self.last_settlement_sequence = last_settlement_sequence
        self.confirmed = False


class Relay:
    """Publishes a shard's settlement messages.

    Args:
        journal: keeps the cursor.
        tail: the committed rows.
        engine: names assets and markets.
        publisher: to the shard's queue.
    """

    def __init__(self, journal: Journal, tail: Tail, engine: Engine, publisher: Publisher) -> None:
        self._journal, self._tail, self._engine, self._publisher = journal, tail, engine, publisher
        self._unconfirmed: deque[_Sent] = deque()
        self._room = asyncio.Semaphore(WINDOW_MESSAGES)
        self._moved = asyncio.Event()
        self.cursor = 0
        """The last entry up to which the broker has confirmed everything."""
        self._saved = 0

    async def run(self) -> None:
        """Publishes until cancelled.

        Raises:
            Rejected: CLOSING, when the tail was closed and everything before is confirmed.
            Damaged, db.Unavailable: as of the journal.
        """
        self.cursor = self._saved = await self._journal.relay_cursor()
        logger.info("relaying", after_settlement_sequence=self.cursor)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_cursor(), name="relay-cursor")
            async with aclosing(messages(self._tail, self._engine, self.cursor)) as waiting:
                async for message in waiting:
                    await self._room.acquire()
                    sent = _Sent(message.entries[-1].settlement_sequence)
                    self._unconfirmed.append(sent)
                    group.create_task(self._publish(message, sent), name="relay-publish")

    async def save(self) -> None:
        """Writes the cursor now, if it has moved."""
        cursor = self.cursor
        if cursor > self._saved:
            await self._journal.save_relay_cursor(cursor)
            self._saved = cursor

    async def _publish(self, message: settlement_pb2.SettlementMessage, sent: _Sent) -> None:
        first, last = message.entries[0].settlement_sequence, sent.last_settlement_sequence
        body = message.SerializeToString()
        backoff = Backoff()
        while not sent.confirmed:
            try:
                await self._publisher.publish(body, f"{message.shard}-{first}-{last}")
                sent.confirmed = True
            except Unconfirmed as error:
                logger.warning("publishing again", why=str(error))
                await asyncio.sleep(backoff.next_seconds())
        self._room.release()
        _relayed.inc(last - first + 1)
        while self._unconfirmed and self._unconfirmed[0].confirmed:
            self.cursor = self._unconfirmed.popleft().last_settlement_sequence
            self._moved.set()

    async def _keep_cursor(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            _lag.set(self._tail.last_settlement_sequence - self.cursor)
            await self.save()
            await asyncio.sleep(CURSOR_SECONDS)
