"""Trades of signed orders, on the contract's bytecode: what it takes, and each thing that it refuses."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from eth_account.messages import encode_typed_data
from eth_keys.constants import SECPK1_N
from eth_keys.datatypes import PrivateKey
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from services.settler.batch import INSURANCE_ACCOUNT, Entry, Trade, cut, insured
from services.settler.contract import (
    Delta,
    Link,
    NotNext,
    _RefusedLeg,
    account_key,
    chained_hash,
    decode_revert,
    settle_lists,
)
from services.settler.signed import SignedLists, signed_chained_hash, signed_lists
from services.signed_orders import (
    AMOUNT_MAX,
    Authorization,
    Domain,
    SignedOrder,
    domain_separator,
    of_text,
    order_hash,
    text_of,
    typed_data,
)
from tests.unit.evm import Refused, address
from tests.unit.test_contract import ADMIN, EXIT_DELAY, PAUSER, SETTLER, STRANGER, World, make_world, refusal

KEYS = {1001: PrivateKey(b"\x01" * 32), 1002: PrivateKey(b"\x02" * 32), 1003: PrivateKey(b"\x03" * 32)}
BUYER, SELLER, OTHER = KEYS
WALLETS = {account: str(key.public_key.to_checksum_address()) for account, key in KEYS.items()}
CHAIN_ID = 1
HELD = 1_000_000
TRADES_MAX = 25
IN_TIME = 2**40


@dataclass
class Signing(World):
    """Three users with a wallet each, and a lot of both tokens."""

    def order(self, account: int, *, buys: bool, **other: Any) -> SignedOrder:
        """Ten for 200 at most (a buy), or ten for 100 at least."""
        asked = SignedOrder(account, "BTC", "USD", buys, 10, 200 if buys else 100, 2_000, IN_TIME, f"order-{account}")
        return asked._replace(**other)

    @property
    def domain(self) -> Domain:
        return Domain(CHAIN_ID, self.book.address)

    def signed(self, order: SignedOrder, key: PrivateKey | None = None, domain: Domain | None = None) -> str:
        """An order's text, signed by its account's wallet for this contract, or otherwise."""
        made = (key or KEYS[order.account_id]).sign_msg_hash(order_hash(order, domain or self.domain))
        return text_of(Authorization(*order[4:], made.to_bytes()))

    def trade(self, buy: str = "", sell: str = "", **other: Any) -> Trade:
        """Ten for 150, the buyer's fee 0 and the seller's 1."""
        buy = buy or self.signed(self.order(BUYER, buys=True))
        sell = sell or self.signed(self.order(SELLER, buys=False))
        made = Trade("BTC-USD", 1, "BTC", "USD", BUYER, SELLER, 10, 150, 0, 1, buy, sell)
        return replace(made, **other)

    def settle_signed(self, *trades: Trade, links: tuple[Link, ...] = (), sender: str = SETTLER) -> list[Any]:
        return self.send_signed(signed_lists(trades, links), sender=sender)

    def send_signed(self, given: SignedLists, *, first: int = 0, sender: str = SETTLER) -> list[Any]:
        return self.book.send(sender, "settle_signed", 0, first or self.next(), *given)

    def held(self, account: int) -> tuple[int, int]:
        return self.balance(account_key(account), self.btc), self.balance(account_key(account), self.usd)

    def filled(self, order: SignedOrder) -> int:
        return int(self.book.get("filled", order_hash(order, self.domain)))


def make_signing(*, linked: bool = True, held: int = HELD) -> Signing:
    world = make_world()
    signing = Signing(world.evm, world.book, world.btc, world.usd)
    for account, wallet in WALLETS.items():
        if linked:
            signing.link(account_key(account), wallet)
        for token in (signing.btc, signing.usd):
            signing.deposit(token, account_key(account), held)
    return signing


@pytest.fixture
def signing() -> Signing:
    return make_signing()


@pytest.fixture(scope="module")
def untouched() -> Signing:
    """For tests that change nothing."""
    return make_signing()


class TestWhatIsSigned:
    def test_the_hash_is_what_wallets_sign(self) -> None:
        order = SignedOrder(1001, "BTC", "USD", True, 10, 200, 2_000, 99, "mine-1")
        domain = Domain(31337, address(7))
        message = encode_typed_data(full_message=typed_data(order, domain))
        assert keccak(b"\x19\x01" + message.header + message.body) == order_hash(order, domain)
        assert message.header == domain_separator(domain)

    def test_the_contract_has_the_same_domain(self, untouched: Signing) -> None:
        assert untouched.book.get("domain_separator") == domain_separator(untouched.domain)

    def test_a_text_is_read_as_it_was_written(self) -> None:
        given = Authorization(1, AMOUNT_MAX, 0, 7, "mine-1", bytes(range(65)))
        assert of_text(text_of(given)) == given

    @pytest.mark.parametrize("text", ["", "1 2 3 4 x", f"1 2 3 4 x {'00' * 64}", f"1 2 3 y x {'00' * 65}"])
    def test_what_is_no_text_of_one(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            of_text(text)


class TestWhoCannotPay:
    def test_the_trade_is_taken_without_signatures_as_insurance_pays(self) -> None:
        """Between two that are settled as they were signed; nothing of it counts for what its orders still allow."""
        signing = make_signing(held=200)
        signing.deposit(signing.usd, account_key(INSURANCE_ACCOUNT), 100)
        part = signing.trade(base_amount=5, quote_amount=75, seller_fee=0)
        signing.settle_signed(part)
        signing.deposit(signing.btc, account_key(OTHER), 10)
        dear = signing.trade(
            signing.signed(signing.order(BUYER, buys=True, client_order_id="dear")),
            signing.signed(signing.order(SELLER, buys=False, client_order_id="dear")),
        )
        refused = refusal(signing.settle_signed, dear)
        leg = decode_revert(refused.data)
        assert isinstance(leg, _RefusedLeg)
        assert (leg.leg.account_id, leg.leg.token) == (BUYER, signing.usd.address)

        first, tokens = signing.next(), {"BTC": signing.btc.address, "USD": signing.usd.address}
        netted = cut([Entry(first, dear)], tokens, entries_max=1, signed_apart=False)
        assert netted is not None
        payable, lacks = insured(netted, signing.usd.address, BUYER, signing.held(BUYER)[1])
        assert lacks == 150 - (200 - 75)
        lists = settle_lists(Delta(account_key(leg.account_id), leg.token, leg.amount) for leg in payable.legs)
        signing.book.send(SETTLER, "settle", 0, first, first, *lists)
        assert signing.held(BUYER) == (200 + 15, 0)
        assert signing.held(SELLER) == (200 - 15, 200 + 75 + 149)
        assert signing.held(INSURANCE_ACCOUNT) == (0, 100 - lacks)
        assert signing.filled(signing.order(BUYER, buys=True, client_order_id="dear")) == 0

        signing.deposit(signing.usd, account_key(BUYER), 75)
        signing.settle_signed(part)
        assert signing.filled(signing.order(BUYER, buys=True)) == 10


class TestTaken:
    def test_moves_what_the_trade_says(self, signing: Signing) -> None:
        first, before = signing.next(), signing.book.get("batch_hash", 0)
        trade = signing.trade()
        *filled, settled = signing.settle_signed(trade)
        assert signing.held(BUYER) == (HELD + 10, HELD - 150)
        assert signing.held(SELLER) == (HELD - 10, HELD + 149)
        assert signing.held(1) == (0, 1)
        orders = [signing.order(BUYER, buys=True), signing.order(SELLER, buys=False)]
        for (name, log), order, fee in zip(filled, orders, (0, 1), strict=True):
            assert name == "Filled"
            assert log == {
                "order_hash": order_hash(order, signing.domain),
                "account": account_key(order.account_id),
                "base_amount": 10,
                "quote_amount": 150,
                "fee": fee,
            }
            assert signing.filled(order) == 10
        chained = signed_chained_hash(before, 0, first, [trade])
        assert settled == ("Settled", {"shard": 0, "first": first, "last": first, "batch_hash": chained})
        assert signing.book.get("batch_hash", 0) == chained

    def test_many_trades_of_one_order(self, signing: Signing) -> None:
        buy, sell = signing.order(BUYER, buys=True), signing.order(SELLER, buys=False)
        part = signing.trade(base_amount=3, quote_amount=45, seller_fee=0)
        first = signing.next()
        *_, (_, log) = signing.settle_signed(part, part, part)
        assert (log["first"], log["last"]) == (first, first + 2)
        assert (signing.filled(buy), signing.filled(sell)) == (9, 9)
        assert refusal(signing.settle_signed, part).reason == "order is filled"
        signing.settle_signed(signing.trade(base_amount=1, quote_amount=15, seller_fee=0))
        assert signing.filled(buy) == 10

    def test_netted_and_signed_batches_are_one_chain(self, signing: Signing) -> None:
        signing.settle_signed(signing.trade())
        before = signing.book.get("batch_hash", 0)
        number = signing.next()
        signing.settle(0, number, number)
        assert signing.book.get("batch_hash", 0) == chained_hash(before, 0, number, number, [])

    def test_owners_are_linked_before_the_trades(self) -> None:
        signing = make_signing(linked=False)
        assert refusal(signing.settle_signed, signing.trade()).reason == "account has no owner"
        links = tuple(Link(account_key(account), WALLETS[account]) for account in (BUYER, SELLER))
        signing.settle_signed(signing.trade(), links=links)
        assert signing.held(BUYER) == (HELD + 10, HELD - 150)

    def test_wallets_write_the_last_byte_in_either_way(self, signing: Signing) -> None:
        given = of_text(signing.signed(signing.order(BUYER, buys=True)))
        assert given.signature[64] in {0, 1}
        other = given._replace(signature=given.signature[:64] + bytes([given.signature[64] + 27]))
        signing.settle_signed(signing.trade(buy=text_of(other)))

    def test_the_largest_batch(self, signing: Signing) -> None:
        size: dict[str, Any] = {"base_amount": 2 * TRADES_MAX, "quote_amount": 4 * TRADES_MAX}
        orders = [signing.signed(signing.order(each, buys=each == BUYER, **size)) for each in (BUYER, SELLER)]
        trades = [signing.trade(*orders, base_amount=1, quote_amount=2)] * (TRADES_MAX + 1)
        assert refusal(signing.settle_signed, *trades).reason == ""  # not even read
        signing.settle_signed(*trades[1:])
        assert signing.held(BUYER) == (HELD + TRADES_MAX, HELD - 2 * TRADES_MAX)

    def test_one_owner_on_both_sides(self, signing: Signing) -> None:
        sell = signing.signed(signing.order(BUYER, buys=False))
        signing.settle_signed(signing.trade(sell=sell, seller=BUYER))
        assert signing.held(BUYER) == (HELD, HELD - 1)

    def test_who_has_left_is_paid_for_by_insurance(self, signing: Signing) -> None:
        signing.deposit(signing.usd, account_key(3), 500)
        signing.book.send(WALLETS[BUYER], "request_exit", account_key(BUYER))
        signing.evm.wait(EXIT_DELAY)
        signing.book.send(WALLETS[BUYER], "exit", account_key(BUYER), signing.usd.address)
        signing.settle_signed(signing.trade())
        assert signing.held(3) == (10, 350)
        assert signing.held(SELLER) == (HELD - 10, HELD + 149)

    def test_a_hand_over_changes_nothing_of_who_signs(self, signing: Signing) -> None:
        """The exchange knows an account by the wallet that opened it."""
        account, new = account_key(BUYER), WALLETS[OTHER]
        for before, after in ((WALLETS[BUYER], new), (new, STRANGER)):
            signing.book.send(before, "offer_owner", account, after)
            signing.book.send(after, "accept_owner", account)
            assert signing.book.get("signer", account) == WALLETS[BUYER].lower()
        assert signing.book.get("owner", account) == STRANGER.lower()
        taken_over = signing.signed(signing.order(BUYER, buys=True), KEYS[OTHER])
        assert refusal(signing.settle_signed, signing.trade(buy=taken_over)).reason == "not signed by the owner"
        signing.settle_signed(signing.trade())


def changed(**other: Any) -> Any:
    """The buyer's order, signed, and then settled as if it said something else."""

    def make(signing: Signing) -> Trade:
        signature = of_text(signing.signed(signing.order(BUYER, buys=True))).signature
        said = signing.order(BUYER, buys=True, **other)
        return signing.trade(buy=text_of(Authorization(*said[4:], signature)))

    return make


