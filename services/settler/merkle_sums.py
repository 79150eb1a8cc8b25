"""A Merkle tree whose nodes carry sums: what everybody is owed in one hash, and a short proof for each of them. Pure.

A leaf is a holder (an account's number, or a 0x-address that may claim), a salt, and what it is owed of each asset. A
node's hash covers the hash and the sums of its left and of its right child, each by itself: hashed only by their total,
as in the first scheme of this kind, the sums of two children could be moved between them, and a proof would show
less than what is owed. Amounts are unsigned numbers of 32 bytes, so none is negative and no sum wraps: what does not
fit makes no tree.

Leaves are ordered by their hashes. Their salts are new in every tree, so a place in it tells nothing about whose it is,
and who sees a neighbour's hash cannot try accounts until one fits.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

AMOUNT_BYTES = 32
SALT_BYTES = 32
HOLDER_BYTES_MAX = 255
LEAF, NODE, NOBODY = b"\x00", b"\x01", b"\x02"
"""What a hash is of: its first byte. Nothing hashes as something else."""


class Leaf(NamedTuple):
    """What a holder is owed: base units, by asset in the tree's order of assets."""

    holder: str
    salt: bytes
    amounts: tuple[int, ...]


class Node(NamedTuple):
    """A hash, and what all leaves below it are owed together."""

    digest: bytes
    sums: tuple[int, ...]


class Proof(NamedTuple):
    """That a leaf is in a tree.

    Attributes:
        leaf: whose it is.
        place: from 0; bit by bit, lowest first, whether a node on the way up is the right child.
        path: the other child at each step, from the leaf up.
    """

    leaf: Leaf
    place: int
    path: tuple[Node, ...]


def salt_of(secret: bytes, tree: int, holder: str) -> bytes:
    """A holder's salt in a tree of that number: nobody can tell it who has not the secret (16 to 64 bytes)."""
    return hashlib.blake2b(f"{tree}:{holder}".encode(), key=secret, digest_size=SALT_BYTES).digest()


def node_of(leaf: Leaf) -> Node:
    """A leaf's node.

    Raises:
        OverflowError: an amount is negative, or does not fit 32 bytes.
    """
    holder = leaf.holder.encode("ascii")
    assert len(holder) <= HOLDER_BYTES_MAX, "no such holder"
    assert len(leaf.salt) == SALT_BYTES, "no salt"
    named = LEAF + leaf.salt + len(holder).to_bytes(1, "big") + holder
    return Node(hashlib.sha256(named + _bytes(leaf.amounts)).digest(), leaf.amounts)


def joined(left: Node, right: Node) -> Node:
    """Their parent.

    Raises:
        OverflowError: a sum does not fit 32 bytes.
    """
    sums = tuple(one + other for one, other in zip(left.sums, right.sums, strict=True))
    _bytes(sums)
    covered = NODE + left.digest + _bytes(left.sums) + right.digest + _bytes(right.sums)
    return Node(hashlib.sha256(covered).digest(), sums)


def _bytes(amounts: Sequence[int]) -> bytes:
    return b"".join([amount.to_bytes(AMOUNT_BYTES, "big") for amount in amounts])


def root_of(proof: Proof) -> Node:
    """The root to which a proof leads."""
    node, place = node_of(proof.leaf), proof.place
    for other in proof.path:
        node = joined(other, node) if place & 1 else joined(node, other)
        place >>= 1
    assert place == 0, "the place is beyond the path"
    return node


class Tree:
    """The tree of some leaves, each of another holder; filled up with nobody to a power of two.

    Args:
        leaves: in any order.
        assets: how many amounts each has.

    Raises:
        OverflowError: an amount or a sum is negative, or does not fit 32 bytes.
    """

    def __init__(self, leaves: Iterable[Leaf], assets: int) -> None:
        nodes = sorted(((node_of(leaf), leaf) for leaf in leaves), key=lambda made: made[0].digest)
        self._leaves = [leaf for _, leaf in nodes]
        self._places = {leaf.holder: place for place, leaf in enumerate(self._leaves)}
        assert len(self._places) == len(nodes), "a holder has two leaves"
        nobody = Node(hashlib.sha256(NOBODY).digest(), (0,) * assets)
        level = [node for node, _ in nodes] or [nobody]
        self._levels = [level]
        while len(level) > 1:
            if len(level) % 2:
                level.append(nobody)
            level = [joined(level[place], level[place + 1]) for place in range(0, len(level), 2)]
            self._levels.append(level)
            nobody = joined(nobody, nobody)

    @property
    def root(self) -> Node:
        """What is published."""
        return self._levels[-1][0]

    def __len__(self) -> int:
        """How many holders there are."""
        return len(self._leaves)

    def proof(self, holder: str) -> Proof | None:
        """A holder's; None for one who is owed nothing."""
        place = self._places.get(holder)
        if place is None:
            return None
        path = tuple(level[(place >> step) ^ 1] for step, level in enumerate(self._levels[:-1]))
        return Proof(self._leaves[place], place, path)
