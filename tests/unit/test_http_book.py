"""The local book: the published procedure, and every way in which a stream can be out of step; and who is slow."""

from decimal import Decimal
from zlib import crc32

import pytest
from clearbook.v1 import book_service_pb2 as wire

from clearbook.book import LocalBook, OutOfStep
from gateway_http.feeds import FRAMES_WAITING_MAX, Subscriber

Message = wire.StreamOrderBookResponse
MARKET = wire.Market(market="BTC-USD", tick_size="0.01", lot_size="0.00001")


def level(text: str) -> wire.Level:
    """A level written as "price:quantity"."""
    price, _, quantity = text.partition(":")
    return wire.Level(price=price, quantity=quantity)


def checksum_of(bids: str, asks: str) -> int:
    """The rule once more, on words: digits without point and leading zeros, five decimals of quantity, asks first."""
    ranked = [sorted(map(level, side.split()), key=lambda item: Decimal(item.price)) for side in (asks, bids)]
    top = ranked[0][:10] + ranked[1][::-1][:10]
    digits = (item.price.replace(".", "").lstrip("0") + f"{int(Decimal(item.quantity) * 10**5)}" for item in top)
    return crc32("".join(digits).encode())


def merged(levels: list[tuple[str, str]], changes: str) -> str:
    """Levels after absolute changes, as words."""
    after = dict(levels) | dict(change.split(":") for change in changes.split())
    return " ".join(f"{price}:{quantity}" for price, quantity in after.items() if quantity != "0")


def snapshot(sequence: int, bids: str, asks: str) -> Message:
    """A snapshot of levels written as words, with its right checksum."""
    message = wire.BookSnapshot(
        sequence=sequence, bids=map(level, bids.split()), asks=map(level, asks.split()), incarnation="i"
    )
    message.checksum = checksum_of(bids, asks)
    return Message(snapshot=message)


def delta(
    book: LocalBook, previous: int, sequence: int, bids: str = "", asks: str = "", checksum: int | None = None
) -> Message:
    """A change; its checksum is right for `book` unless given."""
    message = wire.BookDelta(
        sequence=sequence, previous_sequence=previous, bids=map(level, bids.split()), asks=map(level, asks.split())
    )
    if checksum is None:
        after = [merged(side, text) for side, text in ((book.bids, bids), (book.asks, asks))]
        checksum = checksum_of(*after)
    message.checksum = checksum
    return Message(delta=message)


def opened() -> LocalBook:
    """A book with two levels a side at sequence 7."""
    book = LocalBook(MARKET)
    book.apply(snapshot(7, "29999.50:0.005 9999.00:1", "30000.50:0.003 100000.00:2"))
    return book


def test_sides_are_best_first_by_number() -> None:
    book = opened()
    assert book.bids[:5] == [("29999.50", "0.005"), ("9999.00", "1")]
    assert book.asks[:5] == [("30000.50", "0.003"), ("100000.00", "2")]
    assert book.asks[:1] == [("30000.50", "0.003")]


def test_changes_are_absolute_and_zero_removes() -> None:
    book = opened()
    book.apply(delta(book, 7, 8, bids="29999.50:0.01 29999.51:3", asks="30000.50:0"))
    assert book.bids[:5] == [("29999.51", "3"), ("29999.50", "0.01"), ("9999.00", "1")]
    assert book.asks[:5] == [("100000.00", "2")]
    assert book.sequence == 8


def test_checksum_is_krakens() -> None:
    """Digits without point and leading zeros, asks first: here "3000050" "300", "10000000" "200000", then the bids."""
    assert opened().checksum() == crc32(b"3000050300100000002000002999950500999900100000")


def test_a_heartbeat_changes_nothing() -> None:
    book = opened()
    assert book.apply(Message(heartbeat=wire.BookHeartbeat(sequence=7, incarnation="i"))) is False


OUT_OF_STEP = {
    "a gap": delta(opened(), 8, 9),
    "a repetition": delta(opened(), 6, 7),
    "a wrong checksum": delta(opened(), 7, 8, bids="1.00:1", checksum=1),
    "a removal of what is not there": delta(opened(), 7, 8, bids="5.00:0"),
    "a heartbeat ahead": Message(heartbeat=wire.BookHeartbeat(sequence=8, incarnation="i")),
}


@pytest.mark.parametrize("message", OUT_OF_STEP.values(), ids=OUT_OF_STEP)
def test_out_of_step_is_noticed(message: Message) -> None:
    book = opened()
    with pytest.raises(OutOfStep):
        book.apply(message)


async def test_a_slow_subscriber_gets_the_newest() -> None:
    subscriber = Subscriber()
    for number in range(FRAMES_WAITING_MAX + 1):
        subscriber.put(str(number))
    assert await subscriber.next() == str(FRAMES_WAITING_MAX)
    for number in range(FRAMES_WAITING_MAX):
        subscriber.put(str(number))
    assert [await subscriber.next() for _ in range(3)] == ["0", "1", "2"]
