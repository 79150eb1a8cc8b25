"""Turns: a slice, then a rest; whoever has work gets on with it, and everything else of the loop comes in between."""

import asyncio
from collections.abc import Callable

import pytest

from gateway_http.turns import REST_SECONDS_MAX, REST_SECONDS_MIN, STEPS_A_SLICE, Turns, Work


class Loop:
    """The running loop, which waits for nothing, and remembers how long it was to wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.waits = 100.0, list[float]()
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def at_once(delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
            self.waits.append(round(delay, 6))
            self.now += delay
            return call_later(0, call)

        monkeypatch.setattr(loop, "call_later", at_once)

    def clock(self) -> float:
        return self.now


def work(name: str, steps: int, done: list[str], each: Callable[[], None] = lambda: None) -> Work:
    for _ in range(steps):
        done.append(name)
        each()
        yield


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("slice_seconds", "rest"),
    [(0.0, REST_SECONDS_MIN), (0.004, 0.004), (1.0, REST_SECONDS_MAX)],
)
async def test_a_slice_is_followed_by_a_rest_as_long_as_itself(
    monkeypatch: pytest.MonkeyPatch, slice_seconds: float, rest: float
) -> None:
    loop, done = Loop(monkeypatch), list[str]()

    def lasts() -> None:
        loop.now += slice_seconds / STEPS_A_SLICE

    turns = Turns(loop.clock)
    turns.add(work("a", 3 * STEPS_A_SLICE - 1, done, lasts))
    await until(lambda: len(done) == 3 * STEPS_A_SLICE - 1)
    assert loop.waits == [0, rest, rest]


async def test_what_comes_during_a_rest_waits_for_its_end_and_later_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, done = Loop(monkeypatch), list[str]()
    turns = Turns(loop.clock)
    for name in "ab":
        turns.add(work(name, 1, done))
        await until(lambda name=name: done[-1:] == [name])  # type: ignore[misc]
        for _ in range(3):
            await asyncio.sleep(0)
    loop.now += REST_SECONDS_MIN
    turns.add(work("c", 1, done))
    await until(lambda: done == ["a", "b", "c"])
    assert loop.waits == [0, REST_SECONDS_MIN, 0]


async def test_others_of_the_loop_have_their_turn_after_each_slice() -> None:
    turns, done, seen = Turns(), list[str](), set[int]()
    turns.add(work("a", 3 * STEPS_A_SLICE, done))
    while len(done) < 3 * STEPS_A_SLICE:
        seen.add(len(done))
        await asyncio.sleep(0)
    assert {0, STEPS_A_SLICE, 2 * STEPS_A_SLICE} <= seen


async def test_works_take_a_slice_each_in_turn_and_short_ones_share_one() -> None:
    turns, done = Turns(), list[str]()
    turns.add(work("long", 2 * STEPS_A_SLICE, done))
    for name in "abc":
        turns.add(work(name, 1, done))
    await until(lambda: len(done) == 2 * STEPS_A_SLICE + 3)
    first, rest = done[:STEPS_A_SLICE], done[STEPS_A_SLICE:]
    assert (set(first), rest[:3], set(rest[3:])) == ({"long"}, ["a", "b", "c"], {"long"})


@pytest.mark.parametrize(("steps", "slices"), [(1, 2), (4, 8), (STEPS_A_SLICE, 2 * STEPS_A_SLICE)])
async def test_a_turn_counts_as_many_steps(monkeypatch: pytest.MonkeyPatch, steps: int, slices: int) -> None:
    loop, come = Loop(monkeypatch), list[int]()
    turns = Turns(loop.clock)

    async def wait(number: int) -> None:
        await turns.turn(steps)
        come.append(number)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for number in range(2 * STEPS_A_SLICE):
            group.create_task(wait(number))
    assert (come, len(loop.waits)) == (list(range(2 * STEPS_A_SLICE)), slices)


async def test_who_no_longer_waits_takes_nobody_s_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, done = Loop(monkeypatch), list[str]()
    turns = Turns(loop.clock)
    waiting = asyncio.ensure_future(turns.turn(STEPS_A_SLICE))
    await asyncio.sleep(0)
    waiting.cancel()
    turns.add(work("a", STEPS_A_SLICE - 1, done))
    await until(lambda: len(done) == STEPS_A_SLICE - 1)
    assert loop.waits == [0]
