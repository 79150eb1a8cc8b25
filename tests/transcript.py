"""Runs the console sessions and Python programs of our documents against the exchange, and compares the answers.

A session is a block of ```console: lines after "$ " are a command (a quote or a backslash carries it on), what follows
is its output, and "^C" ends a command that would go on for ever. curl is spoken by httpx, so that no curl is needed;
grpcurl by `buf curl` where the real one is not given. What differs from run to run (ids, times, hashes) must be there
and of the same kind; all else must be equal.

    python -m tests.transcript GRPCURL DOCUMENT…     all of it, with the real grpcurl, on an exchange of its own
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from tests.suite import Suite

ROOT = Path(__file__).resolve().parent.parent
BUF = [str(Path(sys.executable).parent / "buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
SECONDS_MAX = 30.0
"""For a question to be answered as written: books and settlements follow in a moment."""
STREAM_SECONDS_MAX = 10.0

VARIES = {
    *("order_id", "create_time", "event_time", "sequence", "previous_sequence", "incarnation", "transaction_hash"),
    *("settlement_sequence", "batch_id", "block_number", "journal_sequence", "trade_id", "account_id", "request_id"),
    *("nonce", "index", "token", "last_trade_id", "next_page_token", "unsettled"),
}
COMES_LATER = {"settled"}
"""There or not yet: an answer with it is the same."""
VARIES_OVER_REST = "|".join(sorted(VARIES - {"order_id"}))
"""There order_id is the client's."""
ASKS = re.compile(r"/(Get|List|Stream)\w+$|/api/v1/(orderbook|book|trades)/|/(readyz|healthz)$")
"""Commands that may be repeated until they are answered as written."""


@dataclass(frozen=True)
class Step:
    """One command of a session."""

    argv: list[str]
    output: str
    interrupted: bool = False


@dataclass(frozen=True)
class Program:
    """A Python program, and what it prints: the comment at its end."""

    text: str
    printed: str


def blocks(document: str) -> Iterator[Step | Program]:
    """The commands and programs of a document, in order."""
    for kind, block in re.findall(r"^```(console|python)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL):
        if kind == "python":
            text, _, printed = block.partition("# prints:\n")
            yield Program(text, printed.replace("# ", ""))
            continue
        for command, output in _commands(block):
            ended = output.removesuffix("^C\n")
            yield Step(shlex.split(command), ended, interrupted=ended != output)


def _commands(block: str) -> Iterator[tuple[str, str]]:
    lines = block.splitlines(keepends=True)
    while lines:
        assert lines[0].startswith("$ "), f"a command is expected: {lines[0]}"
        command = lines.pop(0)[2:]
        while not _complete(command):
            command = command.removesuffix("\\\n") + lines.pop(0)
        output = ""
        while lines and not lines[0].startswith("$ "):
            output += lines.pop(0)
        yield command, output


def _complete(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:  # a quote is open
        return False
    return not command.endswith("\\\n")


def same(expected: Any, found: Any) -> bool:
    """Whether two JSON values are equal, but for what varies from run to run."""
    if isinstance(expected, dict) and isinstance(found, dict):
        ours = {_snake(key): value for key, value in found.items() if key not in COMES_LATER - expected.keys()}
        return list(expected) == list(ours) and all(
            type(value) is type(ours[key]) if key in VARIES else same(value, ours[key])
            for key, value in expected.items()
        )
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(same, expected, found))
    return bool(type(expected) is type(found) and expected == found)


def _snake(key: str) -> str:
    """Newer grpcurls and buf print lowerCamelCase."""
    return re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), key)


