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
        '    assert sum == 0, "token does not sum to zero"\n    if insured',
        "    if insured",
    ),
    "the other tokens' sums are free": (
        '            assert sum == 0, "token does not sum to zero"\n            if',
        "            sum = 0\n            if",
    ),
    "a leg may come twice": ("next_account > account", "next_account >= account"),
    "tokens in any order": ('            assert not started or next_token > token, "legs out of order"\n', ""),
    "a balance may be overdrawn": ("    if owed > held:", "    if owed > held + 1:"),
    "a balance may not be emptied": ("    if owed > held:", "    if owed >= held:"),
    "anybody settles": ('    assert msg.sender == self.holders[SETTLER], "not the settler"\n', ""),
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
    "anybody takes a role": ('    assert msg.sender == self.offered[role], "not offered"\n', ""),
    "an offer is for any role": ("msg.sender == self.offered[role]", "msg.sender == self.offered[0]"),
    "an offer is good twice": ("    self.offered[role] = empty(address)\n", ""),
    "the pauser lifts the pause": ("        assert paused and msg.sender ==", "        assert msg.sender =="),
    "anybody pauses": (
        '        assert paused and msg.sender == self.holders[PAUSER], "not the admin"\n',
        "        pass\n",
    ),
    "a token needs no proposal": ('        assert self.proposed_token[asset] == token, "token is not proposed"\n', ""),
    "a listing does not wait": (
        '        assert block.timestamp >= self.listing_ready_at[asset], "listing is not ready"\n',
        "",
    ),
    "an exit may be as late as the operator likes": (" and exit_delay <= EXIT_DELAY_MAX", ""),
    "the operator takes an account over": ("    if self.owner[link.account] == empty(address):\n", "    if True:\n"),
    "a system account has an owner": ("number > SYSTEM_ACCOUNT_MAX and ", ""),
    "the hash forgets links": ("abi_encode(deltas, withdrawals, links)", "abi_encode(deltas, withdrawals)"),
    "anybody takes an account": ('    assert msg.sender == self.offered_owner[account], "not offered"\n', ""),
    "an account's offer is good twice": ("    self.offered_owner[account] = empty(address)\n", ""),
    "anybody exits": (
        '    assert msg.sender == self.owner[account], "not the owner"\n    ready_at: uint256 = self',
        "    ready_at: uint256 = self",
    ),
    "an exit does not wait": ("ready_at != 0 and block.timestamp >= ready_at", "ready_at != 0"),
    "an exit needs no request": ("ready_at != 0 and block.timestamp >= ready_at", "block.timestamp >= ready_at"),
    "a request is put off for ever": ('    assert self.exit_ready_at[account] == 0, "exit is requested"\n', ""),
    "a request is never taken back": ("    self.exit_ready_at[account] = 0\n", ""),
    "who has exited takes it back": (
        '    assert not self.exited[account], "account has exited"\n    self.exit_ready_at',
        "    self.exit_ready_at",
    ),
    "an exit is paid twice": ("    self.balances[account][token] = 0\n    self.exited", "    self.exited"),
    "exit may be re-entered": ("@external\n@nonreentrant\ndef exit", "@external\ndef exit"),
    "the pause stops exits": (
        '    assert amount > 0, "nothing to take"\n',
        '    assert amount > 0, "nothing to take"\n    assert not self.paused, "paused"\n',
    ),
    "who has exited is settled as ever": ("    self.any_exited = True\n", ""),
    "all are redirected once one has exited": ("redirects and self.exited[delta.account]", "redirects"),
    "what falls to insurance is judged leg by leg": (
        "            insured += delta.amount\n",
        "            self._move(INSURANCE, delta.token, delta.amount)\n",
    ),
    "insurance's own leg is judged by itself": ("if delta.account == INSURANCE or (redirects", "if (redirects"),
    "the last token's insurance is forgotten": (
        "    if insured != 0:\n        self._move(INSURANCE, convert(token, address), insured)\n    assert released",
        "    assert released",
    ),
    "the other tokens' insurance is forgotten": (
        "                self._move(INSURANCE, convert(token, address), insured)\n                insured = 0\n",
        "                insured = 0\n",
    ),
    "insurance is charged again for the next token": ("                insured = 0\n", ""),
    "who has exited takes deposits": (
        '    assert not self.exited[account], "account has exited"\n    before',
        "    before",
    ),
    "exits are not counted": ("Exited(index=self._next_claim()", "Exited(index=self.claim_count"),
    "requests are not counted": ("    self.exit_count += 1\n", ""),
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
    "the hash forgets withdrawals": ("abi_encode(deltas, withdrawals, links)", "abi_encode(deltas, links)"),
    "the claim is paid again": ("    self.claimable[msg.sender][token] = 0\n", ""),
    "claim may be re-entered": ("@external\n@nonreentrant\ndef claim", "@external\ndef claim"),
    "the pause stops claims": (
        '    assert amount > 0, "nothing to claim"\n',
        '    assert amount > 0, "nothing to claim"\n    assert not self.paused, "paused"\n',
    ),
    "claims are not counted": ("    self.claim_count += 1\n", ""),
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

