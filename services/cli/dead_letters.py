"""`clearbook dlq`: what the settler could not take off RabbitMQ, to be looked at and put back.

Nothing is lost there: what a dead letter holds the settler has fetched from the book. So to put one back is harmless.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage

from services.runtime.amqp import CONNECT_SECONDS_MAX, Publisher, Topology
from services.settler.wire import Malformed, message_of_bytes

LETTERS_MAX: Final = 1_000
"""Dead letters that are looked at, the oldest first."""
BROKER_SECONDS_MAX: Final = 30.0
"""How long the broker may take for all of it."""

UNREACHABLE: Final = (aiormq.AMQPError, OSError, TimeoutError)
"""What it raises when the broker does not answer, or has no such queue."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was dead-lettered.

    Attributes:
        place: in the queue, from 1.
        message_id: as it was published.
        reason: the broker's: rejected, delivery_limit, expired, maxlen.
        since: when, in UTC; None where the broker does not say.
        body: the message.
    """

    place: int
    message_id: str
    reason: str
    since: datetime | None
    body: bytes

    def summary(self) -> str:
        """What it holds, or why it cannot be read."""
        try:
            message = message_of_bytes(self.body)
        except Malformed as malformed:
            return f"cannot be read: {malformed}"
        return f"shard {message.shard}, journal {message.incarnation}, entries {message.first} to {message.last}"


async def dead_letters(uri: str, topology: Topology) -> list[DeadLetter]:
    """The queue's dead letters, which stay where they are. Raises one of UNREACHABLE."""
    async with asyncio.timeout(BROKER_SECONDS_MAX), _taken(uri, topology) as (_, taken):
        return [_letter(place, message) for place, message in enumerate(taken, start=1)]


async def requeue(uri: str, topology: Topology, message_id: str | None) -> int:
    """Puts dead letters back into the queue that they came from: those of that id, or (None) all.

    Each is taken off only when the broker has confirmed it in its queue: after a crash in between it is in both, and
    the settler takes it once.

    Returns:
        How many.
    """
    done = 0
    async with (
        asyncio.timeout(BROKER_SECONDS_MAX),
        _taken(uri, topology) as (channel, taken),
        Publisher(uri, topology) as publisher,
    ):
        for place, message in enumerate(taken, start=1):
            letter = _letter(place, message)
            if message_id is None or letter.message_id == message_id:
                await publisher.publish(letter.body, letter.message_id)
                assert message.delivery_tag is not None
                await channel.basic_ack(message.delivery_tag, wait=True)
                done += 1
    return done


@asynccontextmanager
async def _taken(uri: str, topology: Topology) -> AsyncIterator[tuple[AbstractChannel, list[DeliveredMessage]]]:
    """All dead letters, held back as long as this lasts; what is not acknowledged by then is in the queue again."""
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        connection = await aiormq.connect(uri)
    try:
        channel = await connection.channel()
        taken: list[DeliveredMessage] = []
        while len(taken) < LETTERS_MAX:
            message = await channel.basic_get(topology.dead)
            if message.delivery_tag is None:
                break
            taken.append(message)
        yield channel, taken
    finally:
        await connection.close()


def _letter(place: int, message: DeliveredMessage) -> DeadLetter:
    properties = message.header.properties
    deaths: Any = (properties.headers or {}).get("x-death") or [{}]
    death: Mapping[str, Any] = deaths[0]
    since = death.get("time")
    return DeadLetter(
        place,
        properties.message_id or "",
        str(death.get("reason", "")),
        since.astimezone(UTC) if isinstance(since, datetime) else None,
        message.body,
    )
