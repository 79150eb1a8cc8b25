"""What withdrawals keep to, as tables: rules of an asset, an account's list of addresses, 24 hours exactly."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import allow_list, withdrawal_rules
from services.allow_list import AllowList, AllowListChange
from services.book.withdrawn import DAY_NS, Withdrawn
from services.errors import Reason
from services.withdrawal_rules import COOLING_SECONDS_MAX, WithdrawalRules

SMALL, LARGE, LIMIT = Reason.WITHDRAWAL_TOO_SMALL, Reason.WITHDRAWAL_TOO_LARGE, Reason.WITHDRAWAL_LIMIT_EXCEEDED
RULES = WithdrawalRules(amount_min=2, amount_max=9, day_max=20, unapproved_max=5, cooling_seconds=60)


@pytest.mark.parametrize(
    ("rules", "amount", "withdrawn", "objection", "approves"),
    [
        # No rules: everything may be asked for, and somebody has to approve it.
        (WithdrawalRules(), 1, 0, None, False),
        (WithdrawalRules(), 10**30, 10**30, None, False),
        (RULES, 1, 0, SMALL, True),
        (RULES, 2, 0, None, True),
        (RULES, 9, 0, None, False),
        (RULES, 10, 0, LARGE, False),
        (RULES, 9, 11, None, False),
        (RULES, 9, 12, LIMIT, False),
        # Many small ones are as one large one.
        (RULES, 5, 0, None, True),
        (RULES, 2, 3, None, True),
        (RULES, 2, 4, None, False),
        (WithdrawalRules(unapproved_max=5), 5, 0, None, True),
        (WithdrawalRules(day_max=5), 6, 0, LIMIT, False),
    ],
)
def test_rules(rules: WithdrawalRules, amount: int, withdrawn: int, objection: Reason | None, approves: bool) -> None:
    assert (rules.objection(amount, withdrawn), rules.approves(amount, withdrawn)) == (objection, approves)


@pytest.mark.parametrize(
    ("rules", "fit"),
    [
        (WithdrawalRules(), True),
        (RULES, True),
        (WithdrawalRules(2, 2, 2, 2**256 - 1, COOLING_SECONDS_MAX), True),
        (replace(RULES, amount_min=-1), False),
        (replace(RULES, day_max=2**256), False),
        (replace(RULES, unapproved_max=2**256), False),
        (replace(RULES, amount_max=1), False),
        (replace(RULES, day_max=1), False),
        (replace(RULES, cooling_seconds=COOLING_SECONDS_MAX + 1), False),
        (replace(RULES, cooling_seconds=-1), False),
    ],
)
def test_rules_that_an_asset_may_have(rules: WithdrawalRules, fit: bool) -> None:
    assert rules.fit() is fit
    assert withdrawal_rules.of_stored(withdrawal_rules.stored(rules)) == rules


A, B = "0x" + "aa" * 20, "0x" + "bb" * 20
ADD, REMOVE, ON, OFF = AllowListChange
NOT, NEW = Reason.ADDRESS_NOT_ALLOWED, Reason.ADDRESS_TOO_NEW


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        # What is changed when (the delay is 10); what becomes of a withdrawal to which address when
        ([], [(A, 0, None)]),
        ([(ADD, A, 0)], [(B, 0, None)]),
        ([(ON, "", 5)], [(A, 5, NOT), (A, 99, NOT)]),
        ([(ADD, A, 0), (ON, "", 5)], [(A, 5, NEW), (A, 9, NEW), (A, 10, None), (B, 10, NOT)]),
        ([(ADD, A, 0), (ON, "", 5), (ADD, A, 8)], [(A, 10, None)]),
        ([(ADD, A, 0), (ON, "", 5), (REMOVE, A, 20)], [(A, 20, NOT)]),
        ([(ADD, A, 0), (REMOVE, A, 5), (ADD, A, 6), (ON, "", 6)], [(A, 15, NEW), (A, 16, None)]),
        ([(REMOVE, A, 0), (ON, "", 0)], [(A, 0, NOT)]),
        ([(ON, "", 0), (OFF, "", 5)], [(A, 5, NOT), (A, 14, NOT), (A, 15, None)]),
        ([(ON, "", 0), (OFF, "", 5), (OFF, "", 9)], [(A, 15, None)]),
        ([(ON, "", 0), (OFF, "", 5), (ON, "", 9)], [(A, 15, NOT)]),
        ([(ON, "", 0), (OFF, "", 5), (ON, "", 20)], [(A, 20, NOT)]),
        ([(OFF, "", 0)], [(A, 0, None)]),
        ([(OFF, "", 0), (ON, "", 1)], [(A, 10, NOT)]),
    ],
)
def test_lists_of_addresses(
    changes: list[tuple[AllowListChange, str, int]], asked: list[tuple[str, int, Reason | None]]
) -> None:
    allowed = AllowList()
    for change, address, now in changes:
        allowed = allowed.after(change, address, 100 + now, 10)
    for address, now, objection in asked:
        assert allowed.objection(address, 100 + now) == objection, (address, now)
    assert allow_list.of_stored(allow_list.stored(allowed)) == allowed
    assert astuple(allow_list.of_stored(allow_list.stored(allowed))) == astuple(allowed)


def test_a_day_ends_to_the_nanosecond() -> None:
    asked = Withdrawn()
    asked.add(1, 1_000, 7, 1, 5)
    assert [asked.amount(7, 1, 1_000 + DAY_NS + later) for later in (-1, 0)] == [5, 0]


steps = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "cancel", "look")),
        st.sampled_from((0, 1, DAY_NS // 3, DAY_NS - 1, DAY_NS)),
        st.integers(1, 2),
        st.integers(1, 2),
        st.integers(1, 9),
    ),
    max_size=40,
)


@given(steps)
def test_what_was_asked_for_within_a_day_is_what_a_list_of_all_says(
    drawn: list[tuple[str, int, int, int, int]],
) -> None:
    asked, everything, now = Withdrawn(), dict[int, tuple[int, int, int, int]](), 1
    for number, (what, later, account_id, asset_id, amount) in enumerate(drawn):
        now += later
        if what == "ask":
            asked.add(number, now, account_id, asset_id, amount)
            everything[number] = now, account_id, asset_id, amount
        elif what == "cancel":
            asked.cancel(number // 2)
            everything.pop(number // 2, None)
        found = [each for each in everything.values() if now - each[0] < DAY_NS]
        for key in ((1, 1), (1, 2), (2, 1), (2, 2)):
            assert asked.amount(*key, now) == sum(each[3] for each in found if each[1:3] == key)
        again = Withdrawn()
        for row in asked.rows(now):
            again.add(*row)
        assert again.rows(now) == asked.rows(now)
        assert len(asked.rows(now)) == len(found)
