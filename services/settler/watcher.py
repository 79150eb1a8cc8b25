"""What the chain does afterwards: batches become CONFIRMED and FINAL by depth, or are reorganised away; money comes
in as deposits and goes out as claims.

Only what lies at the final depth is told to the book: finality here is a depth of our own.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from services.runtime import log
from services.runtime.streams import Backoff
from services.settler.alarms import Alarms, Halted
from services.settler.contract import ChainUnavailable, Claim, ExitRequest, SettlementContract
from services.settler.model import Batch, ClaimSeen, DepositSeen, ExitSeen, State
from services.settler.store import Store

RPC_DELAY_SECONDS_MAX: Final = 10.0
BLOCKS_PER_STEP_MAX: Final = 1_000
"""Blocks searched for deposits and claims in one step."""
MISSING_SECONDS_MAX: Final = 10.0
"""A node that does not know a batch's block may be behind; after so long the block counts as reorganised away."""

logger = log.get("watcher")


@dataclass(frozen=True, slots=True)
class Depths:
    """Blocks under which a batch lies, its own included: 1 is final as soon as it is mined.

    `poll_seconds`: how often the chain is asked.
    """

    confirmed_blocks: int
    final_blocks: int
    poll_seconds: float


class Watcher:
    """Run :meth:`run`."""

    def __init__(self, contract: SettlementContract, shard: int, store: Store, alarms: Alarms, depths: Depths) -> None:
        self._contract = contract
        self._shard = shard
        self._chain = contract.chain
        self._store = store
        self._alarms = alarms
        self._depths = depths
        self._assets: dict[str, str] = {}
        self._missing_since: float | None = None

    async def run(self) -> None:
        """Watches for ever; cancel it to end it."""
        backoff = Backoff(seconds_max=RPC_DELAY_SECONDS_MAX)
        while True:
            try:
                await self.step()
                self._alarms.clear("watch")
                backoff.reset()
                wait = self._depths.poll_seconds
            except Halted as halted:
                self._alarms.raise_("watch", str(halted))
                wait = backoff.next_seconds()
            except ChainUnavailable as error:
                self._alarms.raise_("watch", str(error), halts=False)
                wait = backoff.next_seconds()
            await self._news(wait)

    async def _news(self, seconds: float) -> None:
        """Until the next look: at once when a batch or a transaction of ours was mined."""
        mined, open_nonces = self._store.mined_through, len(self._store.tickets)
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while (left := deadline - clock()) > 0:
            await self._store.news.wait(left)
            if self._store.mined_through != mined or len(self._store.tickets) < open_nonces:
                return

    async def step(self) -> None:
        """One look at the head and what it means.

        Raises:
            Halted: the chain went back behind what was final.
            ChainUnavailable: try again.
        """
        head = await self._chain.block_number()
        for batch in self._store.on_chain():
            if not await self._follow(batch, head):
                break
        await self._search(head - self._depths.final_blocks + 1)

    async def _follow(self, batch: Batch, head: int) -> bool:
        """Moves a batch on by its depth; False if it, and so those after it, cannot be judged, or are gone."""
        found = await self._chain.block_hash(batch.block_number)
        if found is None and self._is_behind():
            return False
        self._missing_since = None
        if found != batch.block_hash:
            await self._reorganised(batch)
            return False
        depth = head - batch.block_number + 1
        if batch.state is State.MINED and depth >= self._depths.confirmed_blocks:
            batch = await self._store.deeper(batch, State.CONFIRMED)
        if batch.state is State.CONFIRMED and depth >= self._depths.final_blocks:
            await self._store.deeper(batch, State.FINAL)
        return True

    def _is_behind(self) -> bool:
        """Whether a block that the node does not know may yet come; else the chain has become shorter."""
        now = asyncio.get_running_loop().time()
        if self._missing_since is None:
            self._missing_since = now
        return now - self._missing_since < MISSING_SECONDS_MAX

    async def _reorganised(self, batch: Batch) -> None:
        """The batch's block is not on the chain any more, so neither are those of the batches after it."""
        gone = [each for each in self._store.on_chain() if each.first >= batch.first]
        if any(not each.calldata for each in gone):
            raise Halted("a batch of another settler was reorganised away: nothing here can send it again")
        why = f"batches {gone[0].batch_id} to {gone[-1].batch_id} (entries {gone[0].first} to {gone[-1].last})"
        self._alarms.once("reorg", f"{why} were reorganised away and are sent again")
        await self._store.reorganised(gone)

    async def _search(self, final: int) -> None:
        searched = self._store.number("searched_block")
        await self._check_final(searched)
        if final < searched:
            if final + self._depths.final_blocks - 1 < searched:
                raise Halted(f"the chain is behind block {searched}, which was final")
            return
        last = min(final, searched + BLOCKS_PER_STEP_MAX)
        if last <= searched:
            return
        money = await self._contract.money_in_and_out(searched + 1, last)
        seen = [
            DepositSeen(
                deposit_index=each.index,
                account=int.from_bytes(each.account, "big"),
                asset=await self._asset(each.token),
                amount=each.amount,
                block_number=each.block_number,
                transaction_hash=each.transaction_hash,
            )
            for each in money.deposits
        ]
        block_hash = await self._chain.block_hash(last)
        if block_hash is None:
            raise ChainUnavailable(f"the node does not know block {last}")
        await self._store.see_money(seen, await self._seen(money.claims), _exits_seen(money.exits), last, block_hash)
        for asked in money.exits:
            said = "stays after all" if asked.canceled else "leaves by the contract, and is frozen"
            self._alarms.once("exit", f"account {int.from_bytes(asked.account, 'big')} {said}")

    async def _check_final(self, searched: int) -> None:
        """What was final stays: the block up to which money was told to the book is still that block.

        Raises:
            Halted: it is another one. What was told may not be on the chain any more.
        """
        known = self._store.meta.get("searched_hash")
        if known is None or self._depths.final_blocks == 1:  # a development chain makes its blocks anew when it starts
            return
        found = await self._chain.block_hash(searched)
        if found not in {known, None}:  # None: the node is behind
            raise Halted(f"block {searched}, which was final, was reorganised away: it was {known}, it is {found}")

    async def _seen(self, claims: list[Claim]) -> list[ClaimSeen]:
        """Claims with what was settled by now: at least what they claim, which the book must know to be final first."""
        if not claims:
            return []
        through = await self._contract.settled_through(self._shard)
        return [
            ClaimSeen(
                claim_index=each.index,
                address=each.address,
                asset=await self._asset(each.token),
                amount=each.amount,
                block_number=each.block_number,
                transaction_hash=each.transaction_hash,
                settled_through=through,
                exit_account=int.from_bytes(each.exited, "big"),
            )
            for each in claims
        ]

    async def _asset(self, token: str) -> str:
        """The symbol under which a token is listed; there is no money in others."""
        if token not in self._assets:
            answer = await self._chain.call(self._contract.address, self._contract.calldata("asset_of", token))
            self._assets[token] = answer.rstrip(b"\0").decode("ascii")
        return self._assets[token]


def _exits_seen(exits: list[ExitRequest]) -> list[ExitSeen]:
    return [
        ExitSeen(
            each.index, int.from_bytes(each.account, "big"), each.canceled, each.block_number, each.transaction_hash
        )
        for each in exits
    ]
