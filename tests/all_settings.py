"""Every settings class that there is."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from services.runtime.config import Settings

ROOT = Path(__file__).resolve().parent.parent


def all_settings() -> set[type[Settings]]:
    """The classes that processes and chores read their environment with."""
    for path in [*(ROOT / "services").rglob("*.py"), *(ROOT / "gateway_http").rglob("*.py")]:
        if re.search(r"^class \w*Settings\b", path.read_text(), re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found = set(_below(Settings))
    assert len(found) > 10, "the settings have moved: this finds nothing"
    return found


def _below(kind: type[Settings]) -> Iterator[type[Settings]]:
    for child in kind.__subclasses__():
        if not child.__module__.startswith("tests."):
            yield child
            yield from _below(child)
