"""Many short runs of pytest, each in a fork of one process that has imported the libraries, and none of our modules.

`python forked_pytest.py RUNS`, in a copy of the repository: RUNS is JSON, a list of {file, old, new, tests}. Each
plants its fault, runs its tests and mends the file; what is printed is JSON too, a list of [exit code, output].
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import aiormq
import alembic.operations
import asyncpg
import cryptography.hazmat.primitives.asymmetric.ed25519
import cryptography.hazmat.primitives.ciphers.aead
import cryptography.x509
import grpc.aio
import hypothesis
import msgspec
import prometheus_client
import pydantic_settings
import pytest
import rich.traceback
import sqlalchemy.ext.asyncio
import structlog
from clearbook.internal.v1 import forward_service_pb2_grpc, matching_service_pb2_grpc, settler_service_pb2_grpc
from clearbook.v1 import (
    account_service_pb2_grpc,
    admin_service_pb2_grpc,
    order_service_pb2_grpc,
    settlement_service_pb2_grpc,
)
from google.rpc import error_details_pb2
from grpc_health.v1 import health  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

IMPORTED = (
    aiormq,
    alembic.operations,
    asyncpg,
    cryptography.x509,
    grpc.aio,
    health,
    reflection,
    hypothesis,
    msgspec,
    prometheus_client,
    pydantic_settings,
    rich.traceback,
    sqlalchemy.ext.asyncio,
    structlog,
    error_details_pb2,
    forward_service_pb2_grpc,
    matching_service_pb2_grpc,
    settler_service_pb2_grpc,
    account_service_pb2_grpc,
    admin_service_pb2_grpc,
    order_service_pb2_grpc,
    settlement_service_pb2_grpc,
)
"""Imported for the forks, not for this process: libraries, and generated code, in which nothing is planted."""


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
    gc.freeze()  # a fork that collects garbage looks at its own alone
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
