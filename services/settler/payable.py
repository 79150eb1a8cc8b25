"""Batches that the contract takes: simulated, and where it refuses a leg, insurance pays what the account lacks.

So nobody waits for who cannot pay, and whoever is to receive has all of it. What insurance pays is a shortfall: the
store keeps it as a debt, the journal freezes the account.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.settler import batch as batches
from services.settler.alarms import Halted
from services.settler.batch import INSURANCE_ACCOUNT, LEGS_MAX, Cut, Trade
from services.settler.contract import (
    CallReverted,
    ChainUnavailable,
    Delta,
    LegRefused,
    Link,
    SettlementContract,
    Withdrawal,
    account_key,
    chained_hash,
)
from services.settler.model import Owner, Shortfall
from services.settler.signed import LEGS_PER_TRADE, signed_calldata, signed_chained_hash
from services.settler.store import Store

SHORTFALLS_MAX: Final = LEGS_MAX
"""Legs of a batch that may be refused: each is found by a simulation of its own."""


@dataclass(frozen=True, slots=True)
class Payable:
    """A batch as the contract takes it.

    Attributes:
        cut: entries, legs and withdrawals; trades of signed orders have no legs.
        calldata: of `settle`, or of `settle_signed`.
        chained: the contract's batch hash after it.
        size: legs, withdrawals and links together.
        shortfalls: what insurance pays in it.
    """

    cut: Cut
    calldata: bytes
    chained: bytes
    size: int
    shortfalls: tuple[Shortfall, ...]


class TooManyLegs(Exception):
    """With insurance's legs the batch has `more` legs than the contract takes: it is to be cut shorter."""

    def __init__(self, more: int) -> None:
        super().__init__(f"{more} legs too many")
        self.more = more


def links_of(owners: Sequence[Owner]) -> list[Link]:
    """Owners as the contract links them."""
    return [Link(account_key(owner.account_id), owner.address) for owner in owners]


class Payables:
    """Makes batches payable.

    Args:
        contract: that takes them.
        shard: whose entries.
        sender: the settler's address.
        store: knows tokens, and how far the chain was read.
    """

    def __init__(self, contract: SettlementContract, shard: int, sender: str, store: Store) -> None:
        self._contract, self._shard, self._sender, self._store = contract, shard, sender, store

    async def make(self, cut: Cut, owners: Sequence[Owner]) -> Payable:
        """The batch, each leg of it payable, on the newest block.

        Raises:
            Halted: the contract refuses it for another reason, or insurance cannot pay.
            ChainUnavailable: try again.
            TooManyLegs: insurance's legs do not fit.
        """
        block = await self._newest()
        shortfalls: list[Shortfall] = []
        links = links_of(owners)
        for _ in range(SHORTFALLS_MAX):
            if len(cut.legs) > LEGS_MAX:
                raise TooManyLegs(len(cut.legs) - LEGS_MAX)
            deltas = [Delta(account_key(leg.account_id), leg.token, leg.amount) for leg in cut.legs]
            out = [Withdrawal(each.token, each.address, each.amount) for each in cut.withdrawals]
            calldata = self._contract.settle_calldata(self._shard, cut.first, cut.last, deltas, out, links)
            refused = await self.refused(calldata, cut.first, cut.last, block)
            if refused is None:
                previous = await self._contract.batch_hash(self._shard, block)
                chained = chained_hash(previous, self._shard, cut.first, cut.last, deltas, out, links)
                return Payable(cut, calldata, chained, len(deltas) + len(out) + len(links), tuple(shortfalls))
            cut, shortfall = await self._insured(cut, refused, block)
            shortfalls.append(shortfall)
        raise Halted(f"more than {SHORTFALLS_MAX} legs of entries {cut.first} to {cut.last} are refused")

    async def make_signed(self, first: int, trades: Sequence[Trade], owners: Sequence[Owner]) -> Payable | None:
        """As many trades of signed orders, from the first on, as the contract takes as they were signed.

        Returns:
            None if it refuses a leg of the first.

        Raises:
            Halted: the contract refuses them for another reason.
            ChainUnavailable: try again.
        """
        block, links = await self._newest(), links_of(owners)
        taken, beyond, count = 0, len(trades) + 1, len(trades)
        while beyond - taken > 1:  # trades are settled one after the other: what is taken is taken without those after
            calldata = signed_calldata(self._contract, self._shard, first, trades[:count], links)
            if await self.refused(calldata, first, first + count - 1, block) is None:
                taken = count
            else:
                beyond = count
            count = (taken + beyond) // 2
        if not taken:
            return None
        trades = trades[:taken]
        calldata = signed_calldata(self._contract, self._shard, first, trades, links)
        previous = await self._contract.batch_hash(self._shard, block)
        chained = signed_chained_hash(previous, self._shard, first, trades, links)
        size = LEGS_PER_TRADE * taken + len(links)
        return Payable(Cut(first, first + taken - 1, ()), calldata, chained, size, ())

    async def refused(self, calldata: bytes, first: int, last: int, block: int | None = None) -> LegRefused | None:
        """The leg that the contract refuses of a batch, as it would be settled now; None if it takes it.

        Raises:
            Halted: the contract refuses it for another reason.
            ChainUnavailable: try again.
        """
        block = await self._newest() if block is None else block
        try:
            return await self._contract.simulate(calldata, self._sender, block)
        except CallReverted as reverted:
            raise Halted(f"the contract refuses entries {first} to {last}: {reverted}") from None

    async def _newest(self) -> int:
        """The block to judge by: not one before deposits that the journal has been told of already."""
        block = await self._contract.chain.block_number()
        searched = self._store.number("searched_block")
        if block < searched:
            raise ChainUnavailable(f"the node is at block {block}, and block {searched} was read already")
        return block

    async def _insured(self, cut: Cut, refused: LegRefused, block: int) -> tuple[Cut, Shortfall]:
        account_id, name = refused.account_id, f"{refused} in entries {cut.first} to {cut.last}"
        if account_id == INSURANCE_ACCOUNT:
            raise Halted(f"{name}: deposit for account {INSURANCE_ACCOUNT}, insurance")
        token = int(refused.token, 16)
        leg = next((leg for leg in cut.legs if leg.account_id == account_id and int(leg.token, 16) == token), None)
        if leg is None:
            raise Halted(f"{name}, and there is no such leg")
        has = await self._contract.balance(refused.account, refused.token, block)
        cut, lacks = batches.insured(cut, leg.token, account_id, has)
        asset = next(symbol for symbol, token in self._store.tokens.items() if token == leg.token)
        reason = f"entries {cut.first} to {cut.last}: the chain has {has} of the {-leg.amount} to pay"
        return cut, Shortfall(account_id, asset, lacks, reason, cut.last)
