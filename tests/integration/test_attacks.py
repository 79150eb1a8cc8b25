"""Every RPC that needs a credential against every attack of a list, over gRPC and through the shim's entrance.

None gets in. What is wrong with a credential is never told: all are one answer. What the attacks ask for would have an
effect: they name alice's own order, key and withdrawal, and at the end each of them is done with the right credential.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.internal.v1 import forward_service_pb2 as forward
from clearbook.internal.v1 import forward_service_pb2_grpc as forward_grpc
from clearbook.v1 import account_service_pb2 as accounts
from clearbook.v1 import admin_service_pb2 as admin
from clearbook.v1 import order_service_pb2 as orders
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.rpc import status_pb2

from clearbook.credentials import signing_payload
from services.errors import Reason
from services.order_gateway.identity import keyring
from services.order_gateway.methods import Access, Method
from services.runtime import rpc
from tests import gateways, keys
from tests.gateways import Exchange, limit, market_state
from tests.keys import ADMIN, BEARER, ED25519, ELSEWHERE, HERE, HMAC, READ, TRADE, WITHDRAW, Held, now_ms, raw
from tests.ledgers import state

AUDIENCE = "clearbook"
TAMPERED = b"\xa2\x06\x01x"
"""A field that no message knows: whatever the method, it parses."""
WRONG = ("UNAUTHENTICATED", Reason.UNAUTHENTICATED.text)
DENIED = "PERMISSION_DENIED"
EXPIRES_MS = 500


@dataclass(frozen=True)
class Stage:
    """A running exchange, and the keys of those in the play."""

    exchange: Exchange
    alice: Held
    bob: Held
    operator: Held
    reader: Held
    stranger: Held
    elsewhere: Held
    expired: Held
    revoked: Held
    token: Held
    revoked_token: Held
    secret: Held
    requests: Mapping[str, Message]
    """By RPC: one that has an effect, on what is alice's where that is possible."""

    def right(self, method: Method) -> Held:
        """A key that may call this method."""
        return self.operator if method.access in OPERATORS else self.alice

    def request(self, method: Method) -> bytes:
        """What an attack asks for."""
        return self.requests.get(method.rpc, Empty()).SerializeToString()

    def short(self, method: Method) -> Held:
        """A good key without the scope that this method needs."""
        if method.access in OPERATORS:
            return self.alice
        return self.operator if method.access is Access.READ else self.reader


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    settings = {**keys.REQUIRED, "fee_tiers": f"{OTHER_TIER}:1000000000:0:0"}
    async with gateways.exchange(folder, **settings) as exchange, keys.operating(exchange.gateway.port) as root:
        alice = await root.key("alice", ED25519, TRADE, WITHDRAW, allowed_ips=[HERE])
        requests = await what_is_alices(root, alice, exchange.gateway.port)
        soon = {"expire_time": keys.stamp(now_ms() + EXPIRES_MS)}
        stage = Stage(
            exchange,
            alice=alice,
            requests=requests,
            bob=await root.key("bob", ED25519, TRADE, WITHDRAW, allowed_ips=[HERE]),
            operator=await root.key("oscar", ED25519, ADMIN),
            reader=await root.key("alice", ED25519, READ),
            stranger=keys.Held("0123456789abcdef", ED25519, "", b"s" * 32),
            elsewhere=await root.key("alice", ED25519, TRADE, WITHDRAW, ADMIN, allowed_ips=[ELSEWHERE]),
            expired=await root.key("alice", ED25519, TRADE, WITHDRAW, ADMIN, allowed_ips=[HERE], **soon),
            revoked=await root.key("alice", ED25519, TRADE, WITHDRAW, ADMIN, allowed_ips=[HERE]),
            token=await root.key("alice", BEARER, TRADE),
            revoked_token=await root.key("alice", BEARER, TRADE, ADMIN),
            secret=await root.key("alice", HMAC, TRADE, WITHDRAW, allowed_ips=[HERE]),
        )
        await root.revoke(stage.revoked.key_id)
        await root.revoke(stage.revoked_token.key_id)
        while now_ms() <= soon["expire_time"].ToMilliseconds():
            await asyncio.sleep(0.05)
        yield stage