def of(**other: Any) -> Any:
    """A trade that is otherwise."""
    return lambda signing: signing.trade(**other)


def bought(**other: Any) -> Any:
    """A trade of another buy order, signed as it is."""
    return lambda signing: signing.trade(buy=signing.signed(signing.order(BUYER, **{"buys": True} | other)))


def sold(**other: Any) -> Any:
    return lambda signing: signing.trade(sell=signing.signed(signing.order(SELLER, **{"buys": False} | other)))


def by_whom(key: PrivateKey, domain: Domain | None = None) -> Any:
    return lambda signing: signing.trade(buy=signing.signed(signing.order(BUYER, buys=True), key, domain))


def malleated(signing: Signing) -> Trade:
    """The same signature's twin, which anybody can make."""
    given = of_text(signing.signed(signing.order(BUYER, buys=True)))
    s = SECPK1_N - int.from_bytes(given.signature[32:64], "big")
    twin = given.signature[:32] + s.to_bytes(32, "big") + bytes([1 - given.signature[64]])
    return signing.trade(buy=text_of(given._replace(signature=twin)))


def on_other_chain(signing: Signing) -> Trade:
    return by_whom(KEYS[BUYER], signing.domain._replace(chain_id=CHAIN_ID + 1))(signing)  # type: ignore[no-any-return]


