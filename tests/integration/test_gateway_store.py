"""The gateway's database, on SQLite and on PostgreSQL: what it keeps, gives back, and does when away."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.market_rules import MarketRules, MarketState
from services.order_gateway import projection
from services.order_gateway import store as store_module
from services.order_gateway.history import History
from services.order_gateway.ledger import Ledger
from services.order_gateway.model import (
    AccountOpened,
    AssetCreated,
    CancelCause,
    Deposited,
    Event,
    EventBody,
    MarketChanged,
    MarketCreated,
    MovementState,
    Order,
    OrderCanceled,
    OrderPlaced,
    OrderState,
    RequestWithdrawal,
    Transfer,
    Transferred,
    WithdrawalApproved,
    WithdrawalCanceled,
    WithdrawalRequested,
)
from services.order_gateway.projection import APPEND_ONLY
from services.order_gateway.store import MIGRATIONS, Store
from services.records import replaced
from services.runtime.db import Conflict, Database, Statement, Unavailable
from services.runtime.migrate import migrate
from services.units import Asset
from tests.backends import Backends
from tests.unit.gateway_values import ALICE, BOB, order, trade

HUGE = 10**40
"""Far beyond 64 bits, and beyond what a float holds exactly."""


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Backends | None:
    """None: SQLite needs none."""
    return request.getfixturevalue("backends") if request.param == "postgresql" else None


@pytest.fixture
async def database(server: Backends | None, tmp_path: Path) -> AsyncIterator[Database]:
    url = await server.new_database() if server else f"sqlite:///{tmp_path}/gateway.sqlite"
    await migrate(url, "gateway", MIGRATIONS)
    async with await Database.open(url, "gateway") as opened:
        yield opened


class Fold:
    """A ledger and its store, in step."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self.store, self.ledger = store, ledger

    @classmethod
    async def load(cls, database: Database, ended_orders_max: int = 100) -> Fold:
        store = Store(database)
        return cls(store, Ledger(await store.load(ended_orders_max)))

    def say(self, *bodies: EventBody, time_ns: int = 1) -> None:
        """One journal row."""
        self.ledger.incarnation = "test"
        for body in bodies:
            change = self.ledger.apply(Event(self.ledger.sequence + 1, 0, body), time_ns)
            self.store.pending.add(change)
        self.store.row_ended(len(bodies))

    def place(self, value: Order, *trades: Any) -> None:
        self.say(OrderPlaced(_now(value, self.ledger.sequence + 1), trades), time_ns=self.ledger.sequence)

    async def flush(self) -> None:
        await self.store.flush(self.ledger)


def _now(value: Order, sequence: int) -> Order:
    return replaced(value, create_sequence=sequence, event_sequence=sequence)


RULES = MarketRules(1, 2, HUGE, 50_000, 7, 3)
SETUP: tuple[EventBody, ...] = (
    AssetCreated(Asset(1, "BTC", 8)),
    AssetCreated(Asset(2, "USD", 6)),
    AccountOpened(ALICE, "alice"),
    AccountOpened(BOB, "bob"),
    Deposited(1, 2, 1, HUGE),
    Deposited(2, 2, 2, HUGE),
    MarketCreated(1, "BTC-USD", 1, 2, "0.01", "0.0001", 5),
    MarketChanged(1, MarketState.HALTED),
    Transferred(Transfer("t1", 2, ALICE, 2, HUGE - 1), 3),
    Transferred(Transfer("faucet:1002:BTC", 2, BOB, 1, 10**9), 4),
)


async def traded(database: Database) -> Fold:
    fold = await Fold.load(database)
    fold.say(*SETUP)
    await fold.flush()
    fold.place(order(order_id=1, client_order_id="a"))
    fold.place(
        order(
            order_id=2, account_id=BOB, buys=False, quantity_lots=40, filled_lots=40, state=OrderState.FILLED, lock=0,
            client_order_id="b",
        ),
        trade(settlement_sequence=5),
    )  # fmt: skip
    fold.place(order(order_id=3, client_order_id="c", lock=5))
    fold.say(OrderCanceled(3, 0, CancelCause.USER), MarketChanged(1, MarketState.PRE_OPEN, RULES), time_ns=99)
    await fold.flush()
    return fold


