"""Whole processes: their lifecycle, their exit codes, what they say at the end; and the metrics endpoint."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from services.runtime import metrics
from services.runtime.run import StartError

HEAD = """
import asyncio, signal, sys
from services.runtime import log, metrics
from services.runtime.run import run, Closing, StartError, freeze_gc
log.configure("test", "info")
def say(*words):
    print(*words, flush=True)
"""

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def start(program: str) -> "subprocess.Popen[str]":
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", HEAD + textwrap.dedent(program)], **pipes)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ready(process: "subprocess.Popen[str]") -> "subprocess.Popen[str]":
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def events(stderr: str) -> list[str]:
    return [json.loads(line)["event"] for line in stderr.splitlines()]


WAITS = """
    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            say("background ended")
    async def main(closing):
        closing.spawn(background(), "background")
        say("ready")
        await closing.wait()
        await asyncio.sleep(0.05)
        say("flushed")
    run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(start: Start, number: signal.Signals) -> None:
    process = ready(start(WAITS))
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, events(err)) == (0, "flushed\nbackground ended\n", ["closing"])


def test_a_main_that_returns_ends_it(start: Start) -> None:
    process = start("async def main(closing): freeze_gc(); say('done')\nrun(main)")
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "done\n", "")


def test_a_crashed_background_task_takes_everything_down_loudly(start: Start) -> None:
    process = start("""
        async def background():
            raise KeyError("lost")
        async def main(closing):
            closing.spawn(background(), "background")
            try:
                await asyncio.Event().wait()
            finally:
                say("cleaned up")
        run(main)
    """)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, events(err)) == (1, "cleaned up\n", ["crashed"])
    assert "KeyError: 'lost'" in json.loads(err)["exception"]


def test_a_crashed_main_is_loud_too(start: Start) -> None:
    process = start("async def main(closing): 1/0\nrun(main)")
    _, err = process.communicate(timeout=10)
    assert (process.returncode, events(err)) == (1, ["crashed"])


def test_a_start_that_cannot_succeed_is_one_line(start: Start) -> None:
    process = start("async def main(closing): raise StartError('wrong chain id 5')\nrun(main)")
    _, err = process.communicate(timeout=10)
    assert (process.returncode, events(err)) == (2, ["wrong chain id 5"])
    assert "exception" not in json.loads(err)


def test_a_shutdown_is_bounded(start: Start) -> None:
    process = ready(
        start("""
        async def main(closing):
            say("ready")
            await asyncio.Event().wait()
        run(main, shutdown_seconds_max=0.3)
    """)
    )
    process.terminate()
    _, err = process.communicate(timeout=5)
    assert (process.returncode, events(err)) == (1, ["closing", "shutdown took too long"])


def test_even_a_task_that_will_not_end_is_ended(start: Start) -> None:
    process = ready(
        start("""
        import services.runtime.run as module
        module.CANCEL_SECONDS_MAX = 0.3
        async def main(closing):
            say("ready")
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
        run(main, shutdown_seconds_max=0.3)
    """)
    )
    process.terminate()
    process.communicate(timeout=5)
    assert process.returncode == 1


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    process = ready(start(WAITS.replace("asyncio.sleep(0.05)", "asyncio.sleep(15)")))
    process.terminate()
    time.sleep(0.3)
    process.terminate()
    process.communicate(timeout=5)
    assert process.returncode == 128 + signal.SIGTERM


async def test_metrics_are_exposed() -> None:
    metrics.counter("example", "An example.", ["kind"]).labels("a").inc(3)
    async with (
        await metrics.serve(0) as exposition,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{exposition.port}") as http,
    ):
        answer = await http.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert 'clearbook_example_total{kind="a"} 3.0' in answer.text
        assert "process_resident_memory_bytes" in answer.text
        assert (await http.get("/other")).status_code == 404
        assert (await http.post("/metrics")).status_code == 405
        with pytest.raises(StartError, match="cannot listen"):
            await metrics.serve(exposition.port)


async def test_a_scraper_that_talks_nonsense_is_cut_off() -> None:
    async with await metrics.serve(0) as exposition:
        reader, writer = await asyncio.open_connection("127.0.0.1", exposition.port)
        writer.write(b"x" * 100_000)
        async with asyncio.timeout(2):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