ADDRESS = "0x" + "ab" * 20
WALLET: LocalAccount = Account.create()
OTHER_TIER = "other"


async def what_is_alices(root: keys.Operator, alice: Held, port: int) -> dict[str, Message]:
    """Gives alice funds, an order, a withdrawal, a wallet and a key; freezes bob; returns a request for each change."""
    spare = await root.key("alice", BEARER, TRADE)
    for asset, amount in (("BTC", "10"), ("USD", "100000")):
        grant = admin.GrantFundsRequest(
            transfer_id=f"g-{asset}", user="alice", asset=asset, amount=amount, reason="because"
        )
        await root.client.administer("GrantFunds", grant)
    withdrawal = accounts.CreateWithdrawalRequest(transfer_id="w", asset="BTC", amount="1", address=ADDRESS)
    another = accounts.CreateWithdrawalRequest(transfer_id="mine", asset="BTC", amount="1", address=ADDRESS)
    async with keys.signing(port, alice) as client:
        order = (await client.place(limit("SELL", "30000.00", "0.01", "mine"))).order.order_id
        await client.money("CreateWithdrawal", withdrawal)
        sign_in = await client.accounts.CreateSignIn(accounts.CreateSignInRequest(address=WALLET.address))
        signature = bytes(WALLET.sign_message(encode_defunct(text=sign_in.message)).signature)
        await client.accounts.SignIn(accounts.SignInRequest(message=sign_in.message, signature=signature))
    await root.client.administer("CreateAccount", admin.CreateAccountRequest(user="bob"))
    await root.client.administer("FreezeAccount", admin.FreezeAccountRequest(user="bob", reason="because"))
    (asked,) = (await root.client.administer("ListWithdrawals", admin.ListWithdrawalsRequest())).withdrawals
    new_key = accounts.CreateApiKeyRequest(kind=BEARER, scopes=[TRADE])
    market = admin.CreateMarketRequest(market="EVIL-USD", tick_size="0.01", lot_size="0.0001")
    taken = {"transfer_id": "taken", "asset": "BTC", "amount": "1"}
    stop: dict[str, Any] = {"trigger": orders.TRIGGER_STOP, "trigger_price": "29000.00"}
    exits = [limit("SELL", "32000.00", "0.01", "one"), limit("SELL", "28000.00", "0.01", "other", **stop)]
    return {
        "GetOrder": orders.GetOrderRequest(order_id=order),
        "ListExecutions": orders.ListExecutionsRequest(order_id=order),
        "PlaceOrder": limit("SELL", "31000.00", "0.01", "attack"),
        "PlaceOrders": orders.PlaceOrdersRequest(orders=[limit("SELL", "31000.00", "0.01", "attacks")]),
        "Trade": orders.TradeRequest(orders=[limit("SELL", "31000.00", "0.01", "traded")]),
        "PlaceGroup": orders.PlaceGroupRequest(exits=exits),
        "ReplaceOrder": orders.ReplaceOrderRequest(order_id=order, quantity="0.02"),
        "ReplaceOrders": orders.ReplaceOrdersRequest(
            orders=[orders.ReplaceOrderRequest(order_id=order, quantity="0.03")]
        ),
        "CancelOrder": orders.CancelOrderRequest(order_id=order),
        "CancelOrders": orders.CancelOrdersRequest(orders=[orders.CancelOrderRequest(order_id=order)]),
        "CancelAllOrders": orders.CancelAllOrdersRequest(),
        "CancelAfter": orders.CancelAfterRequest(seconds=60),
        "SetTradingDefaults": orders.SetTradingDefaultsRequest(
            self_trade_prevention=orders.SELF_TRADE_PREVENTION_CANCEL_OLDEST
        ),
        "CreateTransfer": accounts.CreateTransferRequest(to_user="bob", **taken),
        "CreateWithdrawal": another,
        "CancelWithdrawal": accounts.CancelWithdrawalRequest(transfer_id="w"),
        "AddWithdrawalAddress": accounts.AddWithdrawalAddressRequest(address=ADDRESS),
        "RemoveWithdrawalAddress": accounts.RemoveWithdrawalAddressRequest(address=ADDRESS),
        "SetWithdrawalAddressesOnly": accounts.SetWithdrawalAddressesOnlyRequest(only=True),
        "CreateApiKey": new_key,
        "RevokeApiKey": accounts.RevokeApiKeyRequest(key_id=spare.key_id),
        "CreateAsset": admin.CreateAssetRequest(symbol="EVIL"),
        "CreateMarket": market,
        "SetMarketState": market_state("CLOSED"),
        "SetMarketRules": admin.SetMarketRulesRequest(market="BTC-USD", quantity_max="1", reason="because"),
        "SetReferencePrice": admin.SetReferencePriceRequest(market="BTC-USD", price="1.00", source="mallory"),
        "CreateAccount": admin.CreateAccountRequest(user="mallory"),
        "CreateUserApiKey": admin.CreateUserApiKeyRequest(user="alice", key=new_key),
        "RevokeUserApiKey": admin.RevokeUserApiKeyRequest(key_id=spare.key_id),
        "GrantFunds": admin.GrantFundsRequest(
            transfer_id="more", user="bob", asset="BTC", amount="1", reason="because"
        ),
        "AdjustBalance": admin.AdjustBalanceRequest(from_user="alice", to_user="fees", reason="because", **taken),
        "SetFeeTier": admin.SetFeeTierRequest(user="alice", tier=OTHER_TIER),
        "ApproveWithdrawal": admin.ApproveWithdrawalRequest(withdrawal_id=asked.withdrawal_id),
        "SetWithdrawalRules": admin.SetWithdrawalRulesRequest(asset="BTC", amount_max="1", reason="because"),
        "RejectWithdrawal": admin.RejectWithdrawalRequest(withdrawal_id=asked.withdrawal_id, reason="because"),
        "FreezeAccount": admin.FreezeAccountRequest(user="alice", reason="because"),
        "UnfreezeAccount": admin.UnfreezeAccountRequest(user="bob", reason="because"),
        "UnlinkWallet": admin.UnlinkWalletRequest(user="alice", reason="because"),
    }


