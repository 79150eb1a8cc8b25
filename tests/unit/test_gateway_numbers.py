"""The numbers under which processes submit to the book: each is one process's alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.book.__main__ import BookSettings
from services.command_ids import GATEWAYS_MAX
from services.order_gateway.__main__ import GatewaySettings
from services.runtime.config import GATEWAY_NUMBER_MAX, SHARD_MAX
from services.settler.__main__ import SettlerSettings

if TYPE_CHECKING:
    from services.runtime.config import Settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GATEWAY_NUMBER", "BOOK_SHARD", "SETTLER_GATEWAY"):
        monkeypatch.delenv(name, raising=False)


def test_no_gateway_has_the_number_of_a_settler_and_the_book_knows_them_all() -> None:
    settlers = [SettlerSettings.load(book_shard=shard).gateway for shard in range(SHARD_MAX + 1)]
    assert settlers[0] == 100
    assert min(settlers) > GATEWAY_NUMBER_MAX
    assert max(settlers) <= GATEWAYS_MAX


@pytest.mark.parametrize(
    ("settings", "name", "value", "fine"),
    [
        (GatewaySettings, "GATEWAY_NUMBER", 99, True),
        (GatewaySettings, "GATEWAY_NUMBER", 100, False),
        (GatewaySettings, "GATEWAY_NUMBER", 0, False),
        (BookSettings, "BOOK_SHARD", 26, True),
        (BookSettings, "BOOK_SHARD", 27, False),
        (SettlerSettings, "BOOK_SHARD", 26, True),
        (SettlerSettings, "BOOK_SHARD", 27, False),
    ],
)
def test_limits(
    settings: type[Settings],
    name: str,
    value: int,
    fine: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, str(value))
    if fine:
        assert settings.load().model_dump()[name.lower()] == value
        return
    with pytest.raises(SystemExit):
        settings.load()
    assert name in capsys.readouterr().err
