"""The gateway's small parts: progress, the filter of used ids, budgets, users' names, demo funds' amounts, watches."""

from __future__ import annotations

import asyncio

import pytest

from services.depth import Depth
from services.errors import Reason, Rejected
from services.order_gateway import seen as seen_module
from services.order_gateway import views
from services.order_gateway import watch as watch_module
from services.order_gateway.budget import market_buy_budget
from services.order_gateway.faucet import parse_grants
from services.order_gateway.identity.who import checked_user
from services.order_gateway.ledger import Balance
from services.order_gateway.model import CancelCause, OrderCanceled, OrderPlaced
from services.order_gateway.progress import Progress
from services.order_gateway.seen import Seen
from services.order_gateway.views import AccountView, OrdersView, Update
from services.order_gateway.watch import Watches
from tests.unit.gateway_values import ALICE, BOB, MARKET, Journal, ledger, order

DAY = 24 * 3600 * 10**9


async def test_progress_wakes_those_who_wait_for_it_and_no_others() -> None:
    progress = Progress(5)
    await progress.reach(5)
    waiting = [asyncio.create_task(progress.reach(n)) for n in (8, 6, 7)]
    await asyncio.sleep(0)
    progress.advance(7)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [False, True, True]
    with pytest.raises(AssertionError):
        progress.advance(6)
    waiting[0].cancel()
    await asyncio.wait(waiting)
    progress.advance(9)


class TestSeen:
    def test_what_was_added_is_maybe_there_for_a_day_and_gone_after_two(self) -> None:
        seen = Seen(DAY)
        seen.add((1, "a"), 10 * DAY)
        assert seen.maybe((1, "a"), 10 * DAY)
        assert seen.maybe((1, "a"), 11 * DAY - 1)
        assert not seen.maybe((1, "a"), 12 * DAY + 1)

    def test_it_outlives_one_turn(self) -> None:
        seen = Seen(DAY)
        seen.add((1, "a"), 10 * DAY)
        seen.add((1, "b"), 11 * DAY - 1)
        seen.add((1, "c"), 11 * DAY)
        assert seen.maybe((1, "b"), 12 * DAY - 2)

    def test_others_are_surely_not_there(self) -> None:
        seen = Seen(DAY)
        for number in range(10_000):
            seen.add((1, f"a{number}"), DAY)
        false_alarms = sum(seen.maybe((2, f"a{number}"), DAY) for number in range(10_000))
        assert false_alarms < 5
        assert all(seen.maybe((1, f"a{number}"), DAY) for number in range(10_000))

    def test_saturated_it_says_maybe_for_a_day(self) -> None:
        seen = Seen(DAY)
        seen.saturate(DAY)
        assert seen.maybe((1, "x"), 2 * DAY - 1)
        assert not seen.maybe((1, "x"), 2 * DAY)

    def test_memory_is_bounded(self) -> None:
        assert seen_module.FILTER_BYTES <= 2**22


@pytest.mark.parametrize(
    ("asks", "lots", "available", "expected"),
    [
        ([(100, 10)], 10, 10**9, 1_050),
        ([(100, 10), (200, 10)], 15, 10**9, 2_100),
        ([(101, 1)], 1, 10**9, 107),  # 106.05, rounded up
        ([(100, 10)], 50, 10**9, 1_050),  # what there is
        ([(100, 10)], 10, 1_000, 1_000),  # at most what is available
        ([(100, 10)], 10, 100, 100),  # one lot
        ([], 10, 10**9, Reason.EMPTY_BOOK),
        ([(100, 10)], 10, 99, Reason.INSUFFICIENT_FUNDS),
        ([(100, 10)], 10, 0, Reason.INSUFFICIENT_FUNDS),
    ],
)
def test_budget_of_a_market_buy(asks: list[tuple[int, int]], lots: int, available: int, expected: int | Reason) -> None:
    depth = Depth()
    depth.rest(True, 50, 1_000)
    for price, quantity in asks:
        depth.rest(False, price, quantity)
    if isinstance(expected, Reason):
        with pytest.raises(Rejected) as caught:
            market_buy_budget(MARKET, depth, lots, available)
        assert caught.value.reason is expected
    else:
        assert market_buy_budget(MARKET, depth, lots, available) == expected


