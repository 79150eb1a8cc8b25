"""Faults of identity, planted one at a time in an interpreted copy of the source: the quick tests must find each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.test_money_faults import FAILED, Fault, copy, planted, run

__all__ = ["copy"]

IDENTITY = "services/order_gateway/identity"
GATE, SIGNING = "tests/unit/test_identity_gate.py", "tests/unit/test_identity_signing.py"

FAULTS = [
    Fault("a nonce is not remembered", f"{IDENTITY}/replays.py", "        known.add(once)\n", "", GATE),
    Fault(
        "a scope is not asked for",
        "services/order_gateway/gate.py",
        "if not identity.may(access.scope):",
        "if False:",
        GATE,
    ),
    Fault(
        "anybody may revoke a key",
        f"{IDENTITY}/issuer.py",
        "if key is None or user not in {None, key.user}:",
        "if key is None:",
        GATE,
    ),
    Fault(
        "a timestamp one millisecond too old",
        f"{IDENTITY}/signing.py",
        "now_ms - timestamp_ms <= recv_window_ms",
        "now_ms - timestamp_ms <= recv_window_ms + 1",
        SIGNING,
    ),
    Fault(
        "a timestamp one millisecond too far ahead",
        f"{IDENTITY}/signing.py",
        "timestamp_ms < now_ms + AHEAD_MS_MAX",
        "timestamp_ms <= now_ms + AHEAD_MS_MAX",
        SIGNING,
    ),
    Fault(
        "a signature that does not cover the body",
        f"{IDENTITY}/signing.py",
        "digest = hashlib.sha256(request).hexdigest()",
        'digest = hashlib.sha256(b"").hexdigest()',
        SIGNING,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_of_identity_is_found(fault: Fault, copy: Path) -> None:
    with planted(fault, copy):
        done = run(copy, [fault.found_by])
    assert done.returncode == FAILED, done.stdout + done.stderr
