"""The tree of what everybody is owed: what is proven, and that nothing else can be, by a script without our code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from services.settler.liabilities import Through
from services.settler.merkle_sums import Leaf, Node, Tree, joined, node_of, root_of, salt_of
from services.settler.reconciliation import NO_DIGEST, Reconciliation, Reserve, reconciliation_of
from services.settler.wire import liability_proof_of
from services.settler.wire import reconciliation_of as published
from tests.reserves import verified, verifier

SECRET = b"s" * 32
TOKENS = ("0x" + "11" * 20, "0x" + "22" * 20)
ASSETS = ("BTC", "USD")

amounts = st.lists(st.tuples(st.integers(0, 2**200), st.integers(0, 2**200)), min_size=1, max_size=40)


def tree_of(owed: list[tuple[int, int]], number: int = 1) -> Tree:
    holders = {str(1001 + place): each for place, each in enumerate(owed)}
    return Tree((Leaf(who, salt_of(SECRET, number, who), each) for who, each in holders.items()), len(ASSETS))


def reconciled(tree: Tree) -> Reconciliation:
    reserves = zip(ASSETS, TOKENS, tree.root.sums, tree.root.sums, strict=True)
    return Reconciliation(
        index=1,
        previous=NO_DIGEST,
        chain_id=31337,
        contract="0x" + "AA" * 20,
        shard=0,
        block_number=9,
        block_hash="0x" + "bb" * 32,
        through=Through(12, 3, 0),
        leaves=len(tree),
        root=tree.root.digest,
        reserves=tuple(Reserve(*each) for each in reserves),
        time_ns=1_795_396_583_604_967_326,
    )


def proof_of(tree: Tree, holder: str) -> dict[str, Any]:
    """As REST tells it."""
    proof = tree.proof(holder)
    assert proof is not None
    messages = {"reconciliation": published(reconciled(tree)), "proof": liability_proof_of(proof)}
    return {name: MessageToDict(each, preserving_proto_field_name=True) for name, each in messages.items()}


@given(amounts)
def test_every_leaf_leads_to_the_root_which_has_the_sums(owed: list[tuple[int, int]]) -> None:
    tree = tree_of(owed)
    assert tree.root.sums == tuple(map(sum, zip(*owed, strict=True)))
    for place, each in enumerate(owed):
        proof = tree.proof(str(1001 + place))
        assert proof is not None and proof.leaf.amounts == each
        assert root_of(proof) == tree.root
    assert tree.proof("1000") is None
    verifier.check_tree(verifier.read(proof_of(tree, "1001")))


@given(amounts, st.randoms())
def test_the_same_is_owed_in_whatever_order_it_is_told(owed: list[tuple[int, int]], random: Any) -> None:
    leaves = [Leaf(str(place), salt_of(SECRET, 1, str(place)), each) for place, each in enumerate(owed)]
    root = Tree(leaves, 2).root
    random.shuffle(leaves)
    assert Tree(leaves, 2).root == root
    assert {Tree([leaf], 2).root.digest for leaf in leaves} == {node_of(leaf).digest for leaf in leaves}


def test_a_new_tree_has_new_salts() -> None:
    owed = [(5, 0)] * 8
    first, second = (tree_of(owed, number) for number in (1, 2))
    assert first.root.sums == second.root.sums and first.root.digest != second.root.digest
    assert len({first.proof(str(1001 + place)).leaf.salt for place in range(8)}) == 8  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", [-1, 2**256])
def test_what_is_no_amount_makes_no_leaf(wrong: int) -> None:
    with pytest.raises(OverflowError):
        tree_of([(1, 0), (wrong, 0)])


def test_a_sum_does_not_wrap() -> None:
    with pytest.raises(OverflowError):
        tree_of([(2**255, 0), (2**255, 0)])


def test_sums_of_two_children_cannot_be_moved_between_them() -> None:
    """The flaw of the first scheme: a node hashed only the two hashes and the total."""
    left, right = Node(b"l" * 32, (7, 0)), Node(b"r" * 32, (3, 0))
    moved = joined(Node(left.digest, (9, 0)), Node(right.digest, (1, 0)))
    assert moved.sums == joined(left, right).sums and moved.digest != joined(left, right).digest


def test_any_changed_character_of_a_proof_refutes_it(tmp_path: Path) -> None:
    tree = tree_of([(7, 1), (0, 12), (30, 4), (5, 5), (6, 0)])
    whole = proof_of(tree, "1003")
    assert verified(tmp_path, whole)[0] == verifier.HOLDS
    del whole["reconciliation"]["event_time"]  # the one thing that is no part of it
    text = json.dumps(whole)
    tried = 0
    for place, character in enumerate(text):
        if character.isdigit() or character in "abcdefBTCUSD":
            other = "1" if character == "0" else "0" if character.isdigit() else "Z"
            changed = text[:place] + other + text[place + 1 :]
            tried += 1
            (tmp_path / "changed.json").write_text(changed)
            code = verifier.main([str(tmp_path / "changed.json")], lambda _said: None)
            assert code != verifier.HOLDS, text[place - 20 : place + 20]
    assert tried > 700


Edit = Any
PLANTED: dict[str, Edit] = {
    "a negative sibling": lambda p: p["proof"]["path"][0]["sums"].__setitem__(0, "-5"),
    "an amount beyond a uint256": lambda p: p["proof"]["amounts"].__setitem__(0, str(2**256)),
    "an amount of other digits": lambda p: p["proof"]["amounts"].__setitem__(0, "\u0667"),
    "a path cut short": lambda p: p["proof"]["path"].pop(),
    "a path made longer": lambda p: p["proof"]["path"].append(p["proof"]["path"][0]),
    "an asset left out": lambda p: [each["sums"].pop() for each in p["proof"]["path"]],
    "a place that nobody has": lambda p: p["proof"].__setitem__("leaf_index", "7"),
    "somebody else's": lambda p: p["proof"].__setitem__("holder", "1002"),
    "less owed than the root says": lambda p: p["reconciliation"]["reserves"][0].__setitem__("liabilities", "1"),
    "an asset named twice": lambda p: p["reconciliation"]["reserves"][1].__setitem__("asset", "BTC"),
    "another digest": lambda p: p["reconciliation"].__setitem__("digest", "00" * 32),
    "another block": lambda p: p["reconciliation"].__setitem__("block_number", "8"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_refuted(name: str, tmp_path: Path) -> None:
    proof = proof_of(tree_of([(7, 1), (0, 12), (30, 4), (5, 5), (6, 0)]), "1003")
    PLANTED[name](proof)
    code, said = verified(tmp_path, proof)
    assert (code, said.startswith("REFUTED")) == (verifier.REFUTED, True), said


def test_reserves_below_liabilities_are_refuted(tmp_path: Path) -> None:
    tree = tree_of([(7, 1), (2, 2)])
    proof = proof_of(tree, "1001")
    short = reconciled(tree)
    short = replace(short, reserves=(replace(short.reserves[0], reserves=8), short.reserves[1]))
    proof["reconciliation"] = MessageToDict(published(short), preserving_proto_field_name=True)
    assert verified(tmp_path, proof) == (
        verifier.REFUTED,
        "REFUTED: 9 of BTC are owed and 8 are there, by its own words",
    )


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--account", "1001"), 0),
        (("--account", "1002"), 1),
        (("--contract", "0x" + "aa" * 20), 0),
        (("--contract", "0x" + "ab" * 20), 1),
        (("--digest", "00" * 32), 1),
        (("--rpc", "http://127.0.0.1:1"), 2),
    ],
)
def test_what_a_proof_must_be(options: tuple[str, ...], code: int, tmp_path: Path) -> None:
    assert verified(tmp_path, proof_of(tree_of([(7, 1)]), "1001"), *options)[0] == code


def test_what_is_no_proof_is_not_checked(tmp_path: Path) -> None:
    shapes: list[dict[str, Any]] = [{}, {"reconciliation": {}, "proof": {}}, {"reconciliation": [], "proof": 5}]
    for nonsense in shapes:
        assert verified(tmp_path, nonsense)[0] == verifier.UNCHECKED


def test_a_reconciliation_is_read_as_it_was_written() -> None:
    found = reconciled(tree_of([(7, 1), (2, 2)]))
    assert reconciliation_of(found.text()) == found
    assert found.digest == hashlib.sha256(b"\x03" + found.text().encode()).digest()


def test_the_selectors_are_of_the_contracts_functions() -> None:
    assert {name: "0x" + keccak(text=name)[:4].hex() for name in verifier.SELECTORS} == verifier.SELECTORS
