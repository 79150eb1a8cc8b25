"""A market of signed orders, from the wallet to the chain: book, gateway and settler, and a contract that checks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import order_service_pb2 as pb
from eth_account import Account
from eth_account.messages import encode_typed_data
from google.protobuf.timestamp_pb2 import Timestamp

from services.cli import debts
from services.cli.devchain import DEV_KEY
from services.order_gateway.check import violations
from services.settler.contract import Chain, Delta, SettlementContract, Signer, account_key, load_abi
from services.settler.deploy import DirectTransact, ensure_clearbook
from services.signed_orders import (
    LIFE_SECONDS_MAX,
    SETTLED_WITHIN_SECONDS,
    Domain,
    SignedOrder,
    order_hash,
    typed_data,
)
from services.units import INSURANCE_ACCOUNT
from tests import gateways
from tests.gateways import Client, Exchange, limit, refused
from tests.settlers import FAUCET, Node, Settler, devchain, eventually, lying, running, settings, settler

SELLER, BUYER, LATER = (Account.from_key(bytes([number]) * 32) for number in (7, 8, 9))
WHOLE = 10**18
FAR_SECONDS = 600
GTD: dict[str, Any] = {"time_in_force": pb.TIME_IN_FORCE_GTD}
IOC: dict[str, Any] = {"time_in_force": pb.TIME_IN_FORCE_IOC}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(devchain(tmp_path_factory.mktemp("node"))) as started:
        yield started


@dataclass
class Market:
    """The exchange with BTC-USD in this mode, and two wallets' users in it."""

    exchange: Exchange
    settler: Settler
    contract: SettlementContract

    @property
    def domain(self) -> Domain:
        return Domain(self.contract.chain.chain_id, self.contract.address)

    def user(self, wallet: Any) -> Client:
        client: Client = self.exchange.user(wallet.address.lower())
        return client

    def account(self, wallet: Any) -> int:
        return self.exchange.gateway.ledger.account_ids[wallet.address.lower()]

    def order(self, wallet: Any, side: str, name: str = "o1", **signed: Any) -> SignedOrder:
        """One BTC at 30,000 USD."""
        asked = SignedOrder(
            self.account(wallet), "BTC", "USD", side == "BUY", WHOLE, 30_000 * WHOLE, 2_000, expiry(), name
        )
        return asked._replace(**signed)

    def request(self, wallet: Any, order: SignedOrder, **more: Any) -> pb.PlaceOrderRequest:
        """Of one BTC at 30,000 USD, with the signature of that order."""
        message = encode_typed_data(full_message=typed_data(order, more.pop("domain", self.domain)))
        signature = wallet.sign_message(message).signature.to_0x_hex()
        given = pb.OrderSignature(fee_max_ppm=order.fee_max_ppm, expires_at=order.expires_at, signature=signature)
        fields = GTD | {"expire_time": Timestamp(seconds=end()), "signature": given} | more
        if fields["time_in_force"] != pb.TIME_IN_FORCE_GTD:
            del fields["expire_time"]
        side = fields.pop("side", "BUY" if order.buys else "SELL")
        price, quantity = fields.pop("price", "30000.00"), fields.pop("quantity", "1")
        return limit(side, price, quantity, fields.pop("client_order_id", order.client_order_id), **fields)


def end() -> int:
    return int(time.time()) + FAR_SECONDS


def expiry() -> int:
    return end() + SETTLED_WITHIN_SECONDS + FAR_SECONDS


@pytest.fixture
async def market(node: Node, tmp_path: Path) -> AsyncIterator[Market]:
    chain = await Chain.connect(node.url)
    signer = Signer(DEV_KEY)
    address = await ensure_clearbook(chain, DirectTransact(chain, signer), signer.address, reuse=False)
    told: dict[str, Any] = {"chain_id": chain.chain_id, "settlement_contract_address": address}
    async with gateways.exchange(tmp_path, fund=False, **told) as exchange:
        book = f"127.0.0.1:{exchange.book.port}"
        given = settings(f"sqlite:///{tmp_path}/settler.sqlite", book, node.url, **told)
        async with settler(given) as one:
            contract = await SettlementContract.on(chain, address, load_abi())
            made = Market(exchange, one, contract)
            ledger = exchange.gateway.ledger
            await eventually(lambda: len(ledger.balances.get(FAUCET, {})) == len(ledger.assets))
            for wallet in (SELLER, BUYER):
                await made.user(wallet).balances()
            rule = admin_pb.SetMarketRulesRequest(market="BTC-USD", signed_orders=True, reason="because")
            await exchange.user("admin").administer("SetMarketRules", rule)
            yield made
            assert violations(exchange.gateway.ledger) == []
    await chain.close()


