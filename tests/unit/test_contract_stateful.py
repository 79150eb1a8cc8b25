"""The contract against a model of it, by random walks: conservation, no underflow, no replay, no skip.

CLEARBOOK_CONTRACT_CASES raises the number of walks for the long run (scripts/soak).
"""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.settler.contract import (
    Delta,
    LegRefused,
    NotNext,
    Withdrawal,
    _RefusedLeg,
    account_key,
    asset_key,
    chained_hash,
    decode_revert,
    settle_lists,
    sort_deltas,
)
from tests.unit.evm import Contract, Evm, Refused, address

ADMIN, SETTLER, USER, STRANGER = (address(n) for n in range(4))
ACCOUNTS = [account_key(n) for n in (1, 2, 1001, 1002)]
DECIMALS = (0, 6, 18)
SHARDS = (0, 3)
WALLETS = [address(n) for n in (5, 6)]

CASES = int(os.environ.get("CLEARBOOK_CONTRACT_CASES", "20"))

tokens = st.integers(0, len(DECIMALS) - 1)
accounts = st.sampled_from(ACCOUNTS)
shards = st.sampled_from(SHARDS)
amounts = st.one_of(st.integers(1, 20), st.integers(1, 2**200))
transfers = st.tuples(tokens, accounts, accounts, amounts)
wallets = st.sampled_from(WALLETS)
payouts = st.tuples(tokens, accounts, wallets, amounts)


Lists = tuple[list[tuple[bytes, str, int]], list[tuple[str, str, int]]]


