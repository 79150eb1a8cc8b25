"""schemathesis against the running exchange: all that /openapi.json says is so, and nothing that is sent breaks us.

It asks each route for the examples, for what the schemas allow and for what they do not (tests/schemathesis.toml), and
holds the answers to the document: their status, headers and bodies. What it sends depends on the seed alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.suite import Suite

SEED = "1"
EXAMPLES_EACH_MAX = "2"
SECONDS_MAX = 240
"""It takes 18 s of CPU."""
USER = "schema-tester"
TESTS = Path(__file__).resolve().parent.parent


def test_the_document_is_what_is_served(embedded: Suite) -> None:
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(TESTS / "schemathesis.toml"), "run"),
        *(f"{embedded.http}/openapi.json", "--phases", "examples,coverage,fuzzing", "--warnings", "off", "--no-color"),
        *("--seed", SEED, "--max-examples", EXAMPLES_EACH_MAX, "--continue-on-failure"),
    ]
    env = os.environ | {
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "SCHEMATHESIS_USER": USER,
        "PYTHONPATH": str(TESTS),
    }
    done = subprocess.run(
        command, env=env, cwd=embedded.folder, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    left = httpx.post(f"{embedded.http}/api/v1/orders/cancel-all", json={"user_id": USER}, timeout=30)
    assert left.status_code == 200, "others have its markets after it"