TOO_LATE = {"ApproveWithdrawal": "FAILED_PRECONDITION"}
"""At the end alice has canceled it."""
DONE_ALREADY = {"CancelOrders", "RejectWithdrawal", "RevokeUserApiKey", *TOO_LATE}
"""Another one before it has ended the same."""
READS = {"GetOrder", "ListExecutions", "CancelAfter"}
"""Of the last one only the book keeps something."""


async def standing(stage: Stage) -> str:
    """All that there is, but for how far the journal is and when keys were last used."""
    async with keys.signing(stage.exchange.gateway.port, stage.alice) as alice:
        listed = (await alice.money("ListApiKeys", accounts.ListApiKeysRequest(page_size=500))).keys
        wallet = (await alice.accounts.GetSession(accounts.GetSessionRequest())).wallet_address
    async with keys.signing(stage.exchange.gateway.port, stage.operator) as operator:
        found = (await operator.administer("ListAccounts", admin.ListAccountsRequest(page_size=500))).accounts
    known = state(stage.exchange.gateway.ledger) | {"cursor": ""}
    of_accounts = [(account.user, account.fee_tier, account.freeze_reason) for account in found]
    return repr((known, wallet, of_accounts, [(key.key_id, key.HasField("revoke_time")) for key in listed]))


Metadata = dict[str, str | bytes]


def signed(
    held: Held,
    method: str,
    request: bytes = b"",
    *,
    as_key: str = "",
    audience: str = AUDIENCE,
    behind_ms: int = 0,
    window: str = "5000",
    nonce: str = "",
) -> Metadata:
    """A signature, right or bent."""
    timestamp, nonce = str(now_ms() - behind_ms), nonce or keys.nonce()
    payload = signing_payload(method, audience, timestamp, window, nonce, request)
    return {
        "x-api-key": as_key or held.key_id,
        "x-timestamp": timestamp,
        "x-recv-window": window,
        "x-nonce": nonce,
        "x-signature-bin": held.sign(payload),
    }