NOT_SIGNED = "not signed by the owner"

REFUSED: tuple[tuple[str, Any, str], ...] = (
    ("a buyer who signed nothing", by_whom(KEYS[OTHER]), NOT_SIGNED),
    ("another chain's signature", on_other_chain, NOT_SIGNED),
    ("another contract's signature", by_whom(KEYS[BUYER], Domain(CHAIN_ID, address(9))), NOT_SIGNED),
    ("the twin of a signature", malleated, "high s"),
    ("more than was signed", changed(base_amount=20, quote_amount=400), NOT_SIGNED),
    ("a better price than was signed", changed(quote_amount=300), NOT_SIGNED),
    ("a higher fee than was signed", changed(fee_max_ppm=9_000), NOT_SIGNED),
    ("later than was signed", changed(expires_at=IN_TIME + 1), NOT_SIGNED),
    ("the same order a second time", changed(client_order_id="order-2"), NOT_SIGNED),
    ("a sell settled as a buy", bought(buys=False, quote_amount=200), NOT_SIGNED),
    ("a buy settled as a sell", sold(buys=True, quote_amount=100), NOT_SIGNED),
    ("another account's order", of(buyer=OTHER), NOT_SIGNED),
    ("another market's order", bought(base="ETH"), NOT_SIGNED),
    ("another quote asset's order", sold(quote="EUR"), NOT_SIGNED),
    ("the market turned around", of(base="USD", quote="BTC"), NOT_SIGNED),
    ("an asset that is not listed", of(base="ETH"), "token is not listed"),
    ("a quote that is not listed", of(quote="ETH"), "token is not listed"),
    ("dearer than the buyer pays", of(quote_amount=201), "above the buyer's limit"),
    ("cheaper than the seller takes", of(quote_amount=99), "below the seller's limit"),
    ("part of it dearer than the buyer pays", of(base_amount=3, quote_amount=61), "above the buyer's limit"),
    ("part of it cheaper than the seller takes", of(base_amount=3, quote_amount=29), "below the seller's limit"),
    ("nothing at all", of(base_amount=0, quote_amount=0, seller_fee=0), "empty trade"),
    ("a price of an order for nothing", bought(base_amount=0), "order is filled"),
    ("more than the buyer's fee", of(buyer_fee=2), "above the buyer's fee"),
    ("more than the seller's fee", of(seller_fee=2), "above the seller's fee"),
    ("too much for the buyer", lambda s: more_than(s, BUYER), "order is filled"),
    ("too much for the seller", lambda s: more_than(s, SELLER), "order is filled"),
    ("a buy that is over", bought(expires_at=0), "order has expired"),
    ("a sell that is over", sold(expires_at=0), "order has expired"),
    ("a nobody's order", of(buyer=1004), "account has no owner"),
)


