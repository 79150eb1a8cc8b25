"""The standalone verifier, `scripts/verify_reserves.py`, as a module."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "verify_reserves.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_reserves", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


verifier = _load()


def verified(folder: Path, proof: dict[str, Any], *options: str) -> tuple[int, str]:
    """Exit code and output of the verifier."""
    file = folder / "proof.json"
    file.write_text(json.dumps(proof))
    said: list[str] = []
    code: int = verifier.main([str(file), *options], said.append)
    return code, "\n".join(said)
