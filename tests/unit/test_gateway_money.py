"""Grants of funds by an operator: one transfer_id moves funds once, however requests and the database overlap."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from services.errors import Reason, Rejected
from services.order_gateway.accounts import Accounts
from services.order_gateway.model import Movement, RequestWithdrawal, Transfer, Transferred, WithdrawalRequested
from services.order_gateway.money import Money
from services.order_gateway.session import Flight, Session
from services.order_gateway.store import Store
from tests.unit.gateway_values import ALICE, BTC, Journal, ledger


class SlowStore:
    """Looks as soon as it is asked, and answers the second question only when it is let."""

    def __init__(self) -> None:
        self.stored: dict[str, Movement] = {}
        self.asked = 0
        self.answer = asyncio.Event()

    async def movement(self, transfer_id: str) -> Movement | None:
        found = self.stored.get(transfer_id)
        self.asked += 1
        await (asyncio.sleep(0) if self.asked == 1 else self.answer.wait())
        return found


class Known:
    """Alice has an account."""

    async def open(self, user: str, seconds: float) -> int:  # noqa: ARG002
        return ALICE


async def no_wallet(_account_id: int) -> None:
    return None


async def test_a_look_that_is_overtaken_by_the_same_grant_grants_nothing_more() -> None:
    fold, store = ledger(faucet_btc=1_000), SlowStore()
    journal, session = Journal(fold), Session(fold, gateway=1)
    session.open(1, 100)
    money = Money(fold, session, cast("Store", store), cast("Accounts", Known()), no_wallet)
    asked = [asyncio.create_task(money.grant("g", "alice", BTC, 100, "why", 5)) for _ in range(2)]
    (command,) = await asyncio.wait_for(session.batch(), 5)
    await _fold(journal, session, store, command)
    await asyncio.sleep(0)
    store.answer.set()
    later = asyncio.create_task(session.batch())
    done, _ = await asyncio.wait({*asked, later}, timeout=0.2)
    later.cancel()
    assert later not in done, "a second Transfer was submitted"
    assert [task.result().settlement_sequence for task in asked] == [1, 1]
    assert (await money.grant("g", "alice", BTC, 100, "why", 1)).settlement_sequence == 1
    assert fold.balance(ALICE, BTC.asset_id).total == 100
    assert (fold.balance(2, BTC.asset_id).available, fold.balance(2, BTC.asset_id).reserved) == (900, 0)


async def test_a_withdrawal_without_an_address_goes_to_the_wallet_of_then() -> None:
    fold, store, wallets = ledger(alice_btc=10), SlowStore(), ["0x" + "ab" * 20, "0x" + "cd" * 20]
    journal, session = Journal(fold), Session(fold, gateway=1)
    session.open(1, 100)

    async def wallet_of(_account_id: int) -> str:
        return wallets.pop(0)

    money = Money(fold, session, cast("Store", store), cast("Accounts", Known()), wallet_of)
    asked = asyncio.create_task(money.withdraw(ALICE, "w", BTC, 5, "", 5))
    (command,) = await asyncio.wait_for(session.batch(), 5)
    body, flight = command.body, session.landed(command.command_id)
    assert isinstance(body, RequestWithdrawal) and flight is not None
    change = journal.say(WithdrawalRequested(command.command_id, body), command.command_id)
    flight.end(change)
    made = await asked
    assert (made.address, fold.balance(ALICE, 1).held, fold.balance(ALICE, 1).reserved) == ("0x" + "ab" * 20, 5, 0)
    store.stored[body.transfer_id] = made
    store.answer.set()
    assert await money.withdraw(ALICE, "w", BTC, 5, "", 1) == made, "another wallet by now, the same request"
    assert await money.withdraw(ALICE, "w", BTC, 5, made.address, 1) == made
    with pytest.raises(Rejected) as caught:
        await money.withdraw(ALICE, "w", BTC, 5, "0x" + "cd" * 20, 1)
    assert caught.value.reason is Reason.ALREADY_EXISTS
    assert len(wallets) == 1


async def _fold(journal: Journal, session: Session, store: SlowStore, command: Flight) -> None:
    """What the book's event does, as executions.py does it, and then the database has it."""
    assert isinstance(command.body, Transfer)
    flight = session.landed(command.command_id)
    assert flight is not None
    change = journal.say(Transferred(command.body, 1), command.command_id)
    flight.end(change)
    await asyncio.sleep(0)
    (store.stored[command.body.transfer_id],) = change.effects.movements