def more_than(signing: Signing, smaller: int) -> Trade:
    """Eleven at a price that both allow, where one ordered ten."""
    sizes = {BUYER: 11, SELLER: 11, smaller: 10}
    buy = signing.order(BUYER, buys=True, base_amount=sizes[BUYER], quote_amount=20 * sizes[BUYER])
    sell = signing.order(SELLER, buys=False, base_amount=sizes[SELLER], quote_amount=10 * sizes[SELLER])
    return signing.trade(signing.signed(buy), signing.signed(sell), base_amount=11, quote_amount=165)


class TestRefused:
    @pytest.mark.parametrize(("make", "reason"), [pytest.param(*row, id=name) for name, *row in REFUSED])
    def test_what_was_not_signed(self, untouched: Signing, make: Any, reason: str) -> None:
        assert refusal(untouched.settle_signed, make(untouched)).reason == reason
        assert [untouched.held(account) for account in KEYS] == [(HELD, HELD)] * 3

    def test_an_order_is_settled_until_its_last_second(self, signing: Signing) -> None:
        sell = signing.order(SELLER, buys=False, expires_at=signing.evm.now + 10)
        part = signing.trade(sell=signing.signed(sell), base_amount=1, quote_amount=15, seller_fee=0)
        signing.evm.wait(10)
        signing.settle_signed(part)
        signing.evm.wait(1)
        assert refusal(signing.settle_signed, part).reason == "order has expired"

    def test_who_and_when(self, signing: Signing) -> None:
        given = signed_lists([signing.trade()])
        for sender in (ADMIN, STRANGER, PAUSER):
            assert refusal(partial(signing.send_signed, given, sender=sender)).reason == "not the settler"
        for first in (signing.next() - 1, signing.next() + 1):
            with pytest.raises(Refused) as caught:
                signing.send_signed(given, first=first)
            assert isinstance(decode_revert(caught.value.data), NotNext)
        assert refusal(signing.settle_signed).reason == "no trades"
        signing.book.send(PAUSER, "set_paused", True)
        assert refusal(signing.send_signed, given).reason == "paused"

    def test_a_batch_is_not_settled_again(self, signing: Signing) -> None:
        given, first = signed_lists([signing.trade()]), signing.next()
        signing.send_signed(given, first=first)
        with pytest.raises(Refused) as caught:
            signing.send_signed(given, first=first)
        assert isinstance(decode_revert(caught.value.data), NotNext)
        assert refusal(signing.send_signed, given).reason == "order is filled"

    def test_who_cannot_pay_is_named(self, signing: Signing) -> None:
        sell = signing.order(SELLER, buys=False, base_amount=HELD + 1, quote_amount=100)
        buy = signing.order(BUYER, buys=True, base_amount=HELD + 1, quote_amount=200)
        trade = signing.trade(signing.signed(buy), signing.signed(sell), base_amount=HELD + 1)
        refused = decode_revert(refusal(signing.settle_signed, trade).data)
        assert isinstance(refused, _RefusedLeg)
        assert (refused.leg.account, refused.leg.token) == (account_key(SELLER), signing.btc.address)

    def test_all_of_a_batch_or_nothing(self, untouched: Signing) -> None:
        signing = untouched
        good, bad = signing.trade(base_amount=1, quote_amount=15, seller_fee=0), signing.trade(quote_amount=201)
        assert refusal(signing.settle_signed, good, bad).reason == "above the buyer's limit"
        assert signing.filled(signing.order(BUYER, buys=True)) == 0


