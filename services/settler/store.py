"""What the settler must not forget, and the one place that changes it.

Each method is one durable transaction: a state and its cause together. What the settler decides by is also kept in
memory, read once at the start; nobody else writes, which every transaction checks (`lease.py`): of two settlers on one
database one works, and whoever lost the lease is refused.
"""

# ruff: noqa: S608 (what is put into SQL text are column lists of our own)

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from services.runtime import metrics
from services.runtime.db import Conflict, Database, Row, Statement, Value
from services.settler.lease import Lease, Superseded
from services.settler.liabilities import Credit, Payout
from services.settler.model import (
    FOLLOWS,
    ON_CHAIN,
    WAITING,
    Batch,
    Change,
    ClaimSeen,
    Debt,
    DebtState,
    DepositSeen,
    ExitSeen,
    Item,
    Kind,
    NonceState,
    Note,
    Owner,
    Shortfall,
    State,
    Ticket,
)
from services.settler.news import News

CHANGE_ENTRIES_MAX: Final = 500
"""Entries that one change covers, so that a streamed message stays small."""
ARRIVALS_MAX: Final = 1024
REORG_BLOCKS_MAX: Final = 64
"""How many blocks lower than before a reorganised transaction is looked for."""

_CHANGE = "idx, first_sequence, last_sequence, state, batch_id, transaction_hash, block_number, time_ns, reason"
_ITEM = "settlement_sequence, kind, market, trade_id, transfer_id, asset"
_CLAIM = "claim_index, address, asset, amount, block_number, transaction_hash, settled_through, exit_account"
_EXIT = "exit_index, account, canceled, block_number, transaction_hash"
_BATCH = (
    "batch_id, first_sequence, last_sequence, calldata, chained, legs, state,"
    " transaction_hash, block_number, block_hash"
)

_DEBT = "debt_id, batch_id, account_id, asset, amount, reason, settlement_sequence, state"

_debts = metrics.gauge("settler_open_debts", "Debts to insurance that are not resolved: their accounts are frozen.")
_received = metrics.gauge("settler_received_through", "Last settlement sequence received without a gap.")
_mined = metrics.gauge("settler_settled_through", "Last settlement sequence in a block.")
_final = metrics.gauge("settler_final_through", "Last settlement sequence that is final.")
_lag = metrics.gauge("settler_lag_entries", "Entries received and not final.")


