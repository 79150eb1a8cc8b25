"""The reconciliations that were published, and the tree of the newest: kept with what was owed then, so that a restart
makes the same tree again.
"""

import asyncio
import secrets
from collections.abc import Collection, Iterable
from typing import Final

from services.runtime import log
from services.runtime.db import Statement
from services.settler.liabilities import Credit, Liabilities, Owed, Payout, Through
from services.settler.merkle_sums import Leaf, Proof, Tree, salt_of
from services.settler.reconciliation import NO_DIGEST, Reconciliation, reconciliation_of
from services.settler.store import Store

SALTED_BY: Final = "salt_secret"
SALTED_BY_BYTES: Final = 32
"""Of the secret that salts are made of."""

logger = log.get("publications")


class Published:
    """Make it with :meth:`load`. ``newest`` is the last reconciliation, None before the first."""

    def __init__(self, store: Store) -> None:
        """Use :meth:`load`."""
        self._store = store
        self._tree: Tree | None = None
        self.newest: Reconciliation | None = None

    @classmethod
    async def load(cls, store: Store) -> "Published":
        """Reads the newest, and makes its tree again."""
        published = cls(store)
        if SALTED_BY not in store.meta:
            await store.remember(**{SALTED_BY: secrets.token_hex(SALTED_BY_BYTES)})
        rows = await store.fetch("SELECT content FROM reconciliations ORDER BY idx DESC LIMIT 1")
        if rows:
            newest = reconciliation_of(rows[0][0])
            assets = [reserve.asset for reserve in newest.reserves]
            published.newest = newest
            try:
                tree = await published.tree(newest.index, await published.liabilities(), assets)
            except OverflowError:
                tree = None
            if tree is not None and tree.root.digest == newest.root:
                published._tree = tree
            else:  # the reconciler will say whose amounts are wrong
                logger.error("what is owed is not what was published: nothing of it can be proven", index=newest.index)
        return published

    @property
    def next(self) -> tuple[int, bytes]:
        """The next reconciliation's index, and the digest that it follows."""
        return (1, NO_DIGEST) if self.newest is None else (self.newest.index + 1, self.newest.digest)

    async def at(self, index: int) -> Reconciliation | None:
        """The reconciliation of an index; 0: the newest."""
        if index == 0 or (self.newest is not None and index == self.newest.index):
            return self.newest
        rows = await self._store.fetch("SELECT content FROM reconciliations WHERE idx = $1", index)
        return reconciliation_of(rows[0][0]) if rows else None

    def proof(self, account_id: int) -> tuple[Reconciliation, Proof] | None:
        """That an account is in the newest tree; None if it is not: nothing was owed to it."""
        if self.newest is None or self._tree is None:
            return None
        proof = self._tree.proof(str(account_id))
        return None if proof is None else (self.newest, proof)

    async def tree(self, index: int, owed: Liabilities, assets: Collection[str]) -> Tree:
        """The tree of a reconciliation.

        Raises:
            OverflowError: somebody is owed less than nothing.
        """
        secret = bytes.fromhex(self._store.meta[SALTED_BY])
        holders = owed.by_holder(assets)

        def made() -> Tree:
            leaves = (Leaf(holder, salt_of(secret, index, holder), amounts) for holder, amounts in holders.items())
            return Tree(leaves, len(assets))

        return await asyncio.to_thread(made)

    async def publish(self, found: Reconciliation, tree: Tree, owed: Liabilities, changed: Iterable[Owed]) -> None:
        """Keeps a reconciliation, with what changed of what is owed since the one before."""
        assert (found.index, found.previous) == self.next, "it does not follow the newest"
        amounts = [(each.holder, each.asset, self._store.amount(owed.amounts[each])) for each in changed]
        kept = (
            "INSERT INTO liabilities (holder, asset, amount) VALUES ($1, $2, $3)"
            " ON CONFLICT (holder, asset) DO UPDATE SET amount = excluded.amount"
        )
        statements = [Statement(kept, amounts)] if amounts else []
        row = Statement("INSERT INTO reconciliations (idx, content) VALUES ($1, $2)", [(found.index, found.text())])
        await self._store.commit([*statements, row])
        self.newest, self._tree = found, tree

    async def liabilities(self) -> Liabilities:
        """What was owed at the newest reconciliation."""
        through = Through() if self.newest is None else self.newest.through
        rows = await self._store.fetch("SELECT holder, asset, amount FROM liabilities")
        closed = "SELECT DISTINCT exit_account FROM payouts WHERE exit_account > 0 AND claim_index <= $1"
        left = [str(row[0]) for row in await self._store.fetch(closed, through.claims)]
        return Liabilities({Owed(str(row[0]), str(row[1])): int(row[2]) for row in rows}, through, left)

    async def credits(self, after: int, through: int) -> list[Credit]:
        """The journal's deposits after one, up to another."""
        query = (
            "SELECT deposit_index, account_id, asset, amount FROM credits"
            " WHERE deposit_index > $1 AND deposit_index <= $2 ORDER BY deposit_index"
        )
        rows = await self._store.fetch(query, after, through)
        return [Credit(int(row[0]), int(row[1]), str(row[2]), int(row[3])) for row in rows]

    async def payouts(self, after: int, through: int) -> list[Payout]:
        """The journal's claims and exits after one, up to another."""
        query = (
            "SELECT claim_index, address, asset, amount, exit_account FROM payouts"
            " WHERE claim_index > $1 AND claim_index <= $2 ORDER BY claim_index"
        )
        rows = await self._store.fetch(query, after, through)
        return [Payout(int(row[0]), str(row[1]), str(row[2]), int(row[3]), int(row[4])) for row in rows]