async def test_what_was_written_is_loaded_again(database: Database) -> None:
    fold = await traded(database)
    again = await Fold.load(database)
    mine, theirs = fold.ledger, again.ledger
    assert (theirs.sequence, theirs.time_ns, theirs.incarnation) == (mine.sequence, 99, "test")
    assert theirs.balances == mine.balances
    assert theirs.balance(ALICE, 2).total == HUGE - 1 - 120_000_000
    assert (theirs.orders, theirs.open) == (mine.orders, mine.open)
    assert (theirs.assets, theirs.markets, theirs.account_ids) == (mine.assets, mine.markets, mine.account_ids)
    assert (theirs.books[1].state, theirs.books[1].rules) == (MarketState.PRE_OPEN, RULES)
    assert (theirs.books[1].open_orders, theirs.markets[1].notional_min) == ({ALICE: 1}, 7)
    assert theirs.markets[1].notional_min == mine.markets[1].notional_min
    assert theirs.books[1].depth.all(True) == [(3_000_000, 60)]
    assert again.store.stored.value == mine.sequence


async def test_a_market_halted_in_its_first_transaction_stays_halted(database: Database) -> None:
    fold = await Fold.load(database)
    fold.say(*SETUP[:8])
    await fold.flush()
    assert (await Fold.load(database)).ledger.books[1].state is MarketState.HALTED


async def test_orders_that_changed_are_those_placed_since_and_those_of_before(database: Database) -> None:
    fold = await traded(database)
    history = History(fold.store, fold.ledger)
    placed = {number: fold.ledger.orders[number].create_sequence for number in (1, 2, 3)}
    for after, expected in (
        (placed[1] - 1, {1, 3}),
        (placed[1], {1, 3}),  # 1 was traded with by 2
        (placed[2], {3}),
        (placed[3], {3}),  # which was canceled
        (fold.ledger.orders[3].event_sequence, set()),
    ):
        changed = await history.changed(ALICE, after, fold.ledger.sequence, 10)
        assert changed is not None
        assert sorted(item.order_id for item in changed.orders) == sorted(expected), after
    assert await history.changed(ALICE, 0, fold.ledger.sequence, 1) is None, "more than one"


LATER_COLUMNS = ("market_id BIGINT", "price_ticks BIGINT", "observed_ns BIGINT")


async def test_orders_of_before_the_last_indexes_stay(server: Backends | None, tmp_path: Path) -> None:
    url = await server.new_database() if server else f"sqlite:///{tmp_path}/gateway.sqlite"
    shutil.copytree(MIGRATIONS, tmp_path / "older")
    for script in (tmp_path / "older/versions").glob("*.py"):
        if script.name >= "0009":
            script.unlink()
    await migrate(url, "gateway", tmp_path / "older")
    async with await Database.open(url, "gateway") as opened:
        await opened.write(
            [
                Statement(f"CREATE TABLE reference_prices ({', '.join(LATER_COLUMNS)})"),  # what is read today
                Statement("ALTER TABLE movements ADD COLUMN release_ns BIGINT NOT NULL DEFAULT 0"),  # and written
            ]
        )
        before = (await traded(opened)).ledger
        await opened.write(
            [Statement("DROP TABLE reference_prices"), Statement("ALTER TABLE movements DROP COLUMN release_ns")]
        )
    await migrate(url, "gateway", MIGRATIONS)
    async with await Database.open(url, "gateway") as opened:
        fold = await Fold.load(opened)
        assert (fold.ledger.orders, fold.ledger.open) == (before.orders, before.open)
        fold.place(order(order_id=4, client_order_id="d"))
        await fold.flush()
        assert (await Fold.load(opened)).ledger.open.keys() == {1, 4}


