"""The session: numbering, batches, limits, and what becomes of commands when the way to the book is lost."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from services.errors import Reason, Rejected
from services.order_gateway import session as session_module
from services.order_gateway.ledger import Reservation
from services.order_gateway.model import (
    ApproveWithdrawal,
    CancelOrder,
    CancelWithdrawal,
    CommandBody,
    OpenAccount,
    PlaceGroup,
    Placement,
    PlaceOrder,
    Refused,
    ReplaceOrder,
    RequestWithdrawal,
    TimeInForce,
    Transfer,
    Unrelated,
    WithdrawalRequested,
)
from services.order_gateway.session import Session, outcome
from tests.unit.gateway_values import ALICE, BOB, Journal, ledger

BODY = OpenAccount("x")
PLACEMENT = Placement(ledger().markets[1], True, True, TimeInForce.GTC, False, 1, 1, None)


def opened(epoch: int = 1, window: int = 100, **balances: int) -> Session:
    session = Session(ledger(**balances), gateway=3)
    session.open(epoch, window)
    return session


async def test_commands_are_numbered_without_gaps_and_batched_in_order() -> None:
    session = opened(epoch=7)
    for _ in range(3):
        session.submit(BODY, ALICE)
    batch = await session.batch()
    assert [c.command_id for c in batch] == [3 << 56 | 7 << 36 | n for n in (1, 2, 3)]
    for command in batch:
        assert session.landed(command.command_id)
    session.submit(BODY, ALICE)
    assert [c.command_id & 0xFF for c in await session.batch()] == [4]


async def test_a_lone_command_goes_at_once() -> None:
    session = opened()
    waiting = asyncio.create_task(session.batch())
    await asyncio.sleep(0)
    session.submit(BODY, ALICE)
    assert len(await waiting) == 1


async def test_what_comes_while_a_batch_is_on_its_way_goes_together_once_all_of_that_has_landed() -> None:
    session = opened()
    for _ in range(2):
        session.submit(BODY, ALICE)
    first, second = await session.batch()
    waiting = asyncio.create_task(session.batch())
    for _ in range(3):
        session.submit(BODY, BOB)
        await asyncio.sleep(0)
    session.landed(first.command_id)
    session.row_ended()
    await asyncio.sleep(0)
    assert not waiting.done(), "half of the batch is on its way"
    session.landed(second.command_id)
    session.row_ended()
    assert [c.command_id & 0xFF for c in await waiting] == [3, 4, 5]


async def test_enough_commands_do_not_wait_for_the_last_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.order_gateway.session.BATCH_COMMANDS_ENOUGH", 3)
    session = opened()
    session.submit(BODY, ALICE)
    assert len(await session.batch()) == 1
    waiting = asyncio.create_task(session.batch())
    for _ in range(2):
        session.submit(BODY, ALICE)
    await asyncio.sleep(0.01)
    assert not waiting.done(), "two are not enough"
    session.submit(BODY, ALICE)
    assert len(await asyncio.wait_for(waiting, 5)) == 3


async def test_a_batch_lets_in_what_comes_with_each_turn_of_the_loop_and_waits_for_no_more() -> None:
    session = opened()

    async def submit(turn: int) -> None:
        for _ in range(turn):
            await asyncio.sleep(0)
        session.submit(BODY, ALICE)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(session.batch())
        for turn in (0, 1, 2, 9):
            group.create_task(submit(turn))
    assert [c.command_id & 0xFF for c in waiting.result()] == [1, 2, 3]


@pytest.mark.parametrize(("gap", "most", "enough", "taken"), [(60, 60, 3, 3), (0.001, 60, 9, 2), (0.001, 0, 9, 2)])
async def test_where_many_accounts_send_the_next_batch_waits_for_more(
    gap: float, most: float, enough: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until enough have come, or a while brings none, or for so long."""
    monkeypatch.setattr(session_module, "GATHER_ACCOUNTS_MIN", 2)
    session = opened()
    for account_id in (ALICE, BOB):
        session.submit(BODY, account_id)
    for command in await session.batch():
        session.landed(command.command_id)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds:
            slept.append(seconds)
            if len(slept) < taken:
                session.submit(BODY, ALICE)
        await turn()

    turn = partial(asyncio.sleep, 0)
    monkeypatch.setattr(session_module, "GATHER_GAP_SECONDS", gap)
    monkeypatch.setattr(session_module, "GATHER_SECONDS_MAX", most)
    monkeypatch.setattr(session_module, "BATCH_COMMANDS_ENOUGH", enough)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    session.submit(BODY, ALICE)
    assert len(await session.batch()) == (taken if most else 1)
    assert all(seconds == gap for seconds in slept)
    assert len(slept) == (0 if not most else taken - (enough == taken))


async def test_one_account_never_waits_for_more_however_much_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "GATHER_GAP_SECONDS", 60.0)
    session = opened()
    for _ in range(2):
        for _ in range(9):
            session.submit(BODY, ALICE)
        for command in await asyncio.wait_for(session.batch(), 5):
            session.landed(command.command_id)


async def test_what_a_closing_session_lets_go_is_not_in_the_batch_that_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "GATHER_ACCOUNTS_MIN", 1)
    monkeypatch.setattr(session_module, "GATHER_GAP_SECONDS", 0.01)
    session = opened()
    session.submit(BODY, ALICE)
    session.landed((await session.batch())[0].command_id)
    waiting = asyncio.create_task(session.batch())
    lost = session.submit(BODY, ALICE)
    await asyncio.sleep(0)
    session.close()
    with pytest.raises(Rejected, match="not taken"):
        await lost.done
    await asyncio.sleep(0.05)
    assert not waiting.done(), "an empty batch would be sent"
    waiting.cancel()