class ContractWalk(RuleBasedStateMachine):
    @initialize()
    def deploy(self) -> None:
        self.evm = Evm()
        self.book = self.evm.deploy("Clearbook", ADMIN, SETTLER)
        self.tokens: list[Contract] = []
        for number, decimals in enumerate(DECIMALS):
            token = self.evm.deploy("TestToken", ADMIN, f"T{number}", f"T{number}", decimals)
            self.book.send(ADMIN, "list_token", asset_key(f"T{number}"), token.address)
            self.tokens.append(token)
        self.held: dict[tuple[int, bytes], int] = {}
        self.through = dict.fromkeys(SHARDS, 0)
        self.chain = dict.fromkeys(SHARDS, bytes(32))
        self.settled: list[tuple[int, int, int, Lists]] = []
        self.claimable: dict[tuple[int, str], int] = {}
        self.claims = 0
        self.paused = False
        self.deposits = 0

    def refused(self, sender: str, function: str, *args: Any) -> Refused:
        with pytest.raises(Refused) as caught:
            self.book.send(sender, function, *args)
        return caught.value

    @rule(token=tokens, account=accounts, amount=amounts)
    def deposit(self, token: int, account: bytes, amount: int) -> None:
        coin = self.tokens[token]
        coin.send(ADMIN, "mint", USER, amount)
        coin.send(USER, "approve", self.book.address, amount)
        if self.paused:
            assert self.refused(USER, "deposit", account, coin.address, amount).reason == "paused"
            return
        ((_, log),) = self.book.send(USER, "deposit", account, coin.address, amount)
        self.deposits += 1
        assert (log["index"], log["amount"]) == (self.deposits, amount)
        self.held[token, account] = self.held.get((token, account), 0) + amount

    @rule(
        shard=shards,
        length=st.integers(1, 5),
        moves=st.lists(transfers, max_size=6),
        outs=st.lists(payouts, max_size=2),
        sender=st.integers(0, 9),
    )
    def settle(
        self,
        shard: int,
        length: int,
        moves: list[tuple[int, bytes, bytes, int]],
        outs: list[tuple[int, bytes, str, int]],
        sender: int,
    ) -> None:
        net: dict[tuple[int, bytes], int] = {}
        out: dict[tuple[int, str], int] = {}
        for token, payer, wallet, amount in outs:
            net[token, payer] = net.get((token, payer), 0) - amount
            out[token, wallet] = out.get((token, wallet), 0) + amount
        for token, payer, payee, amount in moves:
            net[token, payer] = net.get((token, payer), 0) - amount
            net[token, payee] = net.get((token, payee), 0) + amount
        withdrawals = [
            Withdrawal(self.tokens[token].address, wallet, amount) for (token, wallet), amount in out.items()
        ]
        deltas = [Delta(who, self.tokens[token].address, amount) for (token, who), amount in net.items()]
        first, last = self.through[shard] + 1, self.through[shard] + length
        given = settle_lists(deltas, withdrawals)
        if sender == 0:
            assert self.refused(STRANGER, "settle", shard, first, last, *given).reason == "not the settler"
            return
        if self.paused:
            assert self.refused(SETTLER, "settle", shard, first, last, *given).reason == "paused"
            return
        after = {key: self.held.get(key, 0) + amount for key, amount in net.items()}
        if min(after.values(), default=0) < 0:
            refused = self.refused(SETTLER, "settle", shard, first, last, *given)
            self.expect_named_leg(refused, sort_deltas(deltas, withdrawals), after)
            return
        self.book.send(SETTLER, "settle", shard, first, last, *given)
        for key, amount in out.items():
            self.claimable[key] = self.claimable.get(key, 0) + amount
        self.held |= after
        self.through[shard] = last
        self.chain[shard] = chained_hash(self.chain[shard], shard, first, last, deltas, withdrawals)
        self.settled.append((shard, first, last, given))

    @rule(token=tokens, wallet=wallets)
    def claim(self, token: int, wallet: str) -> None:
        """Paused or not."""
        coin, amount = self.tokens[token], self.claimable.pop((token, wallet), 0)
        if amount == 0:
            assert self.refused(wallet, "claim", coin.address).reason == "nothing to claim"
            return
        before = coin.get("balanceOf", wallet)
        ((_, log),) = self.book.send(wallet, "claim", coin.address)
        self.claims += 1
        assert (log["index"], log["amount"]) == (self.claims, amount)
        assert coin.get("balanceOf", wallet) == before + amount

    def expect_named_leg(self, error: Refused, deltas: list[Delta], after: dict[tuple[int, bytes], int]) -> None:
        """The first leg, in the contract's order, that leaves its account below zero."""
        index = {token.address: number for number, token in enumerate(self.tokens)}
        named = next(d for d in deltas if after[index[d.token], d.account] < 0)
        decoded = decode_revert(error.data)
        assert isinstance(decoded, _RefusedLeg)
        assert decoded.leg == LegRefused(named.account, named.token)

    @precondition(lambda self: self.settled and not self.paused)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        shard, first, last, given = data.draw(st.sampled_from(self.settled))
        decoded = decode_revert(self.refused(SETTLER, "settle", shard, first, last, *given).data)
        assert isinstance(decoded, NotNext)
        assert decoded.expected == self.through[shard] + 1

    @precondition(lambda self: not self.paused)
    @rule(shard=shards, gap=st.integers(1, 3))
    def skip(self, shard: int, gap: int) -> None:
        first = self.through[shard] + 1 + gap
        decoded = decode_revert(self.refused(SETTLER, "settle", shard, first, first, [], []).data)
        assert isinstance(decoded, NotNext)

    @precondition(lambda self: not self.paused)
    @rule(shard=shards, token=tokens, account=accounts, amount=amounts, wallet=st.none() | wallets)
    def conjure(self, shard: int, token: int, account: bytes, amount: int, wallet: str | None) -> None:
        first, coin = self.through[shard] + 1, self.tokens[token].address
        legs = [(account, coin, amount if wallet is None else 0)]
        out = [] if wallet is None else [(coin, wallet, amount)]
        assert self.refused(SETTLER, "settle", shard, first, first, legs, out).reason == "token does not sum to zero"

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.book.send(ADMIN, "set_paused", paused)
        self.paused = paused

    @invariant()
    def ledger_is_the_models(self) -> None:
        for number, token in enumerate(self.tokens):
            held = [int(self.book.get("balances", account, token.address)) for account in ACCOUNTS]
            assert held == [self.held.get((number, account), 0) for account in ACCOUNTS]
            assert min(held) >= 0
            waiting = [int(self.book.get("claimable", wallet, token.address)) for wallet in WALLETS]
            assert waiting == [self.claimable.get((number, wallet), 0) for wallet in WALLETS]
            assert sum(held) + sum(waiting) == token.get("balanceOf", self.book.address)

    @invariant()
    def cursor_is_the_models(self) -> None:
        for shard in SHARDS:
            assert self.book.get("settledThrough", shard) == self.through[shard]
            assert self.book.get("batch_hash", shard) == self.chain[shard]


TestContractWalk = pytest.mark.timeout(60 + 10 * CASES)(ContractWalk.TestCase)
TestContractWalk.settings = settings(
    max_examples=CASES,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
