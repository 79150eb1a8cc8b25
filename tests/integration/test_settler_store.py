"""What the settler remembers: the contiguous prefix, batches in order, nonces, one owner. On both databases."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.runtime.db import Database
from services.runtime.migrate import migrate
from services.settler.__main__ import MIGRATIONS, SCHEMA
from services.settler.model import ClaimSeen, DepositSeen, Item, Kind, NonceState, State
from services.settler.store import CHANGE_ENTRIES_MAX, Store, Superseded
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


async def test_deposits_claims_meta_tokens_and_closed_nonces(database: Database) -> None:
    store = await Store.load(database, KEY)
    seen = [DepositSeen(n, 2**255 + n, "BTC", 10**70 + n, 5, HASH) for n in (1, 2, 4)]
    claims = [ClaimSeen(n, "0x" + "ab" * 20, "BTC", 10**70 + n, 5, HASH, 9) for n in (1, 2, 4)]
    await store.see_money(seen, claims, 17)
    await store.list_token("BTC", "0xtoken")
    await store.add_attempt(3, 0, HASH, RAW)
    await store.close_ticket(store.tickets[3], NonceState.REVERTED)
    store = await Store.load(database, KEY)
    assert await store.deposits_after(0, 10) == seen[:2], "what lies beyond a gap waits"
    assert await store.deposits_after(1, 10) == seen[1:2]
    assert await store.claims_after(0, 10) == claims[:2], "what lies beyond a gap waits"
    assert await store.claims_after(1, 10) == claims[1:2]
    assert store.number("claims_seen") == 4
    assert (store.number("searched_block"), store.number("deposits_seen"), store.number("never set")) == (17, 4, 0)
    assert store.tokens == {"BTC": "0xtoken"}
    assert (store.tickets, store.next_nonce) == ({}, 4)
    assert await store.hashes_of_batch(0) == [HASH]