SIGNED_MUTANTS = {
    "signatures of nobody are taken": (
        '    assert ecrecover(order_hash, order.v, order.r, order.s) == signer, "not signed by the owner"\n',
        "",
    ),
    "who has no wallet needs no signature": (
        '    assert signer != empty(address), "account has no owner"\n',
        "",
    ),
    "a signature's twin is taken": ('    assert order.s <= S_MAX, "high s"', "    #"),
    "any contract's signatures": ("chain.id, self))", "chain.id, empty(address)))"),
    "any chain's signatures": ("chain.id, self))", "empty(uint256), self))"),
    "any side": ("                    buys,\n", "                    True,\n"),
    "any base asset": ("                    base,\n", "                    quote,\n"),
    "any account": ("                    order.account,\n", "                    empty(bytes32),\n"),
    "the buyer pays any price": (
        "paid * trade.buy.base_amount <= trade.buy.quote_amount * trade.base_amount,",
        "True,",
    ),
    "the seller gets any price": (
        "paid * trade.sell.base_amount >= trade.sell.quote_amount * trade.base_amount,",
        "True,",
    ),
    "the buyer's fee has no end": (
        "trade.buyer_fee <= self._fee_max(trade.base_amount, trade.buy.fee_max_ppm),",
        "True,",
    ),
    "the seller's fee has no end": (
        "trade.seller_fee <= self._fee_max(paid, trade.sell.fee_max_ppm),",
        "True,",
    ),
    "fees are rounded down": ("(received * ppm + PPM - 1) // PPM", "received * ppm // PPM"),
    "an order is filled without end": ('    assert after <= order.base_amount, "order is filled"\n', ""),
    "fills are not counted": ("    self.filled[order_hash] = after\n", ""),
    "fills do not add up": ("self.filled[order_hash] + base_amount", "base_amount"),
    "orders have no end": ('    assert block.timestamp <= order.expires_at, "order has expired"\n', ""),
    "an order ends a second early": ("block.timestamp <= order.expires_at", "block.timestamp < order.expires_at"),
    "trades of nothing": ('    assert trade.base_amount > 0, "empty trade"', "    #"),
    "the fee is paid by nobody": ("convert(amount - fee, int256)", "convert(amount, int256)"),
    "who takes over an account signs for it": ("    self.first_owner[account] = self._signer(account)\n", ""),
    "who has left is settled one by one as ever": (
        "INSURANCE if redirects and self.exited[account] else account",
        "account",
    ),
    "the hash forgets trades": ("abi_encode(trades, links)", "abi_encode(links)"),
    "anybody settles signed trades": (
        "    self._check_next(shard, first)\n    assert len(trades) > 0",
        "    assert len(trades) > 0",
    ),
}
"""Of these tests/unit/test_contract_signed.py must notice."""

IN_EVERY_RUN = (
    "any batch is next",
    "the other tokens' sums are free",
    "a balance may be overdrawn",
    "deposit may be re-entered",
    "a withdrawal may be left out",
    "claim may be re-entered",
    "exit may be re-entered",
    "an exit does not wait",
    "who has exited is settled as ever",
    "what falls to insurance is judged leg by leg",
    "fills do not add up",
    "any contract's signatures",
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
@pytest.mark.parametrize(
    "name", [*MUTANTS, *SIGNED_MUTANTS] if os.environ.get("CLEARBOOK_SOAK") == "1" else IN_EVERY_RUN
)
def test_a_planted_fault_is_found(builds: Path, name: str) -> None:
    vyper = pytest.importorskip("vyper.compiler")
    before, after = (MUTANTS | SIGNED_MUTANTS)[name]
    tests = f"tests/unit/test_contract{'_signed' if name in SIGNED_MUTANTS else ''}.py"
    assert before in SOURCE, "the mutant no longer fits the source"
    built = vyper.compile_code(SOURCE.replace(before, after), output_formats=["abi", "bytecode"])
    (builds / "Clearbook.json").write_text(json.dumps(built), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
    done = subprocess.run(
        command, cwd=ROOT, env=nested.environment(CLEARBOOK_CONTRACTS=str(builds)), capture_output=True, check=False
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, f"nobody noticed: {name}"
