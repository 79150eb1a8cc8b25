"""Ledger against chain, for ever: what the journal says is owed, and what the contract has, at one final block.

The contract tells how far it is at a block: the last entry it has settled, the number of the last deposit and claim.
The ledger is folded up to just there, from what the journal has of these, and both must be equal by account and asset,
to the base unit. What changed is compared at once, all else in rounds. Equal, it is published (publications.py).
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from services.runtime import log, metrics
from services.runtime.streams import Backoff
from services.settler.alarms import Alarms
from services.settler.contract import CallReverted, ChainUnavailable, SettlementContract, account_key
from services.settler.liabilities import Liabilities, Owed, Through
from services.settler.publications import Published
from services.settler.reconciliation import Reconciliation, Reserve
from services.settler.store import Store
from services.settler.wire import entry_of_bytes

JOURNAL_SECONDS_MAX: Final = 10.0
"""How long the journal may lack what is final on chain, before that is the finding."""
NOTES_POLL_SECONDS: Final = 0.5
"""How often it is looked for what insurance has paid, while the journal is to tell of it."""
RETRY_SECONDS_MAX: Final = 60.0
ENTRIES_PER_READ_MAX: Final = 1_000
MONEY_PER_READ_MAX: Final = 1_000
"""Deposits, or claims."""
READS_MAX: Final = 1_000
"""Balances read from the chain in one step; what is left is read in the next one."""
CALLS_MAX: Final = 8
"""Questions to the node at once."""
NAMED_MAX: Final = 5
"""Differences named in an alarm."""

_through = metrics.gauge("settler_reconciled_through", "Last settlement sequence of the newest reconciliation.")
_when = metrics.gauge("settler_reconciled_time_seconds", "When ledger and chain were last found equal, since 1970.")
_different = metrics.gauge("settler_ledger_differences", "Balances by which ledger and chain differ, and short tokens.")
_compared = metrics.counter("settler_balances_compared", "Balances of the ledger compared with the chain's.")

logger = log.get("reconciler")


class CannotCompare(Exception):
    """Ledger and chain are not at one moment. One line."""


class Reconciler:
    """Run :meth:`run`. `seconds`: how often ledger and chain are compared."""

    def __init__(
        self,
        contract: SettlementContract,
        shard: int,
        store: Store,
        published: Published,
        alarms: Alarms,
        seconds: float,
    ) -> None:
        self._contract = contract
        self._shard = shard
        self._store = store
        self._published = published
        self._alarms = alarms
        self._seconds = seconds
        self._owed = Liabilities()
        self._tokens: dict[str, str] = {}
        self._due: dict[Owed, None] = {}
        """To be compared next, in this order: what changed since it last was, and what was different."""
        self._round: list[Owed] = []
        """Of all, what is still to be compared in this round."""
        self._unsaved: set[Owed] = set()
        self._wrong: dict[Owed, tuple[int, int]] = {}
        """What the ledger and what the chain has, where these differ."""
        self._looked_at = 0
        self._insured: set[int] = set()
        """Debts that insurance has paid and that are folded, of entries after `_began_after`."""
        self._began_after = 0
        """The last entry of the newest reconciliation at the start."""

    async def run(self) -> None:
        """Reconciles for ever; cancel it to end it."""
        self._owed = await self._published.liabilities()
        self._began_after = self._owed.through.entries
        self._due = dict.fromkeys(self._owed.amounts)
        backoff = Backoff(seconds_max=RETRY_SECONDS_MAX)
        while True:
            try:
                await self.step()
                self._alarms.clear("reconcile")
                backoff.reset()
                wait = self._seconds
            except (CannotCompare, ChainUnavailable, CallReverted) as error:
                self._alarms.raise_("reconcile", str(error), halts=False)
                wait = backoff.next_seconds()
            await asyncio.sleep(wait)  # by the clock: nothing that happens makes it due

    async def step(self) -> None:
        """One comparison, as far as it comes; published if all is equal and something is new.

        Raises:
            CannotCompare: the journal lacks what is final on chain, or the chain went back.
            ChainUnavailable, CallReverted: the chain cannot be asked.
        """
        block = self._store.number("searched_block")
        if block < self._store.number("start_block"):
            return  # nothing is final yet
        if is_new := block > self._looked_at:
            through = await self._reached(block)
            await self._journaled(through)
            await self._fold(through)
        if await self._insure() or is_new:
            await self._settle_closed(block)
            self._note_changes()
        elif not self._due:
            return
        before = set(self._wrong)
        await self._compare(block)
        if self._wrong.keys() - before:
            await self._told_late(block)
        reserves = await self._reserves(block)
        short = [each for each in reserves if each.reserves < each.liabilities]
        self._tell(short)
        self._looked_at = block
        news = self._published.newest is None or self._owed.through != self._published.newest.through
        if news and not (self._due or self._wrong or short):
            await self._publish(block, reserves)

    async def _reached(self, block: int) -> Through:
        """How far the contract is at the end of a block."""
        entries = await self._contract.settled_through(self._shard, block)
        deposits = await self._contract.deposit_count(block)
        through = Through(entries, deposits, await self._contract.claim_count(block))
        if any(there < here for there, here in zip(through, self._owed.through, strict=True)):
            raise CannotCompare(f"at block {block} the chain is at {through}, the ledger was at {self._owed.through}")
        return through

    async def _journaled(self, through: Through) -> None:
        """Waits until the journal has what the chain has, and its batches are final here: so are their debts."""
        try:
            async with asyncio.timeout(JOURNAL_SECONDS_MAX):
                while lacking := self._lacking(through):
                    await self._store.news.wait()
        except TimeoutError:
            raise CannotCompare(f"final on chain, and not in the journal: {lacking}") from None

    def _lacking(self, through: Through) -> str:
        store = self._store
        known = Through(store.final_through, store.number("deposits_journaled"), store.number("claims_journaled"))
        names = zip(("entries", "deposits", "claims"), known, through, strict=True)
        return ", ".join(f"{name} {here + 1} to {there}" for name, here, there in names if there > here)

    async def _fold(self, through: Through) -> None:
        owed = self._owed
        while owed.through.entries < through.entries:
            first = owed.through.entries + 1
            last = min(through.entries, first + ENTRIES_PER_READ_MAX - 1)
            owed.settle([entry_of_bytes(body) for body in await self._store.bodies(first, last)])
        while (after := owed.through.deposits) < through.deposits:
            owed.credit(await self._published.credits(after, min(through.deposits, after + MONEY_PER_READ_MAX)))
        while (after := owed.through.claims) < through.claims:
            owed.pay(await self._published.payouts(after, min(through.claims, after + MONEY_PER_READ_MAX)))

    async def _insure(self) -> bool:
        """Takes what insurance has paid, as far as the journal tells by now; whether that is anything new."""
        paid = await self._store.paid_in(self._began_after + 1, self._owed.through.entries)
        new = paid.keys() - self._insured
        for debt_id in sorted(new):
            self._owed.insure(paid[debt_id].account_id, paid[debt_id].asset, paid[debt_id].amount)
        self._insured |= new
        return bool(new)

    async def _told_late(self, block: int) -> None:
        """What insurance paid in another settler's batch the journal alone tells, some time after the chain."""
        first = 1 if self._published.newest is None else self._published.newest.through.entries + 1
        if not await self._store.has_adopted(first, self._owed.through.entries):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(JOURNAL_SECONDS_MAX):
                while self._wrong:
                    if await self._insure():
                        await self._settle_closed(block)
                        self._note_changes()
                        await self._compare(block)
                    else:
                        await self._store.news.wait(NOTES_POLL_SECONDS)

    async def _settle_closed(self, block: int) -> None:
        """What an account that has left had still to settle is insurance's, as much of it as the chain did not keep."""
        closed = [each for each in self._owed.amounts if each.holder in self._owed.closed]
        for owed, there in (await self._there(closed, block)).items():
            self._owed.keep(owed, there)

    def _note_changes(self) -> None:
        changed, self._owed.changed = self._owed.changed, set()
        self._due |= dict.fromkeys(sorted(changed))
        self._unsaved |= changed

    async def _compare(self, block: int) -> None:
        asked = [owed for owed, _ in zip(self._due, range(READS_MAX), strict=False)]
        if not self._round:
            self._round = sorted(self._owed.amounts)
        rest = READS_MAX - len(asked)
        asked += self._round[:rest]
        del self._round[:rest]
        for owed, there in (await self._there(asked, block)).items():
            self._due.pop(owed, None)
            here = self._owed.amounts[owed]
            if here == there:
                self._wrong.pop(owed, None)
            else:
                self._wrong[owed] = here, there
            _compared.inc()
        self._due |= dict.fromkeys(self._wrong)

    async def _there(self, asked: Iterable[Owed], block: int) -> dict[Owed, int]:
        """What the contract has."""
        slots = asyncio.Semaphore(CALLS_MAX)
        found: dict[Owed, int] = {}

        async def ask(owed: Owed) -> None:
            async with slots:
                token = await self._token(owed.asset)
                if owed.claimable:
                    found[owed] = await self._contract.claimable(owed.holder, token, block)
                else:
                    found[owed] = await self._contract.balance(account_key(int(owed.holder)), token, block)

        try:
            async with asyncio.TaskGroup() as group:
                for owed in dict.fromkeys(asked):
                    group.create_task(ask(owed))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return found

    async def _token(self, asset: str) -> str:
        """An asset's token: listed once, for ever."""
        if asset not in self._tokens:
            token = await self._contract.token_of(asset)
            if token is None:
                raise CannotCompare(f"{asset} is owed, and the contract has no token of it")
            self._tokens[asset] = token
        return self._tokens[asset]

    async def _reserves(self, block: int) -> list[Reserve]:
        sums: dict[str, int] = {}
        for owed, amount in self._owed.amounts.items():
            sums[owed.asset] = sums.get(owed.asset, 0) + amount
        found = []
        for asset in sorted(sums):
            token = await self._token(asset)
            found.append(Reserve(asset, token, sums[asset], await self._contract.holding(token, block)))
        return found

    def _tell(self, short: list[Reserve]) -> None:
        _different.set(len(self._wrong) + len(short))
        texts = [
            f"{'claimable by' if owed.claimable else 'account'} {owed.holder}: "
            f"{here} of {owed.asset} in the ledger, {there} on chain, difference {there - here}"
            for owed, (here, there) in list(self._wrong.items())[:NAMED_MAX]
        ]
        texts += [f"{each.liabilities} of {each.asset} are owed, the vault holds {each.reserves}" for each in short]
        if texts:
            count = len(self._wrong) + len(short)
            self._alarms.raise_("ledger", f"{count} differences (base units): {'; '.join(texts)}", halts=False)
        else:
            self._alarms.clear("ledger")

    async def _publish(self, block: int, reserves: list[Reserve]) -> None:
        block_hash = await self._contract.chain.block_hash(block)
        if block_hash is None:
            raise CannotCompare(f"block {block} is gone")
        index, previous = self._published.next
        tree = await self._published.tree(index, self._owed, [each.asset for each in reserves])
        found = Reconciliation(
            index=index,
            previous=previous,
            chain_id=self._contract.chain.chain_id,
            contract=self._contract.address,
            shard=self._shard,
            block_number=block,
            block_hash=block_hash,
            through=self._owed.through,
            leaves=len(tree),
            root=tree.root.digest,
            reserves=tuple(reserves),
            time_ns=time.time_ns(),
        )
        await self._published.publish(found, tree, self._owed, sorted(self._unsaved))
        self._unsaved.clear()
        _through.set(found.through.entries)
        _when.set(found.time_ns // 10**9)
        logger.info("published", index=index, block=block, entries=found.through.entries, holders=found.leaves)
