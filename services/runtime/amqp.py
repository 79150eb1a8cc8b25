"""RabbitMQ: publishing that returns when the broker has it, consuming in order, both for ever.

Queues are quorum queues with a dead-letter queue beside them. What the broker holds is disposable: messages may come
twice and, after a republish, out of order; the receiver deduplicates by number.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from pamqp.commands import Basic
from yarl import URL

from services.runtime import log, metrics
from services.runtime.streams import Backoff

HEARTBEAT_SECONDS = 3
CONNECT_SECONDS_MAX = 5.0
CONFIRM_SECONDS_MAX = 10.0
CLOSE_SECONDS_MAX = 2.0
RECONNECT_SECONDS_MAX = 2.0
WINDOW_MESSAGES = 64
PREFETCH_MESSAGES = 64
DELIVERY_LIMIT = 10
QUEUE_BYTES_MAX = 1024 * 1024 * 1024

PERSISTENT = 2

_published = metrics.counter("amqp_published", "Messages that the broker confirmed.", ["queue"])
_unconfirmed = metrics.counter("amqp_unconfirmed", "Messages whose outcome is unknown.", ["queue"])
_delivered = metrics.counter("amqp_delivered", "Messages received, again or not.", ["queue", "redelivered"])
_connected = metrics.counter("amqp_connections", "Connections made.", ["queue", "role"])

logger = log.get("amqp")


class Unconfirmed(Exception):
    """The broker may have the message or not: publish it again under the same id."""


class _Lost(Exception):
    """The connection, the channel or the consumer is gone."""


_FAILURES = (aiormq.AMQPError, OSError, TimeoutError, RuntimeError, asyncio.InvalidStateError, _Lost)


@dataclass(frozen=True, slots=True)
class Topology:
    """The names on the broker: an exchange, a queue bound to it, and where rejected messages go.

    Attributes:
        exchange: direct, durable.
        queue: a quorum queue, its routing key the same name; one consumer at a time is active.
        dead_letter: exchange and quorum queue, both of this name; default: the queue's with ".dead".
        delivery_limit: deliveries that were not acknowledged before a message is dead-lettered.
        queue_bytes_max: then publishing is refused.
    """

    exchange: str
    queue: str
    dead_letter: str = ""
    delivery_limit: int = DELIVERY_LIMIT
    queue_bytes_max: int = QUEUE_BYTES_MAX

    @property
    def dead(self) -> str:
        """The name of the dead-letter exchange and queue."""
        return self.dead_letter or f"{self.queue}.dead"

    async def declare(self, channel: AbstractChannel) -> None:
        """Makes what is missing; the same again is harmless. Other arguments than the first time's raise."""
        await channel.exchange_declare(self.dead, exchange_type="fanout", durable=True)
        await channel.queue_declare(self.dead, durable=True, arguments={"x-queue-type": "quorum"})
        await channel.queue_bind(self.dead, self.dead)
        await channel.exchange_declare(self.exchange, exchange_type="direct", durable=True)
        arguments: dict[str, Any] = {
            "x-queue-type": "quorum",
            "x-delivery-limit": self.delivery_limit,
            "x-dead-letter-exchange": self.dead,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # at-least-once dead-lettering needs it
            "x-max-length-bytes": self.queue_bytes_max,
            "x-single-active-consumer": True,
        }
        await channel.queue_declare(self.queue, durable=True, arguments=arguments)
        await channel.queue_bind(self.queue, self.exchange, routing_key=self.queue)


def settlement_topology(shard: int) -> Topology:
    """The queue between a shard's book and its settler: whoever comes first makes it, so both must say the same."""
    return Topology(exchange="clearbook.settlement", queue=f"clearbook.settlement.{shard}")


