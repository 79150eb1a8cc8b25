"""Batches as tables: what nets to what, and where a batch ends."""

from __future__ import annotations

import pytest

from services.settler.batch import (
    Body,
    Cut,
    Entry,
    Leg,
    NewAsset,
    Released,
    Trade,
    Transfer,
    Withdrawal,
    cut,
    insured,
    moves,
    unlisted,
    waits_for,
)

USD, BTC, ETH = "0x" + "11" * 20, "0x" + "22" * 20, "0x" + "33" * 20
TOKENS = {"USD": USD, "BTC": BTC, "ETH": ETH}


def trade(buyer: int, seller: int, base: int, quote: int, buyer_fee: int = 0, seller_fee: int = 0) -> Trade:
    return Trade("BTC-USD", 1, "BTC", "USD", buyer, seller, base, quote, buyer_fee, seller_fee)


def transfer(sender: int, receiver: int, amount: int, asset: str = "USD") -> Transfer:
    return Transfer("t", sender, receiver, asset, amount)


def withdrawal(account: int, amount: int, address: str = "0x" + "aa" * 20, asset: str = "USD") -> Withdrawal:
    return Withdrawal("w", account, asset, amount, address)


def entries(*bodies: Body, first: int = 1) -> list[Entry]:
    return [Entry(first + place, body) for place, body in enumerate(bodies)]


NETS = [
    ("a trade, both fees", [trade(7, 8, 1000, 500, 3, 2)], [
        (USD, 1, 2), (USD, 7, -500), (USD, 8, 498), (BTC, 1, 3), (BTC, 7, 997), (BTC, 8, -1000)]),
    ("a trade without fees", [trade(7, 8, 1000, 500)], [
        (USD, 7, -500), (USD, 8, 500), (BTC, 7, 1000), (BTC, 8, -1000)]),
    ("there and back nets to nothing", [trade(7, 8, 1000, 500), trade(8, 7, 1000, 500)], []),
    ("there and back with fees leaves the fees", [trade(7, 8, 10, 50, 1, 1), trade(8, 7, 10, 50, 1, 1)], [
        (USD, 1, 2), (USD, 7, -1), (USD, 8, -1), (BTC, 1, 2), (BTC, 7, -1), (BTC, 8, -1)]),
    ("a transfer", [transfer(2, 9, 5)], [(USD, 2, -5), (USD, 9, 5)]),
    ("a chain of transfers nets out the middle", [transfer(2, 9, 5), transfer(9, 10, 5)], [(USD, 2, -5), (USD, 10, 5)]),
    ("accounts in the order of their numbers", [transfer(300, 5, 1), transfer(300, 40, 1)], [
        (USD, 5, 1), (USD, 40, 1), (USD, 300, -2)]),
    ("a new asset alone moves nothing", [NewAsset("BTC", 18)], []),
    ("an account that is both sides", [trade(7, 7, 10, 50, 1, 2)], [
        (USD, 1, 2), (USD, 7, -2), (BTC, 1, 1), (BTC, 7, -1)]),
    ("the fee account trades too", [trade(1, 8, 10, 50, 1, 1)], [
        (USD, 1, -49), (USD, 8, 49), (BTC, 1, 10), (BTC, 8, -10)]),
    ("amounts are unbounded", [transfer(2, 9, 10**60)], [(USD, 2, -(10**60)), (USD, 9, 10**60)]),
]  # fmt: skip


@pytest.mark.parametrize(("bodies", "legs"), [row[1:] for row in NETS], ids=[row[0] for row in NETS])
def test_nets(bodies: list[NewAsset | Trade | Transfer], legs: list[tuple[str, int, int]]) -> None:
    found = cut(entries(*bodies, first=5), TOKENS, entries_max=100)
    assert found == Cut(5, 4 + len(bodies), tuple(Leg(*leg) for leg in legs))


LOW, HIGH = "0x" + "0b" * 20, "0x" + "aa" * 20
OUT = [
    ("one", [withdrawal(7, 5)], [(USD, 7, -5)], [(USD, HIGH, 5)]),
    ("two of an address are one", [withdrawal(7, 5), withdrawal(8, 6)], [(USD, 7, -5), (USD, 8, -6)], [
        (USD, HIGH, 11)]),
    ("by the address's number", [withdrawal(7, 5), withdrawal(7, 6, LOW)], [(USD, 7, -11)], [
        (USD, LOW, 6), (USD, HIGH, 5)]),
    ("by token first", [withdrawal(7, 5, LOW, "BTC"), withdrawal(7, 6)], [(USD, 7, -6), (BTC, 7, -5)], [
        (USD, HIGH, 6), (BTC, LOW, 5)]),
    ("what comes in goes out", [transfer(2, 7, 5), withdrawal(7, 5)], [(USD, 2, -5)], [(USD, HIGH, 5)]),
    ("beside a trade", [trade(7, 8, 10, 50), withdrawal(8, 50)], [(USD, 7, -50), (BTC, 7, 10), (BTC, 8, -10)], [
        (USD, HIGH, 50)]),
]  # fmt: skip


@pytest.mark.parametrize(("bodies", "legs", "out"), [row[1:] for row in OUT], ids=[row[0] for row in OUT])
def test_withdrawals(bodies: list[Body], legs: list[tuple[str, int, int]], out: list[tuple[str, str, int]]) -> None:
    found = cut(entries(*bodies), TOKENS, entries_max=100)
    assert found == Cut(1, len(bodies), tuple(Leg(*leg) for leg in legs), tuple(Released(*each) for each in out))


