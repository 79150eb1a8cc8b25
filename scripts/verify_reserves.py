#!/usr/bin/env python3
"""Checks that an account is among those whom the vault owes, and that the vault has what it owes: with nothing of ours.

    verify_reserves.py PROOF.json [--account N] [--rpc URL] [--contract ADDRESS] [--digest HEX]

PROOF.json is what `POST /api/v1/liabilities/query` answers (SettlementService.GetLiabilityProof). With `--rpc` the
chain is asked, at the block that the proof names: the contract must have settled what the proof says, the account must
have there what the proof says, and of each token the contract must hold no less than all are owed together. Nodes keep
the states of their last 128 blocks or so: check a fresh proof, or ask an archive node. Compare the digest with others,
and with what `GET /api/v1/reconciliation` tells everybody: who has the same digest was shown the same tree.

Only the standard library is used. docs/settlement.md explains the tree.

Exit: 0 all holds, 1 something does not, 2 it cannot be checked.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.request import Request, urlopen

HOLDS, REFUTED, UNCHECKED = 0, 1, 2
RPC_SECONDS_MAX: Final = 20
ANSWER_BYTES_MAX: Final = 10_000_000
LEAF, NODE, RECONCILIATION = b"\x00", b"\x01", b"\x03"
SELECTORS: Final = {
    "settledThrough(uint64)": "0x00452aab",
    "asset_of(address)": "0xeceb82cd",
    "balances(bytes32,address)": "0xd93d7361",
    "balanceOf(address)": "0x70a08231",
}
"""The first four bytes of the Keccak-256 of each: the standard library has no Keccak."""
_AMOUNT: Final = re.compile(r"[0-9]{1,78}", re.ASCII)
_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


class Refuted(Exception):
    """The proof, or what it says of the chain, is wrong."""


class Unchecked(Exception):
    """It cannot be told: the file or the node gives no usable answer."""


class Node(NamedTuple):
    """A hash and the sums below it, by asset."""

    digest: bytes
    sums: list[int]


class Proof(NamedTuple):
    """A file's content, its numbers read."""

    header: Mapping[str, Any]
    assets: list[str]
    tokens: list[str]
    liabilities: list[int]
    reserves: list[int]
    holder: str
    salt: bytes
    amounts: list[int]
    place: int
    path: list[Node]


def amount_of(text: object) -> int:
    """Base units: never negative, and no more than a uint256 holds."""
    if not isinstance(text, str) or not _AMOUNT.fullmatch(text) or int(text) >= 1 << 256:
        raise Refuted(f"{str(text)[:90]!r} is no amount of base units")
    return int(text)


def hash_of(text: object) -> bytes:
    """32 bytes in hexadecimal digits."""
    if not isinstance(text, str) or not _HASH.fullmatch(text):
        raise Refuted(f"{str(text)[:90]!r} is no hash")
    return bytes.fromhex(text)


def read(content: Mapping[str, Any]) -> Proof:
    """What a file says. JSON leaves out what is zero or empty."""
    header, proof = content["reconciliation"], content["proof"]
    reserves = header["reserves"]
    return Proof(
        header,
        [str(each["asset"]) for each in reserves],
        [str(each["token"]) for each in reserves],
        [amount_of(each["liabilities"]) for each in reserves],
        [amount_of(each["reserves"]) for each in reserves],
        str(proof["holder"]),
        hash_of(proof["salt"]),
        [amount_of(each) for each in proof["amounts"]],
        amount_of(proof.get("leaf_index", "0")),
        [
            Node(hash_of(each["digest"]), [amount_of(amount) for amount in each["sums"]])
            for each in proof.get("path", ())
        ],
    )


def encoded(amounts: Sequence[int]) -> bytes:
    """32 bytes each, big-endian."""
    return b"".join(amount.to_bytes(32, "big") for amount in amounts)


