"""`clearbook audit`: the engine and its journal, the gateway's ledger, and the chain, compared to the base unit.

Three sides that share no code: the journal is applied again by the engine and counted by journal_money.py, the ledger
is read from the gateway's tables, the chain is asked. It only reads, and may run while the exchange does: journal and
ledger are compared as of the ledger's cursor, journal and chain as of what the contract had settled in one block.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

from clearbook.internal.v1 import journal_pb2
from rich.console import Console

from services.book.engine import Engine
from services.book.journal import GENESIS_HASH, Journal
from services.book.recovery import replay
from services.cli.balance_sheet import EXIT_DIFFERENT, EXIT_EQUAL, EXIT_UNREADABLE, Amounts, Comparison, Sheet, nonzero
from services.cli.chain_side import (
    READING_FAILURES,
    AuditFailed,
    Sources,
    chain_side,
    contract_of,
    joined,
    settled_block,
)
from services.cli.journal_money import JournalMoney
from services.cli.rebuild import check_exists, rows_of
from services.runtime.db import Database
from services.settler.contract import SettlementContract
from services.units import Asset

PAGE_ROWS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Tables:
    """The ledger as its tables have it.

    Attributes:
        sequence: the cursor.
        totals: by account and asset, of the balances.
        held: likewise.
        posted: likewise, the sum of the postings.
        repeated: transfer ids that moved more than once.
    """

    sequence: int
    totals: Amounts
    held: Amounts
    posted: Amounts
    repeated: list[str]


@dataclass(frozen=True, slots=True)
class Replayed:
    """The journal, applied again to its end.

    Attributes:
        money: as of the end.
        totals: as of the ledger's cursor.
        locks: likewise.
    """

    money: JournalMoney
    totals: Amounts
    locks: Amounts


def audit(sources: Sources, console: Console, *, as_json: bool = False) -> int:
    """Compares everything and prints the balance sheet, for people or as one JSON object.

    Returns:
        The exit code: 0 no difference, 1 some, 2 a side cannot be read.
    """
    try:
        sheet = asyncio.run(_audit(sources))
    except (AuditFailed, *READING_FAILURES) as error:
        if as_json:
            sys.stderr.write(f"clearbook audit: {error}\n")
        else:
            console.print(f"clearbook audit: {error}", style="red", soft_wrap=True)
        return EXIT_UNREADABLE
    if as_json:
        sys.stdout.write(sheet.as_json() + "\n")
    else:
        sheet.show(console)
    return EXIT_DIFFERENT if sheet.differences() else EXIT_EQUAL


async def _audit(sources: Sources) -> Sheet:
    for url in (sources.book_url, sources.gateway_url):
        check_exists(url)
    async with contract_of(sources) as contract:
        # In this order: what a side says has then happened for all that are asked after it.
        head = await contract.chain.block_number()
        tables = await _tables(sources.gateway_url)
        replayed = await _replayed(sources, tables.sequence)
        block = await settled_block(contract, head, replayed.money)
        return await _compare(contract, block, tables, replayed, sources.shard)


async def _compare(contract: SettlementContract, block: int, tables: Tables, replayed: Replayed, shard: int) -> Sheet:
    money = replayed.money
    side = await chain_side(contract, block, money, shard)
    sheet = Sheet(money.assets)
    sheet.comparisons = [
        Comparison(
            f"Balances as of event {tables.sequence}",
            {"journal": nonzero(replayed.totals), "ledger": nonzero(tables.totals), "postings": nonzero(tables.posted)},
        ),
        Comparison("Held", {"engine": nonzero(replayed.locks), "ledger": nonzero(tables.held)}),
        Comparison(
            f"On chain at block {block}, settled through entry {side.through}",
            {"journal": nonzero(joined(side.expected)), "chain": nonzero(joined(side.there))},
        ),
    ]
    sheet.complaints = [f"transfer {transfer_id} moved more than once" for transfer_id in tables.repeated]
    sheet.notes = list(money.notes)
    sheet.complaints += [*_conservation(replayed.totals, money.assets), *side.short]
    return sheet


def _conservation(totals: Amounts, assets: dict[int, Asset]) -> Iterable[str]:
    sums: Counter[int] = Counter()
    for (_, asset_id), amount in totals.items():
        sums[asset_id] += amount
    return [f"all balances of {assets[asset_id].symbol} sum to {amount}" for asset_id, amount in sums.items() if amount]


# The ledger.


async def _tables(url: str) -> Tables:
    async with await Database.open(url, "gateway") as database:
        rows = await database.fetch(  # one statement: one moment
            "SELECT cursor.journal_sequence, account_id, asset_id, total, held FROM cursor "
            "LEFT JOIN balances ON 1 = 1 WHERE cursor.id = 1"
        )
        if not rows:
            raise AuditFailed("the gateway's database holds no ledger")
        sequence, held = rows[0][0], [row for row in rows if row[1] is not None]
        posted: Counter[tuple[int, int]] = Counter()
        async for account_id, asset_id, amount in _postings(database, sequence):
            posted[account_id, asset_id] += amount
        repeated = await database.fetch(
            "SELECT transfer_id FROM movements WHERE create_sequence <= $1 GROUP BY transfer_id HAVING COUNT(*) > 1",
            sequence,
        )
        return Tables(
            sequence,
            {(row[1], row[2]): int(row[3]) for row in held},
            {(row[1], row[2]): int(row[4]) for row in held},
            posted,
            [row[0] for row in repeated],
        )


async def _postings(database: Database, through: int) -> AsyncIterator[tuple[int, int, int]]:
    """account_id, asset_id and amount of all postings up to an event; in PostgreSQL summed already."""
    if database.dialect == "postgresql":
        sql = "SELECT account_id, asset_id, SUM(amount) FROM postings WHERE journal_sequence <= $1 GROUP BY 1, 2"
        for account_id, asset_id, amount in await database.fetch(sql, through):
            yield account_id, asset_id, int(amount)
        return
    after = 0, -1
    while True:
        rows = await database.fetch(
            "SELECT account_id, asset_id, amount, journal_sequence, line FROM postings "
            "WHERE (journal_sequence, line) > ($1, $2) AND journal_sequence <= $3 "
            "ORDER BY journal_sequence, line LIMIT $4",
            *after,
            through,
            PAGE_ROWS,
        )
        for account_id, asset_id, amount, _, _ in rows:
            yield account_id, asset_id, int(amount)
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1][3], rows[-1][4]


# The journal.


async def _replayed(sources: Sources, cursor: int) -> Replayed:
    """The journal from its first row to its end as of now.

    Raises:
        Damaged: it is not what was written, or the engine does not do again what it did.
        AuditFailed: it ends before the ledger's cursor.
    """
    async with await Journal.open(sources.book_url, sources.shard) as journal:
        newest = await journal.last()
        if newest is None or newest.last_sequence < cursor:
            raise AuditFailed(f"the ledger is as of event {cursor}, the journal ends before")
        engine, money, last_hash = Engine(sources.shard), JournalMoney(), GENESIS_HASH
        totals: Amounts = {}
        locks: Amounts = {}
        async for row in rows_of(journal, 0, newest.last_sequence):
            replay(engine, row, last_hash)
            last_hash = row.hash
            for event in journal_pb2.EventBatch.FromString(row.events).events:
                money.apply(event)
            if row.last_sequence == cursor:
                totals, locks = {**money.totals}, {**engine.locks()}
        return Replayed(money, totals, locks)