BAD: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, str]]] = [
    ("more than was signed", {}, {"quantity": "2"}, ("INVALID_SIGNATURE", "signature.signature")),
    ("another price", {}, {"price": "30001.00"}, ("INVALID_SIGNATURE", "signature.signature")),
    ("another account", {"account_id": 1999}, {}, ("INVALID_SIGNATURE", "signature.signature")),
    ("another market", {"base": "ETH"}, {}, ("INVALID_SIGNATURE", "signature.signature")),
    ("the other side", {}, {"side": "BUY"}, ("INVALID_SIGNATURE", "signature.signature")),
    ("another chain", {}, {"domain": Domain(1, "0x" + "11" * 20)}, ("INVALID_SIGNATURE", "signature.signature")),
    ("a fee below the rates", {"fee_max_ppm": 1_999}, {}, ("INVALID_SIGNATURE", "signature.fee_max_ppm")),
    ("a fee that is none", {"fee_max_ppm": 1_000_001}, {}, ("INVALID_FIELD", "signature.fee_max_ppm")),
    ("too soon over", {"expires_at": 1}, {}, ("INVALID_SIGNATURE", "signature.expires_at")),
    ("no time", {"expires_at": 2**63}, {}, ("INVALID_FIELD", "signature.expires_at")),
    ("too late over", {"expires_at": 2**40}, {}, ("INVALID_SIGNATURE", "signature.expires_at")),
    ("no end", {}, {"time_in_force": pb.TIME_IN_FORCE_GTC}, ("INVALID_SIGNATURE", "time_in_force")),
    ("an iceberg", {}, {"display_quantity": "0.1"}, ("INVALID_SIGNATURE", "display_quantity")),
    ("a minimum", {}, {"min_quantity": "0.1"}, ("INVALID_SIGNATURE", "min_quantity")),
    (
        "one that moves away",
        {},
        {"post_only": True, "post_only_mode": pb.POST_ONLY_MODE_REPRICE},
        ("INVALID_SIGNATURE", "post_only_mode"),
    ),
    (
        "one that waits",
        {},
        {"trigger": pb.TRIGGER_STOP, "trigger_price": "1.00"},
        ("INVALID_SIGNATURE", "trigger"),
    ),
    ("nobody's name", {}, {"client_order_id": ""}, ("INVALID_SIGNATURE", "client_order_id")),
    (
        "no hexadecimal",
        {},
        {"signature": pb.OrderSignature(signature="0x12")},
        ("INVALID_FIELD", "signature.signature"),
    ),
    ("another market's mode", {}, {"market": "ETH-USD"}, ("INVALID_SIGNATURE", "signature")),
]
"""What is signed otherwise, what is asked otherwise, and the refusal."""


async def test_what_the_chain_would_not_take_is_refused(market: Market) -> None:
    ann = market.user(SELLER)
    for what, signed, asked, (reason, field) in BAD:
        request = market.request(SELLER, market.order(SELLER, "SELL", **signed), **asked)
        code, *told = await refused(ann.place(request))
        assert (code, *told) == ("INVALID_ARGUMENT", reason, field), what
    plain = limit("SELL", "30000.00", "1")
    assert (await refused(ann.place(plain)))[1] == "SIGNATURE_REQUIRED"
    sell_at_market = gateways.market("SELL", "1")
    assert (await refused(ann.place(sell_at_market)))[1] == "SIGNATURE_REQUIRED"
    another = market.request(BUYER, market.order(SELLER, "SELL"))
    assert (await refused(ann.place(another)))[1:] == ("INVALID_SIGNATURE", "signature.signature")
    nobody = market.exchange.user("carol")
    await nobody.balances()
    assert (await refused(nobody.place(another)))[1:] == ("INVALID_SIGNATURE", "signature")
    late = int(time.time()) + LIFE_SECONDS_MAX + 2 * SETTLED_WITHIN_SECONDS
    far = market.request(SELLER, market.order(SELLER, "SELL"), expire_time=Timestamp(seconds=late))
    assert (await refused(ann.place(far)))[1:] == ("INVALID_SIGNATURE", "signature.expires_at")