async def test_questions(database: Database) -> None:
    store = (await traded(database)).store
    assert await store.order(7) is None
    found = await store.orders_by_client([(ALICE, "a"), (ALICE, "b"), (ALICE, "c")])
    assert found.keys() == {(ALICE, "c")}, "what is open is in memory"
    found_a = await store.order(1)
    assert found_a is not None
    assert (found_a.filled_lots, found_a.filled_quote, found_a.lock) == (40, 120_000_000, 180_000_000)
    assert await store.orders_by_client([(BOB, "a")]) == {}
    (made,), (took,) = await store.executions(1), await store.executions(2)
    assert (made.is_maker, made.fee, took.is_maker, took.fee) == (True, 400, False, 240_000)
    assert await store.taken(found_a) == []
    taker = await store.order(2)
    assert taker is not None and await store.taken(taker) == [took]
    assert await store.executions(1, through_sequence=11) == []
    given = await store.movement("t1")
    assert given is not None
    assert (given.from_account_id, given.to_account_id, given.amount, given.settlement_sequence) == (
        2, ALICE, HUGE - 1, 3,
    )  # fmt: skip
    assert await store.movement("t2") is None
    assert await store.transfers_to(2, "faucet:") == [(BOB, "faucet:1002:BTC")]


async def test_a_transfer_is_known_before_it_is_written(database: Database) -> None:
    fold = await Fold.load(database)
    fold.say(*SETUP)
    given = await fold.store.movement("t1")
    assert given is not None and given.settlement_sequence == 3


async def test_ids_of_ended_orders(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fold = await traded(database)
    assert await fold.store.client_ids_ended_since(0, 99, 10**6) == ([(ALICE, "c"), (BOB, "b")], True)
    assert await fold.store.client_ids_ended_since(99, 99, 10**6) == ([(ALICE, "c")], True)
    assert await fold.store.client_ids_ended_since(0, 14, 10**6) == ([(BOB, "b")], True)
    monkeypatch.setattr(store_module, "PAGE_ROWS", 1)
    found, complete = await fold.store.client_ids_ended_since(0, 99, 1)
    assert (found, complete) == ([(ALICE, "c")], False)


async def test_tokens_of_older_versions(database: Database) -> None:
    store = Store(database)
    old = "INSERT INTO tokens (hash, user_name, admin, create_ns) VALUES ($1, $2, $3, $4)"
    await database.write([Statement(old, [("h", "alice", 1, 7)])])
    assert await store.tokens() == [("h", "alice", True, 7)]
    await store.drop_tokens()
    assert await store.tokens() == []


TAMPERING = [
    *(f"UPDATE {table} SET {column} = {column} + 1" for table, column in (
        ("postings", "amount"), ("postings", "line"), ("executions", "fee"), ("moments", "time_ns"),
        ("movements", "amount"), ("movements", "to_account_id"), ("movements", "create_ns"),
    )),
    "UPDATE movements SET state = 1 WHERE transfer_id = 't1'",
    "UPDATE movements SET transfer_id = 't2' WHERE state = 1",
    "UPDATE movements SET address = '' WHERE state = 1",
    *(f"DELETE FROM {table}" for table in APPEND_ONLY),
    *(f"TRUNCATE {table}" for table in APPEND_ONLY),
]  # fmt: skip


async def test_the_history_of_money_takes_nothing_back(database: Database) -> None:
    fold = await traded(database)
    asked = RequestWithdrawal("w", BOB, 1, 5, "0x" + "ab" * 20)
    fold.say(WithdrawalRequested(77, asked))
    await fold.flush()
    before = await projection.digest(database)
    for sql in TAMPERING:
        if database.dialect == "sqlite" and sql.startswith("TRUNCATE"):
            continue
        with pytest.raises((sqlite3.IntegrityError, asyncpg.RaiseError), match="append-only"):
            await database.write([Statement(sql)])
    assert await projection.digest(database) == before
    fold.say(WithdrawalApproved(77, asked, 6))
    fold.say(WithdrawalRequested(78, replace(asked, transfer_id="w2")))
    fold.say(WithdrawalCanceled(78, "no"))
    await fold.flush()
    found = await fold.store.withdrawal(78)
    assert found is not None and (found.state, found.reason) == (MovementState.CANCELED, "no"), "states go on"
    await projection.empty(database, fold.ledger.sequence)
    assert not await database.fetch("SELECT * FROM postings") and not await database.fetch("SELECT * FROM movements")
    await traded(database)
    for sql in TAMPERING[:3]:
        with pytest.raises((sqlite3.IntegrityError, asyncpg.RaiseError), match="append-only"):
            await database.write([Statement(sql)])


async def test_what_is_not_final_is_read_page_by_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fold = await traded(database)
    monkeypatch.setattr(store_module, "PAGE_ROWS", 3)
    again = await Fold.load(database)
    assert again.ledger.unsettled.sums() == fold.ledger.unsettled.sums()
    assert again.ledger.balances == fold.ledger.balances
    assert list(again.ledger.transfers) == list(fold.ledger.transfers)
    monkeypatch.setattr(store_module, "UNSETTLED_TRANSFERS_MAX", 1)
    assert [item.transfer_id for item in (await Fold.load(database)).ledger.transfers] == ["faucet:1002:BTC"]


async def test_a_second_writer_is_told(database: Database) -> None:
    first, second = await Fold.load(database), await Fold.load(database)
    first.say(*SETUP)
    second.say(*SETUP)
    await first.flush()
    with pytest.raises(Conflict):
        await second.flush()


class Flaky:
    """A database that fails now and then, before or after it has committed."""

    def __init__(self, database: Database, *faults: str) -> None:
        self._database, self._faults = database, list(faults)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, statements: Sequence[Statement]) -> None:
        fault = self._faults.pop(0) if self._faults else ""
        if fault == "before":
            raise Unavailable("away")
        await self._database.write(statements)
        if fault == "after":
            raise Unavailable("no answer")


