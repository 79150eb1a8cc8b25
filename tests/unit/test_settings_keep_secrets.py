"""No settings class prints a secret: whoever logs one, or meets it in a stack, sees its name at most."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic.fields import FieldInfo

from services.runtime.config import Settings
from tests.all_settings import all_settings

SECRET = re.compile(r"key|token|secret|password|passphrase|mnemonic|credential|(^|_)ur[il]$")
"""Of a field's name. A URL may hold a password, or an API key."""
NOT_SECRET = {"sign_in_uri"}
"""What every wallet is shown."""


def secret_fields(kind: type[Settings]) -> list[tuple[str, FieldInfo]]:
    return [
        (name, field)
        for name, field in kind.model_fields.items()
        if SECRET.search(name) and name not in NOT_SECRET and not _is_path(field)
    ]


def _is_path(field: FieldInfo) -> bool:
    return Path in {field.annotation, *get_args(field.annotation)}


def test_no_secret_is_printed() -> None:
    printed = {
        f"{kind.__name__}.{name}" for kind in all_settings() for name, field in secret_fields(kind) if field.repr
    }
    assert not printed, "give them Field(repr=False)"


def test_the_rule_finds_what_it_is_for() -> None:
    found = {name for kind in all_settings() for name, _ in secret_fields(kind)}
    assert {
        "database_url",
        "rabbitmq_uri",
        "clearbook_admin_token",
        "settlement_private_key",
        "eth_testnet_url",
    } <= found


def test_a_secret_is_in_neither_form_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    canary = "c0ffee" * 10 + "c0ff"  # of a shape that every check on such a field lets pass
    for kind in all_settings():
        fields = [name for name, _ in secret_fields(kind)]
        loaded = kind.load(**dict.fromkeys(fields, canary))
        assert canary not in f"{loaded!r} {loaded!s}", kind.__name__
