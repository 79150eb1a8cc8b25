"""Since when the contract exists, asked of nodes that remember all or only the newest states."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.runtime.run import StartError
from services.settler.binding import first_block
from services.settler.contract import ChainUnavailable, WrongAnswer
from services.settler.keys import DEV_ADDRESS, DEV_KEY, KeySettings


class OldContract:
    """There since one block, on a node that remembers from another on."""

    def __init__(self, since: int, remembered: int, head: int) -> None:
        self.since, self.remembered, self.head = since, remembered, head
        self.chain = self

    async def block_number(self) -> int:
        return self.head

    async def settled_through(self, shard: int, block: int) -> int:  # noqa: ARG002
        if block < self.remembered:
            raise ChainUnavailable("BlockOutOfRangeError")
        if block < self.since:
            raise WrongAnswer("gave 0 bytes")
        return 0


@pytest.mark.parametrize(
    ("key", "known"),
    [("", True), (DEV_KEY, True), (DEV_KEY.upper().replace("0X", "0x"), True), ("0x" + "11" * 32, False)],
)
def test_the_well_known_key_is_known_however_it_is_given(key: str, known: bool) -> None:
    assert (KeySettings(settlement_private_key=key).signer().address == DEV_ADDRESS) is known


FOUND = [(0, 0, 0), (0, 0, 9), (5, 0, 9), (9, 0, 9), (8_060, 7_000, 8_069), (8_069, 8_068, 8_069), (1, 0, 1_000_000)]


@pytest.mark.parametrize(("since", "remembered", "head"), FOUND)
async def test_found(since: int, remembered: int, head: int) -> None:
    assert await first_block(cast("Any", OldContract(since, remembered, head))) == since


LOST = [(5, 7, 9), (7, 7, 9), (0, 1, 9), (9, 10, 9)]


@pytest.mark.parametrize(("since", "remembered", "head"), LOST)
async def test_lost(since: int, remembered: int, head: int) -> None:
    with pytest.raises(StartError, match="set SETTLEMENT_START_BLOCK"):
        await first_block(cast("Any", OldContract(since, remembered, head)))
