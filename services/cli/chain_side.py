"""The chain's side of the money, beside what the journal says that it must be."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from services.book.journal import Damaged
from services.cli.balance_sheet import Amounts
from services.cli.journal_money import JournalMoney, OnChain
from services.cli.rebuild import Refusal, check_exists
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
from services.units import OUTSIDE_ACCOUNT

CALLS_MAX: Final = 16
"""Questions to the node at once."""
BLOCKS_BACK_MAX: Final = 120
"""Nodes keep the state of the last 128 blocks."""
CHAIN_FAILURES: Final = (ChainUnavailable, ChainMisconfigured, CallReverted)
READING_FAILURES: Final = (Refusal, Damaged, Unavailable, ValueError, *CHAIN_FAILURES)
"""A side cannot be read."""


class AuditFailed(Exception):
    """A side cannot be read; says which and why."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the sides are.

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
class ChainSide:
    """Both at one block.

    Attributes:
        through: the last entry that the contract has settled.
        expected: what it must hold by the journal.
        there: what it holds.
        short: tokens of which it has less than it owes, a line each.
    """

    through: int
    expected: OnChain
    there: OnChain
    short: list[str]


@asynccontextmanager
async def contract_of(sources: Sources) -> AsyncIterator[SettlementContract]:
    """The contract, on an open chain.

    Raises:
        AuditFailed: the chain does not answer, or there is no contract yet.
    """
    try:
        chain = await Chain.connect(sources.node_url)
    except CHAIN_FAILURES as error:
        hint = "an embedded exchange's runs with `clearbook up`"
        raise AuditFailed(f"the chain at {sources.node_url} does not answer ({hint}): {error}") from None
    try:
        yield await SettlementContract.on(chain, await _address(sources), sources.abi)
    finally:
        await chain.close()


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


async def settled_block(contract: SettlementContract, head: int, money: JournalMoney) -> int:
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


async def chain_side(contract: SettlementContract, block: int, money: JournalMoney, shard: int) -> ChainSide:
    """What the contract has of everybody whom the journal knows, at a block of `settled_block`.

    Raises:
        AuditFailed: the contract is behind what was called final.
    """
    through = await contract.settled_through(shard, block)
    if through < money.final_through:
        raise AuditFailed(
            f"the contract has settled {through} at block {block}, {money.final_through} was called final"
        )
    expected = money.on_chain(through, await contract.deposit_count(block), await contract.claim_count(block))
    tokens = {key: await contract.token_of(asset.symbol, block) for key, asset in money.assets.items()}
    balances = await _asked(
        {
            (account_id, asset_id): contract.balance(account_key(account_id), token, block)
            for account_id, asset_id in expected.balances
            if account_id != OUTSIDE_ACCOUNT and (token := tokens[asset_id]) is not None
        }
    )
    claimable = await _asked(
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
        held = await contract.holding(tokens[asset_id] or "", block)
        if held < amount:
            asset = money.assets[asset_id]
            lacks = asset.format(amount - held)
            short.append(f"the contract owes {asset.format(amount)} {asset.symbol} and lacks {lacks} of it")
    return ChainSide(through, expected, OnChain(balances, claimable), short)


async def _asked(questions: dict[Any, Any]) -> dict[Any, int]:
    slots = asyncio.Semaphore(CALLS_MAX)

    async def asked(question: Any) -> int:
        async with slots:
            return int(await question)

    return dict(zip(questions, await asyncio.gather(*map(asked, questions.values())), strict=True))


def joined(amounts: OnChain) -> Amounts:
    """Accounts and addresses in one."""
    return {**amounts.balances, **amounts.claimable}