class Store:
    """Make it with :meth:`load`. ``news`` is sent after every change; ``address`` is the key that nonces belong to."""

    def __init__(self, db: Database, address: str, lease: Lease) -> None:
        """Use :meth:`load`."""
        self._db = db
        self._lock = asyncio.Lock()
        self.lease = lease
        self.address = address
        self.news = News()
        self.meta: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.contiguous = 0
        self.beyond: set[int] = set()
        self.batches: list[Batch] = []
        self.tickets: dict[int, Ticket] = {}
        self.debts: dict[int, Debt] = {}
        """Those of which the end is not noted."""
        self.last_index = 0
        self.last_batch_id = 0
        self.last_batched = 0
        self.mined_through = 0
        self.mined_block = 0
        self.final_through = 0
        self.next_nonce = 0
        self._arrivals: deque[tuple[int, float]] = deque()

    @classmethod
    async def load(cls, db: Database, address: str, lease_seconds: float = 0.0) -> "Store":
        """Takes the database over and reads what the settler decides by.

        Args:
            db: the database, migrated.
            address: of the key whose nonces are meant.
            lease_seconds: how long another settler must show no sign of life before it is taken from that one.
        """
        store = cls(db, address, await Lease.take(db, lease_seconds))
        store.meta = {str(name): str(content) for name, content in await db.fetch("SELECT name, content FROM meta")}
        store.tokens = {str(s): str(t) for s, t in await db.fetch("SELECT symbol, token FROM assets")}
        await store._load_entries()
        await store._load_batches()
        await store._load_tickets()
        await store._load_debts()
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
        mined = (State.MINED, State.FINAL)
        self.mined_through = await self._one(f"{last} AND state BETWEEN $1 AND $2", *mined)
        self.final_through = await self._one(f"{last} AND state = $1", State.FINAL)
        blocks = "SELECT coalesce(max(block_number), 0) FROM batches WHERE void = 0 AND state BETWEEN $1 AND $2"
        self.mined_block = await self._one(blocks, *mined)
        if self.contiguous > self.last_batched:  # nobody knows since when they wait: long enough
            self._arrivals.append((self.contiguous, 0.0))

    async def _load_tickets(self) -> None:
        nonces = "SELECT nonce, batch_id, state FROM nonces WHERE address = $1 AND state = $2 ORDER BY nonce"
        for nonce, batch_id, _ in await self._db.fetch(nonces, self.address, NonceState.OPEN):
            self.tickets[nonce] = await self._ticket(nonce, batch_id)
        self.next_nonce = await self._one(
            "SELECT coalesce(max(nonce) + 1, 0) FROM nonces WHERE address = $1", self.address
        )

    async def _load_debts(self) -> None:
        noted = "SELECT coalesce(max(n.state), 0) FROM debt_notes n WHERE n.debt_id = d.debt_id"
        query = f"SELECT {_DEBT}, ({noted}) FROM debts d WHERE state < $1"
        for row in await self._db.fetch(query, DebtState.RESOLVED):
            debt = _debt(row, max(int(row[7]), int(row[8])))
            if debt.state is not DebtState.RESOLVED:
                self.debts[debt.debt_id] = debt

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
        return await self.bodies(self.last_batched + 1, min(self.contiguous, self.last_batched + entries_max))

    async def bodies(self, first: int, last: int) -> list[bytes]:
        """The entries first..last, in order."""
        query = (
            "SELECT body FROM entries WHERE settlement_sequence >= $1 AND settlement_sequence <= $2"
            " ORDER BY settlement_sequence"
        )
        return [bytes(body) for (body,) in await self._db.fetch(query, first, last)]

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

    async def add_batch(
        self,
        first: int,
        last: int,
        calldata: bytes,
        chained: bytes,
        legs: int,
        owners: Sequence[Owner] = (),
        shortfalls: Sequence[Shortfall] = (),
    ) -> Batch:
        """Keeps a batch, BATCHED, before anything is signed.

        Args:
            first: its first entry.
            last: its last.
            calldata: of `settle`.
            chained: the contract's batch hash after it.
            legs: how many, withdrawals and links among them.
            owners: whom it links.
            shortfalls: what insurance pays in it.
        """
        async with self._lock:
            assert first == self.last_batched + 1 <= last <= self.contiguous, "a batch must follow the last one"
            batch = Batch(self.last_batch_id + 1, first, last, calldata, chained, legs)
            sql = "UPDATE owners SET batch_id = $1 WHERE account_id = $2"
            links = [Statement(sql, [(batch.batch_id, owner.account_id) for owner in owners])] if owners else []
            owed = self._owed(batch.batch_id, shortfalls)
            notes = self._noted([(debt, DebtState.FROZEN) for debt in owed])
            await self._write(
                [_insert(batch), *links, *self._debt_rows(owed), *notes], self._changes(batch, State.BATCHED)
            )
            self._added(batch)
            self._have_noted(owed)
        self._tell()
        return batch

    async def supersede(
        self, batch: Batch, calldata: bytes, chained: bytes, legs: int, shortfalls: Sequence[Shortfall], why: str
    ) -> Batch:
        """Another content takes a batch's place, under its id: the contract refuses what it was; none is open.

        What it was is FAILED, if it was not yet; what it is now, BATCHED.
        Entries and links stay the same; what insurance was to pay in the old content, it is not to pay any more.
        """
        async with self._lock:
            assert all(ticket.batch_id != batch.batch_id for ticket in self.tickets.values()), "it may yet be mined"
            query = "SELECT count(*) FROM superseded WHERE batch_id = $1"
            revision = 1 + await self._one(query, batch.batch_id)
            old = (batch.batch_id, revision, batch.calldata, batch.chained, batch.legs, why, time.time_ns())
            keep = (
                "INSERT INTO superseded (batch_id, revision, calldata, chained, legs, why, time_ns)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7)"
            )
            put = "UPDATE batches SET calldata = $1, chained = $2, legs = $3 WHERE batch_id = $4 AND void = 0"
            over = self._of_batches([batch], DebtState.RESOLVED)
            owed = self._owed(batch.batch_id, shortfalls, after=len(over))
            notes = self._noted([*over, *((debt, DebtState.FROZEN) for debt in owed)])
            new = Statement(put, [(calldata, chained, legs, batch.batch_id)], expect=1)
            changes: list[Change] = []
            if batch.state is not State.FAILED:
                batch, _, changes = self._moved(batch, State.FAILED, reason=why)
            batch, moved, more = self._moved(batch, State.BATCHED, len(changes), transaction_hash="")
            await self._write([Statement(keep, [old]), new, moved, *self._debt_rows(owed), *notes], [*changes, *more])
            batch = replace(batch, calldata=calldata, chained=chained, legs=legs)
            self._replace(batch)
            self._have_noted([replace(debt, state=state) for debt, state in over])
            self._have_noted(owed)
        self._tell()
        return batch

    async def owners_in(self, batch: Batch) -> list[Owner]:
        """Whom a batch links, by account."""
        query = "SELECT account_id, address FROM owners WHERE batch_id = $1 ORDER BY account_id"
        return [Owner(int(row[0]), str(row[1])) for row in await self._db.fetch(query, batch.batch_id)]

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
            if batch is not None and batch.state in WAITING:
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

    async def failed(self, batch: Batch, ticket: Ticket, transaction_hash: str, why: str) -> None:
        """A transaction of the batch reverted: its nonce is used up, the batch FAILED until it is sent or made anew."""
        async with self._lock:
            moved, statement, changes = self._moved(batch, State.FAILED, reason=why, transaction_hash=transaction_hash)
            await self._write([self._closed(ticket.nonce, NonceState.REVERTED), statement], changes)
            self.tickets.pop(ticket.nonce, None)
            self._replace(moved)
        self._tell()

    async def reopen(self, nonce: int) -> list[int]:
        """What was closed from this nonce on is open again, as the chain has not used it up; returns those nonces."""
        async with self._lock:
            query = (
                "SELECT nonce, batch_id FROM nonces WHERE address = $1 AND nonce >= $2 AND state <> $3 ORDER BY nonce"
            )
            rows = await self._db.fetch(query, self.address, nonce, NonceState.OPEN)
            tickets = {int(row[0]): await self._ticket(row[0], row[1]) for row in rows}
            if tickets:
                await self._write([self._closed(each, NonceState.OPEN) for each in tickets], [])
                self.tickets |= tickets
        if tickets:
            self._tell()
        return list(tickets)

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
            over = self._over(batch) if state is State.FINAL else []
            await self._write([statement, *self._noted(over)], changes)
            self._replace(moved)
            self._have_noted([replace(debt, state=said) for debt, said in over])
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
            over = self._of_batches(void, DebtState.RESOLVED)
            statements += self._noted(over)
            await self._write([*statements, _insert(taken)], self._changes(taken, State.MINED))
            self._have_noted([replace(debt, state=said) for debt, said in over])
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
        self, batch: Batch, state: State, written: int = 0, reason: str = "", **where: Any
    ) -> tuple[Batch, Statement, list[Change]]:
        """The batch in its next state, the guarded statement that says so, and the changes to log."""
        assert state in FOLLOWS[batch.state], f"{batch.state.name} cannot become {state.name}"
        moved = replace(batch, state=state, **where)
        sql = (
            "UPDATE batches SET state = $1, transaction_hash = $2, block_number = $3, block_hash = $4"
            " WHERE batch_id = $5 AND void = 0"
        )
        row = (int(state), moved.transaction_hash, moved.block_number, moved.block_hash, moved.batch_id)
        changes = [replace(change, reason=reason) for change in self._changes(moved, state, written)]
        return moved, Statement(sql, [row], expect=1), changes

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

    async def items_before(self, market: str, before: int, items_max: int) -> list[Item]:
        """The newest entries below a settlement sequence; of a market ("": any) its trades below a trade id."""
        if market:
            query = f"SELECT {_ITEM} FROM entries WHERE market = $1 AND trade_id < $2 ORDER BY trade_id DESC LIMIT $3"
            rows = await self._db.fetch(query, market, before, items_max)
        else:
            query = (
                f"SELECT {_ITEM} FROM entries WHERE settlement_sequence < $1 ORDER BY settlement_sequence DESC LIMIT $2"
            )
            rows = await self._db.fetch(query, before, items_max)
        return [_item(row) for row in rows]

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

    async def nonce_of(self, transaction_hash: str) -> int | None:
        """The nonce of a transaction of ours; None for anybody else's, and for none."""
        query = "SELECT nonce FROM attempts WHERE transaction_hash = $1"
        return next((int(row[0]) for row in await self._db.fetch(query, transaction_hash)), None)

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

    async def see_money(
        self,
        deposits: Iterable[DepositSeen],
        claims: Iterable[ClaimSeen],
        exits: Iterable[ExitSeen],
        through_block: int,
        block_hash: str,
    ) -> None:
        """Keeps final deposits, claims and requests of exits, and through which block they were searched for."""
        async with self._lock:
            rows = [
                (d.deposit_index, self._db.amount(d.account), d.asset, self._db.amount(d.amount), d.block_number,
                 d.transaction_hash)
                for d in deposits
            ]  # fmt: skip
            claimed = [
                (c.claim_index, c.address, c.asset, self._db.amount(c.amount), c.block_number, c.transaction_hash,
                 c.settled_through, c.exit_account)
                for c in claims
            ]  # fmt: skip
            leaving = [(e.exit_index, e.account, int(e.canceled), e.block_number, e.transaction_hash) for e in exits]
            sql = (
                "INSERT INTO deposits (deposit_index, account, asset, amount, block_number, transaction_hash)"
                " VALUES ($1, $2, $3, $4, $5, $6)"
            )
            claimed_sql = f"INSERT INTO claims ({_CLAIM}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
            exits_sql = f"INSERT INTO exits ({_EXIT}) VALUES ($1, $2, $3, $4, $5)"
            statements = [Statement(sql, rows)] if rows else []
            statements += [Statement(claimed_sql, claimed)] if claimed else []
            statements += [Statement(exits_sql, leaving)] if leaving else []
            values: dict[str, int | str] = {"searched_block": through_block, "searched_hash": block_hash}
            if rows:
                values["deposits_seen"] = max(int(str(row[0])) for row in rows)
            if claimed:
                values["claims_seen"] = max(row[0] for row in claimed)
            if leaving:
                values["exits_seen"] = max(row[0] for row in leaving)
            await self._write([*statements, *_metas(values)], [])
            self.meta |= {name: str(value) for name, value in values.items()}
        if rows or claimed or leaving:
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
        found = [ClaimSeen(int(r[0]), str(r[1]), str(r[2]), int(r[3]), int(r[4]), str(r[5]), int(r[6]), int(r[7]))
                 for r in rows]  # fmt: skip
        return [each for place, each in enumerate(found) if each.claim_index == index + 1 + place]

    async def exits_after(self, index: int, exits_max: int) -> list[ExitSeen]:
        """The requests of exits, and what was taken back, that follow an index, contiguous, in order."""
        query = f"SELECT {_EXIT} FROM exits WHERE exit_index > $1 ORDER BY exit_index LIMIT {int(exits_max)}"
        rows = await self._db.fetch(query, index)
        found = [ExitSeen(int(r[0]), int(r[1]), bool(r[2]), int(r[3]), str(r[4])) for r in rows]
        return [each for place, each in enumerate(found) if each.exit_index == index + 1 + place]

    async def journaled(self, deposited: Sequence[Credit], payouts: Sequence[Payout]) -> None:
        """Keeps what the journal says of deposits, claims and exits. Those that are known stay as they are."""
        credited = [(c.index, c.account_id, c.asset, self._db.amount(c.amount)) for c in deposited]
        claims = [(p.index, p.address, p.asset, self._db.amount(p.amount), p.exit_account) for p in payouts]
        credits_sql = (
            "INSERT INTO credits (deposit_index, account_id, asset, amount) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (deposit_index) DO NOTHING"
        )
        payouts_sql = (
            "INSERT INTO payouts (claim_index, address, asset, amount, exit_account) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (claim_index) DO NOTHING"
        )
        statements = [Statement(credits_sql, credited)] if credited else []
        await self.commit([*statements, Statement(payouts_sql, claims)] if claims else statements)

    # Owners

    async def know_owners(self, owners: Sequence[Owner]) -> None:
        """Keeps who owns which account, until a batch links them. Those that are known stay as they are."""
        sql = (
            "INSERT INTO owners (account_id, address, batch_id) VALUES ($1, $2, 0) ON CONFLICT (account_id) DO NOTHING"
        )
        async with self._lock:
            await self._write([Statement(sql, [(owner.account_id, owner.address) for owner in owners])], [])

    async def unlinked(self, owners_max: int, first: Iterable[int] = ()) -> list[Owner]:
        """Owners whom no batch links: those of the accounts `first`, then the others by account."""
        urgent = ", ".join(map(str, first)) or "0"
        query = (
            "SELECT o.account_id, o.address FROM owners o WHERE NOT EXISTS"
            " (SELECT 1 FROM batches b WHERE b.batch_id = o.batch_id AND b.void = 0)"
            f" ORDER BY CASE WHEN o.account_id IN ({urgent}) THEN 0 ELSE 1 END, o.account_id LIMIT {int(owners_max)}"
        )
        return [Owner(int(row[0]), str(row[1])) for row in await self._db.fetch(query)]

    # What others keep here

    async def fetch(self, query: str, *args: Value) -> list[Row]:
        """All rows of a query."""
        return await self._db.fetch(query, *args)

    def amount(self, n: int) -> Value:
        """An amount as the database takes it."""
        return self._db.amount(n)

    async def commit(self, statements: Sequence[Statement]) -> None:
        """One transaction that changes no state of an entry."""
        async with self._lock:
            await self._write(statements, [])

    # Debts

    def _owed(self, batch_id: int, shortfalls: Sequence[Shortfall], after: int = 0) -> list[Debt]:
        """Debts of a batch, FROZEN; `after` so many other notes."""
        first = self._last_note() + 1 + after
        return [Debt(first + place, batch_id, each, DebtState.FROZEN) for place, each in enumerate(shortfalls)]

    def _debt_rows(self, debts: Sequence[Debt]) -> list[Statement]:
        """Debts that the journal does not know yet."""
        rows = [self._debt_row(replace(debt, state=DebtState.STORED)) for debt in debts]
        return [Statement(f"INSERT INTO debts ({_DEBT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", rows)] if rows else []

    def _debt_row(self, debt: Debt) -> tuple[Any, ...]:
        owes = debt.shortfall
        amount = self._db.amount(owes.amount)
        about = (owes.account_id, owes.asset, amount, owes.reason, owes.settlement_sequence)
        return debt.debt_id, debt.batch_id, *about, int(debt.state)

    def _of_batches(self, gone: Sequence[Batch], state: DebtState) -> list[tuple[Debt, DebtState]]:
        """What is to be noted of these batches' debts that are not paid."""
        ids = {batch.batch_id for batch in gone}
        mine = [debt for debt in self.debts.values() if debt.batch_id in ids and debt.state < DebtState.PAID]
        return [(debt, state) for debt in mine]

    def _over(self, final: Batch) -> list[tuple[Debt, DebtState]]:
        """What a final batch makes of debts: of its own, and of those that the journal alone remembers.

        These are of a batch that was lost with its database, or of a settler that has another one.
        """
        lost = [
            debt
            for debt in self.debts.values()
            if not debt.batch_id
            and debt.state < DebtState.PAID
            and final.first <= debt.shortfall.settlement_sequence <= final.last
        ]
        return [*self._of_batches([final], DebtState.PAID), *((debt, _lost_by(debt, final)) for debt in lost)]

    def _last_note(self) -> int:
        return max(self.number("notes_seen"), self.number("notes_journaled"))

    def _noted(self, said: Sequence[tuple[Debt, DebtState]]) -> list[Statement]:
        """The statements that keep notes for the journal, in order. Call `_have_noted` once they are written."""
        if not said:
            return []
        first = self._last_note() + 1
        rows = [(first + place, debt.debt_id, int(state)) for place, (debt, state) in enumerate(said)]
        sql = "INSERT INTO debt_notes (note_index, debt_id, state) VALUES ($1, $2, $3)"
        paid = _paid([debt.debt_id for debt, state in said if state is DebtState.PAID])
        return [Statement(sql, rows), *paid, *_metas({"notes_seen": rows[-1][0]})]

    async def paid_in(self, first: int, last: int) -> dict[int, Shortfall]:
        """What insurance has paid by final batches that end with one of these entries, by the debt's number."""
        query = f"SELECT {_DEBT} FROM debts WHERE paid = 1 AND settlement_sequence >= $1 AND settlement_sequence <= $2"
        return {int(row[0]): _shortfall(row) for row in await self._db.fetch(query, first, last)}

    async def has_adopted(self, first: int, last: int) -> bool:
        """Whether any of these entries was settled by a batch that is not ours."""
        query = (
            "SELECT count(*) FROM batches"
            " WHERE void = 0 AND length(calldata) = 0 AND last_sequence >= $1 AND first_sequence <= $2"
        )
        return await self._one(query, first, last) > 0

    def _have_noted(self, debts: Sequence[Debt]) -> None:
        if debts:
            self.meta["notes_seen"] = str(self._last_note() + len(debts))
        for debt in debts:
            if debt.state is DebtState.RESOLVED:
                self.debts.pop(debt.debt_id, None)
            else:
                self.debts[debt.debt_id] = debt

    async def notes_after(self, index: int, notes_max: int) -> list[Note]:
        """The notes that follow an index, contiguous, in order."""
        query = (
            "SELECT n.note_index, n.state, d.debt_id, d.batch_id, d.account_id, d.asset, d.amount, d.reason,"
            " d.settlement_sequence"
            " FROM debt_notes n JOIN debts d ON d.debt_id = n.debt_id WHERE n.note_index > $1"
            f" ORDER BY n.note_index LIMIT {int(notes_max)}"
        )
        rows = await self._db.fetch(query, index)
        notes = [Note(int(r[0]), int(r[2]), DebtState(r[1]), _shortfall(r[2:])) for r in rows]
        return [each for place, each in enumerate(notes) if each.note_index == index + 1 + place]

    async def know_debts(self, debts: Sequence[Debt]) -> None:
        """Keeps what the journal says of debts, of those too that this database has forgotten."""
        put = (
            f"INSERT INTO debts ({_DEBT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
            " ON CONFLICT (debt_id) DO UPDATE SET state = excluded.state"
        )
        async with self._lock:
            paid = _paid([debt.debt_id for debt in debts if debt.state is DebtState.PAID])
            await self._write([Statement(put, [self._debt_row(debt) for debt in debts]), *paid], [])
            for debt in debts:
                known = self.debts.get(debt.debt_id)
                if debt.state is DebtState.RESOLVED:
                    self.debts.pop(debt.debt_id, None)
                elif known is None or known.state < debt.state:
                    self.debts[debt.debt_id] = debt if known is None else replace(known, state=debt.state)
        self._tell()

    async def note_resolutions(self) -> None:
        """Notes the debts that an operator has resolved since (`clearbook settle debts`)."""
        query = "SELECT debt_id FROM debts WHERE resolution <> '' AND state = $1"
        found = [int(row[0]) for row in await self._db.fetch(query, DebtState.PAID)]
        async with self._lock:
            over = [(self.debts[each], DebtState.RESOLVED) for each in found if each in self.debts]
            if not over:
                return
            await self._write(self._noted(over), [])
            self._have_noted([replace(debt, state=state) for debt, state in over])
        self._tell()

    async def note_lost(self) -> None:
        """Notes the end of debts that the journal alone remembers, and told of when their batch was final already.

        Call it once the journal has been read: else it may have noted that itself.
        """
        query = f"SELECT {_BATCH} FROM batches WHERE void = 0 AND first_sequence <= $1 AND last_sequence >= $1"
        async with self._lock:
            over = []
            for debt in self.debts.values():
                sequence = debt.shortfall.settlement_sequence
                if not debt.batch_id and debt.state < DebtState.PAID and sequence <= self.final_through:
                    found = await self._db.fetch(query, sequence)
                    over += [(debt, _lost_by(debt, _batch(row))) for row in found]
            if not over:
                return
            await self._write(self._noted(over), [])
            self._have_noted([replace(debt, state=state) for debt, state in over])
        self._tell()

    # Writing

    async def _write(self, statements: Sequence[Statement], changes: Sequence[Change]) -> None:
        """One transaction, under the lock, if this settler still holds the lease."""
        mine = self.lease.guard
        log = Statement(
            f"INSERT INTO changes ({_CHANGE}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            [
                (c.index, c.first, c.last, int(c.state), c.batch_id, c.transaction_hash, c.block_number, c.time_ns,
                 c.reason)
                for c in changes
            ],
        )  # fmt: skip
        try:
            await self._db.write([mine, *statements, log] if changes else [mine, *statements])
        except Conflict as conflict:
            if await self.lease.lost():
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
        _debts.set(len(self.debts))
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