async def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "BATCH_COMMANDS_MAX", 4)
    session = opened()
    for _ in range(6):
        session.submit(BODY, ALICE)
    batch = await session.batch()
    assert len(batch) == 4
    for command in batch:
        session.landed(command.command_id)
    assert len(await session.batch()) == 2


async def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "IN_FLIGHT_ACCOUNT_COMMANDS_MAX", 2)
    session = opened(window=3)
    first = session.submit(BODY, ALICE)
    session.submit(BODY, ALICE)
    assert reason(session, ALICE) is Reason.OVERLOADED
    session.submit(BODY, BOB)
    assert reason(session, 1003) is Reason.OVERLOADED, "the window"
    assert session.landed(first.command_id) is first
    session.submit(BODY, ALICE)


def reason(session: Session, account_id: int, reservation: Reservation | None = None) -> Reason:
    with pytest.raises(Rejected) as caught:
        session.submit(BODY, account_id, reservation)
    return caught.value.reason


async def test_nothing_is_taken_or_reserved_without_a_session() -> None:
    book = ledger(alice_usd=10)
    session = Session(book, 1)
    assert reason(session, ALICE, Reservation(ALICE, 2, 5)) is Reason.NOT_TAKEN
    assert book.balance(ALICE, 2).reserved == 0


ASKED = RequestWithdrawal("w", ALICE, 1, 5, "0x" + "ab" * 20)
OF_A_FROZEN_ACCOUNT: list[tuple[CommandBody, int, bool]] = [
    (PlaceOrder(ALICE, PLACEMENT, 0, "c", 0, 0), ALICE, False),
    (PlaceGroup((), has_entry=False), ALICE, False),
    (ReplaceOrder(ALICE, 1, 2, 3, 0), ALICE, False),
    (Transfer("t", ALICE, BOB, 1, 1), ALICE, False),
    (ASKED, ALICE, False),
    (ApproveWithdrawal(77), -1, False),
    (CancelOrder(ALICE, 1), ALICE, True),
    (CancelWithdrawal(77), ALICE, True),
    (Transfer("a", ALICE, 5, 1, 1, "an operator's"), -1, True),
    (Transfer("b", BOB, ALICE, 1, 1), BOB, True),
    (ApproveWithdrawal(78), -1, True),
]


@pytest.mark.parametrize(("body", "on_behalf", "taken"), OF_A_FROZEN_ACCOUNT, ids=str)
async def test_a_frozen_account_begins_nothing_new(body: CommandBody, on_behalf: int, taken: bool) -> None:
    book = ledger(alice_btc=10)
    Journal(book).say(WithdrawalRequested(77, ASKED))
    session = Session(book, 1, is_frozen=lambda account_id: account_id == ALICE)
    session.open(1, 10)
    if taken:
        session.submit(body, on_behalf)
        return
    with pytest.raises(Rejected) as caught:
        session.submit(body, on_behalf)
    assert caught.value.reason is Reason.ACCOUNT_FROZEN


async def test_landing_releases_the_reservation_once() -> None:
    book = ledger(alice_usd=10)
    session = Session(book, 1)
    session.open(1, 10)
    flight = session.submit(BODY, ALICE, Reservation(ALICE, 2, 5))
    assert book.balance(ALICE, 2).available == 5
    assert session.landed(flight.command_id) is flight
    assert book.balance(ALICE, 2).available == 10
    assert session.landed(flight.command_id) is None
    assert session.landed(0) is None


async def test_a_lost_way_tells_the_unsent_at_once_and_the_sent_when_a_newer_session_begins() -> None:
    book = ledger(alice_usd=10)
    session = Session(book, 1)
    session.open(1, 10)
    sent = session.submit(BODY, ALICE, Reservation(ALICE, 2, 5))
    await session.batch()
    unsent = session.submit(BODY, ALICE, Reservation(ALICE, 2, 3))
    session.close()
    assert unsent.done.done() and not sent.done.done()
    assert book.balance(ALICE, 2).reserved == 5, "the book may have taken it"
    assert reason(session, ALICE) is Reason.NOT_TAKEN
    session.superseded_by(2)
    for flight in (sent, unsent):
        with pytest.raises(Rejected) as caught:
            await outcome(flight, 1)
        assert caught.value.reason is Reason.NOT_TAKEN
    assert book.balance(ALICE, 2).reserved == 0
    session.open(2, 10)
    session.submit(BODY, ALICE)
    assert [c.command_id for c in await session.batch()] == [1 << 56 | 2 << 36 | 1], "nothing old is waited for"


async def test_a_session_of_this_epoch_voids_nothing() -> None:
    session = opened(epoch=4)
    flight = session.submit(BODY, ALICE)
    session.superseded_by(4)
    assert not flight.done.done()


async def test_a_session_opens_only_forward_and_clean() -> None:
    session = opened(epoch=4)
    with pytest.raises(AssertionError):
        session.open(4, 10)
    session.submit(BODY, ALICE)
    with pytest.raises(AssertionError):
        session.open(5, 10)


async def test_outcomes() -> None:
    book = ledger()
    session, say = Session(book, 1), Journal(book).say
    session.open(1, 10)
    late = session.submit(BODY, ALICE)
    with pytest.raises(Rejected) as caught:
        await outcome(late, 0.01)
    assert caught.value.reason is Reason.DEADLINE
    late.done.set_result(say(Unrelated()))
    assert (await outcome(late, 1)).sequence == 10, "it is known later"
    for given, expected in (("MARKET_HALTED", Reason.MARKET_HALTED), ("NEVER_HEARD_OF", Reason.INTERNAL)):
        flight = session.submit(BODY, ALICE)
        flight.done.set_result(say(Refused(given)))
        with pytest.raises(Rejected) as caught:
            await outcome(flight, 1)
        assert caught.value.reason is expected