sizes = st.integers(1, 1_000)


class TestAnyTrade:
    @settings(max_examples=60, deadline=None)
    @given(
        asked=st.tuples(sizes, sizes),
        limits=st.tuples(st.integers(1, 50), st.integers(1, 50)),
        maxima=st.tuples(st.integers(0, 5_000), st.integers(0, 5_000)),
        price=st.integers(1, 50),
        parts=st.lists(sizes, min_size=1, max_size=4),
        fees=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    )
    def test_is_taken_just_if_both_allow_it(
        self,
        asked: tuple[int, int],
        limits: tuple[int, int],
        maxima: tuple[int, int],
        price: int,
        parts: list[int],
        fees: tuple[int, int],
    ) -> None:
        signing = shared()
        before = {account: signing.held(account) for account in (BUYER, SELLER, 1)}
        name = f"o{signing.next()}"  # an order of its own each time
        buy, sell = (
            signing.order(
                account,
                buys=account == BUYER,
                base_amount=lots,
                quote_amount=lots * limit,
                fee_max_ppm=maximum,
                client_order_id=name,
            )
            for account, lots, limit, maximum in zip((BUYER, SELLER), asked, limits, maxima, strict=True)
        )
        texts, done = (signing.signed(buy), signing.signed(sell)), 0
        for lots in parts:
            paid = lots * price
            trade = signing.trade(*texts, base_amount=lots, quote_amount=paid, buyer_fee=fees[0], seller_fee=fees[1])
            may = limits[0] >= price >= limits[1] and done + lots <= min(asked)
            may = may and all(
                fee <= -(-received * maximum // 1_000_000)
                for fee, received, maximum in zip(fees, (lots, paid), maxima, strict=True)
            )
            if not may:
                refusal(signing.settle_signed, trade)
                continue
            signing.settle_signed(trade)
            done += lots
            moved = {BUYER: (lots - fees[0], -paid), SELLER: (-lots, paid - fees[1]), 1: fees}
            before = {who: (has[0] + moved[who][0], has[1] + moved[who][1]) for who, has in before.items()}
        assert {account: signing.held(account) for account in before} == before
        assert (signing.filled(buy), signing.filled(sell)) == (done, done)


_shared: list[Signing] = []


def shared() -> Signing:
    """One contract for all examples: each has orders of its own."""
    if not _shared:
        _shared.append(make_signing(held=10**12))
    # The name of an order is the next entry's: it must differ even where nothing was settled.
    number = _shared[0].next()
    _shared[0].settle(0, number, number)
    return _shared[0]
