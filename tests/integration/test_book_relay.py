"""The relay through a real broker: everything, in order, once confirmed; also when the broker is killed."""

import asyncio
from pathlib import Path

import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import settlement_pb2

from services.book import relay as relays
from services.book.__main__ import Book
from services.book.journal import Journal
from services.runtime.amqp import Consumer, settlement_topology
from tests.backends import Backends
from tests.books import Gateway, eventually, running, settings, stub_to

pytestmark = [pytest.mark.backends]

ORDERS = 200
SEEDED = 3  # assets
QUEUE_SETTLES_SECONDS = 3


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/book.sqlite"


async def trade(book: Book, orders: int = ORDERS) -> int:
    """Returns the last settlement sequence."""
    assert book.lead is not None
    async with stub_to(book.port) as stub:
        gateway = Gateway(stub)
        opened = await gateway.open()
        if opened.epoch == 1:
            await gateway.submit(gateway.account("a"), gateway.account("b"))
        for _ in range(orders // 20):
            await gateway.submit(*gateway.orders(20))
        transfer = journal.Transfer(transfer_id="t", from_account_id=2, to_account_id=1001, asset_id=1, amount="5")
        await gateway.submit(gateway.command(transfer=transfer))
        last = opened.journal_sequence + gateway.number
    tail = book.lead.tail
    await eventually(lambda: tail.last_sequence >= last)
    return tail.last_settlement_sequence


class Inbox:
    """What the settler does: by number, once."""

    def __init__(self) -> None:
        self.entries: dict[int, settlement_pb2.SettlementEntry] = {}
        self.messages = 0
        self.repeated = 0
        self.in_order = True

    async def fill(self, uri: str, up_to: int, shard: int = 0) -> None:
        async with Consumer(uri, settlement_topology(shard)) as consumer:
            async for delivery in consumer:
                message = settlement_pb2.SettlementMessage.FromString(delivery.body)
                first = message.entries[0].settlement_sequence
                assert delivery.message_id == f"{shard}-{first}-{message.entries[-1].settlement_sequence}"
                self.in_order &= first == len(self.entries) + 1
                self.messages += 1
                for entry in message.entries:
                    self.repeated += entry.settlement_sequence in self.entries
                    assert self.entries.setdefault(entry.settlement_sequence, entry) == entry
                await delivery.ack()
                if all(number in self.entries for number in range(1, up_to + 1)):
                    return


async def test_everything_arrives_in_order_and_several_to_a_message(url: str, backends: Backends) -> None:
    uri = await backends.new_vhost()
    inbox = Inbox()
    async with running(settings(url, rabbitmq_uri=uri)) as book:
        last = await trade(book)
        async with asyncio.timeout(20):
            await inbox.fill(uri, last)
    assert list(inbox.entries) == list(range(1, last + 1))
    assert inbox.in_order
    assert inbox.messages < last / 2
    assert [entry.WhichOneof("kind") for entry in inbox.entries.values()] == [
        *["asset"] * SEEDED,
        *["trade"] * (last - SEEDED - 1),
        "transfer",
    ]


async def test_the_cursor_moves_after_the_confirm_and_a_restart_goes_on_from_it(url: str, backends: Backends) -> None:
    uri = await backends.new_vhost()
    inbox = Inbox()
    async with running(settings(url, rabbitmq_uri=uri)) as book:
        last = await trade(book)
        async with asyncio.timeout(20):
            await inbox.fill(uri, last)
            while (await cursor(url)) < last:
                await asyncio.sleep(0.05)
    async with running(settings(url, rabbitmq_uri=uri)) as book:
        last = await trade(book)
        async with asyncio.timeout(20):
            await inbox.fill(uri, last)
    assert inbox.in_order
    assert inbox.repeated == 0, "a clean end has saved the cursor"
    assert await cursor(url) == last


async def test_the_cursor_never_goes_back(url: str) -> None:
    async with await Journal.open(url, 0) as journal:
        for saved, expected in ((7, 7), (5, 7), (7, 7), (9, 9)):
            await journal.save_relay_cursor(saved)
            assert await journal.relay_cursor() == expected


async def cursor(url: str) -> int:
    async with await Journal.open(url, 0) as opened:
        return await opened.relay_cursor()


async def test_a_full_window_and_small_messages(url: str, backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "WINDOW_MESSAGES", 2)
    monkeypatch.setattr("services.book.settlements.MESSAGE_ENTRIES_MAX", 3)
    uri = await backends.new_vhost()
    inbox = Inbox()
    async with running(settings(url, rabbitmq_uri=uri)) as book:
        last = await trade(book)
        async with asyncio.timeout(20):
            await inbox.fill(uri, last)
    assert list(inbox.entries) == list(range(1, last + 1))
    assert inbox.messages >= last / 3


async def test_no_broker_does_not_hold_up_matching_nor_the_end(url: str) -> None:
    async with running(settings(url, rabbitmq_uri="amqp://127.0.0.1:1/")) as book:
        assert await trade(book) > ORDERS / 4
    assert await cursor(url) == 0


async def test_the_broker_is_killed_and_the_backlog_drains(url: str, own_backends: Backends) -> None:
    inbox = Inbox()
    uri = await own_backends.new_vhost()
    async with running(settings(url, rabbitmq_uri=uri)) as book:
        first = await trade(book)
        async with asyncio.timeout(30):
            await inbox.fill(uri, first)
        before = len(inbox.entries)
        # A broker killed within the second in which a quorum queue was declared forgets its log and never answers
        # for that queue again (RabbitMQ 3.10 saves the queue's id lazily): let it settle.
        await asyncio.sleep(QUEUE_SETTLES_SECONDS)
        await own_backends.broker_kill()
        last = await trade(book)
        assert last > first, "matching went on"
        await own_backends.broker_start()
        last = await trade(book)
        async with asyncio.timeout(120):
            await inbox.fill(uri, last)
    assert before == first
    assert sorted(inbox.entries) == list(range(1, last + 1))
    assert await cursor(url) == last
