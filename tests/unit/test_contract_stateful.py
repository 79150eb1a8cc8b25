"""The contract against a model of it, by random walks: conservation, no underflow, no replay, no skip, roles, exits.

The last of its tokens takes a fee of each transfer, and calls back in the middle of it.
CLEARBOOK_CONTRACT_CASES raises the number of walks for the long run (scripts/soak).
"""

import os
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from services.settler.contract import (
    Delta,
    LegRefused,
    Link,
    NotNext,
    SettleLists,
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

ADMIN, SETTLER, USER, STRANGER, PAUSER = (address(n) for n in range(5))
INSURANCE = account_key(3)
USERS = [account_key(n) for n in (1001, 1002)]
ACCOUNTS = [account_key(1), INSURANCE, *USERS]
DECIMALS = (0, 6, 18)
HOSTILE = len(DECIMALS)
FEE_PPM = 10_000
EXIT_DELAY = 3600
SHARDS = (0, 3)
WALLETS = [address(n) for n in (5, 6)]

CASES = int(os.environ.get("CLEARBOOK_CONTRACT_CASES", "20"))

tokens = st.integers(0, HOSTILE)
accounts = st.sampled_from(ACCOUNTS)
users = st.sampled_from(USERS)
shards = st.sampled_from(SHARDS)
amounts = st.one_of(st.integers(1, 20), st.integers(1, 2_000), st.integers(1, 2**200))
transfers = st.tuples(tokens, accounts, accounts, amounts)
wallets = st.sampled_from(WALLETS)
payouts = st.tuples(tokens, accounts, wallets, amounts)
links = st.lists(st.tuples(users, wallets), max_size=2)


def fee(token: int, amount: int) -> int:
    return amount * FEE_PPM // 1_000_000 if token == HOSTILE else 0


class ContractWalk(RuleBasedStateMachine):
    @initialize(leaving=st.integers(0, 2))
    def deploy(self, leaving: int) -> None:
        """Everybody has something. `leaving`: so many accounts may exit from the beginning."""
        self.evm = Evm()
        self.book = self.evm.deploy("Clearbook", ADMIN, SETTLER, PAUSER, EXIT_DELAY, 0)
        self.tokens: list[Contract] = []
        for number, decimals in enumerate(DECIMALS):
            token = self.evm.deploy("TestToken", ADMIN, f"T{number}", f"T{number}", decimals)
            self.book.send(ADMIN, "list_token", asset_key(f"T{number}"), token.address)
            self.tokens.append(token)
        hostile = self.evm.deploy("testing/HostileToken", ADMIN)
        hostile.send(ADMIN, "set_fee", FEE_PPM)
        self.book.send(ADMIN, "list_token", asset_key("BAD"), hostile.address)
        hostile.send(ADMIN, "mint", hostile.address, 2**255)
        attack = self.book.calldata("deposit", INSURANCE, hostile.address, 1)
        hostile.send(ADMIN, "set_attack", self.book.address, attack)
        self.tokens.append(hostile)
        self.owners: dict[bytes, str] = {}
        self.exit_ready_at: dict[bytes, int] = {}
        self.exited: set[bytes] = set()
        self.held: dict[tuple[int, bytes], int] = {}
        self.through = dict.fromkeys(SHARDS, 0)
        self.chain = dict.fromkeys(SHARDS, bytes(32))
        self.settled: list[tuple[int, int, int, SettleLists]] = []
        self.claimable: dict[tuple[int, str], int] = {}
        self.claims = 0
        self.paused = False
        self.deposits = 0
        for account in ACCOUNTS:
            for coin in range(len(self.tokens)):
                self.deposit(coin, account, 1_000)
        for shard, account, wallet in zip(SHARDS, USERS, WALLETS, strict=True):
            self.settle(shard, 1, [], [], [(account, wallet)], 1)
        for account, wallet in zip(USERS[:leaving], WALLETS, strict=False):
            self.request_exit(account, wallet)
        self.wait(EXIT_DELAY)

    def teardown(self) -> None:
        if hasattr(self, "deposits"):
            self.look()

    @rule()
    def look(self) -> None:
        """Everything is as the model says: at the end of each walk, and here and there in its middle."""
        self.ledger_is_the_models()
        self.owners_are_the_models()
        self.cursor_is_the_models()

    def refused(self, sender: str, function: str, *args: Any) -> Refused:
        with pytest.raises(Refused) as caught:
            self.book.send(sender, function, *args)
        return caught.value

    @rule(token=tokens, account=accounts, amount=amounts)
    def deposit(self, token: int, account: bytes, amount: int) -> None:
        coin = self.tokens[token]
        coin.send(ADMIN, "mint", USER, amount)
        if token != HOSTILE:
            coin.send(USER, "approve", self.book.address, amount)
        arrives = amount - fee(token, amount)
        if self.paused:
            assert self.refused(USER, "deposit", account, coin.address, amount).reason == "paused"
            return
        if account in self.exited:
            assert self.refused(USER, "deposit", account, coin.address, amount).reason == "account has exited"
            return
        ((_, log),) = self.book.send(USER, "deposit", account, coin.address, amount)
        self.deposits += 1
        assert (log["index"], log["amount"]) == (self.deposits, arrives)
        self.held[token, account] = self.held.get((token, account), 0) + arrives

    @rule(
        shard=shards,
        length=st.integers(1, 5),
        moves=st.lists(transfers, max_size=6),
        outs=st.lists(payouts, max_size=2),
        linked=links,
        sender=st.integers(0, 9),
    )
    def settle(
        self,
        shard: int,
        length: int,
        moves: list[tuple[int, bytes, bytes, int]],
        outs: list[tuple[int, bytes, str, int]],
        linked: list[tuple[bytes, str]],
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
        owners = [Link(account, owner) for account, owner in linked]
        given = settle_lists(deltas, withdrawals, owners)
        if sender == 0:
            assert self.refused(STRANGER, "settle", shard, first, last, *given).reason == "not the settler"
            return
        if self.paused:
            assert self.refused(SETTLER, "settle", shard, first, last, *given).reason == "paused"
            return
        after, named = self.applied(sort_deltas(deltas, withdrawals))
        if named is not None:
            decoded = decode_revert(self.refused(SETTLER, "settle", shard, first, last, *given).data)
            assert isinstance(decoded, _RefusedLeg)
            assert decoded.leg == named
            return
        self.book.send(SETTLER, "settle", shard, first, last, *given)
        for key, amount in out.items():
            self.claimable[key] = self.claimable.get(key, 0) + amount
        self.held = after
        for account, owner in linked:
            self.owners.setdefault(account, owner)
        self.through[shard] = last
        self.chain[shard] = chained_hash(self.chain[shard], shard, first, last, deltas, withdrawals, owners)
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
        assert coin.get("balanceOf", wallet) == before + amount - fee(token, amount)

    def applied(self, deltas: list[Delta]) -> tuple[dict[tuple[int, bytes], int], LegRefused | None]:
        """The ledger after these legs, and the first, in the contract's order, that leaves its account below zero.

        Insurance's, with all that falls to it, is a token's last.
        """
        index = {token.address: number for number, token in enumerate(self.tokens)}
        after = dict(self.held)
        for token, legs in groupby(deltas, lambda delta: delta.token):
            insured = 0
            for delta in legs:
                if delta.account in {INSURANCE, *self.exited}:
                    insured += delta.amount
                    continue
                if self.moved(after, (index[token], delta.account), delta.amount) < 0:
                    return after, LegRefused(delta.account, token)
            if self.moved(after, (index[token], INSURANCE), insured) < 0:
                return after, LegRefused(INSURANCE, token)
        return after, None

    @staticmethod
    def moved(ledger: dict[tuple[int, bytes], int], key: tuple[int, bytes], amount: int) -> int:
        ledger[key] = ledger.get(key, 0) + amount
        return ledger[key]

    @rule(account=users, wallet=wallets)
    def request_exit(self, account: bytes, wallet: str) -> None:
        if self.owners.get(account) != wallet:
            assert self.refused(wallet, "request_exit", account).reason == "not the owner"
        elif account in self.exit_ready_at:
            assert self.refused(wallet, "request_exit", account).reason == "exit is requested"
        else:
            self.book.send(wallet, "request_exit", account)
            self.exit_ready_at[account] = self.evm.now + EXIT_DELAY

    @rule(account=users, wallet=wallets)
    def cancel_exit(self, account: bytes, wallet: str) -> None:
        if self.owners.get(account) != wallet:
            assert self.refused(wallet, "cancel_exit", account).reason == "not the owner"
        elif account not in self.exit_ready_at:
            assert self.refused(wallet, "cancel_exit", account).reason == "no exit is requested"
        elif account in self.exited:
            assert self.refused(wallet, "cancel_exit", account).reason == "account has exited"
        else:
            self.book.send(wallet, "cancel_exit", account)
            del self.exit_ready_at[account]

    @rule(seconds=st.sampled_from([1, EXIT_DELAY - 1, EXIT_DELAY]))
    def wait(self, seconds: int) -> None:
        self.evm.wait(seconds)

    @precondition(lambda self: self.exit_ready_at)
    @rule(data=st.data(), token=tokens, wallet=wallets)
    def exit(self, data: st.DataObject, token: int, wallet: str) -> None:
        """Paused or not."""
        account, coin = data.draw(st.sampled_from(sorted(self.exit_ready_at))), self.tokens[token]
        amount = self.held.get((token, account), 0)
        if self.owners[account] != wallet:
            assert self.refused(wallet, "exit", account, coin.address).reason == "not the owner"
        elif self.evm.now < self.exit_ready_at[account]:
            assert self.refused(wallet, "exit", account, coin.address).reason == "exit is not ready"
        elif amount == 0:
            assert self.refused(wallet, "exit", account, coin.address).reason == "nothing to take"
        else:
            before = coin.get("balanceOf", wallet)
            ((_, log),) = self.book.send(wallet, "exit", account, coin.address)
            self.claims += 1
            assert (log["index"], log["amount"]) == (self.claims, amount)
            assert coin.get("balanceOf", wallet) == before + amount - fee(token, amount)
            self.held[token, account] = 0
            self.exited.add(account)

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
        decoded = decode_revert(self.refused(SETTLER, "settle", shard, first, first, [], [], []).data)
        assert isinstance(decoded, NotNext)

    @precondition(lambda self: not self.paused)
    @rule(shard=shards, token=tokens, account=accounts, amount=amounts, wallet=st.none() | wallets)
    def conjure(self, shard: int, token: int, account: bytes, amount: int, wallet: str | None) -> None:
        first, coin = self.through[shard] + 1, self.tokens[token].address
        legs = [(account, coin, amount if wallet is None else 0)]
        out = [] if wallet is None else [(coin, wallet, amount)]
        assert (
            self.refused(SETTLER, "settle", shard, first, first, legs, out, []).reason == "token does not sum to zero"
        )

    @rule(paused=st.booleans(), sender=st.sampled_from([ADMIN, ADMIN, PAUSER, STRANGER]))
    def pause(self, paused: bool, sender: str) -> None:
        if sender == ADMIN or (sender == PAUSER and paused):
            self.book.send(sender, "set_paused", paused)
            self.paused = paused
        else:
            assert self.refused(sender, "set_paused", paused).reason == "not the admin"

    def ledger_is_the_models(self) -> None:
        for number, token in enumerate(self.tokens):
            held = [int(self.book.get("balances", account, token.address)) for account in ACCOUNTS]
            assert held == [self.held.get((number, account), 0) for account in ACCOUNTS]
            assert min(held) >= 0
            waiting = [int(self.book.get("claimable", wallet, token.address)) for wallet in WALLETS]
            assert waiting == [self.claimable.get((number, wallet), 0) for wallet in WALLETS]
            assert sum(held) + sum(waiting) == token.get("balanceOf", self.book.address)

    def owners_are_the_models(self) -> None:
        for account in USERS:
            assert self.book.get("owner", account) == self.owners.get(account, "0x" + "00" * 20).lower()
            assert self.book.get("exit_ready_at", account) == self.exit_ready_at.get(account, 0)
            assert self.book.get("exited", account) is (account in self.exited)
        assert self.tokens[HOSTILE].get("successes") == 0

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