@pytest.mark.parametrize("faults", [["before"], ["after"], ["before", "before", "after"], ["after", "before"]], ids=str)
async def test_a_write_of_unknown_outcome_is_made_once(database: Database, faults: list[str]) -> None:
    fold = await Fold.load(database)
    fold.store._database = Flaky(database, *faults)  # type: ignore[assignment]
    fold.say(*SETUP)
    await fold.flush()
    rows = await database.fetch("SELECT COUNT(*) FROM postings")
    assert rows[0][0] == 8
    assert (await Fold.load(database)).ledger.balances == fold.ledger.balances


async def test_a_database_that_stays_away_ends_the_process(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "UNAVAILABLE_SECONDS_MAX", 0.1)
    fold = await Fold.load(database)
    fold.store._database = Flaky(database, *["before"] * 100)  # type: ignore[assignment]
    fold.say(*SETUP)
    with pytest.raises(Unavailable):
        await fold.flush()


async def test_the_fold_waits_for_a_database_that_is_far_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PENDING_EVENTS_MAX", 10)
    fold = await Fold.load(database)
    fold.say(*SETUP[:9])
    await asyncio.wait_for(fold.store.room(), 1)
    fold.say(*SETUP[9:])
    waiting = asyncio.create_task(fold.store.room())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await fold.flush()
    await asyncio.wait_for(waiting, 1)


async def test_what_comes_in_an_interval_goes_together_unless_somebody_waits_for_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "FLUSH_SECONDS_MIN", 60.0)
    fold = await Fold.load(database)
    following = asyncio.create_task(fold.store.follow(fold.ledger, lambda: None))
    for body in SETUP[:9]:
        fold.say(body)
        await asyncio.sleep(0.001)
    assert fold.store.stored.value == 0
    await asyncio.wait_for(fold.store.passed(5), 1)
    assert fold.store.stored.value == 9
    fold.say(*SETUP[9:])
    await asyncio.sleep(0.01)
    assert fold.store.stored.value == 9, "nobody waits any more"
    fold.store.finish()
    await asyncio.wait_for(following, 1)
    assert fold.store.stored.value == fold.ledger.sequence


async def test_reading_waits_for_what_was_answered(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fold = await Fold.load(database)
    fold.say(*SETUP)
    following = asyncio.create_task(fold.store.follow(fold.ledger, lambda: None))
    await fold.store.passed(fold.ledger.sequence)
    assert fold.store.stored.value == fold.ledger.sequence
    monkeypatch.setattr(store_module, "PASS_SECONDS_MAX", 0.01)
    with pytest.raises(Unavailable):
        await fold.store.passed(fold.ledger.sequence + 1)
    fold.say(MarketChanged(1, MarketState.OPEN))
    fold.store.finish()
    await following
    assert (await Fold.load(database)).ledger.sequence == fold.ledger.sequence, "the last words are written"