def joined(left: Node, right: Node) -> Node:
    """The parent: its hash covers each child's hash and sums by themselves."""
    sums = [one + other for one, other in zip(left.sums, right.sums, strict=True)]
    if any(each >= 1 << 256 for each in sums):
        raise Refuted("a sum overflows")
    covered = NODE + left.digest + encoded(left.sums) + right.digest + encoded(right.sums)
    return Node(hashlib.sha256(covered).digest(), sums)


def root_of(proof: Proof) -> Node:
    """Where the path leads."""
    holder = proof.holder.encode("ascii")
    leaf = LEAF + proof.salt + len(holder).to_bytes(1, "big") + holder + encoded(proof.amounts)
    node, place = Node(hashlib.sha256(leaf).digest(), proof.amounts), proof.place
    for other in proof.path:
        node = joined(other, node) if place & 1 else joined(node, other)
        place >>= 1
    return node


def digest_of(header: Mapping[str, Any]) -> str:
    """The digest that a reconciliation's fields make: of one JSON object, keys in order, no spaces."""
    names = (
        *("index", "previous", "chain_id", "contract", "shard", "block_number", "block_hash", "settlement_sequence"),
        *("deposit_index", "claim_index", "leaves", "root", "time_ns"),
    )
    content: dict[str, Any] = {name: str(header.get(name, "0")) for name in names}
    content["reserves"] = [
        [each["asset"], each["token"], each["liabilities"], each["reserves"]] for each in header["reserves"]
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(RECONCILIATION + text.encode()).hexdigest()


def check_tree(proof: Proof) -> None:
    """Raises Refuted unless the leaf is in the tree, and the tree is what was published."""
    width = len(proof.assets)
    if any(len(sums) != width for sums in (proof.amounts, *(node.sums for node in proof.path))):
        raise Refuted("not every node has an amount of each asset")
    if len(set(proof.assets)) != width or len({token.lower() for token in proof.tokens}) != width:
        raise Refuted("an asset or a token is named twice")
    leaves = int(proof.header["leaves"])
    if not proof.place < leaves or len(proof.path) != (leaves - 1).bit_length():
        raise Refuted(f"place {proof.place} under {len(proof.path)} nodes is in no tree of {leaves} leaves")
    root = root_of(proof)
    if root.digest != hash_of(proof.header["root"]):
        raise Refuted("the path leads to another root than the published one")
    if root.sums != proof.liabilities:
        raise Refuted("the sums at the root are not the published liabilities")
    if digest_of(proof.header) != proof.header["digest"]:
        raise Refuted("the reconciliation's digest is not that of its fields")
    for asset, owed, held in zip(proof.assets, proof.liabilities, proof.reserves, strict=True):
        if held < owed:
            raise Refuted(f"{owed} of {asset} are owed and {held} are there, by its own words")


class Chain:
    """A node, asked as of one block."""

    def __init__(self, url: str, block: int) -> None:
        self._url, self._block = url, hex(block)

    def ask(self, method: str, *params: Any) -> Any:
        """A JSON-RPC answer. Raises Unchecked."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        try:
            with urlopen(
                Request(self._url, body, {"content-type": "application/json"}),
                timeout=RPC_SECONDS_MAX,
            ) as answer:
                reply = json.loads(answer.read(ANSWER_BYTES_MAX))
        except (OSError, ValueError) as error:
            raise Unchecked(f"{method}: {error}") from None
        if not isinstance(reply, dict) or reply.get("result") is None:
            why = reply.get("error") if isinstance(reply, dict) else reply
            raise Unchecked(f"{method}: {why} (has the node still the state of block {int(self._block, 16)}?)")
        return reply["result"]

    def call(self, to: str, function: str, *words: int) -> int:
        """A call that returns one word."""
        data = SELECTORS[function] + "".join(f"{word:064x}" for word in words)
        answer = str(self.ask("eth_call", {"to": to, "data": data}, self._block))
        if len(answer) != 2 + 64:
            raise Unchecked(f"{function} of {to} gave no number: {answer[:80]!r}")
        return int(answer, 16)

    def block_hash(self) -> str:
        """Of the block."""
        return str(self.ask("eth_getBlockByNumber", self._block, False)["hash"])


def check_chain(proof: Proof, chain: Chain) -> None:
    """Raises Refuted unless the chain says the same. Unchecked: it says nothing."""
    header, contract = proof.header, str(proof.header["contract"])
    if not all(_ADDRESS.fullmatch(each) for each in (contract, *proof.tokens)):
        raise Refuted("a contract or token is no address")

    def same(what: str, there: object, here: object) -> None:
        if there != here:
            raise Refuted(f"{what} is {there} on chain, {here} in the proof")

    same("the chain", int(chain.ask("eth_chainId"), 16), int(header["chain_id"]))
    same("the block's hash", chain.block_hash(), header["block_hash"])
    settled = chain.call(contract, "settledThrough(uint64)", int(header.get("shard", "0")))
    same("the last settled entry", settled, int(header.get("settlement_sequence", "0")))
    for place, (asset, token) in enumerate(zip(proof.assets, proof.tokens, strict=True)):
        listed = chain.call(contract, "asset_of(address)", int(token, 16)).to_bytes(32, "big").rstrip(b"\0")
        same(f"the asset of {token}", listed.decode("ascii", "replace"), asset)
        held = chain.call(token, "balanceOf(address)", int(contract, 16))
        if held < proof.liabilities[place]:
            raise Refuted(f"{proof.liabilities[place]} of {asset} are owed, and the contract holds {held}")
        same(f"what the contract holds of {asset}", held, proof.reserves[place])
        if not proof.holder.startswith("0x"):
            mine = chain.call(contract, "balances(bytes32,address)", int(proof.holder), int(token, 16))
            same(f"the account's {asset}", mine, proof.amounts[place])


def check(proof: Proof, options: argparse.Namespace, say: Callable[[str], object]) -> None:
    """Everything that is asked for. Raises Refuted, Unchecked."""
    check_tree(proof)
    if options.account not in {None, proof.holder}:
        raise Refuted(f"it is the proof of {proof.holder}, not of {options.account}")
    if options.digest not in {None, proof.header["digest"]}:
        raise Refuted(f"the digest is {proof.header['digest']}")
    if options.contract is not None and options.contract.lower() != str(proof.header["contract"]).lower():
        raise Refuted(f"the contract is {proof.header['contract']}")
    say(f"account {proof.holder} is owed, in base units, at block {proof.header['block_number']}:")
    for asset, amount, owed in zip(proof.assets, proof.amounts, proof.liabilities, strict=True):
        say(f"  {asset}: {amount}, of {owed} that all {proof.header['leaves']} are owed")
    say(f"digest {proof.header['digest']}")
    if options.rpc is None:
        say("the chain was not asked (--rpc)")
        return
    check_chain(proof, Chain(options.rpc, int(proof.header["block_number"])))
    say(f"contract {proof.header['contract']} holds at least that, and has the account's balances")


def main(arguments: Sequence[str], say: Callable[[str], object] = print) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description="Check a proof of liabilities, and the reserves on chain.")
    parser.add_argument("proof", type=Path, help="the answer of POST /api/v1/liabilities/query, as a file")
    parser.add_argument("--account", help="whose it must be")
    parser.add_argument("--rpc", help="a node's URL")
    parser.add_argument("--contract", help="the contract's address that it must be of")
    parser.add_argument("--digest", help="the digest that others were told")
    options = parser.parse_args(arguments)
    try:
        proof = read(json.loads(options.proof.read_text(encoding="utf-8")))
        check(proof, options, say)
    except Refuted as wrong:
        say(f"REFUTED: {wrong}")
        return REFUTED
    except Unchecked as unknown:
        say(f"NOT CHECKED: {unknown}")
        return UNCHECKED
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        say(f"NOT CHECKED: {options.proof} is no proof: {error!r}")
        return UNCHECKED
    say("PROVEN" if options.rpc else "PROVEN, as far as it can be without the chain")
    return HOLDS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
