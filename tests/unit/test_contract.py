"""The settlement contract's rules, on its bytecode: a table for each function."""

from dataclasses import dataclass
from typing import Any

import pytest

from services.settler.contract import (
    LINKS_MAX,
    VERSION,
    WITHDRAWALS_MAX,
    Delta,
    LegRefused,
    Link,
    NotNext,
    Withdrawal,
    _RefusedLeg,
    account_key,
    asset_key,
    chained_hash,
    decode_revert,
    settle_lists,
    sort_deltas,
    sort_withdrawals,
)
from tests.unit.evm import Contract, Evm, Refused, address

ADMIN, SETTLER, USER, STRANGER, PAUSER = (address(n) for n in range(5))
ROLES = {"admin": 0, "settler": 1, "pauser": 2}
EXIT_DELAY = 3600
ALICE, BOB, CAROL, INSURANCE = (account_key(n) for n in (1001, 1002, 1003, 3))
NOBODY = "0x" + "00" * 20
FAR = 2**64 - 1


@dataclass
class World:
    evm: Evm
    book: Contract
    btc: Contract
    usd: Contract

    def deposit(self, token: Contract, account: bytes, amount: int) -> None:
        token.send(ADMIN, "mint", USER, amount)
        token.send(USER, "approve", self.book.address, amount)
        self.book.send(USER, "deposit", account, token.address, amount)

    def settle(self, shard: int, first: int, last: int, *legs: tuple[bytes, Contract, int]) -> list[Any]:
        deltas = sort_deltas(Delta(account, token.address, amount) for account, token, amount in legs)
        return self.settle_as_given(shard, first, last, [(d.account, d.token, d.amount) for d in deltas])

    def settle_as_given(
        self,
        shard: int,
        first: int,
        last: int,
        deltas: list[tuple[bytes, str, int]],
        withdrawals: list[tuple[str, str, int]] | None = None,
        links: list[tuple[bytes, str]] | None = None,
    ) -> list[Any]:
        return self.book.send(SETTLER, "settle", shard, first, last, deltas, withdrawals or [], links or [])

    def next(self) -> int:
        """The entry that shard 0 settles next."""
        return int(self.book.get("settledThrough", 0)) + 1

    def link(self, account: bytes, owner: str) -> list[Any]:
        """The shard's next entry alone."""
        return self.settle_as_given(0, self.next(), self.next(), [], [], [(account, owner)])

    def exit(self, account: bytes, token: Contract, owner: str = USER) -> list[Any]:
        """All of it: link, request, wait, exit."""
        self.link(account, owner)
        self.book.send(owner, "request_exit", account)
        self.evm.wait(EXIT_DELAY)
        return self.book.send(owner, "exit", account, token.address)

    def withdraw(self, account: bytes, token: Contract, to: str, amount: int) -> list[Any]:
        """The shard's next entry alone."""
        first = self.next()
        legs, out = [(account, token.address, -amount)], [(token.address, to, amount)]
        return self.settle_as_given(0, first, first, legs, out)

    def claimable(self, who: str, token: Contract) -> int:
        return int(self.book.get("claimable", who, token.address))

    def balance(self, account: bytes, token: Contract) -> int:
        return int(self.book.get("balances", account, token.address))


@pytest.fixture
def world() -> World:
    return make_world()


def make_world() -> World:
    """A contract with two tokens, and nobody in it yet."""
    evm = Evm()
    book = deploy(evm)
    btc = evm.deploy("TestToken", ADMIN, "Bitcoin", "BTC", 18)
    usd = evm.deploy("TestToken", ADMIN, "Dollar", "USD", 6)
    if int(btc.address, 16) > int(usd.address, 16):
        btc, usd = usd, btc  # so that btc < usd in the contract's order
    book.send(ADMIN, "list_token", asset_key("BTC"), btc.address)
    book.send(ADMIN, "list_token", asset_key("USD"), usd.address)
    return World(evm, book, btc, usd)


def deploy(evm: Evm, listing_delay: int = 0) -> Contract:
    return evm.deploy("Clearbook", ADMIN, SETTLER, PAUSER, EXIT_DELAY, listing_delay)


