"""Many short runs of pytest, each in a fork of one process that has imported the libraries, and none of our modules.

`python forked_pytest.py RUNS`, in a copy of the repository: RUNS is JSON, a list of {file, old, new, tests}. Each
plants its fault, runs its tests and mends the file; what is printed is JSON too, a list of [exit code, output].
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import aiormq
import alembic.operations
import asyncpg
import grpc.aio
import hypothesis
import pytest
import rich.traceback
import sqlalchemy.ext.asyncio
import structlog
from google.rpc import error_details_pb2

IMPORTED = (
    aiormq,
    alembic.operations,
    asyncpg,
    grpc.aio,
    hypothesis,
    rich.traceback,
    sqlalchemy.ext.asyncio,
    structlog,
)
GENERATED = error_details_pb2.DESCRIPTOR
"""Imported for the forks, not for this process."""


def run(tests: list[str], output: IO[Any]) -> int:
    """The exit code of pytest in a fork; its output goes to the file."""
    child = os.fork()
    if child == 0:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(runs: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """All runs, one after the other."""
    assert not any(name.partition(".")[0] in {"services", "tests"} for name in sys.modules), (
        "a fork would not read them"
    )
    results = []
    for each in runs:
        file = Path(each["file"])
        text = file.read_text()
        assert each["old"] in text, f"{file} has changed: plant anew what was {each['old']!r}"
        file.write_text(text.replace(each["old"], each["new"]))
        with tempfile.TemporaryFile("w+") as output:
            code = run(each["tests"], output)
            output.seek(0)
            results.append((code, output.read()))
        file.write_text(text)
    return results


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))))
