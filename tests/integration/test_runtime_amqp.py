"""Publishing and consuming through a real broker that is killed, frozen and rearranged."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiormq
import pytest
from aiormq.abc import AbstractChannel

from services.runtime import amqp
from services.runtime.amqp import Consumer, Delivery, Publisher, Topology, Unconfirmed
from tests.backends import Backends

pytestmark = [pytest.mark.backends]

TOPOLOGY = Topology(exchange="trades", queue="settle", delivery_limit=2)


@pytest.fixture
async def uri(backends: Backends) -> str:
    return await backends.new_vhost()


@pytest.fixture
async def channel(uri: str) -> AsyncIterator[AbstractChannel]:
    """A look at the broker from the side."""
    connection = await aiormq.connect(uri)
    yield await connection.channel()
    await connection.close()


async def publish_all(publisher: Publisher, numbers: range) -> None:
    """As the relay does: a window at once, again until confirmed."""

    async def one(number: int) -> None:
        while True:
            try:
                await publisher.publish(str(number).encode(), f"m-{number}")
                return
            except Unconfirmed:
                await asyncio.sleep(0.05)

    await asyncio.gather(*(one(number) for number in numbers))


async def take(consumer: Consumer, count: int) -> list[int]:
    numbers = []
    async for delivery in consumer:
        numbers.append(int(delivery.body))
        await delivery.ack()
        if len(numbers) == count:
            break
    return numbers


async def take_until(consumer: Consumer, wanted: set[int]) -> list[int]:
    numbers = []
    async for delivery in consumer:
        numbers.append(int(delivery.body))
        await delivery.ack()
        if wanted <= set(numbers):
            break
    return numbers


async def depth(channel: AbstractChannel, queue: str) -> int:
    count = (await channel.queue_declare(queue, passive=True)).message_count
    assert count is not None
    return count


async def test_messages_arrive_once_and_in_order(uri: str) -> None:
    async with Publisher(uri, TOPOLOGY, window=16) as publisher, Consumer(uri, TOPOLOGY, prefetch=8) as consumer:
        taking = asyncio.create_task(take(consumer, 300))
        await publish_all(publisher, range(300))
        async with asyncio.timeout(10):
            assert await taking == list(range(300))


async def test_a_message_keeps_its_id_and_headers_and_is_persistent(uri: str) -> None:
    async with Publisher(uri, TOPOLOGY) as publisher, Consumer(uri, TOPOLOGY) as consumer:
        await publisher.publish(b"body", "m-1", {"first": 7, "kind": "trades"})
        delivery = await anext(consumer)
        assert (delivery.body, delivery.message_id, delivery.redelivered) == (b"body", "m-1", False)
        assert dict(delivery.headers) == {"first": 7, "kind": "trades"}
        assert delivery._message.header.properties.delivery_mode == 2
        await delivery.ack()


async def test_a_large_message_arrives_whole(uri: str) -> None:
    body = os.urandom(1_000_000)
    async with Publisher(uri, TOPOLOGY) as publisher, Consumer(uri, TOPOLOGY) as consumer:
        await publisher.publish(body, "large")
        assert (await anext(consumer)).body == body


async def test_a_rejected_message_is_dead_lettered(uri: str, channel: AbstractChannel) -> None:
    async with Publisher(uri, TOPOLOGY) as publisher, Consumer(uri, TOPOLOGY) as consumer:
        await publisher.publish(b"poison", "m-1")
        await (await anext(consumer)).reject()
        async with asyncio.timeout(10):
            while await depth(channel, TOPOLOGY.dead) != 1:
                await asyncio.sleep(0.1)
        assert await depth(channel, TOPOLOGY.queue) == 0


async def test_a_message_that_is_never_done_is_dead_lettered_at_the_limit(uri: str, channel: AbstractChannel) -> None:
    async with Publisher(uri, TOPOLOGY) as publisher, Consumer(uri, TOPOLOGY) as consumer:
        await publisher.publish(b"poison", "m-1")
        for attempt in range(TOPOLOGY.delivery_limit + 1):
            delivery = await anext(consumer)
            assert delivery.redelivered is (attempt > 0)
            await delivery.reject(requeue=True)
        async with asyncio.timeout(10):
            while await depth(channel, TOPOLOGY.dead) != 1:
                await asyncio.sleep(0.1)


async def test_what_was_not_acknowledged_comes_again(uri: str) -> None:
    async with Publisher(uri, TOPOLOGY) as publisher:
        await publisher.publish(b"1", "m-1")
        async with Consumer(uri, TOPOLOGY) as first:
            await anext(first)
        async with Consumer(uri, TOPOLOGY) as second:
            delivery = await anext(second)
            assert (delivery.body, delivery.redelivered) == (b"1", True)


async def test_only_so_many_messages_wait_for_a_decision(uri: str) -> None:
    async with Publisher(uri, TOPOLOGY) as publisher, Consumer(uri, TOPOLOGY, prefetch=5) as consumer:
        await publish_all(publisher, range(50))
        deliveries = [await anext(consumer)]
        await asyncio.sleep(0.3)
        assert consumer._waiting.qsize() == 4
        for delivery in deliveries:
            await delivery.ack()


async def test_one_consumer_at_a_time_is_active(uri: str) -> None:
    async with (
        Publisher(uri, TOPOLOGY) as publisher,
        Consumer(uri, TOPOLOGY) as first,
        Consumer(uri, TOPOLOGY) as second,
    ):
        await publisher.publish(b"0", "m-0")
        assert await take(first, 1) == [0]
        waiting = asyncio.create_task(take(second, 1))
        await publish_all(publisher, range(1, 10))
        assert await take(first, 9) == list(range(1, 10))
        assert not waiting.done()
        await first.close()
        await publisher.publish(b"10", "m-10")
        async with asyncio.timeout(5):
            assert await waiting == [10]


async def test_a_deleted_queue_is_consumed_again_within_five_seconds(uri: str, channel: AbstractChannel) -> None:
    async with Publisher(uri, TOPOLOGY) as publisher, Consumer(uri, TOPOLOGY) as consumer:
        await publisher.publish(b"1", "m-1")
        assert await take(consumer, 1) == [1]
        taking = asyncio.create_task(take_until(consumer, {2}))
        await asyncio.sleep(0.1)
        await channel.queue_delete(TOPOLOGY.queue)
        async with asyncio.timeout(5):
            await publish_all(publisher, range(2, 3))
            await taking


async def test_a_queue_deleted_under_a_publisher_is_unroutable_then_made_again(
    uri: str, channel: AbstractChannel
) -> None:
    async with Publisher(uri, TOPOLOGY) as publisher:
        await publisher.publish(b"1", "m-1")
        await channel.queue_delete(TOPOLOGY.queue)
        with pytest.raises(Unconfirmed, match="NO_ROUTE"):
            await publisher.publish(b"2", "m-2")
        await publisher.publish(b"2", "m-2")
        assert await depth(channel, TOPOLOGY.queue) == 1


async def test_a_full_queue_refuses_and_the_connection_stays(uri: str) -> None:
    small = Topology(exchange="trades", queue="small", queue_bytes_max=10_000)
    async with Publisher(uri, small) as publisher:
        refused = 0
        for number in range(100):
            try:
                await publisher.publish(b"x" * 1_000, f"m-{number}")
            except Unconfirmed:
                refused += 1
        assert refused > 50
        assert publisher.connected


async def test_a_cut_connection_loses_nothing(uri: str, backends: Backends) -> None:
    async with Publisher(uri, TOPOLOGY, window=16) as publisher, Consumer(uri, TOPOLOGY) as consumer:
        taking = asyncio.create_task(take_until(consumer, set(range(500))))
        publishing = asyncio.create_task(publish_all(publisher, range(500)))
        for _ in range(4):
            await asyncio.sleep(0.1)
            for link in (publisher._link, consumer._link):
                connection = link._connection
                if isinstance(connection, aiormq.Connection) and connection.is_opened:
                    connection._reader_task.cancel()
        async with asyncio.timeout(20):
            await publishing
            await taking


@pytest.mark.slow
async def test_a_killed_broker_loses_nothing(own_backends: Backends) -> None:
    uri = await own_backends.new_vhost()
    async with Publisher(uri, TOPOLOGY, window=16) as publisher, Consumer(uri, TOPOLOGY) as consumer:
        await publish_all(publisher, range(10))
        await asyncio.sleep(10)  # TOOLCHAIN: a quorum queue younger than that may lose what it confirmed
        publishing = asyncio.create_task(publish_all(publisher, range(10, 3_000)))
        await asyncio.sleep(0.3)
        await own_backends.broker_kill()
        assert not publishing.done()
        await own_backends.broker_start()
        async with asyncio.timeout(60):
            await publishing
            numbers = await take_until(consumer, set(range(3_000)))
        assert len(numbers) < 3_500


@pytest.mark.slow
async def test_a_frozen_broker_is_noticed_and_left(own_backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amqp, "HEARTBEAT_SECONDS", 1)
    topology = Topology(exchange="frozen", queue="frozen")
    async with (
        Publisher(own_backends.rabbitmq_uri, topology, confirm_seconds_max=2) as publisher,
        Consumer(own_backends.rabbitmq_uri, topology) as consumer,
    ):
        await publisher.publish(b"0", "m-0")
        assert await take(consumer, 1) == [0]
        taking = asyncio.create_task(take_until(consumer, {1, 2}))
        pid = broker_pid(own_backends)
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(5):
                with pytest.raises(Unconfirmed):
                    await publisher.publish(b"1", "m-1")
            await asyncio.sleep(8)  # the heartbeat finds it: 3 × (1 + 1) s
            assert not consumer.connected
        finally:
            os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(20):
            await publish_all(publisher, range(1, 3))
            await taking


def broker_pid(backends: Backends) -> int:
    """The process that listens on the broker's port."""
    port = int(backends.rabbitmq_uri.rpartition("@")[2].partition("/")[0].rpartition(":")[2])
    inode = next(
        line.split()[9]
        for file in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(file).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == port
    )
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(link.readlink()) == f"socket:[{inode}]":
                return int(link.parts[2])
    raise AssertionError(f"nobody listens on {port}")


async def test_a_decision_after_the_loss_is_no_error(uri: str) -> None:
    async with Publisher(uri, TOPOLOGY) as publisher, Consumer(uri, TOPOLOGY) as consumer:
        await publisher.publish(b"1", "m-1")
        delivery: Delivery = await anext(consumer)
        consumer._link.drop()
        await asyncio.sleep(0.2)
        await delivery.ack()
        again = await anext(consumer)
        assert (again.body, again.redelivered) == (b"1", True)


async def test_no_broker_is_waited_for_and_can_be_given_up() -> None:
    publisher = Publisher("amqp://guest:guest@127.0.0.1:1/", TOPOLOGY)
    task = asyncio.create_task(publisher.publish(b"1", "m-1"))
    await asyncio.sleep(0.5)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await publisher.close()
