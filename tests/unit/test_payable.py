"""How many trades of signed orders go into a batch where the contract refuses a leg of one of them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from services.settler.batch import SIGNED_TRADES_MAX, Trade
from services.settler.contract import LegRefused, account_key
from services.settler.payable import Payables
from services.settler.signed import signed_chained_hash
from services.signed_orders import Authorization, text_of

ORDER = text_of(Authorization(10, 100, 7, 99, "mine", bytes(64) + b"\x1b"))
TRADES = [Trade("BTC-USD", n, "BTC", "USD", 1001, 1002, 1, 10, 0, 0, ORDER, ORDER) for n in range(SIGNED_TRADES_MAX)]
BEFORE = b"b" * 32
SIMULATIONS_MAX = 6
"""All of them, then halves of 25."""


class Contract:
    """Refuses a leg of the trade after the first `takes`."""

    def __init__(self, takes: int) -> None:
        self.takes, self.simulations, self.chain = takes, 0, self

    async def block_number(self) -> int:
        return 5

    async def batch_hash(self, _shard: int, _block: int) -> bytes:
        return BEFORE

    def calldata(self, _function: str, _shard: int, _first: int, trades: list[Any], _links: list[Any]) -> bytes:
        return bytes([len(trades)])

    async def simulate(self, calldata: bytes, _sender: str, _block: int) -> LegRefused | None:
        self.simulations += 1
        return LegRefused(account_key(1001), "0x" + "11" * 20) if calldata[0] > self.takes else None


@pytest.mark.parametrize("count", [1, 2, SIGNED_TRADES_MAX])
def test_all_before_the_refused_one(count: int) -> None:
    for takes in range(count + 1):
        contract, store = Contract(takes), SimpleNamespace(number=lambda _name: 0)
        payables = Payables(contract, 0, "0x", store)  # type: ignore[arg-type]
        made = asyncio.run(payables.make_signed(7, TRADES[:count], []))
        assert contract.simulations <= SIMULATIONS_MAX
        if not takes:
            assert made is None
            continue
        assert made is not None
        assert (made.cut.first, made.cut.last, made.calldata) == (7, 6 + takes, bytes([takes]))
        assert made.chained == signed_chained_hash(BEFORE, 0, 7, TRADES[:takes])
