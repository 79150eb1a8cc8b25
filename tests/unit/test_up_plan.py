"""What `clearbook up` decides before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.up import Plan, plan_from
from services.cli.welcome import SECRETS, welcome

PORTS = dict.fromkeys(("http", "gateway", "publisher", "book", "settler", "forward", "devchain", "metrics"), 1)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ETH_TESTNET_URL", "CLEARBOOK_FAUCET", "CLEARBOOK_DATA", "CLEARBOOK_AUTH", *SECRETS):
        monkeypatch.delenv(name, raising=False)


def plan(dotenv: str, data: Path | None = None) -> Plan:
    Path(".env").write_text(dotenv)
    return plan_from("127.0.0.1", data, PORTS)


def names(made: Plan) -> set[str]:
    return {process.name for process in made.processes()}


@pytest.mark.parametrize("dotenv", ["", "ETH_TESTNET_URL=\n"])
def test_without_a_chain_there_is_one_of_our_own(dotenv: str) -> None:
    made = plan(dotenv)
    assert "devchain" in names(made)
    assert made.env()["ETH_TESTNET_URL"] == "http://127.0.0.1:1"
    assert made.env()["CLEARBOOK_FAUCET"] == "1"


def test_a_chain_in_the_env_file_counts() -> None:
    made = plan("ETH_TESTNET_URL=http://chain:8545\n")
    assert "devchain" not in names(made)
    assert not {"ETH_TESTNET_URL", "CLEARBOOK_FAUCET"} & made.env().keys()


def test_a_chain_in_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETH_TESTNET_URL", "http://chain:8545")
    assert "devchain" not in names(plan(""))


@pytest.mark.parametrize(
    ("dotenv", "asked", "expected"),
    [
        ("", None, "data"),
        ("CLEARBOOK_DATA=kept\n", None, "kept"),
        ("CLEARBOOK_DATA=kept\n", Path("asked"), "asked"),
    ],
)
def test_where_the_data_are(dotenv: str, asked: Path | None, expected: str, tmp_path: Path) -> None:
    made = plan(dotenv, asked)
    assert made.data == tmp_path / expected
    assert made.env()["CLEARBOOK_DATA"] == str(tmp_path / expected)


def test_no_faucet_in_the_env_file_counts_too() -> None:
    assert plan("CLEARBOOK_FAUCET=0\n").env()["CLEARBOOK_FAUCET"] == "0"


@pytest.mark.parametrize(
    ("dotenv", "says", "says_not"),
    [
        ("", ['"user_id": "bob"'], ["CLEARBOOK_AUTH", "Bearer", "not set"]),
        (
            "CLEARBOOK_AUTH=required",
            ["CLEARBOOK_ADMIN_TOKEN is not set", "CLEARBOOK_SECRETS_KEY is not set"],
            ["/api/v1/order"],
        ),
        (
            "CLEARBOOK_AUTH=required\nCLEARBOOK_ADMIN_TOKEN=a-secret",
            ["CLEARBOOK_SECRETS_KEY is not set", "keys create alice", "Bearer $alice"],
            ["CLEARBOOK_ADMIN_TOKEN is not set", "a-secret", '"user_id": "bob"'],
        ),
    ],
)
def test_the_welcome_fits_the_mode(dotenv: str, says: list[str], says_not: list[str]) -> None:
    said = welcome(plan(dotenv), 1.0)
    assert [text for text in says if text not in said] == []
    assert [text for text in says_not if text in said] == []
