"""What is owed by the ledger, counted beside the naive sum of everything that moved."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.settler.batch import Body, Entry, NewAsset, Trade, Transfer, Withdrawal
from services.settler.liabilities import Credit, Liabilities, Owed, Payout, Through

WALLET = "0x" + "ab" * 20
ALICE, BOB = 1001, 1002
USERS = st.integers(1001, 1004)
AMOUNTS = st.integers(1, 10**30)

transfers = st.builds(Transfer, st.just("t"), USERS, USERS, st.sampled_from(["BTC", "USD"]), AMOUNTS)
withdrawals = st.builds(Withdrawal, st.just("w"), USERS, st.sampled_from(["BTC", "USD"]), AMOUNTS, st.just(WALLET))
trades = st.builds(
    Trade,
    *(st.just(each) for each in ("BTC-USD", 1, "BTC", "USD")),
    *(USERS, USERS, AMOUNTS, AMOUNTS, st.integers(0, 5), st.integers(0, 5)),
)
bodies = st.lists(st.one_of(transfers, withdrawals, trades, st.just(NewAsset("BTC", 8))), max_size=20)


def settled(*these: Body, deposits: tuple[Credit, ...] = ()) -> Liabilities:
    made = Liabilities()
    made.credit(deposits)
    made.settle(Entry(number, body) for number, body in enumerate(these, 1))
    return made


@given(bodies)
def test_nothing_is_made_and_nothing_lost(these: list[Body]) -> None:
    """What is moved stays in the vault, withdrawn or not: of each asset all sums stay what was deposited."""
    made = settled(*these, deposits=(Credit(1, ALICE, "BTC", 50), Credit(2, BOB, "USD", 7)))
    sums: Counter[str] = Counter()
    for owed, amount in made.amounts.items():
        sums[owed.asset] += amount
    assert (sums["BTC"], sums["USD"]) == (50, 7)
    assert made.through == Through(len(these), 2, 0)
    assert made.changed >= {owed for owed, amount in made.amounts.items() if amount}


def test_a_withdrawal_is_owed_to_its_address_until_it_claims() -> None:
    made = settled(Withdrawal("w", ALICE, "BTC", 20, WALLET), deposits=(Credit(1, ALICE, "BTC", 50),))
    assert made.by_holder(["BTC"]) == {str(ALICE): (30,), WALLET: (20,)}
    made.pay([Payout(1, WALLET, "BTC", 20)])
    assert made.by_holder(["BTC"]) == {str(ALICE): (30,)}
    assert made.through == Through(1, 1, 1)


def test_what_has_left_falls_to_insurance_but_for_what_the_chain_kept() -> None:
    made = settled(
        Transfer("t", BOB, ALICE, "BTC", 7), deposits=(Credit(1, ALICE, "BTC", 50), Credit(2, BOB, "BTC", 9))
    )
    made.pay([Payout(1, WALLET, "BTC", 50, ALICE)])  # before the transfer was settled
    made.keep(Owed(str(ALICE), "BTC"), 0)
    assert made.by_holder(["BTC"]) == {"3": (7,), str(BOB): (2,)}
    made.keep(Owed(str(ALICE), "BTC"), 0)
    assert made.amounts[Owed("3", "BTC")] == 7, "once"
    with pytest.raises(AssertionError):
        made.keep(Owed(str(BOB), "BTC"), 0)


@pytest.mark.parametrize(
    "gap",
    [
        lambda made: made.settle([Entry(2, NewAsset("BTC", 8))]),
        lambda made: made.credit([Credit(2, ALICE, "BTC", 1)]),
        lambda made: made.pay([Payout(2, WALLET, "BTC", 1)]),
    ],
)
def test_nothing_is_passed_over(gap: object) -> None:
    with pytest.raises(AssertionError, match="is missing"):
        gap(Liabilities())  # type: ignore[operator]
