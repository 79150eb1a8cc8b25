"""What many sockets are told: in order, each message once, whoever comes, goes or stalls in between."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from gateway_http.direct import Line, never
from gateway_http.fanout import Batch, Fanout
from gateway_http.feeds import FRAMES_WAITING_MAX, Subscriber
from gateway_http.turns import STEPS_A_SLICE, Turns
from services.errors import Reason, Rejected


class Taker:
    """Remembers what it took, and in how many batches."""

    def __init__(self) -> None:
        self.took: list[str] = []
        self.batches = 0

    def take(self, batch: Batch[str]) -> None:
        self.took += batch.messages
        self.batches += 1


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_frame_has_the_length_of_its_text(size: int) -> None:
    """RFC 6455, 5.2: a final frame of text, not masked; lengths in 7, 7 + 16 and 7 + 64 bits."""
    head = b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65_536 else b"")
    expected = (head if size < 65_536 else b"\x81\x7f" + size.to_bytes(8)) + b"x" * size
    assert Batch(["x" * size]).frames(str) == expected
    assert Batch(["x" * size] * 2).frames(str) == expected * 2


def test_a_batch_is_encoded_once_for_each_way_to_read_it() -> None:
    batch = Batch(["a", "ü"])
    assert batch.frames(str) is batch.frames(str)
    assert batch.frames(str.upper) == b"\x81\x01A\x81\x02" + "Ü".encode()


@pytest.mark.parametrize("count", [1, STEPS_A_SLICE, STEPS_A_SLICE + 1, 5 * STEPS_A_SLICE])
async def test_everybody_is_told_all_of_it_together(count: int) -> None:
    readers, many = [Taker() for _ in range(count)], Fanout[str](Turns())
    assert not many
    for reader in readers:
        many.add(reader)
    for text in "abc":
        many.tell(text)
    await until(lambda: all(reader.took for reader in readers))
    assert all((reader.took, reader.batches) == (["a", "b", "c"], 1) for reader in readers)


async def test_who_comes_is_told_what_comes_after() -> None:
    early, late, many = Taker(), Taker(), Fanout[str](Turns())
    many.add(early)
    many.tell("a")
    many.add(late)
    many.tell("b")
    last = Taker()
    many.add(last)
    await until(lambda: early.took == ["a", "b"])
    many.tell("c")
    await until(lambda: early.took == ["a", "b", "c"])
    assert (late.took, last.took) == (["b", "c"], ["c"])


async def test_what_comes_during_a_round_goes_out_together_in_the_next() -> None:
    readers, many = [Taker() for _ in range(3 * STEPS_A_SLICE)], Fanout[str](Turns())
    for reader in readers:
        many.add(reader)
    many.tell("a")
    await until(lambda: readers[0].took == ["a"])
    assert not readers[-1].took
    many.tell("b")
    many.tell("c")
    await until(lambda: readers[-1].took == ["a", "b", "c"])
    assert {reader.batches for reader in readers} == {2}


async def test_one_who_reads_alone_does_not_wait_for_all_of_many() -> None:
    turns = Turns()
    crowd, alone = Fanout[str](turns), Fanout[str](turns)
    readers, reader = [Taker() for _ in range(5 * STEPS_A_SLICE)], Taker()
    for each in readers:
        crowd.add(each)
    alone.add(reader)
    crowd.tell("a")
    alone.tell("b")
    await until(lambda: reader.took == ["b"])
    assert sum(each.batches for each in readers) <= 2 * STEPS_A_SLICE


async def test_who_goes_is_told_nothing_more() -> None:
    stays, goes, many = Taker(), Taker(), Fanout[str](Turns())
    for reader in (stays, goes):
        many.add(reader)
    many.tell("a")
    many.discard(goes)
    many.discard(goes)
    await until(lambda: stays.took == ["a"])
    assert (goes.took, len(many)) == ([], 1)


@pytest.mark.parametrize("seed", range(20))
async def test_at_random_each_is_told_exactly_what_came_while_it_was_there(seed: int) -> None:
    dice, many, told = random.Random(seed), Fanout[str](Turns()), 0
    here, gone = dict[Taker, int](), list[tuple[Taker, int, int]]()
    for _ in range(400):
        what = dice.random()
        if what < 0.4:
            many.tell(str(told))
            told += 1
        elif what < 0.6:
            reader = Taker()
            many.add(reader)
            here[reader] = told
        elif what < 0.7 and here:
            reader, since = here.popitem()
            many.discard(reader)
            gone.append((reader, since, told))
        else:
            await asyncio.sleep(0)
    await until(lambda: all(len(reader.took) == told - since for reader, since in here.items()))
    for reader, since in here.items():
        assert reader.took == [str(number) for number in range(since, told)]
    for reader, since, until_then in gone:
        assert reader.took == [str(number) for number in range(since, until_then)][: len(reader.took)]


async def test_what_is_told_later_is_what_it_is_by_then_and_only_if_anybody_is_here() -> None:
    reader, many, made = Taker(), Fanout[str](Turns()), list[str]()

    def message() -> str:
        made.append(str(len(made)))
        return made[-1]

    many.tell_later(0, message)
    many.add(reader)
    for _ in range(3):
        many.tell_later(0.01, message)
    await until(lambda: bool(reader.took))
    many.tell_later(0.01, message)
    await until(lambda: reader.took == ["0", "1"])
    many.tell_later(0.01, message)
    many.discard(reader)
    await asyncio.sleep(0.02)
    assert (made, reader.took) == (["0", "1"], ["0", "1"])


class Socket:
    """A client that keeps up, or does not, and whoever sends to it what cannot go at once."""

    def __init__(self, *, patient: bool = True) -> None:
        self.keeps_up, self.sent = True, b""
        self.subscriber = Subscriber(self._write, patient=patient)
        self.text: list[str] = []

    def _write(self, frames: bytes) -> bool:
        if self.keeps_up:
            self.sent += frames
        return self.keeps_up

    async def send_all(self) -> None:
        while True:
            self.text.append(await self.subscriber.next())
            await asyncio.sleep(0)


async def test_frames_go_past_the_sender_only_while_it_waits_and_the_client_keeps_up() -> None:
    socket = Socket()
    batches = [Batch([name]) for name in "abcdefg"]
    socket.subscriber.take(batches[0])  # nobody sends yet: it is queued
    assert socket.sent == b""
    sending = asyncio.ensure_future(socket.send_all())
    await until(lambda: socket.text == ["a"])
    socket.subscriber.take(batches[1])  # the sender is still busy with the first
    await until(lambda: socket.text == ["a", "b"])
    for _ in range(3):
        await asyncio.sleep(0)
    socket.subscriber.take(batches[2])
    assert socket.sent == batches[2].frames(str)
    socket.keeps_up = False
    socket.subscriber.take(batches[3])
    socket.keeps_up = True
    socket.subscriber.take(batches[4])  # behind what waits already
    await until(lambda: socket.text == ["a", "b", "d", "e"])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await socket.subscriber.say("f")
    socket.subscriber.take(batches[6])
    await until(lambda: socket.text == ["a", "b", "d", "e", "f", "g"])
    sending.cancel()
    await asyncio.wait([sending])
    socket.subscriber.take(Batch(["h"]))  # nobody sends any more
    assert socket.sent == batches[2].frames(str)


@pytest.mark.parametrize("patient", [True, False])
async def test_who_is_too_far_behind_skips_or_is_at_its_end(patient: bool) -> None:
    socket = Socket(patient=patient)
    socket.subscriber.take(Batch([str(number) for number in range(FRAMES_WAITING_MAX + 1)]))
    if patient:
        assert await socket.subscriber.next() == str(FRAMES_WAITING_MAX)
        return
    with pytest.raises(Rejected) as rejected:
        await socket.subscriber.next()
    assert rejected.value.reason is Reason.LAGGED


async def test_a_line_wakes_whoever_waits() -> None:
    line = Line(never)
    waiting: Awaitable[None] = asyncio.ensure_future(line.wait())
    await asyncio.sleep(0)
    assert not line.goes_past(b"x")
    line.wake()
    async with asyncio.timeout(1):
        await waiting


async def test_a_reader_that_breaks_is_dropped_and_all_others_read_on() -> None:
    class Broken(Taker):
        def take(self, batch: Batch[str]) -> None:
            super().take(batch)
            raise ValueError("it breaks")

    readers, broken, many = [Taker() for _ in range(2 * STEPS_A_SLICE)], Broken(), Fanout[str](Turns())
    for reader in [*readers[:5], broken, *readers[5:]]:
        many.add(reader)
    many.tell("a")
    await until(lambda: all(reader.took for reader in readers))
    many.tell("b")
    await until(lambda: all(reader.took == ["a", "b"] for reader in readers))
    assert broken.took == ["a"]
    assert len(many) == len(readers)
