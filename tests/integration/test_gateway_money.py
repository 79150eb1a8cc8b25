"""Moving money through the public API, beside a real book: transfers, withdrawals, adjustments; who spends first."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import order_service_pb2 as order_pb

from services.order_gateway import money
from services.order_gateway.check import violations
from services.runtime import rpc
from tests import gateways
from tests.gateways import WHOLE, Client, Exchange, limit, refused

WALLET = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
SPENDS = 1_000
ROUNDS = 100 if os.environ.get("CLEARBOOK_SOAK") else 3
KINDS = ((0, 1, 2), (1, 2), (2, 1))
"""Of spends, by round: an order need not look into the database first, and wins where there is one."""


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path) as running:
        for name in ("alice", "bob"):
            await running.user(name).balances()
        yield running
        assert violations(running.gateway.ledger) == []


def transfer(transfer_id: str = "t", **fields: Any) -> pb.CreateTransferRequest:
    return pb.CreateTransferRequest(
        **{"transfer_id": transfer_id, "to_user": "bob", "asset": "BTC", "amount": "1.5", **fields}
    )


def withdrawal(transfer_id: str = "w", **fields: Any) -> pb.CreateWithdrawalRequest:
    return pb.CreateWithdrawalRequest(
        **{"transfer_id": transfer_id, "asset": "BTC", "amount": "1.5", "address": WALLET, **fields}
    )


def adjustment(transfer_id: str = "a", **fields: Any) -> admin_pb.AdjustBalanceRequest:
    defaults = {"from_user": "faucet", "to_user": "bob", "asset": "BTC", "amount": "1.5", "reason": "a gift"}
    return admin_pb.AdjustBalanceRequest(**{"transfer_id": transfer_id, **defaults, **fields})


async def balance(client: Client, asset: str = "BTC") -> tuple[str, str, str, str]:
    """total, available, held, unsettled."""
    answer = await client.money("ListBalances", pb.ListBalancesRequest())
    (found,) = (item for item in answer.balances if item.asset == asset)
    return found.total, found.available, found.held, found.unsettled


# Transfers.


async def test_a_transfer_moves_at_once_and_once(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    before = exchange.gateway.ledger.sequence
    moved = (await alice.money("CreateTransfer", transfer())).transfer
    assert (moved.transfer_id, moved.kind, moved.state, moved.amount, moved.counterparty, moved.outgoing) == (
        "t", pb.TRANSFER_KIND_SENT, pb.TRANSFER_STATE_PENDING, "1.5", "bob", True,
    )  # fmt: skip
    assert moved.settlement_sequence and moved.create_time.seconds
    assert await balance(alice) == ("98.5", "98.5", "0", "98.5"), "demo funds are not final either"
    assert (await balance(bob))[:2] == ("101.5", "101.5")
    again = await asyncio.gather(*(alice.money("CreateTransfer", transfer()) for _ in range(30)))
    assert [answer.transfer for answer in again] == [moved] * 30
    assert (await balance(alice))[0] == "98.5"
    events = [item for item in exchange.gateway.ledger.account_names if item > 1_000]
    assert len(events) == 2 and exchange.gateway.ledger.sequence > before
    for other in ({"amount": "1.6"}, {"asset": "ETH"}):
        assert await refused(alice.money("CreateTransfer", transfer(**other))) == (
            "ALREADY_EXISTS", "ALREADY_EXISTS", "transfer_id",
        )  # fmt: skip
    assert await refused(alice.money("CreateWithdrawal", withdrawal("t"))) == (
        "ALREADY_EXISTS", "ALREADY_EXISTS", "transfer_id",
    )  # fmt: skip
    theirs = (await bob.money("CreateTransfer", transfer(to_user="alice"))).transfer
    assert theirs.counterparty == "alice", "another user's id is another id"
    await exchange.depositor.finalize(moved.settlement_sequence)
    await until(lambda: exchange.gateway.ledger.final_through == moved.settlement_sequence)
    assert (await alice.money("CreateTransfer", transfer())).transfer.state == pb.TRANSFER_STATE_SETTLED
    assert await balance(alice) == ("100", "100", "0", "1.5"), "what bob sent back is not final"


async def test_one_id_in_parallel_moves_once(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    answers = await asyncio.gather(*(alice.money("CreateTransfer", transfer()) for _ in range(100)))
    assert len({answer.transfer.settlement_sequence for answer in answers}) == 1
    mixed = [alice.money("CreateTransfer", transfer("x", amount=str(1 + n % 2))) for n in range(100)]
    found = await asyncio.gather(*mixed, return_exceptions=True)
    assert sum(isinstance(item, grpc.aio.AioRpcError) for item in found) == 50
    assert (await balance(alice))[0] in {"97.5", "96.5"}


BAD: list[tuple[str, Any, str, str]] = [
    ("CreateTransfer", transfer(""), "INVALID_FIELD", "transfer_id"),
    ("CreateTransfer", transfer("a b"), "INVALID_FIELD", "transfer_id"),
    ("CreateTransfer", transfer("x" * 65), "INVALID_FIELD", "transfer_id"),
    ("CreateTransfer", transfer(to_user=""), "INVALID_FIELD", "to_user"),
    ("CreateTransfer", transfer(to_user="alice"), "INVALID_FIELD", "to_user"),
    ("CreateTransfer", transfer(to_user="nobody"), "ACCOUNT_NOT_FOUND", "to_user"),
    ("CreateTransfer", transfer(to_user="outside"), "PERMISSION_DENIED", "to_user"),
    ("CreateTransfer", transfer(asset="XYZ"), "ASSET_NOT_FOUND", "asset"),
    ("CreateTransfer", transfer(amount="0"), "INVALID_FIELD", "amount"),
    ("CreateTransfer", transfer(amount="-1"), "INVALID_FIELD", "amount"),
    ("CreateTransfer", transfer(amount="1e3"), "INVALID_FIELD", "amount"),
    ("CreateTransfer", transfer(amount="0.0000000000000000001"), "INVALID_FIELD", "amount"),
    ("CreateTransfer", transfer(amount="100.000000000000000001"), "INSUFFICIENT_FUNDS", ""),
    ("CreateWithdrawal", withdrawal(""), "INVALID_FIELD", "transfer_id"),
    ("CreateWithdrawal", withdrawal(amount="100.1"), "INSUFFICIENT_FUNDS", ""),
    ("CreateWithdrawal", withdrawal(address=""), "INVALID_FIELD", "address"),
    ("CreateWithdrawal", withdrawal(address=WALLET[:-1]), "INVALID_FIELD", "address"),
    ("CreateWithdrawal", withdrawal(address=WALLET.replace("aA", "Aa")), "INVALID_FIELD", "address"),
    ("CreateWithdrawal", withdrawal(address="0x" + "0" * 40), "INVALID_FIELD", "address"),
    ("CreateWithdrawal", withdrawal(address="0x" + "é" * 40), "INVALID_FIELD", "address"),
    ("CancelWithdrawal", pb.CancelWithdrawalRequest(transfer_id="none"), "WITHDRAWAL_NOT_FOUND", ""),
    ("CancelWithdrawal", pb.CancelWithdrawalRequest(), "INVALID_FIELD", "transfer_id"),
]  # fmt: skip
BAD_OF_OPERATORS: list[tuple[str, Any, str, str]] = [
    ("AdjustBalance", adjustment(reason=""), "INVALID_FIELD", "reason"),
    ("AdjustBalance", adjustment(reason="x" * 201), "INVALID_FIELD", "reason"),
    ("AdjustBalance", adjustment(reason="a\nb"), "INVALID_FIELD", "reason"),
    ("AdjustBalance", adjustment(from_user="outside"), "INVALID_FIELD", "from_user"),
    ("AdjustBalance", adjustment(to_user="outside"), "INVALID_FIELD", "to_user"),
    ("AdjustBalance", adjustment(from_user="alice"), "INVALID_FIELD", "from_user"),
    ("AdjustBalance", adjustment(to_user="faucet"), "INVALID_FIELD", "to_user"),
    ("AdjustBalance", adjustment(to_user="nobody"), "ACCOUNT_NOT_FOUND", "to_user"),
    ("AdjustBalance", adjustment(from_user="adjustments"), "INSUFFICIENT_FUNDS", ""),
    ("AdjustBalance", adjustment(from_user="bob", to_user="insurance", amount="101"), "INSUFFICIENT_FUNDS", ""),
    ("ApproveWithdrawal", admin_pb.ApproveWithdrawalRequest(), "WITHDRAWAL_NOT_FOUND", "withdrawal_id"),
    ("ApproveWithdrawal", admin_pb.ApproveWithdrawalRequest(withdrawal_id="77"), "WITHDRAWAL_NOT_FOUND", ""),
    ("RejectWithdrawal", admin_pb.RejectWithdrawalRequest(withdrawal_id="77", reason="no"), "WITHDRAWAL_NOT_FOUND", ""),
    ("RejectWithdrawal", admin_pb.RejectWithdrawalRequest(withdrawal_id="77"), "INVALID_FIELD", "reason"),
    ("ListWithdrawals", admin_pb.ListWithdrawalsRequest(state=pb.TRANSFER_STATE_PENDING), "INVALID_FIELD", "state"),
    ("ListWithdrawals", admin_pb.ListWithdrawalsRequest(page_size=501), "INVALID_FIELD", "page_size"),
    ("ListWithdrawals", admin_pb.ListWithdrawalsRequest(page_token="x"), "INVALID_FIELD", "page_token"),
]  # fmt: skip


async def test_bad_requests_move_nothing(exchange: Exchange) -> None:
    alice, admin = exchange.user("alice"), exchange.user("admin")
    await admin.balances()
    before = {name: await exchange.user(name).balances() for name in ("alice", "bob")}
    for method, request, reason, field in BAD:
        assert (await refused(alice.money(method, request)))[1:] == (reason, field), f"{method} {request}"
    for method, request, reason, field in BAD_OF_OPERATORS:
        assert (await refused(admin.administer(method, request)))[1:] == (reason, field), f"{method} {request}"
        assert (await refused(alice.administer(method, request)))[0] == "PERMISSION_DENIED"
    assert {name: await exchange.user(name).balances() for name in ("alice", "bob")} == before


# Withdrawals.


async def test_the_life_of_a_withdrawal(exchange: Exchange) -> None:
    alice, admin = exchange.user("alice"), exchange.user("admin")
    asked = (await alice.money("CreateWithdrawal", withdrawal())).transfer
    assert (asked.kind, asked.state, asked.address, asked.settlement_sequence) == (
        pb.TRANSFER_KIND_WITHDRAWAL, pb.TRANSFER_STATE_REQUESTED, WALLET.lower(), 0,
    )  # fmt: skip
    assert (await balance(alice))[:3] == ("100", "98.5", "1.5")
    (listed,) = await listing(admin)
    assert (listed.user, listed.transfer) == ("alice", asked)
    approve = admin_pb.ApproveWithdrawalRequest(withdrawal_id=listed.withdrawal_id)
    answers = await asyncio.gather(*(admin.administer("ApproveWithdrawal", approve) for _ in range(5)))
    (number,) = {answer.settlement_sequence for answer in answers}
    assert (await balance(alice))[:3] == ("98.5", "98.5", "0")
    assert await stands(alice) == pb.TRANSFER_STATE_APPROVED
    cancel = pb.CancelWithdrawalRequest(transfer_id="w")
    assert (await refused(alice.money("CancelWithdrawal", cancel)))[1] == "WITHDRAWAL_APPROVED"
    reject = admin_pb.RejectWithdrawalRequest(withdrawal_id=listed.withdrawal_id, reason="no")
    assert (await refused(admin.administer("RejectWithdrawal", reject)))[1] == "WITHDRAWAL_APPROVED"
    await exchange.depositor.finalize(number)
    await until(lambda: exchange.gateway.ledger.final_through == number)
    assert await stands(alice) == pb.TRANSFER_STATE_SETTLED
    await exchange.depositor.claim(WALLET.lower(), "BTC", 15 * WHOLE // 10)
    await until(lambda: not exchange.gateway.ledger.withdrawals)
    assert await stands(alice) == pb.TRANSFER_STATE_DONE
    assert (await admin.administer("ApproveWithdrawal", approve)).settlement_sequence == number
    (listed,) = await listing(admin, state=pb.TRANSFER_STATE_DONE)
    assert listed.transfer.state == pb.TRANSFER_STATE_DONE


async def test_withdrawals_end_by_their_owner_or_an_operator(exchange: Exchange) -> None:
    alice, bob, admin = (exchange.user(name) for name in ("alice", "bob", "admin"))
    for name in ("w1", "w2"):
        await alice.money("CreateWithdrawal", withdrawal(name))
    assert (await refused(bob.money("CancelWithdrawal", pb.CancelWithdrawalRequest(transfer_id="w1"))))[
        0
    ] == "NOT_FOUND"
    cancel = pb.CancelWithdrawalRequest(transfer_id="w1")
    for answer in await asyncio.gather(*(alice.money("CancelWithdrawal", cancel) for _ in range(5))):
        assert answer.transfer.state == pb.TRANSFER_STATE_CANCELED
    second, first = await listing(admin)
    assert (first.transfer.transfer_id, first.transfer.state) == ("w1", pb.TRANSFER_STATE_CANCELED)
    assert [item.withdrawal_id for item in await listing(admin, state=pb.TRANSFER_STATE_REQUESTED)] == [
        second.withdrawal_id
    ]
    reject = admin_pb.RejectWithdrawalRequest(withdrawal_id=second.withdrawal_id, reason="that wallet is not yours")
    for _ in range(2):
        await admin.administer("RejectWithdrawal", reject)
    answer = (await alice.money("CreateWithdrawal", withdrawal("w2"))).transfer
    assert (answer.state, answer.reason) == (pb.TRANSFER_STATE_CANCELED, "that wallet is not yours")
    approve = admin_pb.ApproveWithdrawalRequest(withdrawal_id=second.withdrawal_id)
    assert (await refused(admin.administer("ApproveWithdrawal", approve)))[1] == "WITHDRAWAL_CANCELED"
    assert (await balance(alice))[:3] == ("100", "100", "0")
    page = await admin.administer("ListWithdrawals", admin_pb.ListWithdrawalsRequest(page_size=1))
    assert [item.withdrawal_id for item in page.withdrawals] == [second.withdrawal_id]
    rest = admin_pb.ListWithdrawalsRequest(page_size=1, page_token=page.next_page_token)
    page = await admin.administer("ListWithdrawals", rest)
    assert ([item.withdrawal_id for item in page.withdrawals], page.next_page_token) == ([first.withdrawal_id], "")


async def test_so_many_withdrawals_may_be_open(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(money, "WITHDRAWALS_ACCOUNT_MAX", 2)
    alice, bob = exchange.user("alice"), exchange.user("bob")
    for name in ("w1", "w2"):
        await alice.money("CreateWithdrawal", withdrawal(name))
    for _ in range(2):
        again = await refused(alice.money("CreateWithdrawal", withdrawal("w3")))
        assert again == ("RESOURCE_EXHAUSTED", "TOO_MANY_WITHDRAWALS", "")
    await bob.money("CreateWithdrawal", withdrawal("w1"))
    assert (await alice.money("CreateWithdrawal", withdrawal("w1"))).transfer.transfer_id == "w1", "a resend"
    await alice.money("CancelWithdrawal", pb.CancelWithdrawalRequest(transfer_id="w1"))
    await alice.money("CreateWithdrawal", withdrawal("w3"))


async def test_approval_and_cancel_at_once_end_in_one_of_the_two(exchange: Exchange) -> None:
    alice, admin = exchange.user("alice"), exchange.user("admin")
    for number in range(10):
        await alice.money("CreateWithdrawal", withdrawal(f"w{number}", amount="1"))
    calls = []
    for item in await listing(admin):
        approve = admin_pb.ApproveWithdrawalRequest(withdrawal_id=item.withdrawal_id)
        cancel = pb.CancelWithdrawalRequest(transfer_id=item.transfer.transfer_id)
        calls += [admin.administer("ApproveWithdrawal", approve), alice.money("CancelWithdrawal", cancel)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    for approved, canceled in zip(found[::2], found[1::2], strict=True):
        assert isinstance(approved, BaseException) != isinstance(canceled, BaseException)
    gone = sum(not isinstance(item, BaseException) for item in found[::2])
    assert (await balance(alice))[:3] == (str(100 - gone), str(100 - gone), "0")


# Operators.


async def test_adjustments(exchange: Exchange) -> None:
    alice, bob, admin = (exchange.user(name) for name in ("alice", "bob", "admin"))
    first = await admin.administer("AdjustBalance", adjustment())
    assert await admin.administer("AdjustBalance", adjustment()) == first
    assert (await refused(admin.administer("AdjustBalance", adjustment(reason="another"))))[1] == "ALREADY_EXISTS"
    assert (await balance(bob))[0] == "101.5"
    await admin.administer("AdjustBalance", adjustment("b", from_user="alice", to_user="adjustments", amount="100"))
    assert (await balance(alice))[0] == "0"
    await admin.administer("AdjustBalance", adjustment("c", from_user="adjustments", to_user="insurance", amount="60"))
    ledger = exchange.gateway.ledger
    btc = ledger.assets_by_symbol["BTC"].asset_id
    assert (ledger.balance(5, btc).total, ledger.balance(3, btc).total) == (40 * WHOLE, 60 * WHOLE)
    grant = admin_pb.GrantFundsRequest(transfer_id="a", user="bob", asset="BTC", amount="1.5", reason="demo funds")
    assert (await refused(admin.administer("GrantFunds", grant)))[1] == "ALREADY_EXISTS", (
        "operators share one set of ids"
    )


# Who spends first.


async def test_of_a_thousand_parallel_spends_of_one_balance_one_wins(exchange: Exchange) -> None:
    """Orders, transfers and withdrawals, each of which wants all of it. CLEARBOOK_SOAK=1: a hundred rounds."""
    won: Counter[str] = Counter()
    async with rpc.connect(f"127.0.0.1:{exchange.gateway.port}") as channel:
        alice = Client(channel, (("x-clearbook-user", "alice"),))
        for number in range(ROUNDS):
            won[await one_round(alice, exchange.user("bob"), number)] += 1
    assert sum(won.values()) == ROUNDS and len(won) > 1, won
    print(f"{ROUNDS} rounds of {SPENDS} spends were won by {dict(won)}")
    assert (await balance(exchange.user("bob")))[:3] == ("100", "100", "0")


async def one_round(alice: Client, bob: Client, number: int) -> str:
    """The kind of the spend that won; undone again."""
    names = [f"{number}-{place}" for place in range(SPENDS)]
    kinds = KINDS[number % len(KINDS)]
    calls = [spend(alice, name, kinds[place % len(kinds)]) for place, name in enumerate(names)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    winners = [(name, item) for name, item in zip(names, found, strict=True) if not isinstance(item, BaseException)]
    assert len(winners) == 1, f"{len(winners)} spends of one balance went through"
    for item in found:
        if isinstance(item, BaseException):
            assert isinstance(item, grpc.aio.AioRpcError), item
            assert rpc.rejected_from(item).name == "INSUFFICIENT_FUNDS", item  # type: ignore[union-attr]
    ((name, winner),) = winners
    assert (await balance(alice))[1] == "0"
    if isinstance(winner, order_pb.PlaceOrderResponse):
        await alice.cancel(order_id=winner.order.order_id)
    elif isinstance(winner, pb.CreateTransferResponse):
        await bob.money("CreateTransfer", transfer(f"back-{number}", to_user="alice", amount="100"))
    else:
        await alice.money("CancelWithdrawal", pb.CancelWithdrawalRequest(transfer_id=name))
    assert (await balance(alice))[:3] == ("100", "100", "0")
    return type(winner).__name__


def spend(alice: Client, name: str, kind: int) -> Any:
    if kind == 0:
        return alice.place(limit("SELL", "99999.00", "100", name), timeout=60)
    if kind == 1:
        return alice.money("CreateTransfer", transfer(name, amount="100"))
    return alice.money("CreateWithdrawal", withdrawal(name, amount="100"))


async def stands(alice: Client) -> int:
    state: int = (await alice.money("CreateWithdrawal", withdrawal())).transfer.state
    return state


async def listing(admin: Client, **filters: Any) -> list[admin_pb.UserWithdrawal]:
    answer = await admin.administer("ListWithdrawals", admin_pb.ListWithdrawalsRequest(**filters))
    return list(answer.withdrawals)


async def until(condition: Any) -> None:
    """The fold hears of what others journal a moment later."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