def refusal(call: Any, *args: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call(*args)
    return caught.value


class TestRoles:
    ROWS = (
        ("propose_token", (asset_key("ETH"), address(5))),
        ("list_token", (asset_key("ETH"), address(5))),
        ("set_paused", (False,)),
        ("offer_role", (0, STRANGER)),
        ("offer_role", (1, STRANGER)),
        ("offer_role", (2, STRANGER)),
    )

    @pytest.mark.parametrize(("function", "args"), ROWS)
    @pytest.mark.parametrize("sender", [SETTLER, STRANGER, PAUSER])
    def test_only_the_admin(self, world: World, function: str, args: tuple[Any, ...], sender: str) -> None:
        assert refusal(world.book.send, sender, function, *args).reason == "not the admin"

    @pytest.mark.parametrize("sender", [ADMIN, STRANGER, PAUSER])
    def test_only_the_settler_settles(self, world: World, sender: str) -> None:
        assert refusal(world.book.send, sender, "settle", 0, 1, 1, [], [], []).reason == "not the settler"

    @pytest.mark.parametrize(("sender", "may"), [(ADMIN, True), (PAUSER, True), (SETTLER, False), (STRANGER, False)])
    def test_who_may_pause(self, world: World, sender: str, may: bool) -> None:
        if may:
            assert world.book.send(sender, "set_paused", True) == [("PauseChanged", {"paused": True})]
        else:
            assert refusal(world.book.send, sender, "set_paused", True).reason == "not the admin"
        assert world.book.get("paused") is may

    @pytest.mark.parametrize("role", ROLES)
    def test_a_hand_over_takes_two_steps(self, world: World, role: str) -> None:
        number, holders = ROLES[role], {"admin": ADMIN, "settler": SETTLER, "pauser": PAUSER}
        assert refusal(world.book.send, STRANGER, "accept_role", number).reason == "not offered"
        (log,) = world.book.send(ADMIN, "offer_role", number, USER)
        assert log == ("RoleOffered", {"role": number, "offered": USER.lower()})
        assert world.book.get(role) == holders[role].lower()
        assert refusal(world.book.send, STRANGER, "accept_role", number).reason == "not offered"
        for other in {0, 1, 2} - {number}:
            assert refusal(world.book.send, USER, "accept_role", other).reason == "not offered"
        (log,) = world.book.send(USER, "accept_role", number)
        assert log == ("RoleChanged", {"role": number, "before": holders[role].lower(), "holder": USER.lower()})
        now = {name: world.book.get(name) for name in ROLES}
        assert now == {name: holder.lower() for name, holder in (holders | {role: USER}).items()}
        assert refusal(world.book.send, USER, "accept_role", number).reason == "not offered"

    def test_an_offer_can_be_withdrawn(self, world: World) -> None:
        world.book.send(ADMIN, "offer_role", 0, USER)
        world.book.send(ADMIN, "offer_role", 0, NOBODY)
        assert refusal(world.book.send, USER, "accept_role", 0).reason == "not offered"
        assert refusal(world.book.send, ADMIN, "offer_role", 3, USER).reason == "no such role"

    def test_what_a_role_could_its_old_holder_cannot(self, world: World) -> None:
        for role in ROLES.values():
            world.book.send(ADMIN, "offer_role", role, STRANGER)
        for role in reversed(ROLES.values()):
            world.book.send(STRANGER, "accept_role", role)
        assert refusal(world.settle, 0, 1, 1).reason == "not the settler"
        assert refusal(world.book.send, PAUSER, "set_paused", True).reason == "not the admin"
        assert refusal(world.book.send, ADMIN, "set_paused", True).reason == "not the admin"
        world.book.send(STRANGER, "settle", 0, 1, 1, [], [], [])
        world.book.send(STRANGER, "set_paused", True)
        world.book.send(STRANGER, "set_paused", False)

    @pytest.mark.parametrize(
        ("args", "reason"),
        [
            ((NOBODY, PAUSER, 3600, 0), "no settler"),
            ((SETTLER, NOBODY, 3600, 0), "no pauser"),
            ((SETTLER, PAUSER, 3599, 0), "exit delay"),
            ((SETTLER, PAUSER, 30 * 86400 + 1, 0), "exit delay"),
            ((SETTLER, PAUSER, 3600, 30 * 86400 + 1), "listing delay"),
            ((SETTLER, PAUSER, 30 * 86400, 30 * 86400), ""),
        ],
    )
    def test_what_it_is_deployed_with(self, args: tuple[Any, ...], reason: str) -> None:
        evm = Evm()
        if reason:
            assert refusal(evm.deploy, "Clearbook", ADMIN, *args).reason == reason
            return
        book = evm.deploy("Clearbook", ADMIN, *args)
        assert (book.get("EXIT_DELAY"), book.get("LISTING_DELAY"), book.get("VERSION")) == (*args[2:], VERSION)


class TestTokens:
    def test_listing_is_for_ever(self, world: World) -> None:
        other = world.evm.deploy("TestToken", ADMIN, "Other", "OTH", 18).address
        rows = [
            (asset_key("BTC"), other, "asset is listed"),
            (asset_key("ETH"), world.btc.address, "token is listed"),
            (asset_key(""), other, "no asset"),
            (asset_key("ETH"), NOBODY, "no token"),
            (asset_key("ETH"), STRANGER, "token is not a contract"),
        ]
        for asset, token, reason in rows:
            assert refusal(world.book.send, ADMIN, "list_token", asset, token).reason == reason
        assert world.book.send(ADMIN, "list_token", asset_key("BTC"), world.btc.address) == []
        assert world.book.get("token_of", asset_key("BTC")) == world.btc.address.lower()
        assert world.book.get("asset_of", world.btc.address) == asset_key("BTC")

    def test_a_token_is_listed_a_delay_after_its_proposal(self) -> None:
        evm = Evm()
        book = deploy(evm, listing_delay=600)
        coin, other = (evm.deploy("TestToken", ADMIN, name, name, 18).address for name in ("COIN", "OTHER"))
        key = asset_key("COIN")
        assert refusal(book.send, ADMIN, "list_token", key, coin).reason == "token is not proposed"
        (log,) = book.send(ADMIN, "propose_token", key, other)
        assert log == ("TokenProposed", {"asset": key, "token": other.lower(), "ready_at": evm.now + 600})
        evm.wait(300)
        book.send(ADMIN, "propose_token", key, coin)  # replaces the older one, and waits anew
        evm.wait(599)
        assert refusal(book.send, ADMIN, "list_token", key, coin).reason == "listing is not ready"
        evm.wait(1)
        assert refusal(book.send, ADMIN, "list_token", key, other).reason == "token is not proposed"
        book.send(ADMIN, "list_token", key, coin)
        assert refusal(book.send, ADMIN, "propose_token", key, other).reason == "asset is listed"

    def test_a_proposal_can_be_withdrawn(self) -> None:
        evm = Evm()
        book = deploy(evm, listing_delay=600)
        coin = evm.deploy("TestToken", ADMIN, "COIN", "COIN", 18).address
        book.send(ADMIN, "propose_token", asset_key("COIN"), coin)
        book.send(ADMIN, "propose_token", asset_key("COIN"), NOBODY)
        evm.wait(600)
        assert refusal(book.send, ADMIN, "list_token", asset_key("COIN"), coin).reason == "token is not proposed"

    def test_an_asset_key_is_left_aligned_ascii(self) -> None:
        assert asset_key("BTC") == b"BTC" + bytes(29)
        with pytest.raises(ValueError, match="longer than 32"):
            asset_key("A" * 33)
        with pytest.raises(UnicodeEncodeError):
            asset_key("БТЦ")


class TestDeposit:
    def test_credits_and_counts_from_one(self, world: World) -> None:
        world.btc.send(ADMIN, "mint", USER, 10)
        world.btc.send(USER, "approve", world.book.address, 10)
        for index, amount in ((1, 3), (2, 7)):
            (log,) = world.book.send(USER, "deposit", ALICE, world.btc.address, amount)
            fields = {"index": index, "account": ALICE, "token": world.btc.address.lower(), "amount": amount}
            assert log == ("Deposited", fields)
        assert world.balance(ALICE, world.btc) == 10
        assert world.book.get("deposit_count") == 2
        assert world.btc.get("balanceOf", world.book.address) == 10

    def test_refusals_change_nothing(self, world: World) -> None:
        unlisted = world.evm.deploy("TestToken", ADMIN, "Other", "OTH", 18)
        world.btc.send(ADMIN, "mint", USER, 10)
        rows = [
            (ALICE, unlisted, 1, "token is not listed"),
            (bytes(32), world.btc, 1, "no account"),
            (account_key(2**63), world.btc, 1, "no account"),
            (b"\xff" * 32, world.btc, 1, "no account"),
            (account_key(2**63 - 1), world.btc, 1, "allowance too low"),
            (ALICE, world.btc, 1, "allowance too low"),
            (ALICE, world.btc, 0, "nothing arrived"),
        ]
        for account, token, amount, reason in rows:
            assert refusal(world.book.send, USER, "deposit", account, token.address, amount).reason == reason
        world.btc.send(USER, "approve", world.book.address, 100)
        assert refusal(world.book.send, USER, "deposit", ALICE, world.btc.address, 11).reason == "balance too low"
        assert world.book.get("deposit_count") == 0

    def test_pause_stops_deposit_and_settle(self, world: World) -> None:
        world.book.send(ADMIN, "set_paused", True)
        assert refusal(world.deposit, world.btc, ALICE, 1).reason == "paused"
        assert refusal(world.settle, 0, 1, 1).reason == "paused"
        world.book.send(ADMIN, "set_paused", False)
        world.deposit(world.btc, ALICE, 1)
        world.settle(0, 1, 1)

    @pytest.mark.parametrize(("fee_ppm", "credited"), [(0, 1000), (1, 1000), (10_000, 990), (999_999, 1)])
    def test_fee_on_transfer_credits_what_arrived(self, world: World, fee_ppm: int, credited: int) -> None:
        token = hostile(world)
        token.send(STRANGER, "set_fee", fee_ppm)
        world.book.send(USER, "deposit", ALICE, token.address, 1000)
        assert world.balance(ALICE, token) == credited == token.get("balanceOf", world.book.address)

    def test_a_token_that_takes_all_or_answers_false_is_refused(self, world: World) -> None:
        token = hostile(world)
        token.send(STRANGER, "set_fee", 1_000_000)
        assert refusal(world.book.send, USER, "deposit", ALICE, token.address, 1000).reason == "nothing arrived"
        token.send(STRANGER, "set_fee", 0)
        token.send(STRANGER, "set_answer", False)
        assert refusal(world.book.send, USER, "deposit", ALICE, token.address, 1000).reason == "transfer refused"

    def test_a_token_that_returns_nothing_is_taken(self, world: World) -> None:
        token = world.evm.deploy("testing/QuietToken", STRANGER)
        token.send(STRANGER, "mint", USER, 1000)
        world.book.send(ADMIN, "list_token", asset_key("USDT"), token.address)
        world.book.send(USER, "deposit", ALICE, token.address, 1000)
        assert world.balance(ALICE, token) == 1000


def hostile(world: World) -> Contract:
    token = world.evm.deploy("testing/HostileToken", STRANGER)
    token.send(STRANGER, "mint", USER, 10_000)
    world.book.send(ADMIN, "list_token", asset_key("BAD"), token.address)
    return token


def make_settler(world: World, token: Contract) -> None:
    """So that nothing but the lock can refuse the token's inner `settle`."""
    world.book.send(ADMIN, "offer_role", ROLES["settler"], token.address)
    world.book.send(token.address, "accept_role", ROLES["settler"])


class TestReentry:
    def test_deposit_inside_deposit(self, world: World) -> None:
        token = hostile(world)
        token.send(STRANGER, "mint", token.address, 10_000)
        inner = world.book.calldata("deposit", BOB, token.address, 500)
        token.send(STRANGER, "set_attack", world.book.address, inner)
        world.book.send(USER, "deposit", ALICE, token.address, 1000)
        assert (token.get("attacks"), token.get("successes")) == (1, 0)
        assert world.balance(ALICE, token) == 1000 == token.get("balanceOf", world.book.address)
        assert world.balance(BOB, token) == 0

    def test_settle_inside_deposit(self, world: World) -> None:
        token = hostile(world)
        make_settler(world, token)
        token.send(STRANGER, "set_attack", world.book.address, world.book.calldata("settle", 0, 1, 1, [], [], []))
        world.book.send(USER, "deposit", ALICE, token.address, 1000)
        assert (token.get("attacks"), token.get("successes")) == (1, 0)
        assert world.book.get("settledThrough", 0) == 0

    @pytest.mark.parametrize("inner", ["exit", "claim", "deposit", "settle"])
    def test_whatever_inside_exit(self, world: World, inner: str) -> None:
        """The token is the owner, of two accounts with as much, and can claim as much besides."""
        token = hostile(world)
        for account in (ALICE, BOB, CAROL):
            world.book.send(USER, "deposit", account, token.address, 1000)
        world.withdraw(CAROL, token, token.address, 1000)
        for account in (ALICE, BOB):
            world.link(account, token.address)
            world.book.send(token.address, "request_exit", account)
        make_settler(world, token)
        world.evm.wait(EXIT_DELAY)
        attacks: dict[str, tuple[Any, ...]] = {
            "exit": ("exit", BOB, token.address),
            "claim": ("claim", token.address),
            "deposit": ("deposit", BOB, token.address, 1),
            "settle": ("settle", 0, 4, 4, [], [], []),
        }
        token.send(STRANGER, "set_attack", world.book.address, world.book.calldata(*attacks[inner]))
        world.book.send(token.address, "exit", ALICE, token.address)
        assert (token.get("attacks"), token.get("successes")) == (1, 0)
        assert token.get("balanceOf", world.book.address) == 2000
        assert (world.balance(ALICE, token), world.balance(BOB, token)) == (0, 1000)

    @pytest.mark.parametrize("inner", ["claim", "deposit", "settle"])
    def test_whatever_inside_claim(self, world: World, inner: str) -> None:
        """The token is the withdrawal's address itself, so that its inner calls are the claimant's."""
        token = hostile(world)
        world.book.send(USER, "deposit", ALICE, token.address, 1000)
        world.withdraw(ALICE, token, token.address, 600)
        make_settler(world, token)
        attacks: dict[str, tuple[Any, ...]] = {
            "claim": ("claim", token.address),
            "deposit": ("deposit", BOB, token.address, 1),
            "settle": ("settle", 0, 2, 2, [], [], []),
        }
        token.send(STRANGER, "set_attack", world.book.address, world.book.calldata(*attacks[inner]))
        token.send(STRANGER, "claim_from", world.book.address)
        assert (token.get("attacks"), token.get("successes")) == (1, 0)
        assert (world.claimable(token.address, token), world.book.get("claim_count")) == (0, 1)
        assert token.get("balanceOf", world.book.address) == 400 == world.balance(ALICE, token)
        assert world.book.get("settledThrough", 0) == 1

    def test_claim_inside_deposit(self, world: World) -> None:
        token = hostile(world)
        world.book.send(USER, "deposit", ALICE, token.address, 1000)
        world.withdraw(ALICE, token, token.address, 600)
        token.send(STRANGER, "set_attack", world.book.address, world.book.calldata("claim", token.address))
        world.book.send(USER, "deposit", BOB, token.address, 50)
        assert (token.get("attacks"), token.get("successes")) == (1, 0)
        assert world.balance(BOB, token) == 50
        assert world.claimable(token.address, token) == 600

    def test_the_lock_opens_again(self, world: World) -> None:
        for index in range(3):
            world.deposit(world.btc, ALICE, 5)
            world.settle(0, index + 1, index + 1, (ALICE, world.btc, -1), (BOB, world.btc, 1))
        assert (world.balance(ALICE, world.btc), world.balance(BOB, world.btc)) == (12, 3)


class TestCursor:
    def test_the_first_batch_starts_at_one(self, world: World) -> None:
        for first in (0, 2, FAR):
            assert_not_next(refusal(world.settle, 0, first, FAR), 1, first)

    def test_replay_skip_and_overlap_are_refused(self, world: World) -> None:
        world.settle(0, 1, 10)
        for first, last in ((1, 10), (10, 11), (12, 20), (0, 0), (5, 15)):
            assert_not_next(refusal(world.settle, 0, first, last), 11, first)
        assert world.book.get("settledThrough", 0) == 10
        world.settle(0, 11, 11)
        assert world.book.get("settledThrough", 0) == 11

    def test_last_is_not_before_first(self, world: World) -> None:
        assert refusal(world.settle, 0, 1, 0).reason == "last before first"

    def test_shards_are_independent(self, world: World) -> None:
        world.settle(0, 1, 10)
        world.settle(FAR, 1, 3)
        assert [world.book.get("settledThrough", shard) for shard in (0, 1, FAR)] == [10, 0, 3]

    def test_the_end_of_the_cursor_is_the_end(self, world: World) -> None:
        world.settle(0, 1, FAR)
        with pytest.raises(Refused):
            world.settle(0, 1, FAR)
        assert world.book.get("settledThrough", 0) == FAR

    def test_batches_are_chained_by_hash(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 5)
        legs = [Delta(ALICE, world.btc.address, -5), Delta(BOB, world.btc.address, 5)]
        first = chained_hash(bytes(32), 7, 1, 4, legs)
        (log,) = world.settle(7, 1, 4, (ALICE, world.btc, -5), (BOB, world.btc, 5))
        assert log == ("Settled", {"shard": 7, "first": 1, "last": 4, "batch_hash": first})
        world.settle(7, 5, 5)
        assert world.book.get("batch_hash", 7) == chained_hash(first, 7, 5, 5, [])


def assert_not_next(refused: Refused, expected: int, first: int) -> None:
    decoded = decode_revert(refused.data)
    assert isinstance(decoded, NotNext)
    assert (decoded.expected, decoded.first) == (expected, first)


class TestDeltas:
    def test_moves_balances(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.deposit(world.usd, BOB, 5000)
        legs = [(ALICE, world.btc, -40), (BOB, world.btc, 40), (ALICE, world.usd, 3000), (BOB, world.usd, -3000)]
        world.settle(0, 1, 3, *legs)
        held = [world.balance(who, token) for who in (ALICE, BOB) for token in (world.btc, world.usd)]
        assert held == [60, 3000, 40, 2000]

    def test_order_and_sums(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.deposit(world.usd, ALICE, 100)
        btc, usd = world.btc.address, world.usd.address
        disorder, unbalanced = "legs out of order", "token does not sum to zero"
        rows: list[tuple[list[tuple[bytes, str, int]], str]] = [
            ([(ALICE, btc, -1), (ALICE, btc, 1)], disorder),  # twice the same leg
            ([(BOB, btc, 1), (ALICE, btc, -1)], disorder),  # accounts descend
            ([(ALICE, usd, 0), (ALICE, btc, 0)], disorder),  # tokens descend
            ([(ALICE, btc, -1), (BOB, btc, 1), (ALICE, usd, -1), (BOB, usd, 1), (CAROL, btc, 0)], disorder),
            ([(ALICE, btc, 1)], unbalanced),
            ([(ALICE, btc, -1)], unbalanced),
            ([(ALICE, btc, -2), (BOB, btc, 1)], unbalanced),
            ([(ALICE, btc, -1), (BOB, usd, 1)], unbalanced),  # across tokens is not zero
            ([(ALICE, btc, -1), (ALICE, usd, -1), (BOB, usd, 1)], unbalanced),  # only the last token is balanced
            ([(ALICE, btc, 1), (ALICE, usd, -1), (BOB, usd, 1)], unbalanced),
            ([(ALICE, btc, -1), (BOB, btc, 1), (BOB, usd, 1)], unbalanced),
        ]
        for deltas, reason in rows:
            assert refusal(world.settle_as_given, 0, 1, 1, deltas).reason == reason, deltas
        assert world.book.get("settledThrough", 0) == 0
        assert (world.balance(ALICE, world.btc), world.balance(BOB, world.btc)) == (100, 0)

    def test_a_leg_that_cannot_be_paid_is_named_and_nothing_moves(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        legs = [(ALICE, world.btc, -100), (BOB, world.btc, 100), (CAROL, world.usd, -1), (ALICE, world.usd, 1)]
        refused = decode_revert(refusal(world.settle, 0, 1, 1, *legs).data)
        assert isinstance(refused, _RefusedLeg)
        assert refused.leg == LegRefused(CAROL, world.usd.address)
        assert world.balance(ALICE, world.btc) == 100
        assert world.book.get("settledThrough", 0) == 0

    @pytest.mark.parametrize(("owed", "passes"), [(99, True), (100, True), (101, False), (2**255 - 1, False)])
    def test_the_edge_of_a_balance(self, world: World, owed: int, passes: bool) -> None:
        world.deposit(world.btc, ALICE, 100)
        if passes:
            world.settle(0, 1, 1, (ALICE, world.btc, -owed), (BOB, world.btc, owed))
            assert world.balance(ALICE, world.btc) == 100 - owed
        else:
            refused = decode_revert(
                refusal(world.settle, 0, 1, 1, (ALICE, world.btc, -owed), (BOB, world.btc, owed)).data
            )
            assert isinstance(refused, _RefusedLeg)

    def test_extreme_amounts_revert(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        least, most, btc = -(2**255), 2**255 - 1, world.btc.address
        for deltas in (
            [(ALICE, btc, least)],
            [(ALICE, btc, most), (BOB, btc, 1)],
            [(ALICE, btc, most), (BOB, btc, least)],
        ):
            with pytest.raises(Refused):
                world.settle_as_given(0, 1, 1, deltas)

    def test_an_empty_batch_moves_the_cursor(self, world: World) -> None:
        world.settle(0, 1, 50)
        assert world.book.get("settledThrough", 0) == 50

    def test_two_hundred_legs_and_not_one_more(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 1000)
        legs = [(account_key(2000 + n), world.btc, 1) for n in range(199)]
        world.settle(0, 1, 1, (ALICE, world.btc, -199), *legs)
        assert world.balance(account_key(2198), world.btc) == 1
        too_many = [(account_key(n), world.btc.address, 0) for n in range(201)]
        with pytest.raises(Refused):
            world.settle_as_given(0, 2, 2, too_many)


class TestWithdrawals:
    @pytest.mark.parametrize("decimals", [0, 6, 18])
    def test_out_of_the_ledger_then_out_of_the_vault(self, world: World, decimals: int) -> None:
        token, one = world.evm.deploy("TestToken", ADMIN, "Coin", "COIN", decimals), 10**decimals
        world.book.send(ADMIN, "list_token", asset_key("COIN"), token.address)
        world.deposit(token, ALICE, 7 * one)
        world.withdraw(ALICE, token, USER, 3 * one)
        assert (world.balance(ALICE, token), world.claimable(USER, token)) == (4 * one, 3 * one)
        assert token.get("balanceOf", world.book.address) == 7 * one
        (log,) = world.book.send(USER, "claim", token.address)
        fields = {"index": 1, "to": USER.lower(), "token": token.address.lower(), "amount": 3 * one}
        assert log == ("Claimed", fields)
        assert (token.get("balanceOf", USER), token.get("balanceOf", world.book.address)) == (3 * one, 4 * one)
        assert refusal(world.book.send, USER, "claim", token.address).reason == "nothing to claim"
        assert world.book.get("claim_count") == 1

    def test_what_was_not_claimed_adds_up_and_claims_are_numbered(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.deposit(world.usd, BOB, 100)
        for account, token, to, amount in (
            (ALICE, world.btc, USER, 1),
            (ALICE, world.btc, USER, 2),
            (ALICE, world.btc, STRANGER, 4),
            (BOB, world.usd, USER, 8),
        ):
            world.withdraw(account, token, to, amount)
        claims = ((USER, world.usd), (STRANGER, world.btc), (USER, world.btc))
        logs = [world.book.send(who, "claim", token.address)[0][1] for who, token in claims]
        assert [(log["index"], log["amount"]) for log in logs] == [(1, 8), (2, 4), (3, 3)]
        assert refusal(world.book.send, ADMIN, "claim", world.btc.address).reason == "nothing to claim"

    def test_the_pause_does_not_stop_a_claim(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.withdraw(ALICE, world.btc, USER, 40)
        world.book.send(ADMIN, "set_paused", True)
        assert refusal(world.withdraw, ALICE, world.btc, USER, 1).reason == "paused"
        world.book.send(USER, "claim", world.btc.address)
        assert world.btc.get("balanceOf", USER) == 40

    def test_beside_trades_and_in_two_tokens(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.deposit(world.usd, BOB, 500)
        btc, usd = world.btc.address, world.usd.address
        legs = [(ALICE, btc, -50), (BOB, btc, 20), (ALICE, usd, 100), (BOB, usd, -107)]
        out = [(btc, USER, 10), (btc, STRANGER, 20), (usd, USER, 7)]
        world.settle_as_given(0, 1, 3, legs, out)
        held = [world.balance(who, token) for who in (ALICE, BOB) for token in (world.btc, world.usd)]
        assert held == [50, 100, 20, 393]
        assert [world.claimable(who, world.btc) for who in (USER, STRANGER)] == [10, 20]
        assert world.claimable(USER, world.usd) == 7

    def test_order_and_sums(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.deposit(world.usd, ALICE, 100)
        btc, usd, low, high = world.btc.address, world.usd.address, address(2), address(3)
        disorder, unbalanced = "withdrawals out of order", "token does not sum to zero"
        pays_btc, pays_usd = (ALICE, btc, -5), (ALICE, usd, -5)
        rows: list[tuple[list[tuple[bytes, str, int]], list[tuple[str, str, int]], str]] = [
            ([pays_btc], [], unbalanced),
            ([pays_btc], [(btc, low, 4)], unbalanced),
            ([pays_btc], [(btc, low, 6)], unbalanced),
            ([(ALICE, btc, 5)], [(btc, low, 5)], unbalanced),
            ([pays_btc], [(usd, low, 5)], unbalanced),  # another token's
            ([pays_btc, pays_usd], [(btc, low, 5), (btc, high, 5)], unbalanced),
            ([], [(btc, low, 5)], disorder),  # of a token without legs
            ([(ALICE, btc, 0)], [(usd, low, 5)], disorder),
            ([pays_usd], [(btc, low, 5), (usd, low, 5)], unbalanced),
            ([pays_btc, pays_usd], [(usd, low, 5), (btc, low, 5)], unbalanced),  # tokens descend
            ([pays_btc], [(btc, high, 2), (btc, low, 3)], disorder),  # addresses descend
            ([pays_btc], [(btc, low, 2), (btc, low, 3)], disorder),  # twice the same
            ([pays_btc], [(btc, NOBODY, 5)], disorder),
            ([pays_btc], [(btc, low, 5), (btc, high, 0)], "empty withdrawal"),
        ]
        for deltas, out, reason in rows:
            assert refusal(world.settle_as_given, 0, 1, 1, deltas, out).reason == reason, (deltas, out)
        with pytest.raises(Refused):
            world.settle_as_given(0, 1, 1, [(ALICE, btc, -100)], [(btc, low, 2**255)])
        assert world.book.get("settledThrough", 0) == 0
        assert [world.claimable(who, token) for who in (low, high) for token in (world.btc, world.usd)] == [0] * 4

    def test_what_cannot_be_paid_is_not_withdrawn(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        refused = decode_revert(refusal(world.withdraw, ALICE, world.btc, USER, 101).data)
        assert isinstance(refused, _RefusedLeg)
        assert world.claimable(USER, world.btc) == 0
        world.withdraw(ALICE, world.btc, USER, 100)
        assert (world.balance(ALICE, world.btc), world.claimable(USER, world.btc)) == (0, 100)

    def test_fifty_withdrawals_and_not_one_more(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 1000)
        btc = world.btc.address
        out = [(btc, "0x" + f"{n:040x}", 1) for n in range(1, WITHDRAWALS_MAX + 2)]
        world.settle_as_given(0, 1, 1, [(ALICE, btc, -WITHDRAWALS_MAX)], out[:-1])
        assert world.book.get("claimable", out[-2][1], btc) == 1
        with pytest.raises(Refused):
            world.settle_as_given(0, 2, 2, [(ALICE, btc, -WITHDRAWALS_MAX - 1)], out)

    def test_the_batch_hash_covers_them(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 5)
        deltas = [Delta(ALICE, world.btc.address, -5)]
        out = [Withdrawal(world.btc.address, USER, 5)]
        (log,) = world.withdraw(ALICE, world.btc, USER, 5)
        assert log[1]["batch_hash"] == chained_hash(bytes(32), 0, 1, 1, deltas, out)
        elsewhere = [Withdrawal(world.btc.address, STRANGER, 5)]
        assert log[1]["batch_hash"] != chained_hash(bytes(32), 0, 1, 1, deltas, elsewhere)

    @pytest.mark.parametrize(("fee_ppm", "arrives"), [(0, 600), (10_000, 594), (1_000_000, 0)])
    def test_fee_on_transfer_is_the_claimants(self, world: World, fee_ppm: int, arrives: int) -> None:
        token = hostile(world)
        world.book.send(USER, "deposit", ALICE, token.address, 1000)
        world.withdraw(ALICE, token, STRANGER, 600)
        token.send(STRANGER, "set_fee", fee_ppm)
        world.book.send(STRANGER, "claim", token.address)
        assert token.get("balanceOf", STRANGER) == arrives
        assert token.get("balanceOf", world.book.address) == 400 == world.balance(ALICE, token)

    def test_a_refused_transfer_leaves_it_claimable(self, world: World) -> None:
        token = hostile(world)
        world.book.send(USER, "deposit", ALICE, token.address, 1000)
        world.withdraw(ALICE, token, STRANGER, 600)
        token.send(STRANGER, "set_answer", False)
        assert refusal(world.book.send, STRANGER, "claim", token.address).reason == "transfer refused"
        assert (world.claimable(STRANGER, token), world.book.get("claim_count")) == (600, 0)
        token.send(STRANGER, "set_answer", True)
        world.book.send(STRANGER, "claim", token.address)
        assert token.get("balanceOf", STRANGER) == 600

    def test_a_token_that_returns_nothing_is_paid(self, world: World) -> None:
        token = world.evm.deploy("testing/QuietToken", STRANGER)
        token.send(STRANGER, "mint", USER, 1000)
        world.book.send(ADMIN, "list_token", asset_key("USDT"), token.address)
        world.book.send(USER, "deposit", ALICE, token.address, 1000)
        world.withdraw(ALICE, token, STRANGER, 600)
        world.book.send(STRANGER, "claim", token.address)
        assert token.get("balanceOf", STRANGER) == 600


class TestOwners:
    def test_a_batch_links_an_account_once_and_for_ever(self, world: World) -> None:
        (log, _) = world.link(ALICE, USER)
        assert log == ("OwnerChanged", {"account": ALICE, "before": NOBODY, "owner": USER.lower()})
        assert [name for name, _ in world.link(ALICE, STRANGER)] == ["Settled"]
        assert world.book.get("owner", ALICE) == USER.lower()
        assert world.book.get("owner", BOB) == NOBODY

    @pytest.mark.parametrize(
        ("account", "owner", "reason"),
        [
            (account_key(1), USER, "not a user's account"),
            (account_key(1000), USER, "not a user's account"),
            (account_key(2**63), USER, "not a user's account"),
            (ALICE, NOBODY, "no owner"),
            (account_key(1001), USER, ""),
            (account_key(2**63 - 1), USER, ""),
        ],
    )
    def test_who_can_be_linked(self, world: World, account: bytes, owner: str, reason: str) -> None:
        if reason:
            assert refusal(world.link, account, owner).reason == reason
        else:
            world.link(account, owner)
        assert world.book.get("owner", account) == (NOBODY if reason else USER.lower())

    def test_fifty_links_and_not_one_more_and_the_hash_covers_them(self, world: World) -> None:
        links = [Link(account_key(1001 + n), address(5)) for n in range(LINKS_MAX + 1)]
        given = [(link.account, link.owner) for link in links]
        logs = world.settle_as_given(0, 1, 1, [], [], given[:-1])
        assert len(logs) == LINKS_MAX + 1
        assert logs[-1][1]["batch_hash"] == chained_hash(bytes(32), 0, 1, 1, [], [], links[:-1])
        assert logs[-1][1]["batch_hash"] != chained_hash(bytes(32), 0, 1, 1, [])
        with pytest.raises(Refused):
            world.settle_as_given(0, 2, 2, [], [], given)
        with pytest.raises(ValueError, match="51 links"):
            settle_lists([], [], links)

    def test_a_hand_over_takes_two_steps(self, world: World) -> None:
        world.link(ALICE, USER)
        for sender in (STRANGER, ADMIN, SETTLER):
            assert refusal(world.book.send, sender, "offer_owner", ALICE, STRANGER).reason == "not the owner"
        (log,) = world.book.send(USER, "offer_owner", ALICE, STRANGER)
        assert log == ("OwnerOffered", {"account": ALICE, "offered": STRANGER.lower()})
        for sender, account in ((ADMIN, ALICE), (USER, ALICE), (STRANGER, BOB)):
            assert refusal(world.book.send, sender, "accept_owner", account).reason == "not offered"
        (log,) = world.book.send(STRANGER, "accept_owner", ALICE)
        assert log == ("OwnerChanged", {"account": ALICE, "before": USER.lower(), "owner": STRANGER.lower()})
        assert refusal(world.book.send, STRANGER, "accept_owner", ALICE).reason == "not offered"
        assert refusal(world.book.send, USER, "request_exit", ALICE).reason == "not the owner"
        world.book.send(STRANGER, "request_exit", ALICE)


class TestExit:
    def test_the_owner_takes_what_its_account_has(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.deposit(world.usd, ALICE, 7)
        world.deposit(world.btc, BOB, 1)
        world.link(ALICE, USER)
        ready = world.evm.now + EXIT_DELAY
        (log,) = world.book.send(USER, "request_exit", ALICE)
        assert log == ("ExitRequested", {"index": 1, "account": ALICE, "ready_at": ready})
        world.evm.wait(EXIT_DELAY - 1)
        assert refusal(world.book.send, USER, "exit", ALICE, world.btc.address).reason == "exit is not ready"
        world.evm.wait(1)
        for index, (token, amount) in enumerate(((world.btc, 100), (world.usd, 7)), start=1):
            (log,) = world.book.send(USER, "exit", ALICE, token.address)
            fields = {"account": ALICE, "token": token.address.lower(), "to": USER.lower(), "amount": amount}
            assert log == ("Exited", {"index": index} | fields)
            assert token.get("balanceOf", USER) == amount
            assert refusal(world.book.send, USER, "exit", ALICE, token.address).reason == "nothing to take"
        assert (world.book.get("claim_count"), world.book.get("exited", ALICE)) == (2, True)
        assert world.balance(BOB, world.btc) == 1 == world.btc.get("balanceOf", world.book.address)

    def test_nobody_else_and_not_without_a_request(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        assert refusal(world.book.send, USER, "request_exit", ALICE).reason == "not the owner"
        world.link(ALICE, USER)
        assert refusal(world.book.send, USER, "exit", ALICE, world.btc.address).reason == "exit is not ready"
        assert refusal(world.book.send, USER, "cancel_exit", ALICE).reason == "no exit is requested"
        world.book.send(USER, "request_exit", ALICE)
        assert refusal(world.book.send, USER, "request_exit", ALICE).reason == "exit is requested"
        world.evm.wait(EXIT_DELAY)
        for sender in (ADMIN, SETTLER, PAUSER, STRANGER):
            for function, *args in (("request_exit",), ("cancel_exit",), ("exit", world.btc.address)):
                assert refusal(world.book.send, sender, function, ALICE, *args).reason == "not the owner"
        assert world.balance(ALICE, world.btc) == 100

    def test_a_request_is_taken_back_and_waits_anew(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.link(ALICE, USER)
        world.book.send(USER, "request_exit", ALICE)
        world.evm.wait(EXIT_DELAY)
        (log,) = world.book.send(USER, "cancel_exit", ALICE)
        assert log == ("ExitCanceled", {"index": 2, "account": ALICE})
        assert refusal(world.book.send, USER, "exit", ALICE, world.btc.address).reason == "exit is not ready"
        (log,) = world.book.send(USER, "request_exit", ALICE)
        ready = world.evm.now + EXIT_DELAY
        assert log == ("ExitRequested", {"index": 3, "account": ALICE, "ready_at": ready})
        world.evm.wait(EXIT_DELAY)
        world.book.send(USER, "exit", ALICE, world.btc.address)
        assert refusal(world.book.send, USER, "cancel_exit", ALICE).reason == "account has exited"

    def test_the_pause_stops_nothing_of_it(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.link(ALICE, USER)
        world.book.send(PAUSER, "set_paused", True)
        world.book.send(USER, "request_exit", ALICE)
        world.book.send(USER, "cancel_exit", ALICE)
        world.book.send(USER, "request_exit", ALICE)
        world.evm.wait(EXIT_DELAY)
        world.book.send(USER, "exit", ALICE, world.btc.address)
        assert world.btc.get("balanceOf", USER) == 100

    def test_until_it_is_taken_all_is_settled_as_ever(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.link(ALICE, USER)
        world.book.send(USER, "request_exit", ALICE)
        world.evm.wait(EXIT_DELAY)
        world.settle(0, 2, 2, (ALICE, world.btc, -30), (BOB, world.btc, 30))
        world.withdraw(ALICE, world.btc, USER, 60)
        world.deposit(world.btc, ALICE, 5)
        world.book.send(USER, "exit", ALICE, world.btc.address)
        assert world.btc.get("balanceOf", USER) == 15
        assert world.claimable(USER, world.btc) == 60

    def test_what_was_still_to_settle_falls_to_insurance(self, world: World) -> None:
        world.deposit(world.usd, ALICE, 100)
        world.deposit(world.btc, BOB, 10)
        world.deposit(world.usd, INSURANCE, 500)
        world.exit(ALICE, world.usd)
        world.settle(
            0, 2, 2, (ALICE, world.usd, -80), (BOB, world.usd, 80), (ALICE, world.btc, 4), (BOB, world.btc, -4)
        )
        held = [world.balance(who, token) for who in (ALICE, BOB, INSURANCE) for token in (world.btc, world.usd)]
        assert held == [0, 0, 6, 80, 4, 420]
        assert refusal(world.book.send, USER, "exit", ALICE, world.btc.address).reason == "nothing to take"

    def test_insurance_that_cannot_pay_is_named(self, world: World) -> None:
        world.deposit(world.usd, ALICE, 100)
        world.deposit(world.usd, INSURANCE, 79)
        world.exit(ALICE, world.usd)
        legs = [(ALICE, world.usd, -80), (BOB, world.usd, 80)]
        refused = decode_revert(refusal(world.settle, 0, 2, 2, *legs).data)
        assert isinstance(refused, _RefusedLeg)
        assert refused.leg == LegRefused(INSURANCE, world.usd.address)
        world.deposit(world.usd, INSURANCE, 1)
        world.settle(0, 2, 2, *legs)
        assert [world.balance(who, world.usd) for who in (ALICE, BOB, INSURANCE)] == [0, 80, 0]

    # What falls to an insurance of 10 in one batch, and what it then has; None: it cannot pay.
    FALLS = (
        ({"alice": -30, "bob": 25}, 5),
        ({"alice": 25, "bob": -30}, 5),
        ({"alice": -30, "bob": 20}, 0),
        ({"alice": -30, "bob": 19}, None),
        ({"alice": -30, "insurance": 25}, 5),
        ({"alice": 30, "insurance": -35}, 5),
        ({"alice": 30, "insurance": -41}, None),
        ({"alice": -20, "bob": -20, "insurance": 30}, 0),
        ({"alice": -20, "bob": -21, "insurance": 30}, None),
        ({"insurance": -10}, 0),
        ({"insurance": -11}, None),
        ({"alice": -7, "bob": 7}, 10),
    )

    @pytest.mark.parametrize(("falls", "then"), FALLS)
    @pytest.mark.parametrize("first", [True, False], ids=["first token", "last token"])
    def test_what_falls_to_insurance_is_one_sum(
        self, world: World, falls: dict[str, int], then: int | None, first: bool
    ) -> None:
        """Beside legs of another token, before it and behind it."""
        token, other = (world.btc, world.usd) if first else (world.usd, world.btc)
        accounts = {"alice": ALICE, "bob": BOB, "insurance": INSURANCE}
        for account in (ALICE, BOB):
            world.deposit(other, account, 1)
            world.exit(account, other)
        for coin in (token, other):
            world.deposit(coin, CAROL, 100)
            world.deposit(coin, INSURANCE, 10)
        legs = [(accounts[name], token, amount) for name, amount in falls.items()]
        legs += [(CAROL, token, -sum(falls.values())), (ALICE, other, 4), (CAROL, other, -4)]
        if then is None:
            refused = decode_revert(refusal(world.settle, 0, world.next(), world.next(), *legs).data)
            assert isinstance(refused, _RefusedLeg)
            assert refused.leg == LegRefused(INSURANCE, token.address)
            return
        world.settle(0, world.next(), world.next(), *legs)
        held = [world.balance(who, coin) for coin in (token, other) for who in (INSURANCE, ALICE, BOB, CAROL)]
        assert held == [then, 0, 0, 100 - sum(falls.values()), 14, 0, 0, 96]

    def test_an_account_that_has_exited_takes_no_deposit(self, world: World) -> None:
        world.deposit(world.btc, ALICE, 100)
        world.exit(ALICE, world.btc)
        assert refusal(world.deposit, world.btc, ALICE, 1).reason == "account has exited"
        world.deposit(world.btc, BOB, 1)

    def test_a_refused_transfer_changes_nothing(self, world: World) -> None:
        token = hostile(world)
        world.book.send(USER, "deposit", ALICE, token.address, 1000)
        world.link(ALICE, USER)
        world.book.send(USER, "request_exit", ALICE)
        world.evm.wait(EXIT_DELAY)
        token.send(STRANGER, "set_answer", False)
        assert refusal(world.book.send, USER, "exit", ALICE, token.address).reason == "transfer refused"
        assert (world.balance(ALICE, token), world.book.get("exited", ALICE)) == (1000, False)
        token.send(STRANGER, "set_answer", True)
        world.book.send(USER, "exit", ALICE, token.address)
        assert world.balance(ALICE, token) == 0


def test_sort_withdrawals_refuses_what_the_contract_would() -> None:
    token, to = address(1), address(2)
    rows = [
        ([Withdrawal(token, to, 1), Withdrawal(token.lower(), to.lower(), 2)], "given twice"),
        ([Withdrawal(token, to, 0)], "of nothing"),
        ([Withdrawal(token, NOBODY, 1)], "to nobody"),
        ([Withdrawal(token, f"0x{n:040x}", 1) for n in range(1, 52)], "51 withdrawals"),
    ]
    for withdrawals, message in rows:
        with pytest.raises(ValueError, match=message):
            sort_withdrawals(withdrawals)
    with pytest.raises(ValueError, match="sum to zero"):
        sort_deltas([Delta(ALICE, token, -1)], [Withdrawal(token, to, 2)])
    assert sort_deltas([Delta(ALICE, token, -2)], [Withdrawal(token, to, 2)]) == [Delta(ALICE, token, -2)]


def test_sort_deltas_refuses_what_is_no_batch() -> None:
    token = address(1)
    rows = [
        ([Delta(ALICE, token, 1), Delta(ALICE, token.lower(), -1)], "given twice"),
        ([Delta(ALICE, token, 1)], "sum to zero"),
        ([Delta(account_key(n), token, 0) for n in range(201)], "201 legs"),
    ]
    for deltas, message in rows:
        with pytest.raises(ValueError, match=message):
            sort_deltas(deltas)