class _Link:
    """A connection with one channel, made when needed and thrown away when broken."""

    def __init__(self, uri: str, topology: Topology, role: str) -> None:
        self._url = _with_heartbeat(uri)
        self.topology = topology
        self._role = role
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._connecting = asyncio.Lock()
        self._backoff = Backoff(seconds_max=RECONNECT_SECONDS_MAX)
        self._goodbyes: set[asyncio.Task[None]] = set()

    @property
    def up(self) -> bool:
        channel, connection = self._channel, self._connection
        return channel is not None and connection is not None and not channel.is_closed and not connection.is_closed

    async def channel(self, prepare: Callable[[AbstractChannel], Any] | None = None) -> AbstractChannel:
        """The channel, with everything declared. Tries for ever."""
        async with self._connecting:
            while not self.up:
                self.drop()
                try:
                    async with asyncio.timeout(CONNECT_SECONDS_MAX), _cancellations():
                        channel = await self._connect()
                        await self.topology.declare(channel)
                        if prepare is not None:
                            await prepare(channel)
                    self._channel = channel
                except _FAILURES as error:
                    seconds = self._backoff.next_seconds()
                    logger.warning(
                        "cannot reach the broker",
                        role=self._role,
                        queue=self.topology.queue,
                        why=repr(error),
                        delay_s=round(seconds, 3),
                    )
                    self.drop()
                    await asyncio.sleep(seconds)
                else:
                    self._backoff.reset()
                    _connected.labels(self.topology.queue, self._role).inc()
                    logger.info("connected to the broker", role=self._role, queue=self.topology.queue)
            assert self._channel is not None
            return self._channel

    async def _connect(self) -> AbstractChannel:
        self._connection = aiormq.Connection(self._url)
        await self._connection.connect()
        return await self._connection.channel()

    def drop(self) -> None:
        """Gives the connection up without waiting for a broker that may be dead."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and not connection.is_closed:
            goodbye = asyncio.create_task(_close(connection))
            self._goodbyes.add(goodbye)
            goodbye.add_done_callback(self._goodbyes.discard)

    async def close(self) -> None:
        self.drop()
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=2 * CLOSE_SECONDS_MAX)


class Publisher:
    """Publishes persistent, mandatory, confirmed messages to one queue. Use with `async with`.

    Args:
        uri: amqp:// or amqps://.
        topology: declared at every connection.
        window: how many messages may be unconfirmed at once; further calls wait.
        confirm_seconds_max: how long the broker may take to confirm one.
    """

    def __init__(
        self,
        uri: str,
        topology: Topology,
        *,
        window: int = WINDOW_MESSAGES,
        confirm_seconds_max: float = CONFIRM_SECONDS_MAX,
    ) -> None:
        self._link = _Link(uri, topology, "publisher")
        self._window = asyncio.Semaphore(window)
        self._confirm_seconds_max = confirm_seconds_max

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now, as far as is known."""
        return self._link.up

    async def connect(self) -> None:
        """Connects and declares now rather than with the first message; tries for ever."""
        await self._link.channel()

    async def publish(self, body: bytes, message_id: str, headers: Mapping[str, Any] | None = None) -> None:
        """Returns when the broker has the message on disk. Waits as long as no broker can be reached.

        Calls made one after the other are sent in that order.

        Args:
            body: the message.
            message_id: the same again when the same is published again.
            headers: of AMQP's types.

        Raises:
            Unconfirmed: the outcome is unknown (or the queue is full): publish it again.
        """
        async with self._window:
            channel = await self._link.channel()
            properties = Basic.Properties(delivery_mode=PERSISTENT, message_id=message_id, headers=dict(headers or {}))
            topology = self._link.topology
            try:
                async with _cancellations():
                    await channel.basic_publish(
                        body,
                        exchange=topology.exchange,
                        routing_key=topology.queue,
                        properties=properties,
                        mandatory=True,
                        timeout=self._confirm_seconds_max,
                    )
            except _FAILURES as error:
                _unconfirmed.labels(topology.queue).inc()
                if not _refused(error) and channel is self._link._channel:
                    self._link.drop()
                raise Unconfirmed(f"{message_id}: {error!r}") from error
            _published.labels(topology.queue).inc()

    async def close(self) -> None:
        """Closes the connection. Messages on their way end Unconfirmed."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()


class Delivery:
    """A message to be decided on: `ack` once its effect is durable, or `reject` it to the dead-letter queue.

    After the connection is lost a decision means nothing: the message comes again.
    """

    __slots__ = ("_message", "body", "headers", "message_id", "redelivered")

    def __init__(self, message: DeliveredMessage) -> None:
        self._message = message
        self.body: bytes = message.body
        self.message_id: str = message.header.properties.message_id or ""
        self.headers: Mapping[str, Any] = message.header.properties.headers or {}
        self.redelivered: bool = bool(message.redelivered)

    async def ack(self) -> None:
        """Done: the broker forgets it."""
        await self._decide("basic_ack")

    async def reject(self, *, requeue: bool = False) -> None:
        """Not to be had: to the dead-letter queue, or once more to the queue (counted, up to the delivery limit)."""
        await self._decide("basic_reject", requeue=requeue)

    async def _decide(self, verb: str, **how: bool) -> None:
        tag = self._message.delivery_tag
        assert tag is not None
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX), _cancellations():
                await getattr(self._message.channel, verb)(tag, wait=False, **how)
        except _FAILURES as error:
            logger.info(
                "a decision came too late: the message will come again", message_id=self.message_id, why=repr(error)
            )


class Consumer:
    """The messages of one queue, in the order in which the broker sends them: `async for delivery in consumer`.

    It never ends by itself: after a lost connection, a closed channel, a cancelled consumer or a deleted queue it
    declares and consumes anew. Use with `async with`.

    Args:
        uri: amqp:// or amqps://.
        topology: declared at every connection.
        prefetch: how many messages may wait for a decision at once.
    """

    def __init__(self, uri: str, topology: Topology, *, prefetch: int = PREFETCH_MESSAGES) -> None:
        self._link = _Link(uri, topology, "consumer")
        self._prefetch = prefetch
        self._waiting: asyncio.Queue[Delivery | None] = asyncio.Queue()

    @property
    def connected(self) -> bool:
        """Whether messages can arrive now, as far as is known."""
        return self._link.up

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        while True:
            if not self._link.up:
                await self._link.channel(self._consume)
            delivery = await self._waiting.get()
            if delivery is not None:
                return delivery
            logger.warning("consumer lost", queue=self._link.topology.queue)
            self._link.drop()

    async def _consume(self, channel: AbstractChannel) -> None:
        # What an older channel brought can't be acknowledged any more and comes again: forget it.
        waiting: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._waiting = waiting
        queue = self._link.topology.queue

        async def receive(message: DeliveredMessage) -> None:  # one task each, run in order: none of them waits
            _delivered.labels(queue, str(bool(message.redelivered)).lower()).inc()
            waiting.put_nowait(Delivery(message))  # bounded by the prefetch

        def lose(_: object) -> None:
            waiting.put_nowait(None)

        channel.on_consumer_cancel_callbacks.add(lose)
        channel.closing.add_done_callback(lose)
        await channel.basic_qos(prefetch_count=self._prefetch)
        await channel.basic_consume(queue, receive)

    async def close(self) -> None:
        """Stops consuming. What was not acknowledged comes again to whoever consumes next."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()


@asynccontextmanager
async def _cancellations() -> AsyncIterator[None]:
    """A lost connection comes as CancelledError too: unless we were cancelled ourselves, it is a loss."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        yield
    except asyncio.CancelledError:
        if task.cancelling() > before:
            raise
        raise _Lost("the connection was lost") from None


async def _close(connection: AbstractConnection) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS_MAX), _cancellations():
            await connection.close(ConnectionError("given up"))
    except _FAILURES as error:
        logger.debug("a broken connection did not close in order", why=repr(error))


def _refused(error: BaseException) -> bool:
    """The broker answered, with a no (the queue is full): the connection is in order."""
    return isinstance(error, aiormq.exceptions.DeliveryError) and not isinstance(error, aiormq.exceptions.PublishError)


def _with_heartbeat(uri: str) -> URL:
    url = URL(uri)
    return url if "heartbeat" in url.query else url.update_query(heartbeat=HEARTBEAT_SECONDS)
