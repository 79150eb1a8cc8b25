"""Runs docs/identity.md: its shell and Python as one script, against an exchange that requires credentials."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.suite import Suite
from tests.transcript import BUF, ROOT, addresses

GUIDE = ROOT / "docs" / "identity.md"
SECONDS_MAX = 120.0


def run_guide(suite: Suite, folder: Path, admin_token: str) -> str:
    """Runs all of it in a folder; returns what it wrote. Raises AssertionError if it fails or prints anything else."""
    text, printed = _script(GUIDE.read_text())
    for written, ours in addresses(suite).items():
        text = text.replace(written, ours)
    real = os.environ.get("GRPCURL") or _as_grpcurl(folder / "grpcurl")
    folders = [str(Path(real).parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    env = os.environ | {"PATH": ":".join(folders), "CLEARBOOK_ADMIN_TOKEN": admin_token}
    done = subprocess.run(
        ["bash", "-c", text], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = (folder / "all-printed").read_text()
    assert found == printed, f"its programs printed\n{found}\ninstead of\n{printed}"
    return done.stdout


def _script(guide: str) -> tuple[str, str]:
    """All shell and Python of the guide as one script, and what its programs print."""
    parts, printed = ["set -euo pipefail", "set -a"], ""
    for kind, block in re.findall(r"^```(sh|python)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL):
        if kind == "sh":
            parts.append(block)
            continue
        program, _, output = block.partition("# prints:\n")
        parts.append(f"{shlex.quote(sys.executable)} - >> all-printed <<'PYTHON'\n{program}PYTHON\n")
        printed += output.replace("# ", "")
    return "\n".join(parts), printed


def _as_grpcurl(file: Path) -> str:
    """A grpcurl out of buf: the options are the same, but buf wants address and method in one word."""
    called = f'exec {shlex.join(BUF)} "${{@:1:n-2}}" "http://${{@:n-1:1}}/${{@:n}}"'
    file.write_text(f"#!/usr/bin/env bash\nshift\nn=$#\n{called}\n")
    file.chmod(0o755)
    return str(file)