def made(stage: Stage, of: Method, held: Held, *, method: str = "", request: bytes = b"", **bent: Any) -> Metadata:
    """A signature for the stage's request of a method, or for another one. A stream of requests is not covered."""
    asked = b"" if of.talks is not None else stage.request(of)
    return signed(held, method or of.name, request or asked, **bent)


Attack = Callable[[Stage, Method], Metadata]

ATTACKS: dict[str, Attack] = {
    "no credential": lambda _s, _m: {},
    "only a name": lambda _s, _m: {"x-clearbook-user": "alice"},
    "only a key's id": lambda s, m: {"x-api-key": s.right(m).key_id},
    "an unknown key": lambda s, m: made(s, m, s.stranger),
    "a signature by another key": lambda s, m: made(s, m, s.stranger, as_key=s.right(m).key_id),
    "a signature of the wrong kind": lambda s, m: made(s, m, s.secret, as_key=s.right(m).key_id),
    "no signature": lambda s, m: {**made(s, m, s.right(m)), "x-signature-bin": b""},
    "a signature cut off": lambda s, m: {**made(s, m, s.right(m)), "x-signature-bin": b"s" * 63},
    "a forged token": lambda _s, _m: {"authorization": "Bearer " + "x" * 43},
    "an empty token": lambda _s, _m: {"authorization": "Bearer "},
    "another scheme": lambda s, _m: {"authorization": f"Basic {s.token.secret}"},
    "a key's id as token": lambda s, m: {"authorization": f"Bearer {s.right(m).key_id}"},
    "a revoked token": lambda s, _m: {"authorization": f"Bearer {s.revoked_token.secret}"},
    "an expired key": lambda s, m: made(s, m, s.expired),
    "a revoked key": lambda s, m: made(s, m, s.revoked),
    "from another address": lambda s, m: made(s, m, s.elsewhere),
    "for another method": lambda s, m: made(s, m, s.right(m), method="/clearbook.v1.AccountService/NoSuchMethod"),
    "for another audience": lambda s, m: made(s, m, s.right(m), audience="elsewhere"),
    "as another account's key": lambda s, m: made(s, m, s.right(m), as_key=s.bob.key_id),
    "for another body": lambda s, m: made(s, m, s.right(m), request=TAMPERED),
    "stale": lambda s, m: made(s, m, s.right(m), behind_ms=5_001),
    "stale beyond any window": lambda s, m: made(s, m, s.right(m), behind_ms=60_001, window="60000"),
    "from the future": lambda s, m: made(s, m, s.right(m), behind_ms=-2_000),
    "a window too wide": lambda s, m: made(s, m, s.right(m), window="60001"),
    "another window than signed": lambda s, m: {**made(s, m, s.right(m)), "x-recv-window": "60000"},
    "another time than signed": lambda s, m: {**made(s, m, s.right(m)), "x-timestamp": str(now_ms() + 1)},
    "another nonce than signed": lambda s, m: {**made(s, m, s.right(m)), "x-nonce": "other"},
    "the method in another case": lambda s, m: made(s, m, s.right(m), method=m.name.lower()),
    "a bad signature beside a good token": lambda s, m: {
        **made(s, m, s.stranger),
        "authorization": f"Bearer {s.token.secret}",
    },
}
REFUSED: dict[str, Attack] = {
    "a good key without the scope": lambda s, m: made(s, m, s.short(m)),
    "in another user's name": lambda s, m: {**made(s, m, s.right(m)), "x-clearbook-user": "bob"},
    "in one's own name in another case": lambda s, m: {**made(s, m, s.right(m)), "x-clearbook-user": "ALICE"},
}
"""By somebody known: told that it is not theirs to do."""


