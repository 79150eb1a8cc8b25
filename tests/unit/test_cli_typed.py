"""Refusals in the words of the command line."""

from __future__ import annotations

import pytest

from services.cli.typed import as_typed


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("INVALID_FIELD: amount must be more than zero", "INVALID_FIELD: amount must be more than zero"),
        ("ALREADY_EXISTS: transfer_id g1 was used", "ALREADY_EXISTS: --id g1 was used"),
        ("allowed_ips must be given for the scope WITHDRAW", "--allow-ip must be given for the scope WITHDRAW"),
        ("must be KEY_KIND_ED25519 or KEY_KIND_BEARER", "must be ed25519 or bearer"),
        ("to_user must be another account than from_user", "USER must be another account than --from"),
        ("my_transfer_id is mine", "my_transfer_id is mine"),
    ],
)
def test_names(message: str, expected: str) -> None:
    assert as_typed(message, {"from_user": "--from", "to_user": "USER"}) == expected
