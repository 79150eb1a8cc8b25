"""The container files, as far as they can be checked without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_compose_names_every_service_with_a_health_check_and_a_restart_policy() -> None:
    text = (ROOT / "compose.yaml").read_text()
    services = text[text.index("\nservices:") : text.index("\nvolumes:")]
    blocks = {block.split(":", 1)[0].strip(): block for block in re.split(r"\n(?=  \w+:\n)", services)[1:]}
    assert set(blocks) == {"rabbitmq", "postgres", "anvil", "book", "publisher", "gateway", "settler", "http"}
    for name, block in blocks.items():
        assert "healthcheck:" in block, name
        assert "restart: unless-stopped" in block or "<<: *clearbook" in block, name


def compose_parser() -> list[str] | None:
    """Docker Compose, as a plugin or by itself; it needs no engine to read a file."""
    for parser in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(parser[0]):
            asked = subprocess.run([*parser, "version"], capture_output=True, check=False)
            if asked.returncode == 0:
                return parser
    return None


def test_compose_passes_a_parser() -> None:
    parser = compose_parser()
    if parser is None:  # scripts/test installs one where it may, and lets no skip pass
        pytest.skip("Docker Compose is not here (on Debian: apt-get install docker-compose)")
    command = [*parser, "-f", "compose.yaml", "config"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "settler:" in done.stdout


@pytest.mark.parametrize("name", ["Dockerfile", "scripts/node/Dockerfile"])
def test_images_do_not_run_as_root(name: str) -> None:
    users = re.findall(r"^USER (\w+)$", (ROOT / name).read_text(), re.MULTILINE)
    assert users
    assert users[-1] != "root"


def test_every_variable_of_the_example_is_commented_or_empty_or_harmless() -> None:
    for line in (ROOT / ".env.example").read_text().splitlines():
        assert re.fullmatch(r"|#.*|[A-Z_]+=|CLEARBOOK_AUTH=open", line), line


def test_compose_hands_on_every_variable_of_the_example() -> None:
    example, compose = (ROOT / ".env.example").read_text(), (ROOT / "compose.yaml").read_text()
    settled_there = {"CLEARBOOK_DATA", "CLEARBOOK_OPEN_BIND", "DATABASE_URL", "RABBITMQ_URI"}
    names = set(re.findall(r"^#?([A-Z][A-Z_]+)=", example, re.MULTILINE)) - settled_there
    assert "CLEARBOOK_ADMIN_TOKEN" in names
    assert not {name for name in names if f"${{{name}:-" not in compose}


def test_every_script_is_executable_and_strict() -> None:
    for path in [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci/run"]:
        if path.is_file() and "bash" in path.read_text().splitlines()[0]:
            assert path.stat().st_mode & 0o100, path
            assert "set -euo pipefail" in path.read_text(), path
