"""The shim in open mode: whoever reaches it may name any user, so it stays at home unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway_http.__main__ import Settings
from services.runtime.run import StartError


@pytest.mark.parametrize(
    ("given", "fine"),
    [
        ({}, True),
        ({"http_address": "[::1]:8000"}, True),
        ({"http_address": "0.0.0.0:8000"}, False),
        ({"http_address": "http:8000"}, False),
        ({"http_address": "0.0.0.0:8000", "clearbook_open_bind": True}, True),
        ({"http_address": "0.0.0.0:8000", "clearbook_auth": "required"}, True),
    ],
)
def test_open_mode_stays_at_home(
    given: dict[str, Any], fine: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HTTP_ADDRESS", "CLEARBOOK_AUTH", "CLEARBOOK_OPEN_BIND"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.load(**given)
    if fine:
        settings.check_exposure()
    else:
        with pytest.raises(StartError, match="CLEARBOOK_OPEN_BIND"):
            settings.check_exposure()
