"""The build that is tested is the build that was meant: a silent fall back to the interpreted engine fails here."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

import hatch_build

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", [name for name in hatch_build.COMPILED if (ROOT / name).exists()])
def test_the_engine_is_the_one_asked_for(name: str) -> None:
    spec = importlib.util.find_spec(name.removesuffix(".py").replace("/", "."))
    assert spec is not None
    assert spec.origin is not None
    compiled = spec.origin.endswith(".so")
    assert os.environ.get("CLEARBOOK_ENGINE", "compiled" if compiled else "interpreted") == (
        "compiled" if compiled else "interpreted"
    )


def test_without_a_compiler_nothing_is_compiled_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services/locks.py").write_text("x: int = 1\n")
    monkeypatch.setenv("CC", "a-compiler-that-is-not-here")
    assert hatch_build.compile_in_place(tmp_path) == []


def test_an_editable_install_compiles_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLEARBOOK_COMPILE", raising=False)
    monkeypatch.delenv("CLEARBOOK_PURE", raising=False)
    assert not hatch_build.wanted(editable=True)
    assert hatch_build.wanted(editable=False)
    monkeypatch.setenv("CLEARBOOK_COMPILE", "1")
    assert hatch_build.wanted(editable=True)
    monkeypatch.setenv("CLEARBOOK_PURE", "1")
    assert not hatch_build.wanted(editable=False)
