"""The checkers bite: for each fault planted in the contract's source, its tests fail.

A few are planted in every run, all of them with CLEARBOOK_SOAK=1 (scripts/soak).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import nested

ROOT = Path(__file__).resolve().parents[2]
SOURCE = (ROOT / "contracts" / "Clearbook.vy").read_text(encoding="utf-8")

MUTANTS = {
    "any batch is next": ("    if first != expected:", "    if first < expected:"),
    "a batch is settled again": ("    if first != expected:", "    if first > expected:"),
    "the cursor stands still": ("    self.settledThrough[shard] = last\n", ""),
    "one cursor for all shards": ("self.settledThrough[shard]", "self.settledThrough[0]"),
    "last may be before first": ('    assert last >= first, "last before first"\n', ""),
    "the last token's sum is free": (
        '        self._move(delta)\n    assert sum == 0, "token does not sum to zero"\n',
        "        self._move(delta)\n",
    ),
    "the other tokens' sums are free": (
        '            assert sum == 0, "token does not sum to zero"\n            #',
        "            sum = 0\n            #",
    ),
    "a leg may come twice": ("next_account > account", "next_account >= account"),
    "tokens in any order": ('            assert not started or next_token > token, "legs out of order"\n', ""),
    "a balance may be overdrawn": ("    if owed > held:", "    if owed > held + 1:"),
    "a balance may not be emptied": ("    if owed > held:", "    if owed >= held:"),
    "anybody settles": ('    assert msg.sender == self.settler, "not the settler"\n', ""),
    "the pause does not stop settle": (
        '"not the settler"\n    assert not self.paused, "paused"\n',
        '"not the settler"\n',
    ),
    "what was asked for is credited": (
        "self.balances[account][token] += received",
        "self.balances[account][token] += amount",
    ),
    "deposit may be re-entered": ("@external\n@nonreentrant\ndef deposit", "@external\ndef deposit"),
    "unlisted tokens are taken": ('    assert self.asset_of[token] != empty(bytes32), "token is not listed"\n', ""),
    "an asset may be relisted": ('    assert self.token_of[asset] == empty(address), "asset is listed"\n', ""),
    "anybody takes the admin's role": ('    assert msg.sender == self.offered_admin, "not offered"\n', ""),
    "a withdrawal is paid for by nobody": ("                sum += convert(withdrawal.amount, int256)\n", ""),
    "a withdrawal replaces an older one": (
        "self.claimable[withdrawal.to][withdrawal.token] += withdrawal.amount",
        "self.claimable[withdrawal.to][withdrawal.token] = withdrawal.amount",
    ),
    "a withdrawal may be left out": (
        '    assert released == len(withdrawals), "withdrawals out of order"\n',
        "",
    ),
    "a withdrawal may come twice": (
        "convert(withdrawal.to, uint256) > to",
        "convert(withdrawal.to, uint256) >= to",
    ),
    "a withdrawal of nothing": ('                assert withdrawal.amount > 0, "empty withdrawal"\n', ""),
    "the hash forgets withdrawals": ("abi_encode(deltas, withdrawals)", "abi_encode(deltas)"),
    "the claim is paid again": ("    self.claimable[msg.sender][token] = 0\n", ""),
    "claim may be re-entered": ("@external\n@nonreentrant\ndef claim", "@external\ndef claim"),
    "the pause stops claims": (
        '    assert amount > 0, "nothing to claim"\n',
        '    assert amount > 0, "nothing to claim"\n    assert not self.paused, "paused"\n',
    ),
    "claims are not counted": ("    self.claim_count = index\n", ""),
    "a refused transfer is a claim": (
        "    assert extcall IERC20(token).transfer(msg.sender, amount, default_return_value=True)"
        ', "transfer refused"\n',
        "    done: bool = extcall IERC20(token).transfer(msg.sender, amount, default_return_value=True)\n",
    ),
    "any bytes are an account": (
        " and convert(account, uint256) <= ACCOUNT_MAX",
        "",
    ),
    "the chain of batches forgets its past": (
        "abi_encode(self.batch_hash[shard], shard",
        "abi_encode(empty(bytes32), shard",
    ),
}


IN_EVERY_RUN = (
    "any batch is next",
    "the other tokens' sums are free",
    "a balance may be overdrawn",
    "deposit may be re-entered",
    "a withdrawal may be left out",
    "claim may be re-entered",
)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contracts")
    (folder / "testing").mkdir()
    for path in (ROOT / "contracts").rglob("*.json"):
        target = folder / path.relative_to(ROOT / "contracts")
        target.write_bytes(path.read_bytes())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS if os.environ.get("CLEARBOOK_SOAK") == "1" else IN_EVERY_RUN)
def test_a_planted_fault_is_found(builds: Path, name: str) -> None:
    vyper = pytest.importorskip("vyper.compiler")
    before, after = MUTANTS[name]
    assert before in SOURCE, "the mutant no longer fits the source"
    built = vyper.compile_code(SOURCE.replace(before, after), output_formats=["abi", "bytecode"])
    (builds / "Clearbook.json").write_text(json.dumps(built), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/unit/test_contract.py"]
    done = subprocess.run(
        command, cwd=ROOT, env=nested.environment(CLEARBOOK_CONTRACTS=str(builds)), capture_output=True, check=False
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, f"nobody noticed: {name}"