async def test_none_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "REFRESH_SECONDS_MIN", 0.0)  # else each of a thousand wrong ones waits for its look
    async with staged(tmp_path) as stage, rpc.connect(f"127.0.0.1:{stage.exchange.gateway.port}") as channel:
        guarded = {method.rpc: method for method in stage.exchange.gateway.methods if method.access not in OPEN}
        assert len(guarded) >= 20
        changing = {name for name, method in guarded.items() if method.access is not Access.READ and not method.reads}
        assert changing <= stage.requests.keys(), "an RPC that changes something is asked for nothing"
        before = await standing(stage)
        for method in guarded.values():
            await _one_method(stage, channel, method)
        await _through_the_shim(stage, [method for method in guarded.values() if method.handler is not None])
        assert await standing(stage) == before
        for name, request in stage.requests.items():
            method, body = guarded[name], request.SerializeToString()
            right = made(stage, method, stage.right(method))
            code, why = await raw(channel, method.name, right, body, streams=method.talks is not None)
            assert code == TOO_LATE.get(name, "OK"), (name, "without effect", why)
            after = await standing(stage)
            assert (after != before) == (name not in READS | DONE_ALREADY), (name, "has no effect that can be seen")
            before = after


OPEN = {Access.PUBLIC, Access.ANYBODY}
OPERATORS = {Access.ADMIN, Access.REFERENCE_PRICE}


HARMLESS: dict[str, Message] = {"CancelAllOrders": orders.CancelAllOrdersRequest(market="ETH-USD")}
"""What the right credential asks for where nothing at all would be something."""


def harmless(method: Method) -> bytes:
    return HARMLESS.get(method.rpc, Empty()).SerializeToString()


async def _one_method(stage: Stage, channel: grpc.aio.Channel, method: Method) -> None:
    streams = method.handler is None

    async def call(metadata: Mapping[str, str | bytes], request: bytes = b"") -> tuple[str, str]:
        return await raw(channel, method.name, metadata, request, streams=streams)

    asked = stage.request(method)
    for name, attack in ATTACKS.items():
        assert await call(attack(stage, method), asked) == WRONG, (method.name, name)
    for name, attack in REFUSED.items():
        assert (await call(attack(stage, method), asked))[0] == DENIED, (method.name, name)
    nothing = harmless(method)
    good = signed(stage.right(method), method.name, nothing)
    if method.talks is None:
        assert await call(good, TAMPERED) == WRONG, (method.name, "a changed body")
    assert (await call(good, nothing))[0] not in {"UNAUTHENTICATED", DENIED}, (method.name, "the right credential")
    assert await call(good, nothing) == WRONG, (method.name, "replayed")
    fresh = signed(stage.right(method), method.name, nothing, nonce=str(good["x-nonce"]))
    assert await call(fresh, nothing) == WRONG, (method.name, "a nonce used again")


# Through the shim's entrance: the REST scheme.


def rest(held: Held, payload: bytes, *, as_key: str = "", text: str = "") -> forward.Signed:
    raw_signature = held.sign(payload)
    right = raw_signature.hex() if held.kind == HMAC else base64.b64encode(raw_signature).decode()
    return forward.Signed(key_id=as_key or held.key_id, payload=payload, signature=text or right)


def query(behind_ms: int = 0, window: int = 5_000) -> bytes:
    return f"x={keys.nonce()}&timestamp={now_ms() - behind_ms}&recvWindow={window}".encode()


RestAttack = Callable[[Stage, Method], forward.Signed]

REST_ATTACKS: dict[str, RestAttack] = {
    "an unknown key": lambda s, _m: rest(s.stranger, query()),
    "a signature by another key": lambda s, m: rest(s.stranger, query(), as_key=s.right(m).key_id),
    "a forged signature": lambda s, m: rest(s.right(m), query(), text="ab" * 32),
    "no signature": lambda s, m: forward.Signed(key_id=s.right(m).key_id, payload=query()),
    "a revoked key": lambda s, _m: rest(s.revoked, query()),
    "an expired key": lambda s, _m: rest(s.expired, query()),
    "from another address": lambda s, _m: rest(s.elsewhere, query()),
    "stale": lambda s, m: rest(s.right(m), query(behind_ms=5_001)),
    "from the future": lambda s, m: rest(s.right(m), query(behind_ms=-2_000)),
    "a window too wide": lambda s, m: rest(s.right(m), query(window=60_001)),
    "no time": lambda s, m: rest(s.right(m), b"x=1"),
    "two times": lambda s, m: rest(s.right(m), b"timestamp=5&" + query()),
    "as another account's key": lambda s, m: rest(s.right(m), query(), as_key=s.bob.key_id),
}


