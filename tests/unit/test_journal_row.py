"""A row of the journal: its hash covers all of it, and it follows exactly one other."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from services.book.journal import GENESIS_HASH, Damaged, Row

ROW = Row(1, 5, 7, 2, 10**18, b"commands", b"events", 3, GENESIS_HASH, b"").hashed()


def test_the_hash_is_as_documented() -> None:
    numbers = b"".join(n.to_bytes(8, "big") for n in (1, 5, 7, 2, 10**18, 3))
    whole = GENESIS_HASH + numbers + sha256(b"commands").digest() + sha256(b"events").digest()
    assert ROW.hash == sha256(whole).digest()
    ROW.check()


@pytest.mark.parametrize(
    "change",
    [
        {"shard": 0},
        {"first_sequence": 4},
        {"last_sequence": 8},
        {"epoch": 3},
        {"time_ns": 10**18 + 1},
        {"commands": b"Commands"},
        {"events": b"Events"},
        {"last_settlement_sequence": 4},
        {"previous_hash": b"\1" * 32},
        {"hash": b"\1" * 32},
        {"epoch": -1},
    ],
)
def test_any_change_shows(change: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        replace(ROW, **change).check()


@pytest.mark.parametrize(
    ("last_sequence", "last_hash", "complaint"),
    [
        (4, GENESIS_HASH, ""),
        (4, None, ""),
        (3, GENESIS_HASH, "sequence 4: a row is missing"),
        (5, GENESIS_HASH, "sequence 6: a row is missing"),
        (4, b"\1" * 32, "sequence 5: the row 5–7 does not continue"),
    ],
)
def test_what_it_may_follow(last_sequence: int, last_hash: bytes | None, complaint: str) -> None:
    if not complaint:
        ROW.check_after(last_sequence, last_hash)
        return
    with pytest.raises(Damaged, match=complaint):
        ROW.check_after(last_sequence, last_hash)


def test_a_row_of_no_events_is_damaged_though_its_hash_is_right() -> None:
    with pytest.raises(Damaged, match="no event"):
        replace(ROW, last_sequence=4).hashed().check()
