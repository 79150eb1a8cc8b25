"""A reconciliation: what was owed and what was there at one block, and the digest by which it is published. Pure."""

import hashlib
import json
from dataclasses import dataclass

from services.settler.liabilities import Through

DIGEST_OF = b"\x03"
"""The first byte of what a reconciliation's digest is of: no node of the tree begins with it."""
NO_DIGEST = bytes(32)
"""What the first reconciliation follows."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Of one asset, in base units: what the vault owes altogether, and how much of the token it holds."""

    asset: str
    token: str
    liabilities: int
    reserves: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Ledger and chain were equal.

    Attributes:
        index: from 1.
        previous: the digest of the one before, so that none can be changed or left out later.
        chain_id: of the chain.
        contract: the contract's address.
        shard: whose settlement.
        block_number: at whose end.
        block_hash: its hash.
        through: how far the contract was at that block.
        leaves: how many holders the tree has.
        root: the hash at its root.
        reserves: by asset, in the tree's order.
        time_ns: when it was found.
    """

    index: int
    previous: bytes
    chain_id: int
    contract: str
    shard: int
    block_number: int
    block_hash: str
    through: Through
    leaves: int
    root: bytes
    reserves: tuple[Reserve, ...]
    time_ns: int

    def text(self) -> str:
        """Everything, in the one way to write it: what the digest is of, and what is kept."""
        content = {
            "index": str(self.index),
            "previous": self.previous.hex(),
            "chain_id": str(self.chain_id),
            "contract": self.contract,
            "shard": str(self.shard),
            "block_number": str(self.block_number),
            "block_hash": self.block_hash,
            "settlement_sequence": str(self.through.entries),
            "deposit_index": str(self.through.deposits),
            "claim_index": str(self.through.claims),
            "leaves": str(self.leaves),
            "root": self.root.hex(),
            "reserves": [[r.asset, r.token, str(r.liabilities), str(r.reserves)] for r in self.reserves],
            "time_ns": str(self.time_ns),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> bytes:
        """What others compare: who has the same digest was told the same."""
        return hashlib.sha256(DIGEST_OF + self.text().encode()).digest()


def reconciliation_of(text: str) -> Reconciliation:
    """What was written by `Reconciliation.text`."""
    found = json.loads(text)
    return Reconciliation(
        index=int(found["index"]),
        previous=bytes.fromhex(found["previous"]),
        chain_id=int(found["chain_id"]),
        contract=found["contract"],
        shard=int(found["shard"]),
        block_number=int(found["block_number"]),
        block_hash=found["block_hash"],
        through=Through(int(found["settlement_sequence"]), int(found["deposit_index"]), int(found["claim_index"])),
        leaves=int(found["leaves"]),
        root=bytes.fromhex(found["root"]),
        reserves=tuple(Reserve(asset, token, int(owed), int(held)) for asset, token, owed, held in found["reserves"]),
        time_ns=int(found["time_ns"]),
    )