def json_values(text: str) -> list[Any]:
    """All JSON values that follow each other in a text; an unfinished last one is left out."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while (start := re.compile(r"\S").search(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, start.start())
        except json.JSONDecodeError:
            break
        found.append(value)
    return found


class Runner:
    """Runs steps against a suite. `grpcurl`: the real one's path; buf curl without."""

    def __init__(self, suite: Suite, grpcurl: str = "") -> None:
        self._suite, self._grpcurl = suite, grpcurl
        self._ids: dict[str, str] = {}
        """What varies and is asked for again: the trade that the document calls 1 has another number here."""

    async def run(self, step: Step | Program) -> None:
        """Runs a command or a program; raises AssertionError if it is not answered as written."""
        if isinstance(step, Program):
            printed = await asyncio.to_thread(self._print, step.text)
            assert printed == step.printed, f"{step.text}\nprinted\n{printed}\ninstead of\n{step.printed}"
            return
        deadline = asyncio.get_running_loop().time() + (SECONDS_MAX if ASKS.search(step.argv[-1]) else 0)
        while True:
            found = await self._answer(step)
            if self._matches(step, found):
                return
            if asyncio.get_running_loop().time() >= deadline:
                raise AssertionError(f"{shlex.join(step.argv)}\nanswered\n{found}\ninstead of\n{step.output}")
            await asyncio.sleep(0.1)

    def _matches(self, step: Step, found: str) -> bool:
        if step.argv[0] == "curl":
            return _unvaried(found) == _unvaried(step.output.removesuffix("\n"))
        if step.argv[-1] == "list" or step.argv[-2] == "describe":
            return found == step.output
        expected, values = json_values(step.output), json_values(found)
        fine = same(expected, values[: len(expected)] if step.interrupted else values)
        if fine:
            self._remember(expected, values)
        return fine

    def _remember(self, expected: Any, found: Any) -> None:
        """Which trade here is the one in the document."""
        if isinstance(expected, dict):
            for key, value in found.items():
                if _snake(key) == "trade_id":
                    self._ids[f'"trade_id": {expected["trade_id"]}'] = f'"trade_id": {value}'
                else:
                    self._remember(expected.get(_snake(key)), value)
        elif isinstance(expected, list):
            for one, other in zip(expected, found, strict=False):
                self._remember(one, other)

    async def _answer(self, step: Step) -> str:
        argv = [self._placed(part) for part in step.argv]
        if argv[0] == "curl":
            return await curl(argv)
        assert argv[:2] == ["grpcurl", "-plaintext"], f"no idea how to run {argv[0]}"
        command = [self._grpcurl, *argv[1:]] if self._grpcurl else _as_buf(argv)
        found = await asyncio.to_thread(_output, command, step)
        if not self._grpcurl and argv[-2] == "describe":
            return _described(step.output, argv[-1], found)
        return found

    def _print(self, program: str) -> str:
        program = self._placed(program)
        # The client's own defaults are the documented addresses.
        program = program.replace("Client(user=", f'Client("{self._suite.gateway}", "{self._suite.publisher}", user=')
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    def _placed(self, text: str) -> str:
        """A part of a command with this suite's addresses and ids."""
        for written, ours in addresses(self._suite).items():
            text = text.replace(written, ours)
        for written, ours in self._ids.items():
            text = text.replace(written, ours)
        return text


def addresses(suite: Suite) -> dict[str, str]:
    """What the documents say, and where it is here."""
    return {
        "127.0.0.1:8000": str(suite.plan.http),
        "127.0.0.1:50051": suite.gateway,
        "127.0.0.1:50052": suite.publisher,
    }


def _unvaried(text: str) -> str:
    return re.sub(rf'"({VARIES_OVER_REST})":("[^"]+"|\d+)', r'"\1":…', text)


async def curl(argv: list[str]) -> str:
    """What `curl -s [-i] [-H HEADER] [-d BODY] URL` prints."""
    url = next(part for part in argv if part.startswith("http"))
    given = list(pairwise(argv))
    body = next((value for option, value in given if option == "-d"), None)
    headers = dict(value.split(": ", 1) for option, value in given if option == "-H")
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.request("GET" if body is None else "POST", url, content=body, headers=headers)
    return answer.text


def _as_buf(argv: list[str]) -> list[str]:
    """A grpcurl command as one of buf curl."""
    options, rest = [], argv[2:]
    while rest[0] in {"-H", "-d"}:
        options += rest[:2]
        rest = rest[2:]
    url = f"http://{rest[0]}"
    if rest[1] == "list":
        return [*BUF, "--list-services", url]
    if rest[1] == "describe":
        return [*BUF, "--list-methods", url]
    return [*BUF, *options, f"{url}/{rest[1]}"]


def _described(expected: str, service: str, methods: str) -> str:
    """buf curl names methods only: the description as written, if it has these very methods."""
    ours = re.findall(rf"^{re.escape(service)}/(\w+)$", methods, re.MULTILINE)
    return expected if ours == re.findall(r"rpc (\w+) \(", expected) else methods


def _output(command: list[str], step: Step) -> str:
    if not step.interrupted:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS_MAX)
        return done.stdout + done.stderr
    wanted, found = len(json_values(step.output)), ""
    with subprocess.Popen(["timeout", str(STREAM_SECONDS_MAX), *command], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while len(json_values(found)) < wanted and (line := child.stdout.readline()):
            found += line
        child.terminate()
    return found


async def main(grpcurl: str, documents: list[str]) -> None:
    """Runs whole documents with the real grpcurl on an exchange of its own."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite.embedded(Path(folder))
        try:
            await suite.start_all()
            runner = Runner(suite, grpcurl)
            for document in documents:
                for step in blocks(Path(document).read_text()):
                    sys.stdout.write(f"$ {shlex.join(step.argv)}\n" if isinstance(step, Step) else f"{step.text}\n")
                    await runner.run(step)
        finally:
            await suite.stop_all()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
