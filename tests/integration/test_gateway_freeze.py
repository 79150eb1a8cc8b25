"""Frozen accounts: they begin nothing new, whatever way they ask, through restarts, and may cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb

from services.order_gateway.identity import freezes as freezes_module
from services.order_gateway.identity.freezes import Freezes
from services.order_gateway.identity.key_store import MIGRATIONS
from services.order_gateway.identity.settings import SCHEMA
from services.runtime.db import Database, Unavailable
from services.runtime.migrate import migrate
from tests import books, gateways
from tests.backends import Backends
from tests.gateways import Client, Exchange, limit, refused

FROZEN = ("PERMISSION_DENIED", "ACCOUNT_FROZEN", "")


async def _withdraw(client: Client, transfer_id: str) -> pb.Transfer:
    request = pb.CreateWithdrawalRequest(transfer_id=transfer_id, asset="BTC", amount="1", address="0x" + "a1" * 20)
    answer: pb.CreateWithdrawalResponse = await client.money("CreateWithdrawal", request)
    return answer.transfer


async def _send(client: Client, transfer_id: str, to_user: str) -> Any:
    request = pb.CreateTransferRequest(transfer_id=transfer_id, to_user=to_user, asset="BTC", amount="1")
    return await client.money("CreateTransfer", request)


async def _freeze(admin: Client, user: str, **fields: Any) -> admin_pb.FreezeAccountResponse:
    asked = admin_pb.FreezeAccountRequest(**{"user": user, "reason": "a court order", **fields})
    answer: admin_pb.FreezeAccountResponse = await admin.administer("FreezeAccount", asked)
    return answer


async def _refuses(exchange: Exchange, waiting: str) -> None:
    """Nothing new: orders, transfers, withdrawals, or the approval of one that waits."""
    alice, admin = exchange.user("alice"), exchange.user("admin")
    approve = admin_pb.ApproveWithdrawalRequest(withdrawal_id=waiting)
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "order": lambda: alice.place(limit("SELL", "30000.00", "0.1")),
        "transfer": lambda: _send(alice, "new", "bob"),
        "withdrawal": lambda: _withdraw(alice, "new"),
        "approval": lambda: admin.administer("ApproveWithdrawal", approve),
    }
    for name, ask in asked.items():
        assert await refused(ask()) == FROZEN, name


async def test_a_frozen_account_may_cancel_and_begins_nothing_new(tmp_path: Path) -> None:
    async with gateways.exchange(tmp_path) as exchange:
        alice, bob, admin = (exchange.user(name) for name in ("alice", "bob", "admin"))
        await bob.balances()
        for name in ("o1", "o2"):
            await alice.place(limit("SELL", "30000.00", "0.1", name))
        for name in ("w1", "w2"):
            await _withdraw(alice, name)
        listed = await admin.administer("ListWithdrawals", admin_pb.ListWithdrawalsRequest())
        waiting = listed.withdrawals[0].withdrawal_id
        assert (await _freeze(admin, "alice")).canceled_orders == 0
        await _refuses(exchange, waiting)
        assert (await alice.place(limit("SELL", "30000.00", "0.1", "o1"))).order.client_order_id == "o1", "a resend"
        await alice.cancel(client_order_id="o1")
        await alice.money("CancelWithdrawal", pb.CancelWithdrawalRequest(transfer_id="w1"))
        await _send(bob, "gift", "alice")
        assert (await alice.balances())["BTC"] == ("101", "99.9", "1.1"), "what comes is taken"
    async with gateways.exchange(tmp_path, fund=False) as exchange:
        alice, bob, admin = (exchange.user(name) for name in ("alice", "bob", "admin"))
        await _refuses(exchange, waiting)
        (shown,) = (await admin.administer("ListAccounts", admin_pb.ListAccountsRequest(user="alice"))).accounts
        assert shown.freeze_reason == "a court order"
        debit = admin_pb.AdjustBalanceRequest(
            transfer_id="d", from_user="alice", to_user="adjustments", asset="BTC", amount="1", reason="a court order"
        )
        await admin.administer("AdjustBalance", debit)
        assert (await _freeze(admin, "alice", cancel_orders=True)).canceled_orders == 1
        assert not exchange.gateway.ledger.open
        unfreeze = admin_pb.UnfreezeAccountRequest(user="alice", reason="over")
        for _ in range(2):
            await admin.administer("UnfreezeAccount", unfreeze)
        await admin.administer("ApproveWithdrawal", admin_pb.ApproveWithdrawalRequest(withdrawal_id=waiting))
        await alice.place(limit("SELL", "30000.00", "0.1"))
        for method, request, reason in (
            ("FreezeAccount", admin_pb.FreezeAccountRequest(user="nobody", reason="x"), "ACCOUNT_NOT_FOUND"),
            ("FreezeAccount", admin_pb.FreezeAccountRequest(user="fees", reason="x"), "PERMISSION_DENIED"),
            ("FreezeAccount", admin_pb.FreezeAccountRequest(user="alice"), "INVALID_FIELD"),
            ("UnfreezeAccount", admin_pb.UnfreezeAccountRequest(user="alice"), "INVALID_FIELD"),
            ("UnlinkWallet", admin_pb.UnlinkWalletRequest(user="alice"), "INVALID_FIELD"),
        ):
            assert (await refused(admin.administer(method, request)))[1] == reason, (method, request)


async def test_an_account_whose_owner_leaves_by_the_contract(tmp_path: Path) -> None:
    """Frozen, with nothing open, until its owner thinks better of it; then gone, with what it had."""
    async with gateways.exchange(tmp_path) as exchange:
        alice, bob = exchange.user("alice"), exchange.user("bob")
        await asyncio.gather(alice.balances(), bob.balances())
        account_id = exchange.gateway.ledger.account_ids["alice"]
        await alice.place(limit("SELL", "30000.00", "0.1", "o1"))
        await _withdraw(alice, "w1")
        await exchange.depositor.leave(account_id, 1)
        async with asyncio.timeout(books.STEP_SECONDS_MAX):
            while (await alice.balances())["BTC"] != ("100", "100", "0"):
                await asyncio.sleep(0.02)
        assert await refused(alice.place(limit("SELL", "30000.00", "0.1"))) == FROZEN
        assert await refused(_send(bob, "gift", "alice")) == FROZEN
    async with gateways.exchange(tmp_path, fund=False) as exchange:
        alice = exchange.user("alice")
        assert await refused(_withdraw(alice, "w2")) == FROZEN, "it is remembered"
        exchange.depositor.claims = 0
        await exchange.depositor.leave(account_id, 2, canceled=True)
        async with asyncio.timeout(books.STEP_SECONDS_MAX):
            while exchange.gateway.ledger.leaving:
                await asyncio.sleep(0.02)
        await alice.place(limit("SELL", "30000.00", "0.1", "o2"))
        await alice.cancel(client_order_id="o2")
        await exchange.depositor.leave(account_id, 3)
        await exchange.depositor.left(account_id, "BTC", 60)
        async with asyncio.timeout(books.STEP_SECONDS_MAX):
            while (await alice.balances())["BTC"][0] != "0":
                await asyncio.sleep(0.02)


async def test_an_account_that_owes_insurance(tmp_path: Path) -> None:
    """Frozen, with nothing open, and given what insurance has paid for it; until that is resolved."""
    async with gateways.exchange(tmp_path) as exchange:
        alice, bob = exchange.user("alice"), exchange.user("bob")
        await asyncio.gather(alice.balances(), bob.balances())
        account_id = exchange.gateway.ledger.account_ids["alice"]
        await alice.place(limit("SELL", "30000.00", "0.1", "o1"))
        await _withdraw(alice, "w1")
        await exchange.depositor.note_debt(1, journal.DEBT_STATE_FROZEN, account_id, 10**18)
        async with asyncio.timeout(books.STEP_SECONDS_MAX):
            while (await alice.balances())["BTC"] != ("100", "100", "0"):
                await asyncio.sleep(0.02)
        assert await refused(alice.place(limit("SELL", "30000.00", "0.1"))) == FROZEN
        await exchange.depositor.note_debt(2, journal.DEBT_STATE_PAID, account_id, 10**18)
    async with gateways.exchange(tmp_path, fund=False) as exchange:
        alice = exchange.user("alice")
        async with asyncio.timeout(books.STEP_SECONDS_MAX):
            while (await alice.balances())["BTC"][0] != "101":
                await asyncio.sleep(0.02)
        assert await refused(_withdraw(alice, "w2")) == FROZEN, "it is remembered"
        await exchange.depositor.note_debt(3, journal.DEBT_STATE_RESOLVED, account_id, 10**18)
        async with asyncio.timeout(books.STEP_SECONDS_MAX):
            while exchange.gateway.ledger.debtors:
                await asyncio.sleep(0.02)
        await alice.place(limit("SELL", "30000.00", "0.1", "o2"))


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Backends | None:
    """None: SQLite needs none."""
    return request.getfixturevalue("backends") if request.param == "postgresql" else None


async def test_what_another_gateway_froze_is_frozen_here(
    server: Backends | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share the database of keys."""
    monkeypatch.setattr(freezes_module, "REFRESH_SECONDS", 0.02)
    url = await server.new_database() if server else f"sqlite:///{tmp_path}/keys.sqlite"
    await migrate(url, SCHEMA, MIGRATIONS)
    async with await Database.open(url, SCHEMA) as database:
        mine, theirs = Freezes(database), Freezes(database)
        following = asyncio.create_task(theirs.follow())
        for reason in ("a court order", "another"):
            await mine.freeze("alice", reason)
            assert mine.reason("alice") == reason
        await books.eventually(lambda: theirs.reason("alice") == "another")
        await mine.unfreeze("alice")
        await books.eventually(lambda: not theirs.reason("alice"))
        following.cancel()
    with pytest.raises(Unavailable):
        await mine.freeze("bob", "the database is closed")
    assert mine.reason("bob"), "rather frozen than not, until the database says otherwise"


async def test_a_freeze_is_in_force_while_the_database_is_read() -> None:
    class Slow:
        """Answers a look when it is told to, with what it knew when asked."""

        def __init__(self) -> None:
            self.asked, self.answers, self.written = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def fetch(self, _query: str) -> list[tuple[str, str]]:
            self.asked.set()
            await self.answers.wait()
            return []

        async def write(self, _statements: object) -> None:
            await self.written.wait()

    slow = Slow()
    freezes = Freezes(cast("Database", slow))
    looking = asyncio.create_task(freezes.refresh())
    await slow.asked.wait()
    freezing = asyncio.create_task(freezes.freeze("alice", "a court order"))
    await asyncio.sleep(0)
    assert freezes.reason("alice"), "at once"
    slow.answers.set()
    await looking
    assert freezes.reason("alice"), "what was read before it does not count"
    slow.written.set()
    await freezing
    assert freezes.reason("alice")
