"""Batches out: cut, simulated, stored, signed, stored, sent; again and again until the contract's cursor has passed.

One batch is on its way at a time, so each is simulated on the state that it will meet. What is true is what the
contract's cursor says: a batch behind it is settled, by whichever transaction; the batch that starts right after it is
the one to send. So nothing here can settle twice, and nothing can be skipped.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from eth_abi.abi import decode
from eth_utils.crypto import keccak

from services.runtime import log, metrics
from services.runtime.streams import Backoff
from services.settler import batch as batches
from services.settler.alarms import Alarms, Halted
from services.settler.batch import LEGS_MAX, Entry, Trade
from services.settler.contract import (
    LINKS_MAX,
    ChainUnavailable,
    SettlementContract,
    settle_gas_limit,
)
from services.settler.deploy import DeployFailed
from services.settler.faucet import Listings
from services.settler.model import Batch, NonceState, Owner, Ticket
from services.settler.payable import Payable, Payables, TooManyLegs
from services.settler.store import Store
from services.settler.wallet import Wallet
from services.settler.wire import entry_of_bytes

HALT_RETRY_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 5.0
POLL_SECONDS_MIN: Final = 0.02
POLL_SECONDS_MAX: Final = 1.0
RPC_DELAY_SECONDS_MAX: Final = 10.0
LOOKS_MAX: Final = 5
"""How often a batch behind the cursor may be without a receipt of ours before its Settled event is searched."""
SLOW_SECONDS: Final = 120.0
"""A batch that is on its way for so long raises an alarm."""
SETTLED_TOPIC: Final = "0x" + keccak(text="Settled(uint64,uint64,uint64,bytes32)").hex()

_batches = metrics.counter("settler_batches", "Batches stored.")
_legs = metrics.counter("settler_legs", "Legs in stored batches, withdrawals among them.")

logger = log.get("sender")


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is cut: at `entries_max` entries, or when its first entry has waited for `age_seconds`.

    `log_blocks_max`: blocks that one eth_getLogs request may span. `signed_apart`: whether trades of signed orders are
    settled with their signatures, each by itself, and not netted like all others.
    """

    entries_max: int
    age_seconds: float
    log_blocks_max: int
    signed_apart: bool = True


@dataclass(frozen=True, slots=True)
class Settled:
    """A Settled event of the contract."""

    first: int
    last: int
    chained: bytes
    transaction_hash: str
    block_number: int
    block_hash: str