async def _through_the_shim(stage: Stage, methods: list[Method]) -> None:
    async with rpc.connect(f"127.0.0.1:{stage.exchange.gateway.forward_port}") as channel:
        call = forward_grpc.ForwardServiceStub(channel).Forward()
        for method in methods:
            asked = stage.request(method)
            for name, attack in REST_ATTACKS.items():
                assert await _forward(call, method, attack(stage, method), asked) == WRONG, (method.name, name)
            tampered = rest(stage.right(method), query())
            tampered.payload += b"0"
            assert await _forward(call, method, tampered, asked) == WRONG, (method.name, "a changed payload")
            good = rest(stage.right(method), query())
            assert (await _forward(call, method, good, asked, user="bob"))[0] == DENIED, (method.name, "another's name")
            assert await _forward(call, method, good, asked) == WRONG, (method.name, "replayed")
            good = rest(stage.right(method), query())
            assert (await _forward(call, method, good, harmless(method)))[0] not in {"UNAUTHENTICATED", DENIED}, (
                method.name
            )
            assert await _forward(call, method, good, asked) == WRONG, (method.name, "replayed")
            assert (await _forward(call, method, rest(stage.short(method), query()), asked))[0] == DENIED, method.name
        good = rest(stage.secret, query())
        assert (await _forward(call, methods[0], good))[0] not in {"UNAUTHENTICATED", DENIED}
        good.signature = good.signature.upper()
        assert await _forward(call, methods[0], good) == WRONG, "replayed with its signature in another case"
        await call.done_writing()


async def _forward(
    call: grpc.aio.StreamStreamCall[forward.ForwardRequest, forward.ForwardResponse],
    method: Method,
    given: forward.Signed,
    request: bytes = b"",
    *,
    user: str = "",
) -> tuple[str, str]:
    metadata = {"x-clearbook-user": user} if user else {}
    item = forward.ForwardRequest(
        id=1, method=method.name, request=request, metadata=metadata, peer="127.0.0.1", signed=given
    )
    await call.write(item)
    answer = await asyncio.wait_for(call.read(), 15)
    assert isinstance(answer, forward.ForwardResponse)
    if not answer.status:
        return "OK", ""
    status = status_pb2.Status.FromString(answer.status)
    return rpc.code_of(status).name, status.message


@pytest.mark.parametrize("attack", ["a forged token", "an unknown key", "a signature by another key"])
async def test_who_guesses_is_told_to_wait(tmp_path: Path, attack: str) -> None:
    limited = {**keys.REQUIRED, "auth_failures_max": 3}
    async with gateways.exchange(tmp_path, fund=False, **limited) as exchange:
        stage = await _small(exchange)
        method = next(method for method in exchange.gateway.methods if method.rpc == "ListBalances")
        async with rpc.connect(f"127.0.0.1:{exchange.gateway.port}") as channel:
            for _ in range(3):
                wrong = ATTACKS[attack](stage, method)
                assert await raw(channel, method.name, wrong, streams=False) == WRONG
            code, text = await raw(channel, method.name, ATTACKS[attack](stage, method), streams=False)
            assert (code, text[:27]) == ("RESOURCE_EXHAUSTED", "too many wrong credentials ")
            right = signed(stage.alice, method.name)
            assert await raw(channel, method.name, right, streams=False) == ("OK", ""), "from the same address"


async def _small(exchange: Exchange) -> Stage:
    async with keys.operating(exchange.gateway.port) as root:
        alice = await root.key("alice", ED25519, TRADE)
    stranger = keys.Held("0123456789abcdef", ED25519, "", b"s" * 32)
    return Stage(exchange, alice, alice, alice, alice, stranger, alice, alice, alice, alice, alice, alice, {})
