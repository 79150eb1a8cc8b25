"""What the settler must not forget, and the one place that changes it.

Each method is one durable transaction: a state and its cause together. What the settler decides by is also kept in
memory, read once at the start; nobody else writes, which every transaction checks (`owner`): of two settlers on one
database the older one is refused.
"""

# ruff: noqa: S608 (what is put into SQL text are column lists of our own)

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from services.runtime import metrics
from services.runtime.db import Conflict, Database, Statement
from services.settler.model import (
    FOLLOWS,
    ON_CHAIN,
    WAITING,
    Batch,
    Change,
    ClaimSeen,
    DepositSeen,
    Item,
    Kind,
    NonceState,
    State,
    Ticket,
)
from services.settler.news import News

CHANGE_ENTRIES_MAX: Final = 500
"""Entries that one change covers, so that a streamed message stays small."""
ARRIVALS_MAX: Final = 1024
REORG_BLOCKS_MAX: Final = 64
"""How many blocks lower than before a reorganised transaction is looked for."""

_CHANGE = "idx, first_sequence, last_sequence, state, batch_id, transaction_hash, block_number, time_ns"
_ITEM = "settlement_sequence, kind, market, trade_id, transfer_id, asset"
_CLAIM = "claim_index, address, asset, amount, block_number, transaction_hash, settled_through"
_BATCH = (
    "batch_id, first_sequence, last_sequence, calldata, chained, legs, state,"
    " transaction_hash, block_number, block_hash"
)

_received = metrics.gauge("settler_received_through", "Last settlement sequence received without a gap.")
_mined = metrics.gauge("settler_settled_through", "Last settlement sequence in a block.")
_final = metrics.gauge("settler_final_through", "Last settlement sequence that is final.")
_lag = metrics.gauge("settler_lag_entries", "Entries received and not final.")


class Superseded(Exception):
    """Another settler has taken over this database."""


