"""What the chores of the command line take from `.env`, the environment and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.chain_note import note
from services.cli.chain_side import Sources
from services.cli.main import app
from services.cli.settings import ClientSettings

NAMES = ("DATABASE_URL", "CLEARBOOK_DATA", "BOOK_SHARD", "GATEWAY_ADDRESS", "PUBLISHER_ADDRESS", "ETH_TESTNET_URL")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def run(*args: str) -> None:
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("dotenv", "environment", "options", "expected"),
    [
        ("", {}, [], ("sqlite:///data/book.sqlite", 0)),
        ("CLEARBOOK_DATA=kept", {}, [], ("sqlite:///kept/book.sqlite", 0)),
        ("CLEARBOOK_DATA=kept", {"CLEARBOOK_DATA": "mine"}, [], ("sqlite:///mine/book.sqlite", 0)),
        ("CLEARBOOK_DATA=kept", {}, ["--data", "asked"], ("sqlite:///asked/book.sqlite", 0)),
        ("DATABASE_URL=postgresql://file/x\nBOOK_SHARD=2", {}, [], ("postgresql://file/x", 2)),
        ("DATABASE_URL=postgresql://file/x", {}, ["--database-url", "sqlite:///y"], ("sqlite:///y", 0)),
        ("BOOK_SHARD=2", {}, ["--shard", "0"], ("sqlite:///data/book.sqlite", 0)),
    ],
)
def test_verify(
    dotenv: str,
    environment: dict[str, str],
    options: list[str],
    expected: tuple[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text(dotenv)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr("services.cli.verify.verify", lambda url, shard: asked.append((url, shard)))
    run("verify", *options)
    assert asked == [expected]


@pytest.mark.parametrize("command", ["replay", "demo"])
@pytest.mark.parametrize(
    ("dotenv", "options", "expected"),
    [
        ("", [], ("127.0.0.1:50051", "127.0.0.1:50052")),
        ("GATEWAY_ADDRESS=a:1\nPUBLISHER_ADDRESS=b:2", [], ("a:1", "b:2")),
        ("GATEWAY_ADDRESS=a:1", ["--gateway", "c:3"], ("c:3", "127.0.0.1:50052")),
    ],
)
def test_where_the_exchange_is(
    command: str, dotenv: str, options: list[str], expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text(dotenv)
    asked: list[Any] = []

    async def play(_files: list[Path], gateway: str, publisher: str, _console: object, _tls: object) -> None:
        asked.append((gateway, publisher))

    async def trade(gateway: str, publisher: str, _seconds: float, _closing: object, _tls: object) -> None:
        asked.append((gateway, publisher))

    monkeypatch.setattr("services.cli.replay.replay", play)
    monkeypatch.setattr("services.cli.demo.demo", trade)
    CliRunner().invoke(app, [command, *options, *([".env"] if command == "replay" else [])])
    assert asked == [expected]


TOKEN, USER = ("authorization", "Bearer t"), "x-clearbook-user"


@pytest.mark.parametrize(
    ("token", "user", "expected"),
    [
        ("", "", ((USER, "admin"),)),
        ("", "alice", ((USER, "alice"),)),
        ("t", "", (TOKEN,)),
        ("t", "alice", (TOKEN, (USER, "alice"))),  # which the gateway refuses if the token is not alice's
    ],
)
def test_who_calls(token: str, user: str, expected: tuple[tuple[str, str], ...]) -> None:
    assert ClientSettings.load(clearbook_token=token).who(user) == expected


@pytest.mark.parametrize(
    ("dotenv", "options", "expected"),
    [
        ("", [], "http://127.0.0.1:8545"),
        ("", ["--data", "kept"], "http://127.0.0.1:9999"),
        ("CLEARBOOK_DATA=kept", [], "http://127.0.0.1:9999"),
        ("CLEARBOOK_DATA=kept\nETH_TESTNET_URL=http://chain:1", [], "http://chain:1"),
    ],
)
def test_which_chain_is_audited(
    dotenv: str, options: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text(dotenv)
    Path("kept").mkdir()
    note(Path("kept"), "http://127.0.0.1:9999")
    asked: list[tuple[str, bool]] = []

    def audit(sources: Sources, _console: object, *, as_json: bool) -> int:
        asked.append((sources.node_url, as_json))
        return 0

    monkeypatch.setattr("services.cli.audit.audit", audit)
    run("audit", "--json", *options)
    assert asked == [(expected, True)]
