"""`clearbook reconcile`: what the journal says and what the contract has, by asset and account, at a settled entry.

It only reads, and may run while the exchange does. What lies in the contract and is not in the journal yet (newer
deposits, claims) belongs to a later block than the one compared, and is named beside it. `clearbook audit` goes
further: it has the engine do everything again, and compares the gateway's tables too.
"""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any

from clearbook.internal.v1 import journal_pb2
from rich.console import Console
from rich.table import Column, Table

from services.book.journal import Journal
from services.cli.balance_sheet import (
    CLASSES,
    EXIT_DIFFERENT,
    EXIT_EQUAL,
    EXIT_UNREADABLE,
    TABLE_COLUMNS_MAX,
    Amounts,
    Comparison,
)
from services.cli.chain_side import (
    READING_FAILURES,
    AuditFailed,
    ChainSide,
    Sources,
    chain_side,
    contract_of,
    joined,
    settled_block,
)
from services.cli.journal_money import JournalMoney
from services.cli.rebuild import check_exists, rows_of
from services.units import OUTSIDE_ACCOUNT, Asset


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Both sides at one block.

    Attributes:
        block: which.
        through: the last entry that the contract had settled.
        assets: by id.
        ledger: what the journal says, by account or address and asset.
        chain: what the contract has.
        short: tokens of which it has less than it owes.
        later: what the chain has and the journal lacks, of later blocks; a line each.
    """

    block: int
    through: int
    assets: dict[int, Asset]
    ledger: Amounts
    chain: Amounts
    short: list[str]
    later: list[str] = field(default_factory=list)

    def lines(self) -> list[dict[str, str]]:
        """By asset and account: both sides and the difference, in whole units."""
        found = []
        for who, asset_id in sorted(
            {*self.ledger, *self.chain}, key=lambda key: (key[1], isinstance(key[0], str), key)
        ):
            asset = self.assets[asset_id]
            here, there = self.ledger.get((who, asset_id), 0), self.chain.get((who, asset_id), 0)
            if here or there:
                amounts = (asset.format(here), asset.format(there), asset.format(there - here))
                words = (asset.symbol, named(who), *amounts)
                found.append(dict(zip(("asset", "account", "ledger", "chain", "difference"), words, strict=True)))
        return found

    def differences(self) -> list[str]:
        """All that is wrong, a line each."""
        title = f"at block {self.block}"
        return Comparison(title, {"ledger": self.ledger, "chain": self.chain}).differences(self.assets) + self.short


def named(who: int | str) -> str:
    """An account, or whose address may claim."""
    if isinstance(who, str):
        return f"claimable by {who}"
    return f"{who} ({CLASSES[who]})" if who in CLASSES else str(who)


def reconcile(sources: Sources, console: Console, *, as_json: bool = False) -> int:
    """Compares, and prints both sides, for people or as one JSON object.

    Returns:
        The exit code: 0 no difference, 1 some, 2 a side cannot be read.
    """
    try:
        found = asyncio.run(_reconcile(sources))
    except (AuditFailed, *READING_FAILURES) as error:
        sys.stderr.write(f"clearbook reconcile: {error}\n")
        return EXIT_UNREADABLE
    wrong = found.differences()
    if as_json:
        content: dict[str, Any] = {"block": found.block, "settled_through": found.through, "lines": found.lines()}
        sys.stdout.write(json.dumps(content | {"later": found.later, "differences": wrong}) + "\n")
    else:
        _show(found, wrong, console)
    return EXIT_DIFFERENT if wrong else EXIT_EQUAL


def _show(found: Reconciled, wrong: list[str], console: Console) -> None:
    numbers = [Column(name, no_wrap=True, justify="right") for name in ("ledger", "chain", "difference")]
    title = f"At block {found.block}, settled through entry {found.through}"
    table = Table("asset", "account", *numbers, title=title, title_justify="left")
    for line in found.lines():
        table.add_row(*line.values())
    width = console.measure(table, options=console.options.update(max_width=TABLE_COLUMNS_MAX)).maximum
    console.print(table, width=max(width, console.width), crop=False, no_wrap=True)  # numbers stay whole
    for text in found.later:
        console.print(f"later: {text}", soft_wrap=True)
    for text in wrong:
        console.print(text, style="red", soft_wrap=True)
    console.print(f"{len(wrong)} differences")


async def _reconcile(sources: Sources) -> Reconciled:
    check_exists(sources.book_url)
    async with contract_of(sources) as contract:
        head = await contract.chain.block_number()  # first: what it has settled the journal has by then
        money = await _counted(sources)
        block = await settled_block(contract, head, money)
        side = await chain_side(contract, block, money, sources.shard)
        counts = {
            "deposits": (money.deposits_through, await contract.deposit_count(head)),
            "claims and exits": (money.claims_through, await contract.claim_count(head)),
        }
    later = [
        f"{what} {here + 1} to {there} are on chain at block {head}, and not in the journal yet"
        for what, (here, there) in counts.items()
        if there > here
    ]
    return _reconciled(block, side, money, later)


def _reconciled(block: int, side: ChainSide, money: JournalMoney, later: list[str]) -> Reconciled:
    ledger = {key: amount for key, amount in joined(side.expected).items() if key[0] != OUTSIDE_ACCOUNT}
    return Reconciled(block, side.through, money.assets, ledger, joined(side.there), side.short, later)


async def _counted(sources: Sources) -> JournalMoney:
    """The money of the journal as of now, each of its rows checked."""
    money = JournalMoney()
    async with await Journal.open(sources.book_url, sources.shard) as journal:
        newest = await journal.last()
        if newest is None:
            raise AuditFailed("the journal is empty")
        async for row in rows_of(journal, 0, newest.last_sequence):
            for event in journal_pb2.EventBatch.FromString(row.events).events:
                money.apply(event)
    return money