@pytest.mark.parametrize(("legs_max", "withdrawals_max", "taken"), [(200, 50, 4), (200, 2, 3), (200, 1, 2), (6, 1, 2)])
def test_a_batch_ends_before_one_withdrawal_too_many(legs_max: int, withdrawals_max: int, taken: int) -> None:
    waiting = entries(withdrawal(7, 5), withdrawal(8, 5), withdrawal(7, 5, LOW), withdrawal(7, 5, LOW, "BTC"))
    found = cut(waiting, TOKENS, entries_max=10, legs_max=legs_max, withdrawals_max=withdrawals_max)
    assert found is not None
    assert found == cut(waiting[:taken], TOKENS, entries_max=10)


def test_tokens_are_ordered_by_their_number_and_not_by_their_letters() -> None:
    tokens = {"USD": "0x00000000000000000000000000000000000000Ab", "BTC": "0x00000000000000000000000000000000000000aC"}
    found = cut(entries(trade(7, 8, 1, 2)), tokens, entries_max=10)
    assert found is not None
    assert [leg.token for leg in found.legs] == [tokens["USD"], tokens["USD"], tokens["BTC"], tokens["BTC"]]


ENDS = [
    ("everything fits", 10, 200, 3),
    ("entries_max", 2, 200, 2),
    ("legs_max: each transfer needs one leg more", 10, 3, 2),
    ("legs_max exactly", 10, 4, 3),
]


@pytest.mark.parametrize(("entries_max", "legs_max", "taken"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_ends(entries_max: int, legs_max: int, taken: int) -> None:
    waiting = entries(transfer(2, 10, 1), transfer(2, 11, 1), transfer(2, 12, 1))
    found = cut(waiting, TOKENS, entries_max=entries_max, legs_max=legs_max)
    assert found is not None
    assert (found.first, found.last) == (1, taken)
    assert len(found.legs) == taken + 1
    assert sum(leg.amount for leg in found.legs) == 0


def test_what_did_not_fit_leaves_no_trace() -> None:
    found = cut(entries(transfer(2, 10, 1), transfer(3, 4, 9)), TOKENS, entries_max=10, legs_max=3)
    assert found == Cut(1, 1, (Leg(USD, 2, -1), Leg(USD, 10, 1)))


def test_it_ends_before_an_asset_without_a_token() -> None:
    tokens = {"USD": USD}
    waiting = entries(transfer(2, 9, 5), NewAsset("BTC", 18), transfer(2, 9, 5))
    assert cut(waiting, tokens, entries_max=10) == Cut(1, 1, (Leg(USD, 2, -5), Leg(USD, 9, 5)))
    assert cut(waiting[1:], tokens, entries_max=10) is None
    assert cut(waiting[1:], TOKENS, entries_max=10) == Cut(2, 3, (Leg(USD, 2, -5), Leg(USD, 9, 5)))
    assert unlisted(waiting, tokens) == {"BTC": 18}
    assert unlisted([*waiting, Entry(4, transfer(2, 9, 5, "ETH"))], {}) == {"USD": None, "BTC": 18, "ETH": None}
    assert unlisted(waiting, TOKENS) == {}
    assert waits_for(waiting[1].body, tokens) == "BTC"
    assert waits_for(trade(1, 2, 3, 4), tokens) == "BTC"


def test_nothing_to_cut() -> None:
    assert cut([], TOKENS, entries_max=10) is None


def test_a_hole_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="not contiguous"):
        cut([Entry(1, transfer(2, 9, 5)), Entry(3, transfer(2, 9, 5))], TOKENS, entries_max=10)


def test_moves_of_a_trade_say_who_pays_what() -> None:
    assert moves(trade(7, 8, 1000, 500, 3, 2)) == (
        ("BTC", 8, -1000),
        ("BTC", 7, 997),
        ("BTC", 1, 3),
        ("USD", 7, -500),
        ("USD", 8, 498),
        ("USD", 1, 2),
    )


# Legs of USD; who cannot pay, and what it has; the legs then, and what insurance pays.
INSURED = [
    ("nothing of it", {7: -5, 8: 5}, 7, 0, {3: -5, 8: 5}, 5),
    ("a part of it", {7: -5, 8: 5}, 7, 2, {3: -3, 7: -2, 8: 5}, 3),
    ("beside a leg of insurance's own", {3: -1, 7: -5, 8: 6}, 7, 2, {3: -4, 7: -2, 8: 6}, 3),
    ("insurance receives what it pays", {3: 5, 7: -5}, 7, 0, {}, 5),
    ("insurance receives more", {3: 6, 7: -5, 8: -1}, 7, 1, {3: 2, 7: -1, 8: -1}, 4),
]


@pytest.mark.parametrize("row", INSURED, ids=[row[0] for row in INSURED])
def test_insurance_pays_what_an_account_lacks(row: tuple[str, dict[int, int], int, int, dict[int, int], int]) -> None:
    _, before, account_id, has, then, pays = row
    other = [Leg(BTC, 7, -9), Leg(BTC, 8, 9)]
    made = Cut(4, 6, (*(Leg(USD, who, amount) for who, amount in before.items()), *other))
    found, lacks = insured(made, USD, account_id, has)
    assert found == Cut(4, 6, (*(Leg(USD, who, amount) for who, amount in then.items()), *other))
    assert lacks == pays


def test_insurance_pays_for_nobody_who_can() -> None:
    made = Cut(1, 1, (Leg(USD, 3, -1), Leg(USD, 7, -5), Leg(USD, 8, 6)))
    for account_id, has in ((7, 5), (3, 0)):
        with pytest.raises(AssertionError):
            insured(made, USD, account_id, has)
