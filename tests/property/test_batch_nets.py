"""Batches against naive bookkeeping: nothing is made, lost, skipped or put out of order, however it is cut."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from services.settler import contract
from services.settler.batch import LEGS_MAX, Body, Cut, Entry, NewAsset, Trade, Transfer, Withdrawal, cut
from services.settler.contract import Delta, account_key, sort_deltas, sort_withdrawals

ASSETS = ("USD", "BTC", "ETH")
TOKENS = {asset: f"0x{(place * 7919) % 1000:040x}" for place, asset in enumerate(ASSETS, 1)}

accounts = st.integers(1, 12) | st.integers(1001, 1300)
amounts = st.integers(1, 10**6) | st.integers(1, 10**30)


@st.composite
def trades(draw: st.DrawFn) -> Trade:
    base, quote = draw(st.permutations(ASSETS))[:2]
    base_amount, quote_amount = draw(amounts), draw(amounts)
    fees = draw(st.integers(0, base_amount)), draw(st.integers(0, quote_amount))
    return Trade(f"{base}-{quote}", 1, base, quote, draw(accounts), draw(accounts), base_amount, quote_amount, *fees)


transfers = st.builds(Transfer, st.just("t"), accounts, accounts, st.sampled_from(ASSETS), amounts)
ADDRESSES = [f"0x{number:040x}" for number in (1, 7, 2**159)]
withdrawals = st.builds(
    Withdrawal, st.just("w"), accounts, st.sampled_from(ASSETS), amounts, st.sampled_from(ADDRESSES)
)
bodies = trades() | transfers | withdrawals | st.builds(NewAsset, st.sampled_from(ASSETS), st.just(18))
sequences = st.lists(bodies, min_size=1, max_size=120)


def naive(entries: list[Entry]) -> Counter[tuple[str, int]]:
    """One movement at a time, written the other way round: what each account receives and gives."""
    balances: Counter[tuple[str, int]] = Counter()
    for entry in entries:
        body: Body = entry.body
        if isinstance(body, Transfer):
            balances[body.asset, body.sender] -= body.amount
            balances[body.asset, body.receiver] += body.amount
        elif isinstance(body, Withdrawal):
            balances[body.asset, body.account_id] -= body.amount
        elif isinstance(body, Trade):
            balances[body.base, body.seller] -= body.base_amount
            balances[body.base, body.buyer] += body.base_amount
            balances[body.base, body.buyer] -= body.buyer_fee
            balances[body.base, 1] += body.buyer_fee
            balances[body.quote, body.buyer] -= body.quote_amount
            balances[body.quote, body.seller] += body.quote_amount
            balances[body.quote, body.seller] -= body.seller_fee
            balances[body.quote, 1] += body.seller_fee
    return balances


def naive_out(entries: list[Entry]) -> dict[tuple[str, str], int]:
    """What each address may claim, by token."""
    out: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        if isinstance(entry.body, Withdrawal):
            out[TOKENS[entry.body.asset], entry.body.address] += entry.body.amount
    return dict(out)


def cut_all(entries: list[Entry], entries_max: int, legs_max: int, withdrawals_max: int = 50) -> list[Cut]:
    cuts = []
    while entries:
        found = cut(entries, TOKENS, entries_max=entries_max, legs_max=legs_max, withdrawals_max=withdrawals_max)
        assert found is not None
        cuts.append(found)
        entries = entries[found.last - found.first + 1 :]
    return cuts


@settings(max_examples=150, deadline=None)
@given(sequences, st.integers(1, 60), st.integers(6, LEGS_MAX), st.integers(1, 9), st.integers(1, 10**6))
def test_all_batches_together_are_the_naive_sum(
    given_bodies: list[Body], entries_max: int, legs_max: int, withdrawals_max: int, first: int
) -> None:
    entries = [Entry(first + place, body) for place, body in enumerate(given_bodies)]
    cuts = cut_all(entries, entries_max, legs_max, withdrawals_max)

    total: Counter[tuple[str, int]] = Counter()
    due = first
    for found in cuts:
        assert found.first == due <= found.last < found.first + entries_max
        due = found.last + 1
        assert len(found.legs) <= legs_max
        assert all(leg.amount for leg in found.legs)
        for token in TOKENS.values():
            out = sum(each.amount for each in found.withdrawals if each.token == token)
            assert sum(leg.amount for leg in found.legs if leg.token == token) == -out
        taken = entries[found.first - first : found.last - first + 1]
        assert {(each.token, each.address): each.amount for each in found.withdrawals} == naive_out(taken)
        assert len(found.withdrawals) <= withdrawals_max
        own = naive(taken)
        assert {(leg.token, leg.account_id): leg.amount for leg in found.legs} == {
            (TOKENS[asset], account): amount for (asset, account), amount in own.items() if amount
        }
        total.update({(leg.token, leg.account_id): leg.amount for leg in found.legs})
    assert due == first + len(entries)
    whole = {(TOKENS[asset], account): amount for (asset, account), amount in naive(entries).items() if amount}
    assert {key: amount for key, amount in total.items() if amount} == whole


@settings(max_examples=100, deadline=None)
@given(sequences, st.integers(1, 60))
def test_the_legs_are_in_the_order_that_the_contract_demands(given_bodies: list[Body], entries_max: int) -> None:
    entries = [Entry(1 + place, body) for place, body in enumerate(given_bodies)]
    for found in cut_all(entries, entries_max, LEGS_MAX):
        deltas = [Delta(account_key(leg.account_id), leg.token, leg.amount) for leg in found.legs]
        out = [contract.Withdrawal(each.token, each.address, each.amount) for each in found.withdrawals]
        assert sort_withdrawals(out) == out
        assert sort_deltas(deltas, out) == deltas


@settings(max_examples=50, deadline=None)
@given(sequences, st.integers(1, 60))
def test_more_entries_behind_change_nothing_in_a_full_batch(given_bodies: list[Body], entries_max: int) -> None:
    entries = [Entry(1 + place, body) for place, body in enumerate(given_bodies)]
    found = cut(entries, TOKENS, entries_max=entries_max)
    assert found is not None
    assert cut(entries[: found.last], TOKENS, entries_max=entries_max) == found
    assert cut(list(entries), dict(reversed(TOKENS.items())), entries_max=entries_max) == found