GOOD_USERS = ["a", "user-abc", "A.b_c-9", "x" * 64, "admin", "feess"]
BAD_USERS = {
    "": "INVALID_FIELD", "x" * 65: "INVALID_FIELD", "a b": "INVALID_FIELD", "a/b": "INVALID_FIELD",
    "é": "INVALID_FIELD", "１": "INVALID_FIELD", "a\n": "INVALID_FIELD", "fees": "PERMISSION_DENIED",
    "faucet": "PERMISSION_DENIED", "insurance": "PERMISSION_DENIED", "outside": "PERMISSION_DENIED",
    "adjustments": "PERMISSION_DENIED",
    "Outside": "PERMISSION_DENIED",
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD_USERS)
def test_names_that_users_may_have(name: str) -> None:
    assert checked_user(name, "user") == name


@pytest.mark.parametrize("name", BAD_USERS)
def test_names_that_users_may_not_have(name: str) -> None:
    with pytest.raises(Rejected) as caught:
        checked_user(name, "user")
    assert (caught.value.reason.name, caught.value.field) == (BAD_USERS[name], "user")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", {}), ("BTC=100", {"BTC": "100"}), (" BTC=1.5 , USD=2 ,", {"BTC": "1.5", "USD": "2"})],
)
def test_grants(text: str, expected: dict[str, str]) -> None:
    assert parse_grants(text) == expected


@pytest.mark.parametrize("text", ["BTC", "BTC=", "=1", "BTC=-1", "BTC=1e3", "BTC=NaN", "BTC=1,BTC=2", "BTC=0"])
def test_grants_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be like"):
        parse_grants(text)


class TestWatch:
    async def test_snapshot_then_changes_then_a_lagged_snapshot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watch_module, "QUEUE_UPDATES_MAX", 2)
        book = ledger(alice_usd=10**10)
        journal, watches = Journal(book), Watches(book)

        def say(body: object) -> None:
            watches.tell(journal.say(body))  # type: ignore[arg-type]

        say(OrderPlaced(order(), ()))
        with (
            watches.watch(OrdersView(book, ALICE, None)) as watch,
            watches.watch(OrdersView(book, BOB, None)) as others,
        ):
            (first,) = await watch.updates()
            assert (first.snapshot, first.lagged, [o.order_id for o in first.orders]) == (True, False, [1])
            (nothing,) = await others.updates()
            assert nothing.snapshot and nothing.orders == ()
            for number in (2, 3):
                say(OrderPlaced(order(order_id=number, lock=1), ()))
            assert [u.orders[0].order_id for u in await watch.updates()] == [2, 3]
            for number in (4, 5, 6, 7):
                say(OrderPlaced(order(order_id=number, lock=1), ()))
            say(OrderCanceled(7, 0, CancelCause.USER))
            (again,) = await watch.updates()
            assert (again.snapshot, again.lagged) == (True, True)
            assert [o.order_id for o in again.orders] == [1, 2, 3, 4, 5, 6]
            assert again.sequence == book.sequence
            say(OrderCanceled(6, 0, CancelCause.USER))
            assert [u.snapshot for u in await watch.updates()] == [False]
            monkeypatch.setattr(watch_module, "HEARTBEAT_SECONDS", 0.01)
            assert await others.updates() == [Update(book.sequence)]
        assert watches._by_account == {}

    async def test_another_market_does_not_concern_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watch_module, "HEARTBEAT_SECONDS", 0.01)
        book = ledger(alice_usd=10**10)
        watches = Watches(book)
        with watches.watch(OrdersView(book, ALICE, 2)) as watch:
            await watch.updates()
            watches.tell(Journal(book).say(OrderPlaced(order(), ())))
            assert await watch.updates() == [Update(book.sequence)]

    async def test_readers_of_one_account_are_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watch_module, "WATCHES_ACCOUNT_MAX", 1)
        book = ledger()
        watches = Watches(book)
        with watches.watch(OrdersView(book, ALICE, None)):
            with pytest.raises(Rejected) as caught, watches.watch(AccountView(book, ALICE)):
                raise AssertionError
            assert caught.value.reason is Reason.OVERLOADED
            with watches.watch(AccountView(book, BOB)):
                pass

    def test_a_long_update_comes_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(views, "PART_ITEMS_MAX", 2)
        orders = tuple(order(order_id=number) for number in range(4))
        whole = Update(7, orders, (), ((1, Balance(5)), (2, Balance(6)), (3, Balance(7))), snapshot=True, lagged=True)
        parts = whole.parts()
        assert [[asset for asset, _ in part.balances] for part in parts] == [[1, 2], [3], [], []]
        assert [[o.order_id for o in part.orders] for part in parts] == [[], [0], [1, 2], [3]]
        assert [(part.snapshot, part.lagged) for part in parts] == [(True, True), *[(False, False)] * 3]
        assert Update(7).parts() == [Update(7)]
        few = Update(7, orders[:2], snapshot=True)
        assert few.parts() == [few]
