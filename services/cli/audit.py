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
from typing import Any, Final

from clearbook.internal.v1 import journal_pb2
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from rich.console import Console

from services.book.engine import Engine
from services.book.journal import GENESIS_HASH, Damaged, Journal
from services.book.recovery import replay
from services.cli.balance_sheet import Amounts, Comparison, Sheet, nonzero
from services.cli.journal_money import JournalMoney, OnChain
from services.cli.rebuild import Refusal, check_exists, rows_of
from services.runtime.db import Database, Unavailable
from services.settler.contract import (
    Abi,
    CallReverted,
    Chain,
    ChainMisconfigured,
    ChainUnavailable,
    SettlementContract,
    account_key,
)
from services.units import OUTSIDE_ACCOUNT, Asset

EXIT_EQUAL, EXIT_DIFFERENT, EXIT_UNREADABLE = 0, 1, 2
CALLS_MAX: Final = 16
"""Questions to the node at once."""
BLOCKS_BACK_MAX: Final = 120
"""Nodes keep the state of the last 128 blocks."""
PAGE_ROWS: Final = 20_000
CHAIN_FAILURES: Final = (ChainUnavailable, ChainMisconfigured, CallReverted)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the three sides are.

    Attributes:
        book_url: the book's database.
        gateway_url: the gateway's.
        settler_url: the settler's, which knows the contract's address.
        shard: whose journal.
        node_url: of the chain.
        contract: its address; "" for the one that the settler remembers.
        abi: the contract's.
    """

    book_url: str
    gateway_url: str
    settler_url: str
    shard: int
    node_url: str
    contract: str
    abi: Abi


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


class AuditFailed(Exception):
    """A side cannot be read; says which and why."""


def audit(sources: Sources, console: Console, *, as_json: bool = False) -> int:
    """Compares everything and prints the balance sheet, for people or as one JSON object.

    Returns:
        The exit code: 0 no difference, 1 some, 2 a side cannot be read.
    """
    try:
        sheet = asyncio.run(_audit(sources))
    except (AuditFailed, Refusal, Damaged, Unavailable, ValueError, *CHAIN_FAILURES) as error:
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
    try:
        chain = await Chain.connect(sources.node_url)
    except CHAIN_FAILURES as error:
        hint = "an embedded exchange's runs with `clearbook up`"
        raise AuditFailed(f"the chain at {sources.node_url} does not answer ({hint}): {error}") from None
    try:
        contract = await SettlementContract.on(chain, await _address(sources), sources.abi)
        # In this order: what a side says has then happened for all that are asked after it.
        head = await chain.block_number()
        tables = await _tables(sources.gateway_url)
        replayed = await _replayed(sources, tables.sequence)
        block = await _block(contract, head, replayed.money)
        return await _compare(contract, block, tables, replayed, sources.shard)
    finally:
        await chain.close()


async def _compare(contract: SettlementContract, block: int, tables: Tables, replayed: Replayed, shard: int) -> Sheet:
    money = replayed.money
    through = await contract.settled_through(shard, block)
    if through < money.final_through:
        raise AuditFailed(
            f"the contract has settled {through} at block {block}, {money.final_through} was called final"
        )
    expected = money.on_chain(through, await contract.deposit_count(block), await contract.claim_count(block))
    there, short = await _on_chain(contract, block, expected, money.assets)
    sheet = Sheet(money.assets)
    sheet.comparisons = [
        Comparison(
            f"Balances as of event {tables.sequence}",
            {"journal": nonzero(replayed.totals), "ledger": nonzero(tables.totals), "postings": nonzero(tables.posted)},
        ),
        Comparison("Held", {"engine": nonzero(replayed.locks), "ledger": nonzero(tables.held)}),
        Comparison(
            f"On chain at block {block}, settled through entry {through}",
            {"journal": nonzero(_joined(expected)), "chain": nonzero(_joined(there))},
        ),
    ]
    sheet.complaints = [f"transfer {transfer_id} moved more than once" for transfer_id in tables.repeated]
    sheet.complaints += [*_conservation(replayed.totals, money.assets), *short]
    return sheet


def _joined(amounts: OnChain) -> Amounts:
    """Accounts and addresses in one."""
    return {**amounts.balances, **amounts.claimable}


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


# The chain.


async def _address(sources: Sources) -> str:
    """The contract's: as configured, or as the settler remembers it."""
    if sources.contract:
        return sources.contract
    check_exists(sources.settler_url)
    async with await Database.open(sources.settler_url, "settler") as database:
        rows = await database.fetch("SELECT content FROM meta WHERE name = 'contract_address'")
    if not rows:
        raise AuditFailed("no contract: SETTLEMENT_CONTRACT_ADDRESS is not set, and the settler has none yet")
    return str(rows[0][0])


async def _block(contract: SettlementContract, head: int, money: JournalMoney) -> int:
    """The newest block that brought nothing in or out which the journal does not know of yet.

    Raises:
        AuditFailed: there is none among the last BLOCKS_BACK_MAX.
    """
    for block in range(head, max(head - BLOCKS_BACK_MAX, 0) - 1, -1):
        deposits = await contract.deposit_count(block)
        claims = await contract.claim_count(block)
        if deposits <= money.deposits_through and claims <= money.claims_through:
            return block
    raise AuditFailed(f"deposits or claims of more than {BLOCKS_BACK_MAX} blocks ago are not in the journal")


async def _on_chain(
    contract: SettlementContract, block: int, expected: OnChain, assets: dict[int, Asset]
) -> tuple[OnChain, list[str]]:
    """What the contract says of everybody whom the journal knows, and which tokens it has too little of."""
    slots = asyncio.Semaphore(CALLS_MAX)
    tokens = {key: await contract.token_of(asset.symbol, block) for key, asset in assets.items()}

    async def asked(question: Any) -> int:
        async with slots:
            return int(await question)

    async def ask(questions: dict[Any, Any]) -> dict[Any, int]:
        return dict(zip(questions, await asyncio.gather(*map(asked, questions.values())), strict=True))

    balances = await ask(
        {
            (account_id, asset_id): contract.balance(account_key(account_id), token, block)
            for account_id, asset_id in expected.balances
            if account_id != OUTSIDE_ACCOUNT and (token := tokens[asset_id]) is not None
        }
    )
    claimable = await ask(
        {
            (address, asset_id): contract.claimable(address, token, block)
            for address, asset_id in expected.claimable
            if (token := tokens[asset_id]) is not None
        }
    )
    owed: Counter[int] = Counter()
    for (_, asset_id), amount in [*balances.items(), *claimable.items()]:
        owed[asset_id] += amount
    short = []
    for asset_id, amount in owed.items():
        held = await _token_balance(contract, tokens[asset_id] or "", block)
        if held < amount:
            asset = assets[asset_id]
            lacks = asset.format(amount - held)
            short.append(f"the contract owes {asset.format(amount)} {asset.symbol} and lacks {lacks} of it")
    return OnChain(balances, claimable), short


async def _token_balance(contract: SettlementContract, token: str, block: int) -> int:
    data = keccak(text="balanceOf(address)")[:4] + encode(["address"], [contract.address])
    return int.from_bytes(await contract.chain.call(token, data, block=block), "big")
