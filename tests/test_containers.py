"""The container files, as far as they can be checked without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from services.runtime.roles import Role
from tests.all_settings import all_settings

ROOT = Path(__file__).resolve().parent.parent


def services_in(text: str) -> dict[str, str]:
    """The services of a compose file by name, each as its lines."""
    services = re.split(r"\n(?=[a-z])", text[text.index("\nservices:") + 1 :])[0]
    return {block.split(":", 1)[0].strip(): block for block in re.split(r"\n(?=  \w+:\n)", services)[1:]}


def test_compose_names_every_service_with_a_health_check_and_a_restart_policy() -> None:
    blocks = services_in((ROOT / "compose.yaml").read_text())
    once = blocks.pop("certs")
    assert 'restart: "no"' in once
    assert set(blocks) == {"rabbitmq", "postgres", "anvil", "book", "publisher", "gateway", "settler", "http"}
    for name, block in blocks.items():
        assert "healthcheck:" in block, name
        assert "restart: unless-stopped" in block or "<<: *clearbook" in block, name


NEEDED = {"CLEARBOOK_ADMIN_TOKEN": "a-token-of-tests", "CLEARBOOK_SECRETS_KEY": "0" * 64}


def compose_parser() -> list[str] | None:
    """Docker Compose, as a plugin or by itself; it needs no engine to read a file."""
    for parser in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(parser[0]):
            asked = subprocess.run([*parser, "version"], capture_output=True, check=False)
            if asked.returncode == 0:
                return parser
    return None


def composed(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """What a parser makes of compose.yaml."""
    parser = compose_parser()
    if parser is None:  # scripts/test installs one where it may, and lets no skip pass
        pytest.skip("Docker Compose is not here (on Debian: apt-get install docker-compose)")
    (folder / "env").touch()  # a developer's own .env must not answer for what is missing here
    command = [*parser, "--env-file", str(folder / "env"), "-f", "compose.yaml", "config"]
    kept = {name: value for name, value in os.environ.items() if name not in NEEDED}
    return subprocess.run(command, cwd=ROOT, env=kept | env, capture_output=True, text=True, check=False)


def test_compose_passes_a_parser(tmp_path: Path) -> None:
    done = composed(tmp_path, **NEEDED)
    assert done.returncode == 0, done.stderr
    assert "settler:" in done.stdout


@pytest.mark.parametrize("missing", sorted(NEEDED))
def test_compose_does_not_run_without_its_secrets(missing: str, tmp_path: Path) -> None:
    done = composed(tmp_path, **{name: value for name, value in NEEDED.items() if name != missing})
    assert done.returncode != 0
    assert "set it in .env" in done.stderr


def test_compose_tells_each_service_its_own_secrets_only(tmp_path: Path) -> None:
    secrets = {
        "CLEARBOOK_ADMIN_TOKEN": {"gateway"},
        "CLEARBOOK_SECRETS_KEY": {"gateway"},
        "SETTLEMENT_PRIVATE_KEY": {"settler"},
        "RABBITMQ_URI": {"book", "settler"},
        "DATABASE_URL": {"book", "publisher", "gateway", "settler"},
    }
    blocks = services_in(composed(tmp_path, **NEEDED).stdout)
    assert {name: {one for one, block in blocks.items() if f"{name}:" in block} for name in secrets} == secrets


def test_compose_gives_each_service_its_own_key_only() -> None:
    blocks = services_in((ROOT / "compose.yaml").read_text())
    for role in Role:
        holders = {name for name, block in blocks.items() if f"- certs_{role}:" in block}
        assert holders == {role.value, "certs"}
    assert {name for name, block in blocks.items() if "- authority:" in block} == {"certs"}


@pytest.mark.parametrize("name", ["Dockerfile", "scripts/node/Dockerfile"])
def test_images_do_not_run_as_root(name: str) -> None:
    users = re.findall(r"^USER (\w+)$", (ROOT / name).read_text(), re.MULTILINE)
    assert users
    assert users[-1] != "root"


def test_every_variable_of_the_example_is_commented_or_empty_or_harmless() -> None:
    for line in (ROOT / ".env.example").read_text().splitlines():
        assert re.fullmatch(r"|#.*|[A-Z_]+=", line), line


def test_compose_hands_on_every_variable_of_the_example() -> None:
    example, compose = (ROOT / ".env.example").read_text(), (ROOT / "compose.yaml").read_text()
    example, line, _ = example.partition("\n# What follows is for processes that are started one by one")
    assert line
    settled_there = {"CLEARBOOK_DATA", "CLEARBOOK_TOKEN", "DATABASE_URL", "RABBITMQ_URI"}
    names = variables(example) - settled_there
    assert "CLEARBOOK_ADMIN_TOKEN" in names
    assert not {name for name in names if not re.search(rf"\$\{{{name}:[-?]", compose)}


def variables(example: str) -> set[str]:
    return set(re.findall(r"^#?([A-Z][A-Z_]+)=", example, re.MULTILINE))


def test_the_example_names_every_setting() -> None:
    composes_own = set(re.findall(r"\$\{([A-Z_]+):", (ROOT / "compose.yaml").read_text()))
    example = variables((ROOT / ".env.example").read_text())
    settings = {name.upper() for kind in all_settings() for name in kind.model_fields}
    assert settings - example == set(), "settings that .env.example does not name"
    assert example - settings - composes_own == set(), "variables that nothing reads"


def test_every_script_is_executable_and_strict() -> None:
    for path in [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci/run"]:
        if path.is_file() and "bash" in path.read_text().splitlines()[0]:
            assert path.stat().st_mode & 0o100, path
            assert "set -euo pipefail" in path.read_text(), path
