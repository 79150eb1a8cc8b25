"""What the settler remembers: the contiguous prefix, batches in order, nonces, one owner. On both databases."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.runtime.db import Database
from services.runtime.migrate import migrate
from services.settler.__main__ import MIGRATIONS, SCHEMA
from services.settler.lease import Lease, Superseded
from services.settler.model import (
    ClaimSeen,
    Debt,
    DebtState,
    DepositSeen,
    ExitSeen,
    Item,
    Kind,
    NonceState,
    Owner,
    Shortfall,
    State,
)
from services.settler.store import CHANGE_ENTRIES_MAX, Store
from tests.backends import Backends

KEY = "0x" + "11" * 20
HASH, RAW = "0x" + "aa" * 32, b"raw"


@pytest.fixture
def server(backends: Backends) -> Backends:
    return backends


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.backends)])
def database_server(request: pytest.FixtureRequest) -> Backends | None:
    return None if request.param == "sqlite" else request.getfixturevalue("server")


@pytest.fixture
async def database(database_server: Backends | None, tmp_path: Path) -> AsyncIterator[Database]:
    url = await database_server.new_database() if database_server else f"sqlite:///{tmp_path}/settler.sqlite"
    await migrate(url, SCHEMA, MIGRATIONS)
    async with await Database.open(url, SCHEMA) as opened:
        yield opened


def trades(first: int, last: int) -> list[tuple[Item, bytes]]:
    return [(Item(n, Kind.TRADE, "BTC-USD", n, "", ""), b"body %d" % n) for n in range(first, last + 1)]


async def matched(store: Store) -> list[tuple[int, int]]:
    changes = await store.changes_after(0, 1000)
    return [(change.first, change.last) for change in changes if change.state is State.MATCHED]


async def test_only_the_contiguous_prefix_is_matched(database: Database) -> None:
    store = await Store.load(database, KEY)
    steps = [
        ((3, 4), 2, 0, []),
        ((1, 1), 1, 1, [(1, 1)]),
        ((1, 4), 1, 4, [(1, 1), (2, 4)]),
        ((2, 3), 0, 4, [(1, 1), (2, 4)]),
        ((6, 6), 1, 4, [(1, 1), (2, 4)]),
        ((5, 7), 2, 7, [(1, 1), (2, 4), (5, 7)]),
    ]
    for (first, last), new, through, ranges in steps:
        assert await store.take_entries(trades(first, last)) == new
        assert store.contiguous == through
        assert await matched(store) == ranges
        again = await Store.load(database, KEY)
        assert (again.contiguous, again.beyond) == (store.contiguous, store.beyond)
        store = again
    assert await store.unbatched(3) == [b"body 1", b"body 2", b"body 3"]
    assert await store.change_of(8) is None


async def test_random_deliveries_end_as_one_sequence(database: Database) -> None:
    dice = random.Random(5)
    store = await Store.load(database, KEY)
    ranges = [(first, min(first + dice.randint(4, 9), 300)) for first in range(1, 301, 5)]
    deliveries = ranges * 2
    dice.shuffle(deliveries)
    for first, last in deliveries:
        await store.take_entries(trades(first, last))
    found = await matched(store)
    assert [first for first, _ in found] == [1, *(last + 1 for _, last in found[:-1])]
    assert found[-1][1] == 300
    assert store.beyond == set()


async def test_a_change_never_covers_more_than_a_message_should_hold(database: Database) -> None:
    store = await Store.load(database, KEY)
    await store.take_entries(trades(2, 1200))
    await store.take_entries(trades(1, 1))
    assert await matched(store) == [(1, CHANGE_ENTRIES_MAX), (501, 1000), (1001, 1200)]


async def test_a_batch_from_stored_to_final(database: Database) -> None:
    store = await Store.load(database, KEY)
    await store.take_entries(trades(1, 10))
    batch = await store.add_batch(1, 4, b"data", b"c" * 32, 6)
    assert [each.batch_id for each in store.waiting()] == [1]
    assert store.waiting_since() is not None
    await store.add_attempt(7, 1, HASH, RAW)
    store = await Store.load(database, KEY)
    assert store.tickets[7].hashes == (HASH,)
    assert (store.next_nonce, store.last_batched, store.mined_through) == (8, 4, 0)
    (batch,) = store.waiting()
    assert (batch.state, batch.calldata, batch.transaction_hash) == (State.SUBMITTED, b"data", HASH)
    await store.mined(batch, HASH, 12, "0xb")
    store = await Store.load(database, KEY)
    assert (store.tickets, store.waiting(), store.mined_through) == ({}, [], 4)
    (batch,) = store.on_chain()
    batch = await store.deeper(batch, State.CONFIRMED)
    await store.deeper(batch, State.FINAL)
    assert (store.batches, store.final_through) == ([], 4)
    store = await Store.load(database, KEY)
    assert (store.batches, store.final_through, store.last_batch_id) == ([], 4, 1)
    found = await store.change_of(3)
    assert found is not None
    assert (found.state, found.batch_id, found.block_number) == (State.FINAL, 1, 12)
    beyond = await store.change_of(5)
    assert beyond is not None
    assert (beyond.state, beyond.batch_id) == (State.MATCHED, 0)


async def test_a_reorganised_batch_has_its_nonce_back(database: Database) -> None:
    store = await Store.load(database, KEY)
    await store.take_entries(trades(1, 4))
    for number, (first, last) in enumerate([(1, 2), (3, 4)], 1):
        await store.add_batch(first, last, b"data", b"c" * 32, 6)
        await store.add_attempt(number, number, f"{HASH}{number}", RAW)
        await store.mined(store.waiting()[0], f"{HASH}{number}", 10 + number, "0xb")
    await store.reorganised(store.on_chain())
    assert [batch.state for batch in store.batches] == [State.SUBMITTED, State.SUBMITTED]
    assert sorted(store.tickets) == [1, 2]
    assert store.mined_through == 0
    again = await Store.load(database, KEY)
    assert again.tickets == store.tickets
    assert again.batches == store.batches
    states = [change.state for change in await again.changes_after(0, 100) if change.last == 4]
    assert states == [1, 2, 3, 4, 7, 3]


async def test_another_settlers_batch_voids_ours(database: Database) -> None:
    store = await Store.load(database, KEY)
    await store.take_entries(trades(1, 9))
    await store.add_batch(1, 3, b"data", b"c" * 32, 6)
    await store.add_attempt(0, 1, HASH, RAW)
    await store.adopt(1, 5, b"d" * 32, "0xtheirs", 4, "0xb")
    for each in (store, await Store.load(database, KEY)):
        assert [(batch.first, batch.last, batch.state) for batch in each.batches] == [(1, 5, State.MINED)]
        assert (each.last_batched, each.mined_through) == (5, 5)
        assert list(each.tickets) == [0], "its transaction may still be mined, and revert"
        assert each.waiting_since() is not None
    found = await store.change_of(2)
    assert found is not None
    assert (found.batch_id, found.transaction_hash) == (2, "0xtheirs")


async def test_illegal_steps_are_bugs(database: Database) -> None:
    store = await Store.load(database, KEY)
    await store.take_entries(trades(1, 9))
    batch = await store.add_batch(1, 3, b"data", b"c" * 32, 6)
    with pytest.raises(AssertionError, match="BATCHED cannot become FINAL"):
        await store.deeper(batch, State.FINAL)
    with pytest.raises(AssertionError, match="must follow"):
        await store.add_batch(3, 5, b"data", b"c" * 32, 6)
    with pytest.raises(AssertionError, match="must follow"):
        await store.add_batch(4, 12, b"data", b"c" * 32, 6)
    await store.add_attempt(0, 1, HASH, RAW)
    with pytest.raises(AssertionError, match="one nonce, one batch"):
        await store.add_attempt(0, 2, HASH + "2", RAW)


async def test_of_two_settlers_on_one_database_the_older_is_refused(database: Database) -> None:
    older = await Store.load(database, KEY)
    newer = await Store.load(database, KEY)
    with pytest.raises(Superseded):
        await older.take_entries(trades(1, 2))
    with pytest.raises(Superseded):
        await older.remember(anything=1)
    assert await newer.take_entries(trades(1, 2)) == 2


LEASE_SECONDS = 0.4


async def test_a_lease_is_waited_for_and_its_holder_is_heard(database: Database) -> None:
    clock = asyncio.get_running_loop().time
    first = await Lease.take(database, LEASE_SECONDS)
    assert first.token == 1, "nobody held it: nobody is waited for"
    over = asyncio.Event()
    holding = asyncio.create_task(first.during(_until(over)))
    waiting = asyncio.create_task(Lease.take(database, LEASE_SECONDS))
    await asyncio.sleep(3 * LEASE_SECONDS)
    assert not waiting.done(), "its holder lives"
    over.set()
    await holding
    second = await waiting
    assert second.token == 2
    began = clock()
    third = await Lease.take(database, LEASE_SECONDS)  # the second one shows no sign of life
    assert clock() - began >= LEASE_SECONDS
    assert (third.token, await second.lost(), await third.lost()) == (3, True, False)
    await second.release()
    assert (await database.fetch("SELECT token, beat FROM lease"))[0][1] != 0, "who lost it cannot give it back"
    await third.release()
    assert (await Lease.take(database, 60.0)).token == 4, "given back: nobody is waited for"


async def test_who_loses_the_lease_is_stopped_in_its_work(database: Database) -> None:
    sleeper = await Lease.take(database, LEASE_SECONDS)
    working = asyncio.create_task(sleeper.during(_until(asyncio.Event())))
    await Lease.take(database, 0)
    with pytest.raises(Superseded):
        async with asyncio.timeout(10):
            await working


async def test_one_of_many_takes_a_lease(database: Database) -> None:
    """All of them see it free in the same moment."""
    tasks = [asyncio.create_task(Lease.take(database, 60.0)) for _ in range(20)]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.2)
    assert [task.result().token for task in done] == [1]
    assert not any(task.done() for task in others)
    for task in others:
        task.cancel()
    await asyncio.wait(others)


async def _until(over: asyncio.Event) -> None:
    await over.wait()


async def test_a_sleeper_that_wakes_writes_nothing(database: Database) -> None:
    """Every write of the store, tried by one that has lost the lease: refused, and nothing of it is there."""
    sleeper = await Store.load(database, KEY)
    await sleeper.take_entries(trades(1, 10))
    batch = await sleeper.add_batch(1, 4, b"data", b"c" * 32, 6)
    ticket = await sleeper.add_attempt(7, 1, HASH, RAW)
    newer = await Store.load(database, KEY)
    tables = ["meta", "entries", "batches", "nonces", "attempts", "changes", "assets", "deposits", "owners"]
    before = [await database.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in tables]
    deposit = DepositSeen(1, 5, "BTC", 5, 3, "0x")
    writes: list[Coroutine[Any, Any, object]] = [
        sleeper.take_entries(trades(11, 12)),
        sleeper.add_batch(5, 6, b"data", b"d" * 32, 6),
        sleeper.add_attempt(8, 1, HASH + "2", RAW),
        sleeper.add_attempt(7, 1, HASH + "3", RAW),
        sleeper.close_ticket(ticket, NonceState.LOST),
        sleeper.failed(batch, ticket, HASH, "why"),
        sleeper.supersede(replace(batch, batch_id=9), b"other", b"e" * 32, 6, [], "why"),
        sleeper.mined(batch, HASH, 5, "0xb"),
        sleeper.adopt(1, 4, b"e" * 32, HASH, 5, "0xb"),
        sleeper.remember(searched_block=9),
        sleeper.list_token("BTC", "0x"),
        sleeper.see_money([deposit], [], [], 9, "0x9"),
        sleeper.know_owners([Owner(5, "0x")]),
    ]
    for write in writes:
        with pytest.raises(Superseded):
            await write
    assert [await database.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in tables] == before
    assert (await newer.add_batch(5, 6, b"data", b"d" * 32, 6)).batch_id == 2


async def test_a_failed_batch_waits_and_counts_as_settled_nowhere(database: Database) -> None:
    store = await Store.load(database, KEY)
    await store.take_entries(trades(1, 10))
    batch = await store.add_batch(1, 4, b"data", b"c" * 32, 6)
    ticket = await store.add_attempt(7, 1, HASH, RAW)
    await store.failed(store.waiting()[0], ticket, HASH, "why")
    for each in (store, await Store.load(database, KEY)):
        (failed,) = each.waiting()
        assert (failed.state, failed.transaction_hash, each.tickets) == (State.FAILED, HASH, {})
        assert (each.mined_through, each.mined_block, each.final_through) == (0, 0, 0)
        assert each.on_chain() == []
    change = await each.change_of(4)
    assert change is not None
    assert (change.state, change.reason, change.transaction_hash) == (State.FAILED, "why", HASH)
    made = await each.supersede(failed, b"other", b"d" * 32, 7, [], "why")
    assert made == replace(batch, calldata=b"other", chained=b"d" * 32, legs=7)
    assert (await Store.load(database, KEY)).waiting() == [made]


async def test_what_a_reorganisation_took_from_closed_nonces_is_open_again(database: Database) -> None:
    store = await Store.load(database, KEY)
    for nonce in range(3, 7):
        await store.add_attempt(nonce, 0, f"{HASH}{nonce}", RAW)
    for nonce, state in ((3, NonceState.MINED), (4, NonceState.REVERTED), (6, NonceState.LOST)):
        await store.close_ticket(store.tickets[nonce], state)
    assert await store.reopen(7) == []
    assert await store.reopen(4) == [4, 6]
    for each in (store, await Store.load(database, KEY)):
        assert sorted(each.tickets) == [4, 5, 6]
        assert each.tickets[4].hashes == (f"{HASH}4",)
        assert each.next_nonce == 7


async def test_owners_wait_for_a_batch_that_links_them(database: Database) -> None:
    store = await Store.load(database, KEY)
    owners = [Owner(1000 + n, "0x" + f"{n:040x}") for n in range(1, 5)]
    await store.know_owners(owners[2:])
    await store.know_owners(owners)  # as after a restart: the cursor may lie behind
    await store.know_owners([Owner(1001, "0x" + "ff" * 20)])
    assert await store.unlinked(10) == owners
    assert await store.unlinked(2) == owners[:2]
    assert await store.unlinked(2, [1003, 1009]) == [owners[2], owners[0]], "who is asked for comes first"
    await store.take_entries(trades(1, 3))
    await store.add_batch(1, 2, b"data", b"c" * 32, 1, owners[:2])
    store = await Store.load(database, KEY)
    assert await store.unlinked(10) == owners[2:]
    await store.adopt(1, 3, b"d" * 32, HASH, 7, HASH)  # another settler's batch was settled instead
    assert await store.unlinked(10) == owners


def lost_debt(debt_id: int, sequence: int) -> Debt:
    """As the journal tells of it to who has no batch of it."""
    return Debt(debt_id, 0, Shortfall(1001, "USD", 10 + debt_id, "why", sequence), DebtState.FROZEN)


async def test_debts_that_are_told_after_their_batch_was_final_come_to_their_end(database: Database) -> None:
    """As those did that were stuck before the settler knew how, and those of a settler with another database."""
    store = await Store.load(database, KEY)
    await store.take_entries(trades(1, 10))
    await store.adopt(1, 3, b"a" * 32, HASH, 7, HASH)
    batch = await store.add_batch(4, 6, b"data", b"c" * 32, 6)
    await store.add_attempt(7, batch.batch_id, HASH, RAW)
    await store.mined(store.waiting()[0], HASH, 8, HASH)
    await store.adopt(7, 9, b"d" * 32, HASH, 9, HASH)
    for each in store.on_chain()[:2]:
        await store.deeper(await store.deeper(each, State.CONFIRMED), State.FINAL)
    debts = [lost_debt(1, 3), lost_debt(2, 2), lost_debt(3, 6), lost_debt(4, 9), lost_debt(5, 10)]
    await store.know_debts(debts)
    await store.remember(notes_journaled=5)
    assert await store.paid_in(1, 10) == {}
    store = await Store.load(database, KEY)
    for _ in range(2):  # nothing is noted twice
        await store.note_lost()
        ends = [(note.note_index, note.debt_id, note.state) for note in await store.notes_after(5, 10)]
        assert ends == [(6, 1, DebtState.PAID), (7, 2, DebtState.RESOLVED), (8, 3, DebtState.RESOLVED)]
    assert await store.paid_in(1, 10) == {1: debts[0].shortfall}
    assert sorted((await Store.load(database, KEY)).debts) == [1, 4, 5], "the others' batches are not final"
    assert [await store.has_adopted(*range_) for range_ in ((1, 3), (4, 6), (6, 7), (10, 10))] == [
        True,
        False,
        True,
        False,
    ]


async def test_deposits_claims_meta_tokens_and_closed_nonces(database: Database) -> None:
    store = await Store.load(database, KEY)
    seen = [DepositSeen(n, 2**255 + n, "BTC", 10**70 + n, 5, HASH) for n in (1, 2, 4)]
    claims = [ClaimSeen(n, "0x" + "ab" * 20, "BTC", 10**70 + n, 5, HASH, 9, 1000 * n) for n in (1, 2, 4)]
    exits = [ExitSeen(n, 2**62 + n, n == 2, 5, HASH) for n in (1, 2, 4)]
    await store.see_money(seen, claims, exits, 17, "0x17")
    await store.list_token("BTC", "0xtoken")
    await store.add_attempt(3, 0, HASH, RAW)
    await store.close_ticket(store.tickets[3], NonceState.REVERTED)
    store = await Store.load(database, KEY)
    assert await store.deposits_after(0, 10) == seen[:2], "what lies beyond a gap waits"
    assert await store.deposits_after(1, 10) == seen[1:2]
    assert await store.claims_after(0, 10) == claims[:2], "what lies beyond a gap waits"
    assert await store.claims_after(1, 10) == claims[1:2]
    assert await store.exits_after(0, 10) == exits[:2], "what lies beyond a gap waits"
    assert await store.exits_after(1, 10) == exits[1:2]
    assert (store.number("claims_seen"), store.number("exits_seen")) == (4, 4)
    assert (store.number("searched_block"), store.number("deposits_seen"), store.number("never set")) == (17, 4, 0)
    assert store.tokens == {"BTC": "0xtoken"}
    assert (store.tickets, store.next_nonce) == ({}, 4)
    assert await store.hashes_of_batch(0) == [HASH]
