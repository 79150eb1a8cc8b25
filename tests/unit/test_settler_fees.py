"""What a transaction offers, and what replaces it: as much more as any node insists on, never above the cap."""

from __future__ import annotations

from typing import Any, cast

import pytest
from eth_account import Account
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.settler.contract import Chain, Signer
from services.settler.fees import Fees, offered, replacement
from services.settler.keys import DEV_KEY
from services.settler.transactions import fees_of, unsigned, with_fees

GWEI = 10**9

OFFERED = [
    ((100, 7, None), Fees(207, 7)),
    ((0, 0, None), Fees(0, 0)),
    ((100, 7, 206), Fees(206, 7)),
    ((100, 7, 5), Fees(5, 5)),
]


@pytest.mark.parametrize(("asked", "fees"), OFFERED)
def test_offered(asked: tuple[int, int, int | None], fees: Fees) -> None:
    assert offered(*asked) == fees


REPLACED = [
    # the old one, what is usual now, the cap, what replaces it
    (Fees(8 * GWEI, 8), Fees(1, 1), 100 * GWEI, Fees(9 * GWEI, 9)),
    (Fees(80, 8), Fees(200, 3), 1_000, Fees(200, 9)),
    (Fees(80, 8), Fees(200, 150), 1_000, Fees(200, 150)),
    (Fees(80, 8), Fees(200, 150), 120, Fees(120, 120)),
    (Fees(80, 80), Fees(1, 1), 90, Fees(90, 90)),
    (Fees(80, 8), Fees(200, 150), 89, None),
    (Fees(90, 9), Fees(1, 1), 90, None),
    (Fees(0, 0), Fees(0, 0), 10, Fees(1, 1)),
    (Fees(81, 1), Fees(0, 0), 1_000, Fees(92, 2)),
]


@pytest.mark.parametrize(("old", "usual", "cap", "fees"), REPLACED)
def test_replaced(old: Fees, usual: Fees, cap: int, fees: Fees | None) -> None:
    assert replacement(old, usual, cap) == fees


WEI = st.integers(0, 10**15)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(WEI, WEI, WEI, WEI, WEI)
def test_a_replacement_is_an_eighth_dearer_in_both_and_within_the_cap(
    most: int, tip: int, base: int, usual_tip: int, cap: int
) -> None:
    old = Fees(most, min(tip, most))
    fees = replacement(old, offered(base, usual_tip), cap)
    if fees is None:
        assert old.max_fee_wei * 9 > cap * 8 - 8, "there was room"
        return
    for before, after in ((old.max_fee_wei, fees.max_fee_wei), (old.max_priority_fee_wei, fees.max_priority_fee_wei)):
        assert after * 8 >= before * 9
        assert after > before
    assert fees.max_priority_fee_wei <= fees.max_fee_wei <= cap


@pytest.mark.parametrize("to", [None, "0x" + "12" * 20])
async def test_a_dearer_transaction_says_the_same(to: str | None) -> None:
    signer = Signer(DEV_KEY)
    chain = Chain("http://nowhere", 5, web3=cast("Any", None))
    asked = chain.transaction(to, b"\1\2", nonce=7, gas=90_000, fees=Fees(90, 9))
    signed = await signer.sign(asked)
    assert unsigned(signed.raw) == asked
    assert fees_of(signed.raw) == Fees(90, 9)
    again = await signer.sign(with_fees(signed.raw, Fees(200, 20)))
    assert again.hash != signed.hash
    assert unsigned(again.raw) == {**asked, "maxFeePerGas": 200, "maxPriorityFeePerGas": 20}
    assert Account.recover_transaction(again.raw) == signer.address


@pytest.mark.parametrize("raw", [b"", b"\2", b"\1\xc0", b"\2\xc0", b"\2\xff" * 9, b"\2\xc1\x80"])
def test_what_is_no_such_transaction_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a signed EIP-1559 transaction"):
        unsigned(raw)