class Store:
    """Make it with :meth:`load`. ``news`` is sent after every change; ``address`` is the key that nonces belong to."""

    def __init__(self, db: Database, address: str) -> None:
        """Use :meth:`load`."""
        self._db = db
        self._lock = asyncio.Lock()
        self._owner = secrets.token_hex(8)
        self.address = address
        self.news = News()
        self.meta: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.contiguous = 0
        self.beyond: set[int] = set()
        self.batches: list[Batch] = []
        self.tickets: dict[int, Ticket] = {}
        self.last_index = 0
        self.last_batch_id = 0
        self.last_batched = 0
        self.mined_through = 0
        self.mined_block = 0
        self.final_through = 0
        self.next_nonce = 0
        self._arrivals: deque[tuple[int, float]] = deque()

    @classmethod
    async def load(cls, db: Database, address: str) -> "Store":
        """Takes the database over and reads what the settler decides by."""
        store = cls(db, address)
        await db.write(
            [
                Statement("DELETE FROM meta WHERE name = 'owner'"),
                Statement("INSERT INTO meta (name, content) VALUES ('owner', $1)", [(store._owner,)]),
            ]
        )
        store.meta = {str(name): str(content) for name, content in await db.fetch("SELECT name, content FROM meta")}
        store.tokens = {str(s): str(t) for s, t in await db.fetch("SELECT symbol, token FROM assets")}
        await store._load_entries()
        await store._load_batches()
        await store._load_tickets()
        store._measure()
        return store

    async def _load_entries(self) -> None:
        self.last_index = await self._one("SELECT coalesce(max(idx), 0) FROM changes")
        self.contiguous = await self._one("SELECT coalesce(max(last_sequence), 0) FROM changes WHERE state = 1")
        rows = await self._db.fetch(
            "SELECT settlement_sequence FROM entries WHERE settlement_sequence > $1", self.contiguous
        )
        self.beyond = {int(sequence) for (sequence,) in rows}

    async def _load_batches(self) -> None:
        query = f"SELECT {_BATCH} FROM batches WHERE void = 0 AND state <> $1 ORDER BY first_sequence"
        self.batches = [_batch(row) for row in await self._db.fetch(query, State.FINAL)]
        self.last_batch_id = await self._one("SELECT coalesce(max(batch_id), 0) FROM batches")
        last = "SELECT coalesce(max(last_sequence), 0) FROM batches WHERE void = 0"
        self.last_batched = await self._one(last)
        self.mined_through = await self._one(f"{last} AND state >= $1", State.MINED)
        self.final_through = await self._one(f"{last} AND state = $1", State.FINAL)
        blocks = "SELECT coalesce(max(block_number), 0) FROM batches WHERE void = 0 AND state >= $1"
        self.mined_block = await self._one(blocks, State.MINED)
        if self.contiguous > self.last_batched:  # nobody knows since when they wait: long enough
            self._arrivals.append((self.contiguous, 0.0))

    async def _load_tickets(self) -> None:
        nonces = "SELECT nonce, batch_id, state FROM nonces WHERE address = $1 AND state = $2 ORDER BY nonce"
        for nonce, batch_id, _ in await self._db.fetch(nonces, self.address, NonceState.OPEN):
            self.tickets[nonce] = await self._ticket(nonce, batch_id)
        self.next_nonce = await self._one(
            "SELECT coalesce(max(nonce) + 1, 0) FROM nonces WHERE address = $1", self.address
        )

    async def _ticket(self, nonce: int, batch_id: int) -> Ticket:
        attempts = "SELECT transaction_hash, raw FROM attempts WHERE address = $1 AND nonce = $2 ORDER BY time_ns"
        rows = await self._db.fetch(attempts, self.address, nonce)
        return Ticket(nonce, batch_id, tuple(str(row[0]) for row in rows), bytes(rows[-1][1]))

    async def _one(self, query: str, *args: int | str) -> int:
        return int((await self._db.fetch(query, *args))[0][0])

    # Entries

    def has(self, sequence: int) -> bool:
        """Whether the entry is kept already."""
        return sequence <= self.contiguous or sequence in self.beyond

    async def take_entries(self, entries: Sequence[tuple[Item, bytes]]) -> int:
        """Keeps entries that are new, in any order; returns how many were. What closes the prefix becomes MATCHED."""
        async with self._lock:
            new = [(item, body) for item, body in entries if not self.has(item.settlement_sequence)]
            if not new:
                return 0
            rows = [
                (i.settlement_sequence, int(i.kind), i.market, i.trade_id, i.transfer_id, i.asset, body)
                for i, body in new
            ]
            sql = f"INSERT INTO entries ({_ITEM}, body) VALUES ($1, $2, $3, $4, $5, $6, $7)"
            beyond = self.beyond | {item.settlement_sequence for item, _ in new}
            through = self.contiguous
            while through + 1 in beyond:
                through += 1
                beyond.discard(through)
            firsts = range(self.contiguous + 1, through + 1, CHANGE_ENTRIES_MAX)
            ranges = [(first, min(first + CHANGE_ENTRIES_MAX - 1, through)) for first in firsts]
            changes = [self._change(*each, State.MATCHED, place) for place, each in enumerate(ranges)]
            await self._write([Statement(sql, rows)], changes)
            if through > self.contiguous:
                self._arrived(through)
            self.contiguous, self.beyond = through, beyond
        self._tell()
        return len(new)

    def _arrived(self, through: int) -> None:
        if len(self._arrivals) >= ARRIVALS_MAX:  # settlement waits: the older time speaks for the newer entries too
            self._arrivals[-1] = (through, self._arrivals[-1][1])
        else:
            self._arrivals.append((through, asyncio.get_running_loop().time()))

    def waiting_since(self) -> float | None:
        """When the oldest entry that is in no batch arrived, in loop time; None if there is none."""
        while self._arrivals and self._arrivals[0][0] <= self.last_batched:
            self._arrivals.popleft()
        return self._arrivals[0][1] if self._arrivals else None

    async def unbatched(self, entries_max: int) -> list[bytes]:
        """The first entries that are in no batch, in order, contiguous."""
        query = (
            "SELECT body FROM entries WHERE settlement_sequence > $1 AND settlement_sequence <= $2"
            " ORDER BY settlement_sequence"
        )
        last = min(self.contiguous, self.last_batched + entries_max)
        return [bytes(body) for (body,) in await self._db.fetch(query, self.last_batched, last)]

    async def hashes_of_batch(self, batch_id: int) -> list[str]:
        """The transactions that were ever signed for a batch (0: for anything else), oldest first."""
        query = (
            "SELECT a.transaction_hash FROM attempts a JOIN nonces n ON n.address = a.address AND n.nonce = a.nonce"
            " WHERE n.address = $1 AND n.batch_id = $2 ORDER BY n.nonce, a.time_ns"
        )
        return [str(row[0]) for row in await self._db.fetch(query, self.address, batch_id)]

    # Batches

    def waiting(self) -> list[Batch]:
        """Batches that are not on chain, in order."""
        return [batch for batch in self.batches if batch.state in WAITING]

    def on_chain(self) -> list[Batch]:
        """Batches that are on chain and not final, in order."""
        return [batch for batch in self.batches if batch.state in ON_CHAIN]

    async def add_batch(self, first: int, last: int, calldata: bytes, chained: bytes, legs: int) -> Batch:
        """Keeps a batch, BATCHED, before anything is signed."""
        async with self._lock:
            assert first == self.last_batched + 1 <= last <= self.contiguous, "a batch must follow the last one"
            batch = Batch(self.last_batch_id + 1, first, last, calldata, chained, legs)
            await self._write([_insert(batch)], self._changes(batch, State.BATCHED))
            self._added(batch)
        self._tell()
        return batch

    async def add_attempt(self, nonce: int, batch_id: int, transaction_hash: str, raw: bytes) -> Ticket:
        """Keeps a signed transaction before it is sent; its batch, if any, becomes SUBMITTED."""
        async with self._lock:
            ticket = Ticket(nonce, batch_id, (transaction_hash,), raw)
            if old := self.tickets.get(nonce):
                assert old.batch_id == batch_id, "one nonce, one batch"
                ticket = replace(ticket, hashes=(*old.hashes, transaction_hash))
            statements = [] if old else [_nonce(self.address, ticket)]
            attempt = (
                "INSERT INTO attempts (transaction_hash, address, nonce, raw, time_ns) VALUES ($1, $2, $3, $4, $5)"
            )
            statements.append(Statement(attempt, [(transaction_hash, self.address, nonce, raw, time.time_ns())]))
            batch = self._find(batch_id) if batch_id else None
            changes: list[Change] = []
            if batch is not None:
                batch, more, changes = self._moved(batch, State.SUBMITTED, transaction_hash=transaction_hash)
                statements.append(more)
            await self._write(statements, changes)
            self.tickets[nonce] = ticket
            self.next_nonce = max(self.next_nonce, nonce + 1)
            self._replace(batch)
        self._tell()
        return ticket

    async def close_ticket(self, ticket: Ticket, state: NonceState) -> None:
        """Remembers what became of a nonce; nothing of it is sent again."""
        async with self._lock:
            await self._write([self._closed(ticket.nonce, state)], [])
            self.tickets.pop(ticket.nonce, None)
        self._tell()

    async def mined(self, batch: Batch, transaction_hash: str, block_number: int, block_hash: str) -> None:
        """The batch is in a block; its nonce is used up."""
        async with self._lock:
            moved, statement, changes = self._moved(
                batch,
                State.MINED,
                transaction_hash=transaction_hash,
                block_number=block_number,
                block_hash=block_hash,
            )
            statements = [statement]
            used = [t.nonce for t in self.tickets.values() if transaction_hash in t.hashes]
            statements += [self._closed(nonce, NonceState.MINED) for nonce in used]
            await self._write(statements, changes)
            for nonce in used:
                del self.tickets[nonce]
            self._replace(moved)
            self.mined_through = max(self.mined_through, moved.last)
            self.mined_block = max(self.mined_block, block_number)
        self._tell()

    async def deeper(self, batch: Batch, state: State) -> Batch:
        """The batch is CONFIRMED, or FINAL."""
        async with self._lock:
            moved, statement, changes = self._moved(batch, state)
            await self._write([statement], changes)
            self._replace(moved)
            if state is State.FINAL:
                assert moved.first == self.final_through + 1, "finality comes in order"
                self.final_through = moved.last
        self._tell()
        return moved

    async def reorganised(self, batches: Sequence[Batch]) -> None:
        """These batches, the last ones, are not on chain any more: REORGED, then SUBMITTED with what was signed."""
        async with self._lock:
            changes: list[Change] = []
            statements, moved, tickets = [], [], []
            for batch in batches:
                gone, _, more = self._moved(batch, State.REORGED, len(changes), block_number=0, block_hash="")
                changes += more
                again, statement, more = self._moved(gone, State.SUBMITTED, len(changes))
                changes += more
                statements.append(statement)
                moved.append(again)
                nonces = "SELECT nonce FROM nonces WHERE address = $1 AND batch_id = $2 AND state = $3"
                for (nonce,) in await self._db.fetch(nonces, self.address, batch.batch_id, NonceState.MINED):
                    statements.append(self._closed(nonce, NonceState.OPEN))
                    tickets.append(await self._ticket(nonce, batch.batch_id))
            await self._write(statements, changes)
            for again in moved:
                self._replace(again)
            self.tickets |= {ticket.nonce: ticket for ticket in tickets}
            self.mined_through = batches[0].first - 1
            self.mined_block = max(0, batches[0].block_number - REORG_BLOCKS_MAX)
        self._tell()

    async def adopt(
        self, first: int, last: int, chained: bytes, transaction_hash: str, block_number: int, block_hash: str
    ) -> None:
        """The chain settled these entries by a batch that is not ours: keep it, and void ours that it overtakes.

        Our own nonces stay open: what carries them will revert and use them up.
        """
        async with self._lock:
            void = [batch for batch in self.waiting() if batch.last >= first]
            batch = Batch(self.last_batch_id + 1, first, last, b"", chained, 0)
            taken = replace(
                batch,
                state=State.MINED,
                transaction_hash=transaction_hash,
                block_number=block_number,
                block_hash=block_hash,
            )
            statements = [Statement("UPDATE batches SET void = 1 WHERE batch_id = $1", [(b.batch_id,)]) for b in void]
            await self._write([*statements, _insert(taken)], self._changes(taken, State.MINED))
            self.batches = [each for each in self.batches if each not in void]
            self._added(taken)
            self.mined_through = last
            self._arrivals.clear()
            if self.contiguous > last:  # what was batched waits again
                self._arrivals.append((self.contiguous, 0.0))
            self.mined_block = max(self.mined_block, block_number)
        self._tell()

    def _find(self, batch_id: int) -> Batch | None:
        return next((batch for batch in self.batches if batch.batch_id == batch_id), None)

    def _added(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.last_batch_id = batch.batch_id
        self.last_batched = batch.last

    def _replace(self, batch: Batch | None) -> None:
        if batch is not None:
            kept = (batch if each.batch_id == batch.batch_id else each for each in self.batches)
            self.batches = [each for each in kept if each.state is not State.FINAL]

    def _moved(
        self, batch: Batch, state: State, written: int = 0, **where: Any
    ) -> tuple[Batch, Statement, list[Change]]:
        """The batch in its next state, the guarded statement that says so, and the changes to log."""
        assert state in FOLLOWS[batch.state], f"{batch.state.name} cannot become {state.name}"
        moved = replace(batch, state=state, **where)
        sql = (
            "UPDATE batches SET state = $1, transaction_hash = $2, block_number = $3, block_hash = $4"
            " WHERE batch_id = $5 AND void = 0"
        )
        row = (int(state), moved.transaction_hash, moved.block_number, moved.block_hash, moved.batch_id)
        return moved, Statement(sql, [row], expect=1), self._changes(moved, state, written)

    def _closed(self, nonce: int, state: NonceState) -> Statement:
        sql = "UPDATE nonces SET state = $1 WHERE address = $2 AND nonce = $3"
        return Statement(sql, [(int(state), self.address, nonce)], expect=1)

    # The log of changes

    def _change(self, first: int, last: int, state: State, written: int, batch: Batch | None = None) -> Change:
        """The change to be logged `written` places after the next one."""
        index, now = self.last_index + 1 + written, time.time_ns()
        if batch is None:
            return Change(index, first, last, state, 0, "", 0, now)
        where = (batch.batch_id, batch.transaction_hash, batch.block_number)
        return Change(index, first, last, state, *where, now)

    def _changes(self, batch: Batch, state: State, written: int = 0) -> list[Change]:
        return [self._change(batch.first, batch.last, state, written, batch)]

    async def changes_after(self, index: int, changes_max: int) -> list[Change]:
        """The changes that follow an index, in order."""
        query = f"SELECT {_CHANGE} FROM changes WHERE idx > $1 ORDER BY idx LIMIT {int(changes_max)}"
        return [_change_of(row) for row in await self._db.fetch(query, index)]

    async def items(self, first: int, last: int) -> list[Item]:
        """What the look-ups know of the entries first..last."""
        query = (
            f"SELECT {_ITEM} FROM entries WHERE settlement_sequence >= $1 AND settlement_sequence <= $2"
            " ORDER BY settlement_sequence"
        )
        return [_item(row) for row in await self._db.fetch(query, first, last)]

    async def item_of_trade(self, market: str, trade_id: int) -> Item | None:
        """The entry of a trade."""
        query = f"SELECT {_ITEM} FROM entries WHERE market = $1 AND trade_id = $2"
        return next((_item(row) for row in await self._db.fetch(query, market, trade_id)), None)

    async def item_of_transfer(self, transfer_id: str) -> Item | None:
        """The entry of a transfer."""
        query = f"SELECT {_ITEM} FROM entries WHERE transfer_id = $1 ORDER BY settlement_sequence LIMIT 1"
        return next((_item(row) for row in await self._db.fetch(query, transfer_id)), None)

    async def change_of(self, sequence: int) -> Change | None:
        """The newest change that covers an entry; None while it is unknown or lies beyond a gap."""
        batches = (
            "SELECT batch_id, last_sequence FROM batches WHERE void = 0 AND first_sequence <= $1"
            " ORDER BY first_sequence DESC LIMIT 1"
        )
        found = [row[0] for row in await self._db.fetch(batches, sequence) if row[1] >= sequence]
        if found:
            newest = f"SELECT {_CHANGE} FROM changes WHERE batch_id = $1 ORDER BY idx DESC LIMIT 1"
            rows = await self._db.fetch(newest, found[0])
        else:
            matched = (
                f"SELECT {_CHANGE} FROM changes WHERE state = $1 AND last_sequence >= $2 AND first_sequence <= $2"
                " ORDER BY last_sequence LIMIT 1"
            )
            rows = await self._db.fetch(matched, State.MATCHED, sequence)
        return next((_change_of(row) for row in rows), None)

    # Everything else that is remembered

    async def remember(self, **values: str | int) -> None:
        """Sets named values."""
        async with self._lock:
            await self._write(_metas(values), [])
            self.meta |= {name: str(value) for name, value in values.items()}
        self._tell()

    def number(self, name: str) -> int:
        """A remembered number; 0 if it was never set."""
        return int(self.meta.get(name, "0"))

    async def list_token(self, symbol: str, token: str) -> None:
        """Remembers an asset's token."""
        async with self._lock:
            sql = "INSERT INTO assets (symbol, token) VALUES ($1, $2)"
            await self._write([Statement(sql, [(symbol, token)])], [])
            self.tokens[symbol] = token
        self._tell()

    async def see_money(self, deposits: Iterable[DepositSeen], claims: Iterable[ClaimSeen], through_block: int) -> None:
        """Keeps final deposits and claims and how far the chain was searched for them."""
        async with self._lock:
            rows = [
                (d.deposit_index, self._db.amount(d.account), d.asset, self._db.amount(d.amount), d.block_number,
                 d.transaction_hash)
                for d in deposits
            ]  # fmt: skip
            claimed = [
                (c.claim_index, c.address, c.asset, self._db.amount(c.amount), c.block_number, c.transaction_hash,
                 c.settled_through)
                for c in claims
            ]  # fmt: skip
            sql = (
                "INSERT INTO deposits (deposit_index, account, asset, amount, block_number, transaction_hash)"
                " VALUES ($1, $2, $3, $4, $5, $6)"
            )
            claimed_sql = f"INSERT INTO claims ({_CLAIM}) VALUES ($1, $2, $3, $4, $5, $6, $7)"
            statements = [Statement(sql, rows)] if rows else []
            statements += [Statement(claimed_sql, claimed)] if claimed else []
            values = {"searched_block": through_block}
            if rows:
                values["deposits_seen"] = max(int(str(row[0])) for row in rows)
            if claimed:
                values["claims_seen"] = max(row[0] for row in claimed)
            await self._write([*statements, *_metas(values)], [])
            self.meta |= {name: str(value) for name, value in values.items()}
        if rows or claimed:
            self._tell()

    async def deposits_after(self, index: int, deposits_max: int) -> list[DepositSeen]:
        """The deposits that follow an index, contiguous, in order."""
        query = (
            "SELECT deposit_index, account, asset, amount, block_number, transaction_hash FROM deposits"
            f" WHERE deposit_index > $1 ORDER BY deposit_index LIMIT {int(deposits_max)}"
        )
        rows = await self._db.fetch(query, index)
        found = [DepositSeen(int(r[0]), int(r[1]), str(r[2]), int(r[3]), int(r[4]), str(r[5])) for r in rows]
        return [each for place, each in enumerate(found) if each.deposit_index == index + 1 + place]

    async def claims_after(self, index: int, claims_max: int) -> list[ClaimSeen]:
        """The claims that follow an index, contiguous, in order."""
        query = f"SELECT {_CLAIM} FROM claims WHERE claim_index > $1 ORDER BY claim_index LIMIT {int(claims_max)}"
        rows = await self._db.fetch(query, index)
        found = [ClaimSeen(int(r[0]), str(r[1]), str(r[2]), int(r[3]), int(r[4]), str(r[5]), int(r[6])) for r in rows]
        return [each for place, each in enumerate(found) if each.claim_index == index + 1 + place]

    # Writing

    async def _write(self, statements: Sequence[Statement], changes: Sequence[Change]) -> None:
        """One transaction, under the lock, if this settler still owns the database."""
        mine = Statement("UPDATE meta SET content = $1 WHERE name = 'owner' AND content = $1", [(self._owner,)], 1)
        log = Statement(
            f"INSERT INTO changes ({_CHANGE}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                (c.index, c.first, c.last, int(c.state), c.batch_id, c.transaction_hash, c.block_number, c.time_ns)
                for c in changes
            ],
        )
        try:
            await self._db.write([mine, *statements, log] if changes else [mine, *statements])
        except Conflict as conflict:
            owner = (await self._db.fetch("SELECT content FROM meta WHERE name = 'owner'"))[0][0]
            if owner != self._owner:
                raise Superseded("another settler has taken over this database") from None
            raise conflict from None
        if changes:
            self.last_index = changes[-1].index

    def _tell(self) -> None:
        self._measure()
        self.news.send()

    def _measure(self) -> None:
        _received.set(self.contiguous)
        _mined.set(self.mined_through)
        _final.set(self.final_through)
        _lag.set(self.contiguous - self.final_through)


