import asyncio

import pytest

from services.runtime.run import Closed, Closing
from services.runtime.streams import DELAY_SECONDS_MIN, Backoff


async def test_a_guard_interrupts_its_body_at_the_end() -> None:
    closing = Closing()
    asyncio.get_running_loop().call_later(0.01, closing.set)
    with pytest.raises(Closed):
        async with closing.guard():
            await asyncio.Event().wait()
    await asyncio.sleep(0)  # no cancellation is left over


async def test_a_guard_refuses_to_begin_after_the_end() -> None:
    closing = Closing()
    closing.set()
    with pytest.raises(Closed):
        async with closing.guard():
            raise AssertionError("not reached")


async def test_a_guard_lets_its_body_finish_and_fail() -> None:
    closing = Closing()
    async with closing.guard():
        await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        async with closing.guard():
            raise ZeroDivisionError
    closing.set()
    await asyncio.sleep(0)


async def test_a_guard_whose_body_brings_the_end_itself() -> None:
    closing = Closing()
    with pytest.raises(Closed):
        async with closing.guard():
            closing.set()
    await asyncio.sleep(0)


async def test_a_cancellation_from_outside_stays_one() -> None:
    closing = Closing()

    async def work() -> None:
        async with closing.guard():
            await asyncio.Event().wait()

    for both in (False, True):
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        if both:
            closing.set()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_guards_nest() -> None:
    inner, outer = Closing(), Closing()
    seen = []
    try:
        async with outer.guard():
            try:
                async with inner.guard():
                    inner.set()
                    await asyncio.sleep(1)
            except Closed:
                seen.append("inner")
            outer.set()
            await asyncio.sleep(1)
    except Closed:
        seen.append("outer")
    assert seen == ["inner", "outer"]


async def test_sleep_says_whether_the_end_came() -> None:
    closing = Closing()
    assert await closing.sleep(0.01) is False
    asyncio.get_running_loop().call_later(0.01, closing.set)
    assert await closing.sleep(10) is True
    assert await closing.sleep(10) is True


def test_backoff_grows_within_bounds_and_starts_again() -> None:
    backoff = Backoff(seconds_max=1.0)
    delays = [backoff.next_seconds() for _ in range(100)]
    assert all(DELAY_SECONDS_MIN / 2 <= delay <= 1.0 for delay in delays)
    assert min(delays[10:]) >= 0.5
    backoff.reset()
    assert backoff.next_seconds() <= DELAY_SECONDS_MIN
