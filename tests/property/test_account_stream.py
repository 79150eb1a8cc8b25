"""StreamAccount beside the real engine: whoever folds it, from any index on, has what a fresh snapshot says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.order_gateway import resume as resume_module
from services.order_gateway import watch as watch_module
from services.order_gateway.history import Changed, History
from services.order_gateway.ledger import Balance, Change, Ledger
from services.order_gateway.model import Execution, Movement, Order
from services.order_gateway.resume import resume
from services.order_gateway.store import MIGRATIONS, Store
from services.order_gateway.views import AccountView, Update
from services.order_gateway.watch import Watch, Watches
from services.runtime.db import Database
from services.runtime.migrate import migrate
from tests.property.test_ledger_engine import ACCOUNTS, Exchange


@pytest.fixture(autouse=True, scope="module")
def impatient() -> Iterator[None]:
    """A reader for whom there is nothing does not wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch_module, "HEARTBEAT_SECONDS", 0.0)
        yield


@dataclass
class Fold:
    """What a client makes of the stream."""

    index: int = 0
    balances: dict[int, Balance] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    withdrawals: dict[int, tuple[Movement, bool]] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)
    snapshots: int = 0

    def take(self, update: Update) -> None:
        if update.snapshot:
            self.balances, self.orders, self.withdrawals, self.executions = {}, {}, {}, []
            self.snapshots += 1
        assert update.sequence >= self.index, "it grows"
        for execution in update.executions:
            assert self.index < execution.event_sequence <= update.sequence, "nothing twice"
        self.executions += update.executions
        self.balances |= dict(update.balances)
        for order in update.orders:
            if order.is_open:
                self.orders[order.order_id] = order
            else:
                self.orders.pop(order.order_id, None)
        for item in update.movements:
            if item.withdrawal_id and not item.has_ended:
                self.withdrawals[item.create_sequence] = item, item.settlement_sequence <= update.final_through
            else:
                self.withdrawals.pop(item.create_sequence, None)
        self.index = update.sequence

    def copy(self) -> Fold:
        return Fold(self.index, dict(self.balances), dict(self.orders), dict(self.withdrawals), list(self.executions))

    @property
    def state(self) -> tuple[object, ...]:
        return self.balances, self.orders, self.withdrawals


@dataclass
class Reader:
    """A stream that is read now and then."""

    watch: Watch
    fold: Fold

    async def read(self) -> None:
        for update in await self.watch.updates():
            self.fold.take(update)


class Busy(History):
    """A database during whose reading the exchange goes on."""

    def __init__(self, store: Store, ledger: Ledger, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(store, ledger)
        self.meanwhile = meanwhile

    async def changed(self, account_id: int, after: int, through: int, items_max: int) -> Changed | None:
        await self.meanwhile()
        found = await super().changed(account_id, after, through, items_max)
        await self.meanwhile()
        return found


class Stream:
    """The exchange with its database and its readers."""

    def __init__(self, seed: int, store: Store) -> None:
        self.exchange, self.store = Exchange(seed, store), store
        self.ledger = self.exchange.ledger
        self.watches = Watches(self.ledger)
        self.exchange.heard = self.hear
        self.executions: list[Execution] = []
        self.history = Busy(store, self.ledger, self.go_on)
        self.stack = ExitStack()

    def hear(self, change: Change) -> None:
        self.watches.tell(change)
        self.executions += change.effects.executions

    async def go_on(self) -> None:
        """A step, of which the database hears, or perhaps not yet."""
        self.exchange.step()
        await self.store.flush(self.ledger)
        self.exchange.step()

    async def reader(self, account_id: int, fold: Fold | None = None) -> Reader:
        view = AccountView(self.ledger, account_id)
        watch = self.stack.enter_context(self.watches.watch(view))
        if fold is not None:
            await resume(watch, view, fold.index, self.history, self.ledger)
        return Reader(watch, fold or Fold())

    def check(self, account_id: int, reader: Reader, since: int) -> None:
        fresh = Fold()
        fresh.take(AccountView(self.ledger, account_id).snapshot())
        assert reader.fold.index <= self.ledger.sequence
        assert reader.fold.state == fresh.state
        mine = [e for e in self.executions if e.account_id == account_id and e.event_sequence > since]
        assert [e for e in reader.fold.executions if e.event_sequence > since] == mine


async def walk(seed: int, folder: Path, steps: int) -> int:
    """Readers that stay, and readers that leave and come again. Returns how many times one went on from an index."""
    url = f"sqlite:///{folder}/gateway.sqlite"
    await migrate(url, "gateway", MIGRATIONS)
    async with await Database.open(url, "gateway") as database:
        store = Store(database)
        await store.load(100)
        stream = Stream(seed, store)
        chance, went_on = stream.exchange.chance, 0
        with stream.stack:
            live = {account_id: await stream.reader(account_id) for account_id in ACCOUNTS}
            for reader in live.values():
                await reader.read()
            began = stream.ledger.sequence
            left: dict[int, list[Fold]] = {account_id: [] for account_id in ACCOUNTS}
            for _ in range(steps):
                stream.exchange.step()
                account_id = chance.choice(ACCOUNTS)
                await live[account_id].read()
                left[account_id].append(live[account_id].fold.copy())
                if chance.random() < 0.3:
                    other = chance.choice(ACCOUNTS)
                    fold = chance.choice(left[other]).copy() if left[other] else Fold(index=1)
                    since, snapshots = fold.index, fold.snapshots
                    reader = await stream.reader(other, fold)
                    await reader.read()
                    gone_on = fold.snapshots == snapshots and since >= began
                    went_on += gone_on
                    stream.check(other, reader, since if gone_on else stream.ledger.sequence)
            for account_id, reader in live.items():
                await reader.read()
                stream.check(account_id, reader, began)
                assert reader.fold.snapshots == 1
        return went_on


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32))
def test_folding_from_any_index_gives_what_a_fresh_snapshot_says(seed: int) -> None:
    with TemporaryDirectory() as folder:
        assert asyncio.run(walk(seed, Path(folder), 40)) > 0


def test_whose_index_is_too_old_gets_a_snapshot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    went_on = asyncio.run(walk(5, tmp_path / "one", 40))
    monkeypatch.setattr(resume_module, "CHANGES_MAX", 3)
    assert asyncio.run(walk(5, tmp_path / "other", 40)) < went_on


async def test_indexes_that_bring_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/gateway.sqlite"
    await migrate(url, "gateway", MIGRATIONS)
    async with await Database.open(url, "gateway") as database:
        store = Store(database)
        await store.load(100)
        stream = Stream(3, store)
        for _ in range(20):
            stream.exchange.step()
        account_id, now = ACCOUNTS[0], stream.ledger.sequence
        for index, snapshot in ((0, True), (now + 50, True), (now, False)):
            with stream.stack:
                reader = await stream.reader(account_id, Fold(index=index))
                (update,) = await reader.watch.updates()
                assert update.snapshot is snapshot, index
        monkeypatch.setattr(watch_module, "QUEUE_UPDATES_MAX", 1)
        with stream.stack:
            reader = await stream.reader(account_id, Fold(index=now))
            (update,) = await reader.watch.updates()
            assert update.snapshot and not update.lagged, "what happened meanwhile was too much"
            for _ in range(20):
                stream.exchange.step()
            (update,) = await reader.watch.updates()
            assert update.snapshot and update.lagged


def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was noted while the database was read is left out."""
    monkeypatch.setattr(Watch, "noted", ())
    with pytest.raises(AssertionError):
        asyncio.run(walk(5, tmp_path, 40))