def _metas(values: dict[str, Any]) -> list[Statement]:
    return [
        Statement(
            "INSERT INTO meta (name, content) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET content = excluded.content",
            [(name, str(value)) for name, value in values.items()],
        )
    ]


def _insert(b: Batch) -> Statement:
    row = (b.batch_id, b.first, b.last, b.calldata, b.chained, b.legs, int(b.state), b.transaction_hash,
           b.block_number, b.block_hash)  # fmt: skip
    return Statement(f"INSERT INTO batches ({_BATCH}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", [row])


def _nonce(address: str, ticket: Ticket) -> Statement:
    sql = "INSERT INTO nonces (address, nonce, batch_id, state) VALUES ($1, $2, $3, $4)"
    return Statement(sql, [(address, ticket.nonce, ticket.batch_id, int(ticket.state))])


def _batch(row: Sequence[Any]) -> Batch:
    return Batch(
        int(row[0]), int(row[1]), int(row[2]), bytes(row[3]), bytes(row[4]), int(row[5]), State(row[6]), str(row[7]),
        int(row[8]), str(row[9]),
    )  # fmt: skip


def _change_of(row: Sequence[Any]) -> Change:
    return Change(row[0], row[1], row[2], State(row[3]), row[4], row[5], row[6], row[7])


def _item(row: Sequence[Any]) -> Item:
    return Item(row[0], Kind(row[1]), row[2], row[3], row[4], row[5])