def _debt(row: Sequence[Any], state: int) -> Debt:
    return Debt(int(row[0]), int(row[1]), _shortfall(row), DebtState(state))


def _shortfall(row: Sequence[Any]) -> Shortfall:
    """Of a row that begins like _DEBT."""
    return Shortfall(int(row[2]), str(row[3]), int(row[4]), str(row[5]), int(row[6]))


def _lost_by(debt: Debt, final: Batch) -> DebtState:
    """What a final batch makes of a debt that the journal alone remembers.

    If it is the batch in which insurance was to pay, which is then not ours and ends with the same entry, it has paid;
    else the entries were settled anew: it never will.
    """
    paid = not final.calldata and debt.shortfall.settlement_sequence == final.last
    return DebtState.PAID if paid else DebtState.RESOLVED


def _paid(debt_ids: Sequence[int]) -> list[Statement]:
    sql = "UPDATE debts SET paid = 1 WHERE debt_id = $1"
    return [Statement(sql, [(debt_id,) for debt_id in debt_ids])] if debt_ids else []


def _nonce(address: str, ticket: Ticket) -> Statement:
    sql = "INSERT INTO nonces (address, nonce, batch_id, state) VALUES ($1, $2, $3, $4)"
    return Statement(sql, [(address, ticket.nonce, ticket.batch_id, int(ticket.state))])


def _batch(row: Sequence[Any]) -> Batch:
    return Batch(
        int(row[0]), int(row[1]), int(row[2]), bytes(row[3]), bytes(row[4]), int(row[5]), State(row[6]), str(row[7]),
        int(row[8]), str(row[9]),
    )  # fmt: skip


def _change_of(row: Sequence[Any]) -> Change:
    return Change(row[0], row[1], row[2], State(row[3]), row[4], row[5], row[6], row[7], row[8])


def _item(row: Sequence[Any]) -> Item:
    return Item(row[0], Kind(row[1]), row[2], row[3], row[4], row[5])
