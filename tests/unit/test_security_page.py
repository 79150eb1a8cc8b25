"""SECURITY.md says what is so: each test and file that it names exists, and what it claims of the source holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()


def test_every_test_that_it_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 30
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]
    assert not missing


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(r"`((?:services|gateway_http|protos|tests)/[\w/.]*)`", PAGE)
    assert len(named) > 15
    assert not [path for path in named if not (ROOT / path).exists()]


def test_it_answers_all_ten() -> None:
    assert re.findall(r"^\| API(\d+) ", PAGE, re.MULTILINE) == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock", "requirements-clients.lock"])
def test_every_dependency_is_pinned_with_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE).strip())
    assert len(entries) > 30
    assert not [entry for entry in entries if not re.match(r"[\w.-]+==\S+", entry) or "--hash=sha256:" not in entry]
    for installer in ("Dockerfile", "scripts/install"):
        assert "--require-hashes" in (ROOT / installer).read_text()


CLIENTS = {
    "urllib.request",
    "http.client",
    "requests",
    "httpx",
    "aiohttp",
    "web3",
    "websockets.client",
    "ftplib",
    "smtplib",
}
FACING = ("gateway_http", "services/order_gateway", "services/book/publisher")


def test_what_faces_strangers_fetches_nothing() -> None:
    found = []
    for folder in FACING:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                found += [f"{path}: {name}" for name in names if name in CLIENTS or name.partition(".")[0] in CLIENTS]
    assert not found