class Sender:
    """Run :meth:`run`. `journal_through` tells the journal's last settlement sequence, None while it is not known."""

    def __init__(
        self,
        contract: SettlementContract,
        shard: int,
        wallet: Wallet,
        store: Store,
        listings: Listings,
        alarms: Alarms,
        limits: Limits,
        journal_through: Callable[[], int | None],
    ) -> None:
        self._contract = contract
        self._shard = shard
        self._wallet = wallet
        self._store = store
        self._listings = listings
        self._alarms = alarms
        self._limits = limits
        self._journal_through = journal_through
        self._payables = Payables(contract, shard, wallet.address, store)
        self._looks = 0
        self._polls = 0
        self._doubtful = False
        self._began: tuple[int, float] = (0, 0.0)

    async def run(self) -> None:
        """Settles for ever; cancel it to end it."""
        backoff = Backoff(seconds_max=RPC_DELAY_SECONDS_MAX)
        while True:
            wait: float | None
            try:
                wait = await self.step()
                self._alarms.clear("settlement")
                self._alarms.clear("chain")
                backoff.reset()
            except Halted as halted:
                self._doubtful = True
                self._alarms.raise_("settlement", str(halted))
                wait = HALT_RETRY_SECONDS
            except (ChainUnavailable, DeployFailed) as error:
                self._doubtful = True
                self._alarms.raise_("chain", str(error), halts=False)
                wait = backoff.next_seconds()
            if wait is None:
                await self._until_due()
            else:
                await asyncio.sleep(wait)

    async def _until_due(self) -> None:
        """Until a batch can be cut, or one is to be sent again, or it is time to look at the chain anyhow."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + IDLE_SECONDS
        while not self._store.waiting() and (left := min(deadline, self._cut_at()) - clock()) > 0:
            await self._store.news.wait(left)

    def _cut_at(self) -> float:
        """When the next batch is to be cut, in loop time; never, if nothing waits."""
        if self._store.contiguous - self._store.last_batched >= self._limits.entries_max:
            return 0.0
        since = self._store.waiting_since()
        return math.inf if since is None else since + self._limits.age_seconds

    async def step(self) -> float | None:
        """One look at the cursor and what follows from it.

        Returns:
            Seconds until the next look; None: when there is something to do.

        Raises:
            Halted: settlement cannot go on.
            ChainUnavailable: try again.
        """
        if elsewhere := self._alarms.halting(but="settlement"):
            raise Halted(elsewhere)
        through = await self._contract.settled_through(self._shard)
        if through < self._store.final_through:
            raise Halted(f"the chain has settled {through}, but {self._store.final_through} was final already")
        if self._doubtful:
            await self._wallet.heal()
            self._doubtful = False
        if self._wallet.busy:
            await self._wallet.settle_others()
        waiting = self._store.waiting()
        if waiting:
            return await self._advance(waiting[0], through)
        if through > self._store.last_batched:
            return await self._adopt(through)
        if through < self._store.last_batched:
            return self._poll()  # reorganised: the watcher will say so
        if self._cut_at() > asyncio.get_running_loop().time():
            return self._poll() if self._wallet.busy else None
        await self._cut()
        return 0

    # Cutting

    async def _cut(self) -> None:
        entries = [entry_of_bytes(body) for body in await self._store.unbatched(self._limits.entries_max)]
        await self._list(entries)
        tokens, signed_apart = self._store.tokens, self._limits.signed_apart
        trades = batches.signed_run(entries, tokens) if signed_apart else []
        if trades and await self._cut_signed(entries[0].settlement_sequence, trades):
            return
        if trades:  # the contract refuses a leg of the first: that trade alone goes without its signatures
            entries, signed_apart = entries[:1], False
        owners = await self._store.unlinked(LINKS_MAX)
        legs_max = LEGS_MAX
        while True:
            entries_max = self._limits.entries_max
            cut = batches.cut(entries, tokens, entries_max=entries_max, legs_max=legs_max, signed_apart=signed_apart)
            assert cut is not None, "the first entry has a token"
            try:
                made = await self._payables.make(cut, owners)
                break
            except TooManyLegs as too_many:
                legs_max -= too_many.more
        self._tell_of(made)
        await self._keep(made, owners)

    async def _cut_signed(self, first: int, trades: list[Trade]) -> bool:
        """A batch of trades of signed orders, or none: the contract refuses a leg of the first.

        It links their accounts' owners before others.
        """
        whose = {account for trade in trades for account in (trade.buyer, trade.seller)}
        owners = await self._store.unlinked(LINKS_MAX, whose)
        made = await self._payables.make_signed(first, trades, owners)
        if made is None:
            logger.warning("settled without its signatures: a leg is refused", entry=first)
            return False
        await self._keep(made, owners)
        return True

    def _tell_of(self, made: Payable) -> None:
        """Tells of what insurance pays. Its debts are numbered after all that the journal knows."""
        if made.shortfalls and self._journal_through() is None:
            raise Halted("a leg is refused, and the journal is not read to its end: its debts are not known")
        for each in made.shortfalls:
            why = f"account {each.account_id} lacks {each.amount} base units of {each.asset}: insurance pays"
            self._alarms.once("debt", f"{why} ({each.reason}); the account is frozen")

    async def _list(self, entries: list[Entry]) -> None:
        """Sees that assets are listed. What comes before one that is not is settled first."""
        for symbol, decimals in batches.unlisted(entries, self._store.tokens).items():
            try:
                await self._listings.ensure(symbol, decimals)
            except Halted:
                if batches.waits_for(entries[0].body, self._store.tokens) is not None:
                    raise
                return

    async def _keep(self, made: Payable, owners: list[Owner]) -> None:
        first, last = made.cut.first, made.cut.last
        stored = await self._store.add_batch(
            first, last, made.calldata, made.chained, made.size, owners, made.shortfalls
        )
        _batches.inc()
        _legs.inc(made.size)
        logger.debug("stored", batch=stored.batch_id, first=first, last=last, legs=made.size)

    # Sending

    async def _advance(self, batch: Batch, through: int) -> float:
        """Brings the first batch that is not on chain there."""
        self._watch_slowness(batch)
        tickets = [t for t in self._store.tickets.values() if t.batch_id == batch.batch_id]
        for ticket in tickets:
            receipt = await self._wallet.receipt(ticket)
            if receipt is not None and receipt.succeeded:
                self._wallet.count_gas(receipt)
                await self._store.mined(batch, receipt.transaction_hash, receipt.block_number, receipt.block_hash)
                logger.info(
                    "settled",
                    batch=batch.batch_id,
                    first=batch.first,
                    last=batch.last,
                    legs=batch.legs,
                    gas=receipt.gas_used,
                    block=receipt.block_number,
                    hash=receipt.transaction_hash,
                )
                return self._fresh()
            if receipt is not None:
                self._wallet.count_gas(receipt)
                await self._reverted(batch, ticket, receipt.transaction_hash)
                return 0
        if through >= batch.first:
            self._looks += 1
            return self._poll() if tickets and self._looks < LOOKS_MAX else await self._adopt(through)
        if through < batch.first - 1:
            return self._poll()  # an earlier batch was reorganised away: the watcher will say so
        for ticket in tickets:
            if await self._wallet.is_lost(ticket):
                self._alarms.once("foreign", f"nonce {ticket.nonce} was used by a transaction that is not ours")
                await self._store.close_ticket(ticket, NonceState.LOST)
                return 0
        return await self._send(batch, signed=bool(tickets))

    async def _reverted(self, batch: Batch, ticket: Ticket, transaction_hash: str) -> None:
        """A transaction used its nonce up for nothing: the batch failed, unless another has settled it before."""
        why = f"transaction {transaction_hash} reverted"
        self._alarms.once("reverted", why)
        if await self._contract.settled_through(self._shard) >= batch.first:
            await self._store.close_ticket(ticket, NonceState.REVERTED)
        else:
            await self._store.failed(batch, ticket, transaction_hash, why)

    async def _send(self, batch: Batch, *, signed: bool) -> float:
        if not signed:
            refused = await self._payables.refused(batch.calldata, batch.first, batch.last)
            if refused is not None:
                why = f"account {refused.account_id} cannot pay its leg in {refused.token}"
                batch = await self._supersede(batch, why)
            gas = settle_gas_limit(batch.legs)
            await self._wallet.prepare(self._contract.address, batch.calldata, gas, batch_id=batch.batch_id)
        await self._wallet.push()
        return 0 if not signed else self._poll()

    async def _supersede(self, batch: Batch, why: str) -> Batch:
        """What was stored is refused, and none of its transactions is open: the same entries anew, under the same id.

        The contract settles these entries once, whichever content reaches it. Trades of signed orders are settled
        without their signatures then: as signed the contract does not take them, and others wait.
        """
        entries = [entry_of_bytes(body) for body in await self._store.bodies(batch.first, batch.last)]
        cut = batches.cut(entries, self._store.tokens, entries_max=len(entries), signed_apart=False)
        assert cut is not None, "they were cut before"
        if cut.last != batch.last:
            raise Halted(f"batch {batch.batch_id}: {why}, and netted it has too many legs")
        try:
            made = await self._payables.make(cut, await self._store.owners_in(batch))
        except TooManyLegs as too_many:
            raise Halted(f"batch {batch.batch_id}: {why}, and insurance's legs are {too_many.more} too many") from None
        self._tell_of(made)
        self._alarms.once("superseded", f"batch {batch.batch_id} is made anew: {why}")
        return await self._store.supersede(batch, made.calldata, made.chained, made.size, made.shortfalls, why)

    def _watch_slowness(self, batch: Batch) -> None:
        now = asyncio.get_running_loop().time()
        if self._began[0] != batch.batch_id:
            self._began = (batch.batch_id, now)
        elif now - self._began[1] > SLOW_SECONDS:
            self._alarms.raise_("slow", f"batch {batch.batch_id} is not mined after {SLOW_SECONDS:.0f} s", halts=False)

    def _fresh(self) -> float:
        self._looks = self._polls = 0
        self._alarms.clear("slow")
        self._alarms.clear("fee")
        return 0

    def _poll(self) -> float:
        """Until the node may have news: soon at first, then rarer."""
        self._polls += 1
        return min(POLL_SECONDS_MAX, POLL_SECONDS_MIN * (1 << min(self._polls, 10)))

    # What others settled

    async def _adopt(self, through: int) -> float:
        """The chain is ahead of our batches: find out by which transactions, and take them for ours.

        So it is after the settler's database was lost, and when two settlers work on one shard. What insurance has paid
        in them only the journal tells: it is read first, or the reconciler would find a difference that is none.
        """
        if self._journal_through() is None:
            return self._poll()
        known = self._store.mined_through
        if through > self._store.contiguous:
            return self._ahead(through)
        found = [each for each in await self._settled_events() if each.last > known]
        if not found or found[0].first != known + 1:
            raise Halted(f"the chain has settled {through}, and no event tells how it came from {known} to there")
        for each in found:
            await self._take(each)
        return self._fresh()

    def _ahead(self, through: int) -> float:
        """The chain has settled what we have not received: it may be on its way, or the journal was lost."""
        journal = self._journal_through()
        if journal is not None and through > journal:
            raise Halted(f"the chain has settled {through}, the journal has no more than {journal}")
        return self._poll()

    async def _take(self, settled: Settled) -> None:
        where = (settled.transaction_hash, settled.block_number, settled.block_hash)
        ours = next((b for b in self._store.waiting() if (b.first, b.last) == (settled.first, settled.last)), None)
        if ours is not None and ours.chained == settled.chained:
            await self._store.mined(ours, *where)
            return
        why = f"entries {settled.first} to {settled.last} were settled by {settled.transaction_hash}, which is not ours"
        self._alarms.once("adopted", why)
        await self._store.adopt(settled.first, settled.last, settled.chained, *where)

    async def _settled_events(self) -> list[Settled]:
        """The shard's Settled events from our last mined batch on, in order."""
        head = await self._contract.chain.block_number()
        start = max(self._store.mined_block, self._store.number("start_block"))
        found = []
        step = self._limits.log_blocks_max
        topics = [SETTLED_TOPIC, "0x" + self._shard.to_bytes(32, "big").hex()]
        for first in range(start, head + 1, step):
            last = min(head, first + step - 1)
            events = await self._contract.chain.logs(self._contract.address, topics, first, last)
            found += [_settled(event) for event in events]
        return found


def _settled(event: dict[str, str]) -> Settled:
    first, last, chained = decode(["uint64", "uint64", "bytes32"], bytes.fromhex(event["data"][2:]))
    return Settled(first, last, chained, event["transactionHash"], int(event["blockNumber"], 16), event["blockHash"])