async def test_trades_are_settled_with_both_signatures(market: Market) -> None:
    ann, bob = market.user(SELLER), market.user(BUYER)
    sell, buy = (
        market.order(SELLER, "SELL"),
        market.order(BUYER, "BUY", base_amount=WHOLE // 4, quote_amount=7_600 * WHOLE),
    )
    placed = await ann.place(asked := market.request(SELLER, sell))
    assert (await ann.place(asked)).order.order_id == placed.order.order_id, "sent again it is the same order"
    replace = pb.ReplaceOrderRequest(order_id=placed.order.order_id, quantity="0.5")
    with pytest.raises(grpc.aio.AioRpcError) as stays:
        await ann.orders.ReplaceOrder(replace, metadata=ann.metadata, timeout=15)
    assert "stays as it was signed" in str(stays.value.details())
    taken = await bob.place(market.request(BUYER, buy, quantity="0.25", price="30400.00", **IOC))
    (execution,) = taken.executions
    assert (execution.price, execution.quantity) == ("30000.00", "0.25")
    ledger = market.exchange.gateway.ledger
    await eventually(lambda: ledger.final_through >= execution.settlement_sequence)

    for order in (sell, buy):
        filled = market.contract.calldata("filled", order_hash(order, market.domain))
        assert int.from_bytes(await market.contract.chain.call(market.contract.address, filled)) == WHOLE // 4
    for wallet in (SELLER, BUYER):
        account = market.account(wallet)
        assert await market.contract.owner(account_key(account)) == wallet.address
        for symbol in ("BTC", "USD"):
            token = await market.contract.token_of(symbol)
            assert token is not None
            on_chain = await market.contract.balance(account_key(account), token)
            asset = next(each for each in ledger.assets.values() if each.symbol == symbol)
            assert on_chain == ledger.balance(account, asset.asset_id).total
    await ann.cancel(order_id=placed.order.order_id)


async def robbed(market: Market, wallet: Any, leaves: int) -> None:
    """Somebody with the settler's key gives insurance the wallet's BTC on chain, all but so many base units."""
    ledger, contract = market.exchange.gateway.ledger, market.contract
    faucet = ledger.balances[FAUCET]
    await eventually(lambda: len(faucet) == len(ledger.assets) and not any(each.unsettled for each in faucet.values()))
    token, account = await contract.token_of("BTC"), account_key(market.account(wallet))
    assert token is not None
    taken = await contract.balance(account, token) - leaves
    legs = [Delta(account, token, -taken), Delta(account_key(INSURANCE_ACCOUNT), token, taken)]
    number = await contract.settled_through(0) + 1
    data = contract.settle_calldata(0, number, number, legs)
    await DirectTransact(contract.chain, Signer(DEV_KEY))(contract.address, data, 300_000)
    assert await contract.settled_through(0) == number


async def filled(market: Market, order: SignedOrder) -> int:
    """What the chain counts as filled of an order."""
    asked = market.contract.calldata("filled", order_hash(order, market.domain))
    return int.from_bytes(await market.contract.chain.call(market.contract.address, asked))


@pytest.mark.parametrize("lies", [0, 2])
async def test_whose_leg_the_chain_refuses_keeps_nobody_waiting(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lies: int
) -> None:
    """What fits is settled as it was signed, what the seller cannot pay without, what comes after as signed again.

    Whether the node says so at once, or only of a batch that is stored, sent, and has reverted.
    """
    ann, bob = market.user(SELLER), market.user(BUYER)
    await robbed(market, SELLER, leaves=WHOLE // 10)
    await market.exchange.user("carol").balances()  # the first of what the faucet gives comes where the robber's was
    cat = market.user(LATER)
    await cat.balances()
    ledger = market.exchange.gateway.ledger

    async def bought(seller: Client, wallet: Any, name: str, part: int, quantity: str) -> tuple[SignedOrder, int]:
        sell = market.order(wallet, "SELL", name, base_amount=part, quote_amount=part * 30_000)
        buy = market.order(BUYER, "BUY", name, base_amount=part, quote_amount=part * 30_000)
        await seller.place(market.request(wallet, sell, quantity=quantity))
        (execution,) = (await bob.place(market.request(BUYER, buy, quantity=quantity, **IOC))).executions
        return buy, execution.settlement_sequence

    fits, last = await bought(ann, SELLER, "fits", WHOLE // 16, "0.0625")
    if lies:  # a stored batch is netted whole
        await eventually(lambda: ledger.final_through >= last)
    lying(monkeypatch, lies)
    lacks, last = await bought(ann, SELLER, "lacks", WHOLE // 4, "0.25")
    await eventually(lambda: ledger.final_through >= last)
    debt = WHOLE // 4 + WHOLE // 16 - WHOLE // 10
    (owed,) = await debts.listed(f"sqlite:///{tmp_path}/settler.sqlite")
    assert (owed.account_id, owed.asset, owed.amount) == (market.account(SELLER), "BTC", debt)
    await market.settler.healthy()

    after, last = await bought(cat, LATER, "after", WHOLE // 8, "0.125")
    await eventually(lambda: ledger.final_through >= last)
    assert [await filled(market, order) for order in (fits, lacks, after)] == [WHOLE // 16, 0, WHOLE // 8]
    token = await market.contract.token_of("BTC")
    assert token is not None
    on_chain = await market.contract.balance(account_key(market.account(BUYER)), token)
    asset = next(each for each in ledger.assets.values() if each.symbol == "BTC")
    assert on_chain == ledger.balance(market.account(BUYER), asset.asset_id).total, "whoever is to receive has all"
    frozen = market.request(SELLER, market.order(SELLER, "SELL", "frozen"))
    assert (await refused(ann.place(frozen)))[1] == "ACCOUNT_FROZEN"
