"""Identity over real gRPC: who may make which key, what ends with a key, wallets, restarts, two gateways, secrets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import order_service_pb2 as order_pb
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from google.protobuf.descriptor import Descriptor

from bench import identity
from clearbook.credentials import Bearer, User, signing_payload
from services.order_gateway.identity import issuer
from services.order_gateway.identity.addresses import networks_of
from services.order_gateway.identity.issuer import bootstrap_key
from services.order_gateway.identity.key import Key, KeyKind
from services.order_gateway.identity.key_store import MIGRATIONS, KeyStore, Link
from services.order_gateway.identity.proof import token_hash
from services.order_gateway.identity.scopes import Scope
from services.order_gateway.identity.settings import SCHEMA
from services.order_gateway.store import MIGRATIONS as LEDGER_MIGRATIONS
from services.runtime import rpc
from services.runtime.db import Conflict, Database, Statement
from services.runtime.migrate import migrate
from services.runtime.run import StartError
from tests import books, gateways, keys
from tests.backends import Backends
from tests.gateways import Client, Exchange, limit, refused
from tests.keys import ADMIN, BEARER, ED25519, ELSEWHERE, HERE, HMAC, READ, TRADE, WITHDRAW, Held, Operator, signing
from tests.suite import free_ports

REVOKED_SECONDS_MAX = 1.0


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path, **keys.REQUIRED) as running:
        yield running


@pytest.fixture
async def operator(exchange: Exchange) -> AsyncIterator[Operator]:
    async with keys.operating(exchange.gateway.port) as one:
        yield one


async def make(client: Client, kind: int = ED25519, *scopes: int, **more: Any) -> Held:
    return await keys.new_key(client.accounts.CreateApiKey, kind, *scopes, **more)


async def listed(client: Client) -> dict[str, pb.ApiKey]:
    answer = await client.accounts.ListApiKeys(pb.ListApiKeysRequest())
    return {key.key_id: key for key in answer.keys}


# Making keys.


@pytest.mark.parametrize("kind", [ED25519, HMAC, BEARER], ids=["ed25519", "hmac", "bearer"])
async def test_a_key_of_each_kind(exchange: Exchange, operator: Operator, kind: int) -> None:
    port = exchange.gateway.port
    held = await operator.key("alice", kind, TRADE, label="bot", allowed_ips=[HERE])
    assert bool(held.secret) is (kind != ED25519)
    async with signing(port, held) as alice:
        assert await alice.balances() == {}, "no demo funds where credentials are required"
        who = await alice.accounts.GetSession(pb.GetSessionRequest())
        assert (who.user, who.key_id, list(who.scopes)) == ("alice", held.key_id, [TRADE])
        (key,) = (await listed(alice)).values()
        assert (key.kind, key.label, list(key.scopes), list(key.allowed_ips)) == (kind, "bot", [TRADE], [HERE])
        assert key.HasField("last_used_time")
        assert key.last_used_time.ToNanoseconds() >= key.create_time.ToNanoseconds(), "in the minute of its making"
        assert not key.HasField("revoke_time")
        assert (await refused(alice.administer("CreateAsset", admin_pb.CreateAssetRequest(symbol="X"))))[0] == (
            "PERMISSION_DENIED"
        )
    await operator.revoke(held.key_id)
    await operator.revoke(held.key_id)
    async with signing(port, held) as alice:
        assert await refused(alice.balances()) == ("UNAUTHENTICATED", "UNAUTHENTICATED", "")


async def test_a_signed_order_without_an_id_is_given_one(exchange: Exchange, operator: Operator) -> None:
    held = await operator.key("alice", ED25519, TRADE)
    grant = admin_pb.GrantFundsRequest(transfer_id="g", user="alice", asset="BTC", amount="2", reason="test")
    await operator.client.administer("GrantFunds", grant)
    async with signing(exchange.gateway.port, held) as alice:
        placed = await alice.place(limit("SELL", "30000.00", "0.001"))
        assert placed.order.client_order_id.startswith("sig-")
        assert len(placed.order.client_order_id) == 36


FAR = {"expire_time": keys.stamp(keys.now_ms() + 3_600_000)}
NEAR = {"expire_time": keys.stamp(keys.now_ms() + 1_800_000)}
PAST = {"expire_time": keys.stamp(1_000)}
Grant = tuple[str, tuple[int, ...], dict[str, Any], tuple[int, ...], dict[str, Any], tuple[str, str, str] | None]
"""Name; scopes and limits of the asking key; those that are asked for; the refusal."""
GRANTS: list[Grant] = [
    ("the same", (TRADE,), {}, (TRADE,), {}, None),
    ("less", (TRADE,), {}, (READ,), {}, None),
    ("more", (TRADE,), {}, (TRADE, WITHDRAW), {"allowed_ips": [HERE]}, ("PERMISSION_DENIED",) * 2 + ("scopes",)),
    ("an operator's", (TRADE,), {}, (ADMIN,), {}, ("PERMISSION_DENIED",) * 2 + ("scopes",)),
    ("within its network", (TRADE,), {"allowed_ips": [HERE]}, (READ,), {"allowed_ips": ["127.0.0.1"]}, None),
    ("its own network", (TRADE,), {"allowed_ips": [HERE]}, (READ,), {}, None),
    (
        "beyond its network", (TRADE,), {"allowed_ips": [HERE]}, (READ,), {"allowed_ips": ["0.0.0.0/0"]},
        ("PERMISSION_DENIED",) * 2 + ("allowed_ips",),
    ),
    ("sooner ended", (TRADE,), FAR, (READ,), NEAR, None),
    ("ended with it", (TRADE,), FAR, (READ,), {}, None),
    ("longer than it", (TRADE,), NEAR, (READ,), FAR, ("PERMISSION_DENIED",) * 2 + ("expire_time",)),
    ("ended already", (TRADE,), {}, (READ,), PAST, ("INVALID_ARGUMENT", "INVALID_FIELD", "expire_time")),
    (
        "WITHDRAW within networks", (TRADE, WITHDRAW), {"allowed_ips": [HERE]}, (WITHDRAW,), {}, None,
    ),
]  # fmt: skip


async def test_nobody_passes_on_more_than_they_have(exchange: Exchange, operator: Operator) -> None:
    for name, mine, limits, asked, wanted, refusal in GRANTS:
        async with signing(exchange.gateway.port, await operator.key("alice", ED25519, *mine, **limits)) as alice:
            if refusal is not None:
                assert await refused(make(alice, BEARER, *asked, **wanted)) == refusal, name
                continue
            held = await make(alice, BEARER, *asked, **wanted)
            key = (await listed(alice))[held.key_id]
            assert set(key.scopes) == set(asked), name
            networks = ["127.0.0.1/32"] if "allowed_ips" in wanted else limits.get("allowed_ips", [])
            assert list(key.allowed_ips) == networks, name
            expires = wanted.get("expire_time") or limits.get("expire_time")
            assert key.expire_time == (expires or key.expire_time), name
            assert key.HasField("expire_time") is (expires is not None), name


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"kind": pb.KEY_KIND_UNSPECIFIED}, "kind"),
        ({"kind": pb.KEY_KIND_SESSION}, "kind"),
        ({"kind": 99}, "kind"),
        ({"kind": ED25519, "public_key": b"k" * 31}, "public_key"),
        ({"kind": ED25519}, "public_key"),
        ({"kind": BEARER, "public_key": b"k" * 32}, "public_key"),
        ({"kind": BEARER, "label": "x" * 65}, "label"),
        ({"kind": BEARER, "label": "a\nb"}, "label"),
        ({"kind": BEARER, "scopes": [pb.SCOPE_UNSPECIFIED]}, "scopes"),
        ({"kind": BEARER, "scopes": [99]}, "scopes"),
        ({"kind": BEARER, "scopes": [WITHDRAW]}, "allowed_ips"),
        ({"kind": BEARER, "allowed_ips": ["localhost"]}, "allowed_ips"),
        ({"kind": BEARER, "allowed_ips": [f"10.0.0.{n}" for n in range(33)]}, "allowed_ips"),
    ],
)
async def test_what_is_no_key(shared: Exchange, asked: dict[str, Any], field: str) -> None:
    async with signing(shared.gateway.port, User("alice")) as alice:
        call = alice.accounts.CreateApiKey(pb.CreateApiKeyRequest(**asked))
        assert await refused(call) == ("INVALID_ARGUMENT", "INVALID_FIELD", field)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
async def shared(shared_folder: Path) -> AsyncIterator[Exchange]:
    """In open mode, over the same files again and again."""
    fund = not (shared_folder / "book.sqlite").exists()
    async with gateways.exchange(shared_folder, fund=fund, clearbook_data=shared_folder) as running:
        yield running


async def test_an_account_has_only_so_many_live_keys(shared: Exchange) -> None:
    async with signing(shared.gateway.port, User("many")) as many:
        made = [await make(many, BEARER) for _ in range(issuer.KEYS_MAX)]
        assert (await refused(make(many, BEARER)))[:2] == ("RESOURCE_EXHAUSTED", "TOO_MANY_KEYS")
        await many.accounts.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=made[0].key_id))
        racing = await asyncio.gather(*(make(many, BEARER) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(one, Held) for one in racing) == 1
        found, token = [], ""
        while True:
            page = await many.accounts.ListApiKeys(pb.ListApiKeysRequest(page_size=20, page_token=token))
            found += [key.key_id for key in page.keys]
            token = page.next_page_token
            if not token:
                break
        assert len(found) == len(set(found)) == issuer.KEYS_MAX + 1, "the revoked one too"
        assert found[-1] == made[0].key_id, "newest first"


async def test_in_open_mode_a_credential_counts_if_one_is_shown(shared: Exchange) -> None:
    port = shared.gateway.port
    async with signing(port, User("dora")) as dora:
        await make(dora, HMAC)
        held = await make(dora, BEARER, READ)
        async with signing(port, held) as bot:
            assert (await bot.accounts.GetSession(pb.GetSessionRequest())).user == "dora"
            assert (await refused(bot.place(limit("SELL", "30000.00", "0.001"))))[0] == "PERMISSION_DENIED"
    async with signing(port, Bearer("wrong")) as nobody:
        assert (await refused(nobody.balances()))[0] == "UNAUTHENTICATED"
    assert (shared.gateway._settings.clearbook_data / "secrets.key").stat().st_mode & 0o777 == 0o600


# Other people's.


async def test_what_is_anothers_is_not_found(shared: Exchange) -> None:
    port = shared.gateway.port
    async with signing(port, User("owner")) as owner, signing(port, User("thief")) as thief:
        order = (await owner.place(limit("SELL", "39000.00", "0.002", "mine"))).order
        held = await make(owner, BEARER)
        gone = await make(owner, BEARER)
        await owner.accounts.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=gone.key_id))
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "GetOrder.order_id": lambda: thief.get(order_id=order.order_id),
            "GetOrder.client_order_id": lambda: thief.get(client_order_id="mine"),
            "CancelOrder.order_id": lambda: thief.cancel(order_id=order.order_id),
            "CancelOrder.client_order_id": lambda: thief.cancel(client_order_id="mine"),
            "ReplaceOrder.order_id": lambda: thief.orders.ReplaceOrder(
                order_pb.ReplaceOrderRequest(order_id=order.order_id, quantity="0.001")
            ),
            "ReplaceOrder.client_order_id": lambda: thief.orders.ReplaceOrder(
                order_pb.ReplaceOrderRequest(client_order_id="mine", quantity="0.001")
            ),
            "ListExecutions.order_id": lambda: thief.orders.ListExecutions(
                order_pb.ListExecutionsRequest(order_id=order.order_id)
            ),
            "RevokeApiKey.key_id": lambda: thief.accounts.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=held.key_id)),
            "CancelWithdrawal.transfer_id": lambda: thief.accounts.CancelWithdrawal(
                pb.CancelWithdrawalRequest(transfer_id="w")
            ),
        }
        withdrawal = pb.CreateWithdrawalRequest(transfer_id="w", asset="BTC", amount="1", address="0x" + "ab" * 20)
        await owner.accounts.CreateWithdrawal(withdrawal)
        for name, call in calls.items():
            assert (await refused(call()))[0] == "NOT_FOUND", name
        several = await _several(thief, order.order_id, "mine")
        assert [refusal.reason for refusal in several] == ["ORDER_NOT_FOUND"] * 8
        await thief.place(limit("BUY", "39000.00", "0.001"))
        filtered = order_pb.ListExecutionsRequest(order_id=order.order_id)
        assert (await owner.orders.ListExecutions(filtered)).executions
        unknown = thief.accounts.RevokeApiKey(pb.RevokeApiKeyRequest(key_id="0" * 16))
        assert await refused(unknown) == ("NOT_FOUND", "KEY_NOT_FOUND", "")
        again = await owner.accounts.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=gone.key_id))
        assert again.key.HasField("revoke_time")
        assert (await owner.get(order_id=order.order_id)).order.state == order_pb.ORDER_STATE_OPEN
        async with signing(port, held) as bot:
            assert (await bot.accounts.GetSession(pb.GetSessionRequest())).user == "owner"
    named = set(calls) | KEYS_OF_ONES_OWN | OUTCOMES
    assert _taken_ids(shared) <= named, "an RPC that takes an id is missing above"


async def _several(thief: Any, order_id: str, client_order_id: str) -> list[order_pb.Refusal]:
    """What the calls that have one answer for several say of an order by each of its ids."""
    cancels = [
        order_pb.CancelOrderRequest(order_id=order_id),
        order_pb.CancelOrderRequest(client_order_id=client_order_id),
    ]
    replaces = [
        order_pb.ReplaceOrderRequest(order_id=order_id, quantity="0.001"),
        order_pb.ReplaceOrderRequest(client_order_id=client_order_id, quantity="0.001"),
    ]
    canceled = await thief.orders.CancelOrders(order_pb.CancelOrdersRequest(orders=cancels))
    replaced = await thief.orders.ReplaceOrders(order_pb.ReplaceOrdersRequest(orders=replaces))
    stream = thief.orders.Trade()
    await stream.write(order_pb.TradeRequest(cancels=cancels, replaces=replaces))
    (answer,) = (await stream.read()).answers
    await stream.done_writing()
    outcomes = (*canceled.outcomes, *replaced.outcomes, *answer.cancels, *answer.replaces)
    return [outcome.refusal for outcome in outcomes]


OUTCOMES = {
    f"{rpc}.{name}" for rpc in ("CancelOrders", "ReplaceOrders", "Trade") for name in ("order_id", "client_order_id")
}
"""One answer for several: seen by `_several`."""
KEYS_OF_ONES_OWN = {
    "PlaceOrder.client_order_id",  # made by the caller, each account has its own
    "PlaceOrders.client_order_id",
    "PlaceGroup.client_order_id",
    "PreviewOrder.client_order_id",
    "ReplaceOrder.new_client_order_id",
    "ReplaceOrders.new_client_order_id",
    "Trade.new_client_order_id",
    "Trade.request_id",
    "CreateTransfer.transfer_id",
    "CreateWithdrawal.transfer_id",
}


def _taken_ids(exchange: Exchange) -> set[str]:
    """Every field of a request of an account's owner that names something."""
    return {
        f"{method.rpc}.{name}"
        for method in exchange.gateway.methods
        if method.access.of_account
        for name in _fields(method.request.DESCRIPTOR)
        if name.endswith("_id")
    }


def _fields(message: Descriptor) -> set[str]:
    """Those of the messages within it, too."""
    within = [_fields(field.message_type) for field in message.fields if field.message_type]
    return {field.name for field in message.fields}.union(*within)


# What ends with a key.


async def _opened(client: Client) -> Any:
    stream = client.stream()
    await stream.read()
    return stream


async def _ends(stream: Any) -> float:
    """Seconds until a stream has ended with UNAUTHENTICATED."""
    started = time.monotonic()
    assert await asyncio.wait_for(stream.code(), 10) is grpc.StatusCode.UNAUTHENTICATED
    return time.monotonic() - started


async def test_streams_end_with_the_key_that_opened_them(exchange: Exchange, operator: Operator) -> None:
    port = exchange.gateway.port
    ends = keys.stamp(keys.now_ms() + 1_500)
    revoked, expiring = await operator.key("alice", ED25519, TRADE), await operator.key("alice", expire_time=ends)
    other = await operator.key("alice")
    async with signing(port, revoked) as one, signing(port, expiring) as two, signing(port, other) as three:
        mine, ending, staying = await _opened(one), await _opened(two), await _opened(three)
        trading = one.orders.Trade()
        await trading.write(order_pb.TradeRequest())
        await trading.read()
        await operator.revoke(revoked.key_id)
        assert await _ends(mine) < REVOKED_SECONDS_MAX
        assert await _ends(trading) < REVOKED_SECONDS_MAX
        await _ends(ending)
        late = keys.now_ms() - ends.ToMilliseconds()
        assert 0 <= late < REVOKED_SECONDS_MAX * 1_000
        assert (await refused(two.balances()))[0] == "UNAUTHENTICATED"
        staying.cancel()


async def test_a_key_is_revoked_with_all_that_were_made_with_it(exchange: Exchange, operator: Operator) -> None:
    port, owned = exchange.gateway.port, await operator.key("alice", ED25519, TRADE)
    async with signing(port, owned) as alice:
        leaked = await make(alice, ED25519, TRADE)
        async with signing(port, leaked) as thief:
            child = await make(thief, BEARER, TRADE)
        async with signing(port, child) as thief:
            grandchild = await make(thief, HMAC, TRADE)
        parents = {key.key_id: key.parent_key_id for key in (await listed(alice)).values()}
        assert parents == {
            owned.key_id: bootstrap_key(keys.ADMIN_TOKEN).key_id,
            leaked.key_id: owned.key_id,
            child.key_id: leaked.key_id,
            grandchild.key_id: child.key_id,
        }

        async def revoked_with(key: Held, **more: bool) -> set[str]:
            await alice.accounts.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=key.key_id, **more))
            return {key.key_id for key in (await listed(alice)).values() if key.HasField("revoke_time")}

        async with signing(port, grandchild) as thief:
            stream = await _opened(thief)
            assert await revoked_with(leaked, keep_made_keys=True) == {leaked.key_id}, "replaced, not lost"
            assert await revoked_with(leaked) == {leaked.key_id, child.key_id, grandchild.key_id}
            assert await _ends(stream) < REVOKED_SECONDS_MAX
            assert (await refused(make(thief, BEARER)))[0] == "UNAUTHENTICATED"


async def test_an_operators_key_makes_no_operator_beyond_itself(exchange: Exchange, operator: Operator) -> None:
    port = exchange.gateway.port
    near = await operator.key("oscar", BEARER, ADMIN, allowed_ips=[HERE], **NEAR)
    async with signing(port, near) as client:
        oscar = Operator(client)
        for beyond, field in (({"allowed_ips": ["0.0.0.0/0"]}, "allowed_ips"), (FAR, "expire_time")):
            assert (await refused(oscar.key("mallory", BEARER, ADMIN, **beyond)))[1:] == ("PERMISSION_DENIED", field)
        made = await oscar.key("otto", BEARER, ADMIN)
        users = await oscar.key("alice", BEARER, TRADE)
    async with signing(port, made) as otto:
        answer = await otto.administer("ListUserApiKeys", admin_pb.ListUserApiKeysRequest())
    limits = {item.key.key_id: (list(item.key.allowed_ips), item.key.HasField("expire_time")) for item in answer.keys}
    assert limits[made.key_id] == ([HERE], True), "taken from the one that asked"
    assert limits[users.key_id] == ([], False), "of users' keys an operator decides"


async def test_all_that_an_operators_token_has_made_is_revoked_by_its_id(tmp_path: Path) -> None:
    """The token leaked: the next start has another one, and then the family of the old one goes."""
    old, new = keys.ADMIN_TOKEN, "the-next-operators-token-of-the-tests"
    async with gateways.exchange(tmp_path, **keys.REQUIRED) as exchange:
        async with keys.operating(exchange.gateway.port) as operator:
            made = await operator.key("mallory", BEARER, ADMIN)
        async with signing(exchange.gateway.port, made) as mallory:
            child = await Operator(mallory).key("alice", BEARER, TRADE)
    changed = {**keys.REQUIRED, "clearbook_admin_token": new}
    async with gateways.exchange(tmp_path, fund=False, **changed) as exchange:
        port = exchange.gateway.port
        async with signing(port, Bearer(new)) as client:
            operator = Operator(client)
            kept = await operator.key("alice", BEARER, TRADE)
            for unknown in (bootstrap_key("x").key_id, ""):
                assert (await refused(operator.revoke(unknown)))[1] == "KEY_NOT_FOUND"
            await operator.revoke(bootstrap_key(old).key_id)
        for held, good in ((made, False), (child, False), (kept, True)):
            async with signing(port, held) as client:
                asked = client.accounts.GetSession(pb.GetSessionRequest())
                code = "OK" if good and await asked else (await refused(asked))[0]
                assert code == ("OK" if good else "UNAUTHENTICATED")


# Restarts, and two gateways.


async def test_keys_outlive_the_process_and_signatures_do_not(tmp_path: Path) -> None:
    async with gateways.exchange(tmp_path, **keys.REQUIRED) as exchange:
        async with keys.operating(exchange.gateway.port) as operator:
            held = [await operator.key("alice", kind) for kind in (ED25519, HMAC, BEARER)]
            revoked = await operator.key("alice", BEARER)
            await operator.revoke(revoked.key_id)
        name, stamped = "/clearbook.v1.AccountService/ListBalances", str(keys.now_ms())
        payload = signing_payload(name, "clearbook", stamped, "60000", "n", b"")
        unused: dict[str, str | bytes] = {
            "x-api-key": held[0].key_id, "x-timestamp": stamped, "x-recv-window": "60000", "x-nonce": "n",
            "x-signature-bin": held[0].sign(payload),
        }  # fmt: skip
    async with gateways.exchange(tmp_path, fund=False, **keys.REQUIRED) as exchange:
        port = exchange.gateway.port
        for key in held:
            async with signing(port, key) as alice:
                await alice.balances()
        async with signing(port, revoked) as nobody:
            assert (await refused(nobody.balances()))[0] == "UNAUTHENTICATED"
        async with rpc.connect(f"127.0.0.1:{port}") as channel:
            answer = await keys.raw(channel, name, unused, streams=False)
            assert answer[0] == "UNAUTHENTICATED", "it might have been used before the restart"


@pytest.mark.parametrize(
    "changed", [{"clearbook_secrets_key": "cd" * 32}, {"clearbook_secrets_key": ""}], ids=["another", "none"]
)
async def test_secrets_that_cannot_be_opened_are_told_at_the_start(tmp_path: Path, changed: dict[str, str]) -> None:
    settings = {**keys.REQUIRED, "clearbook_data": tmp_path}
    async with gateways.exchange(tmp_path, **settings) as exchange, keys.operating(exchange.gateway.port) as operator:
        await operator.key("alice", HMAC)
    async with books.running(books.settings(f"sqlite:///{tmp_path}/book.sqlite")) as book:
        given = gateways.settings(f"sqlite:///{tmp_path}/gateway.sqlite", book.port, **{**settings, **changed})
        with pytest.raises(StartError, match="CLEARBOOK_SECRETS_KEY"):
            async with gateways.running(given):
                pass


async def test_without_a_secrets_key_there_are_no_hmac_keys(tmp_path: Path) -> None:
    settings = {**keys.REQUIRED, "clearbook_secrets_key": "", "clearbook_data": tmp_path}
    async with gateways.exchange(tmp_path, **settings) as exchange, keys.operating(exchange.gateway.port) as operator:
        assert (await refused(operator.key("alice", HMAC)))[:2] == ("FAILED_PRECONDITION", "NO_SECRETS_KEY")
        await operator.key("alice", ED25519)


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Backends | None:
    """None: SQLite needs none."""
    return request.getfixturevalue("backends") if request.param == "postgresql" else None


async def test_two_gateways_share_their_keys(tmp_path: Path, server: Backends | None) -> None:
    """Each with a book of its own: at one book there is one at a time."""
    url = await server.new_database() if server else f"sqlite:///{tmp_path}/keys.sqlite"
    settings = {**keys.REQUIRED, "identity_database_url": url}
    async with (
        gateways.exchange(tmp_path / "one", **settings) as exchange,
        gateways.exchange(tmp_path / "other", **settings) as other,
        keys.operating(exchange.gateway.port) as operator,
    ):
        held = await operator.key("alice", HMAC, TRADE)
        async with signing(other.gateway.port, held) as there:
            await there.balances()  # at once, though the other one made it
            stream = await _opened(there)
            await operator.revoke(held.key_id)
            assert await _ends(stream) < REVOKED_SECONDS_MAX
            assert (await refused(there.balances()))[0] == "UNAUTHENTICATED"


# Wallets.


async def begin(client: Client, wallet: LocalAccount) -> pb.SignInRequest:
    asked = await client.accounts.CreateSignIn(pb.CreateSignInRequest(address=wallet.address))
    return signed(wallet, asked.message)


async def sign_in(client: Client, wallet: LocalAccount) -> pb.SignInResponse:
    session: pb.SignInResponse = await client.accounts.SignIn(await begin(client, wallet))
    keys.made.add(session.token)
    return session


@asynccontextmanager
async def nobody_at(port: int) -> AsyncIterator[Client]:
    async with rpc.connect(f"127.0.0.1:{port}") as channel:
        yield Client(channel, ())


async def test_a_wallet_opens_its_own_account(exchange: Exchange) -> None:
    wallet: LocalAccount = Account.create()
    async with nobody_at(exchange.gateway.port) as nobody:
        first, second = await sign_in(nobody, wallet), await sign_in(nobody, wallet)
    assert first.user == second.user == wallet.address.lower()
    assert first.account_id == second.account_id
    for session, scopes, networks in ((first, [READ, TRADE], []), (second, [READ, TRADE, WITHDRAW], ["127.0.0.1/32"])):
        async with signing(exchange.gateway.port, Bearer(session.token)) as mine:
            who = await mine.accounts.GetSession(pb.GetSessionRequest())
            assert (who.user, who.account_id) == (session.user, session.account_id)
            assert (list(who.scopes), who.wallet_address) == (scopes, wallet.address.lower())
            key = (await listed(mine))[who.key_id]
            assert (key.kind, list(key.allowed_ips)) == (pb.KEY_KIND_SESSION, networks)
            assert 0 < session.expire_time.seconds - time.time() <= 24 * 3600
            made = await make(mine, BEARER)
            assert (await listed(mine))[made.key_id].expire_time == key.expire_time, "it ends with the session"


async def test_an_operator_takes_a_wallet_away(exchange: Exchange, operator: Operator) -> None:
    port, wallet, other = exchange.gateway.port, Account.create(), Account.create()
    name = wallet.address.lower()
    unlink = admin_pb.UnlinkWalletRequest(user=name, reason="stolen")
    assert (await refused(operator.client.administer("UnlinkWallet", unlink)))[1] == "WALLET_NOT_FOUND"
    async with nobody_at(port) as nobody:
        session = await sign_in(nobody, wallet)
        async with signing(port, Bearer(session.token)) as mine:
            stream = await _opened(mine)
            answer = await operator.client.administer("UnlinkWallet", unlink)
            assert answer.wallet_address == name
            assert await _ends(stream) < REVOKED_SECONDS_MAX
            assert (await refused(mine.balances()))[0] == "UNAUTHENTICATED"
        assert (await refused(operator.client.administer("UnlinkWallet", unlink)))[1] == "WALLET_NOT_FOUND"
        assert (await refused(sign_in(nobody, wallet)))[:2] == ("PERMISSION_DENIED", "PERMISSION_DENIED")
        full = await operator.key(name, ED25519, TRADE, WITHDRAW, allowed_ips=[HERE])
        async with signing(port, full) as owner:
            assert (await sign_in(owner, other)).user == name, "another wallet takes its place"
        assert (await sign_in(nobody, other)).user == name
        thief = await operator.key("thief", ED25519, TRADE, WITHDRAW, allowed_ips=[HERE])
        async with signing(port, thief) as elsewhere:
            assert (await sign_in(elsewhere, wallet)).user == "thief", (
                "whoever has it links it to an account of his own"
            )
        assert (await sign_in(nobody, wallet)).user == "thief"


async def test_operators_see_everybodys_keys(exchange: Exchange, operator: Operator) -> None:
    held = await operator.key("alice", BEARER, TRADE)
    await operator.key("bob", ED25519)
    await operator.revoke(held.key_id)

    async def listed_for(**fields: Any) -> admin_pb.ListUserApiKeysResponse:
        answer: admin_pb.ListUserApiKeysResponse = await operator.client.administer(
            "ListUserApiKeys", admin_pb.ListUserApiKeysRequest(**fields)
        )
        return answer

    (mine,) = (await listed_for(user="alice")).keys
    assert (mine.user, mine.key.key_id, mine.key.HasField("revoke_time")) == ("alice", held.key_id, True)
    first = await listed_for(page_size=1)
    rest = await listed_for(page_size=1, page_token=first.next_page_token)
    assert [item.user for item in (*first.keys, *rest.keys)] == ["bob", "alice"]
    assert (await refused(listed_for(user="bob", page_token=first.next_page_token)))[2] == "page_token"
    log = await operator.client.administer("ListAuditEntries", admin_pb.ListAuditEntriesRequest())
    answers = {entry.method: json.loads(entry.response) for entry in log.entries if "alice" in entry.request}
    assert answers["CreateUserApiKey"]["key"]["key"]["key_id"] == held.key_id
    assert held.secret not in str(log)


async def test_a_wallet_is_linked_to_the_account_of_a_credential(exchange: Exchange, operator: Operator) -> None:
    port, wallet, other = exchange.gateway.port, Account.create(), Account.create()
    full = await operator.key("alice", ED25519, TRADE, WITHDRAW, allowed_ips=[HERE])
    async with (
        signing(port, full) as alice,
        signing(port, await operator.key("alice", ED25519, TRADE)) as trader,
        signing(port, await operator.key("bob", ED25519, TRADE, WITHDRAW, allowed_ips=[HERE])) as bob,
        nobody_at(port) as nobody,
    ):
        assert (await refused(sign_in(trader, wallet)))[0] == "PERMISSION_DENIED", "whoever signs in may withdraw"
        assert (await sign_in(alice, wallet)).user == "alice"
        assert (await sign_in(nobody, wallet)).user == "alice"
        assert (await refused(sign_in(bob, wallet)))[:2] == ("ALREADY_EXISTS", "ALREADY_EXISTS")
        assert (await refused(sign_in(alice, other)))[0] == "ALREADY_EXISTS", "one wallet an account"
        assert (await sign_in(alice, wallet)).user == "alice", "the same again is fine"
        grant = admin_pb.GrantFundsRequest(transfer_id="g", user="alice", asset="BTC", amount="2", reason="test")
        await operator.client.administer("GrantFunds", grant)
        ask = pb.CreateWithdrawalRequest(transfer_id="w", asset="BTC", amount="1")
        assert (await alice.accounts.CreateWithdrawal(ask)).transfer.address == wallet.address.lower()


async def test_a_wallet_goes_with_the_key_that_linked_it(exchange: Exchange, operator: Operator) -> None:
    port, theirs, mine = exchange.gateway.port, Account.create(), Account.create()
    full = (TRADE, WITHDRAW)
    owned = await operator.key("alice", ED25519, *full, allowed_ips=[HERE])
    async with signing(port, owned) as alice, nobody_at(port) as nobody:
        leaked = await make(alice, BEARER, *full, **NEAR)
        async with signing(port, leaked) as thief:
            first = await sign_in(thief, theirs)
            assert first.expire_time == NEAR["expire_time"], "no longer than the key that asks"
            async with signing(port, Bearer(first.token)) as linking:
                found = await listed(linking)
                who = await linking.accounts.GetSession(pb.GetSessionRequest())
                assert list(found[who.key_id].allowed_ips) == [HERE]
        later = await sign_in(nobody, theirs)
        assert later.user == "alice"
        async with signing(port, Bearer(later.token)) as thief:
            stream, made = await _opened(thief), await make(thief, BEARER, TRADE)
            revoke = pb.RevokeApiKeyRequest(key_id=leaked.key_id, keep_made_keys=True)
            await alice.accounts.RevokeApiKey(revoke)
            await sign_in(nobody, theirs)  # the key was replaced, the wallet kept
            await alice.accounts.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=leaked.key_id))
            assert await _ends(stream) < REVOKED_SECONDS_MAX
            assert (await refused(thief.balances()))[0] == "UNAUTHENTICATED"
        async with signing(port, made) as thief:
            assert (await refused(thief.balances()))[0] == "UNAUTHENTICATED"
        assert (await refused(sign_in(nobody, theirs)))[0] == "PERMISSION_DENIED"
        assert (await alice.accounts.GetSession(pb.GetSessionRequest())).wallet_address == ""
        assert (await sign_in(alice, mine)).user == "alice", "there is room for the owner's"


def signed(wallet: LocalAccount, message: str) -> pb.SignInRequest:
    signature = bytes(wallet.sign_message(encode_defunct(text=message)).signature)
    return pb.SignInRequest(message=message, signature=signature)


THIEF: LocalAccount = Account.create()
CHANGED = [("127.0.0.1:8000", "evil.example"), ("Nonce: ", "Nonce: 0"), ("Z\n", "Z \n"), ("2026", "2027"), ("-1", "-9")]
NO_SIGN_IN: dict[str, Callable[[LocalAccount, pb.SignInRequest], pb.SignInRequest]] = {
    "signed by another": lambda _, good: signed(THIEF, good.message),
    "no signature": lambda _, good: pb.SignInRequest(message=good.message),
    "zeroes": lambda _, good: pb.SignInRequest(message=good.message, signature=bytes(65)),
    "too short": lambda _, good: pb.SignInRequest(message=good.message, signature=good.signature[:64]),
    "another's message": lambda wallet, good: signed(THIEF, good.message.replace(wallet.address, THIEF.address)),
} | {
    f"{old} → {new}": lambda wallet, good, old=old, new=new: signed(wallet, good.message.replace(old, new))
    for old, new in CHANGED
}


async def test_sign_ins_that_are_none(exchange: Exchange) -> None:
    wallet: LocalAccount = Account.create()
    port = exchange.gateway.port
    async with nobody_at(port) as nobody:
        for name, spoiled in NO_SIGN_IN.items():
            wrong = spoiled(wallet, await begin(nobody, wallet))
            assert await refused(nobody.accounts.SignIn(wrong)) == ("UNAUTHENTICATED", "UNAUTHENTICATED", ""), name
        good = await begin(nobody, wallet)
        keys.made.add((await nobody.accounts.SignIn(good)).token)
        assert (await refused(nobody.accounts.SignIn(good)))[0] == "UNAUTHENTICATED", "used up"
        tried = await begin(nobody, wallet)
        assert (await refused(nobody.accounts.SignIn(signed(THIEF, tried.message))))[0] == "UNAUTHENTICATED"
        assert (await nobody.accounts.SignIn(tried)).user == wallet.address.lower(), "no other's to use up"
        assert (await refused(nobody.accounts.CreateSignIn(pb.CreateSignInRequest(address="0x1"))))[2] == "address"
        async with signing(port, Bearer("wrong")) as stranger:
            assert (await refused(sign_in(stranger, wallet)))[0] == "UNAUTHENTICATED", "a credential shown must be good"


async def test_sign_ins_are_counted_by_address(tmp_path: Path) -> None:
    """Those that open an account, those that are wrong, and all of them."""
    wallet: LocalAccount = Account.create()
    limited = {**keys.REQUIRED, "auth_failures_max": 2, "sign_ups_per_ip_max": 1, "sign_ins_per_ip_max": 5}
    async with gateways.exchange(tmp_path, **limited) as exchange, nobody_at(exchange.gateway.port) as nobody:
        mine = await sign_in(nobody, wallet)
        assert (await refused(sign_in(nobody, THIEF)))[:2] == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert THIEF.address.lower() not in exchange.gateway.ledger.account_ids
        assert (await sign_in(nobody, wallet)).user == mine.user, "it has its account already"
        for code in ("UNAUTHENTICATED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED"):
            wrong = signed(THIEF, (await begin(nobody, wallet)).message)
            assert (await refused(nobody.accounts.SignIn(wrong)))[0] == code


async def test_sign_ins_are_counted_by_wallet(tmp_path: Path) -> None:
    wallet: LocalAccount = Account.create()
    limited = {**keys.REQUIRED, "sign_ins_per_wallet_max": 2, "sign_ins_per_ip_max": 5}
    async with gateways.exchange(tmp_path, **limited) as exchange, nobody_at(exchange.gateway.port) as nobody:
        wrong = signed(THIEF, (await begin(nobody, wallet)).message)
        assert (await refused(nobody.accounts.SignIn(wrong)))[0] == "UNAUTHENTICATED", "does not count for the wallet"
        await sign_in(nobody, wallet)
        await sign_in(nobody, wallet)
        code, _, _ = await refused(sign_in(nobody, wallet))
        assert code == "RESOURCE_EXHAUSTED"
        await sign_in(nobody, THIEF)
        assert (await refused(sign_in(nobody, Account.create())))[0] == "RESOURCE_EXHAUSTED", "right ones count, too"


async def test_only_so_many_sessions_live(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer, "SESSIONS_MAX", 2)
    wallet = Account.create()
    async with nobody_at(exchange.gateway.port) as nobody:
        tokens = [(await sign_in(nobody, wallet)).token for _ in range(3)]
    for token, good in zip(tokens, (False, True, True), strict=True):
        async with signing(exchange.gateway.port, Bearer(token)) as mine:
            if good:
                await mine.balances()
            else:
                assert (await refused(mine.balances()))[0] == "UNAUTHENTICATED", "the oldest has ended"


# What is kept.


async def test_tokens_of_older_versions_are_keys_now(tmp_path: Path) -> None:
    url, token = f"sqlite:///{tmp_path}/gateway.sqlite", "an-old-token"
    await migrate(url, "gateway", LEDGER_MIGRATIONS)
    async with await Database.open(url, "gateway") as database:
        old = "INSERT INTO tokens (hash, user_name, admin, create_ns) VALUES ($1, $2, $3, $4)"
        await database.write([Statement(old, [(token_hash(token).hex(), "alice", 1, 7)])])
    for fund in (True, False):
        async with (
            gateways.exchange(tmp_path, fund=fund, **keys.REQUIRED) as exchange,
            signing(exchange.gateway.port, Bearer(token)) as alice,
        ):
            who = await alice.accounts.GetSession(pb.GetSessionRequest())
            assert (who.user, list(who.scopes)) == ("alice", [READ, TRADE, ADMIN])
            if not fund:
                await alice.accounts.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=who.key_id))
                assert (await refused(alice.balances()))[0] == "UNAUTHENTICATED"


async def test_no_secret_is_kept_in_the_clear(tmp_path: Path) -> None:
    async with gateways.exchange(tmp_path, **keys.REQUIRED) as exchange:
        async with keys.operating(exchange.gateway.port) as operator:
            held = [await operator.key("alice", kind) for kind in (HMAC, BEARER)]
        async with nobody_at(exchange.gateway.port) as nobody:
            session = await sign_in(nobody, Account.create())
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert held[0].key_id.encode() in files
    for secret in (held[0].secret, held[1].secret, session.token, keys.ADMIN_TOKEN, keys.SECRETS_KEY):
        assert secret.encode() not in files


async def test_the_store_gives_back_what_it_keeps(tmp_path: Path, server: Backends | None) -> None:
    url = await server.new_database() if server else f"sqlite:///{tmp_path}/identity.sqlite"
    await migrate(url, SCHEMA, MIGRATIONS)
    async with await Database.open(url, SCHEMA) as database:
        store = KeyStore(database)
        made = [_key(f"k{number}", expire_ns=number * 10) for number in range(3)]
        for key in made:
            await store.add(key)
        live, change = await store.live(10)
        assert {key.key_id for key in live} == {"k0", "k2"}, "k1 has expired"
        assert change == 3
        assert [key.number for key in await store.keys("alice", 3, 5)] == [2, 1]
        await store.revoke("k0", 99, alone=True)
        await store.revoke("k0", 100, alone=True)
        ((changed,), change) = await store.since(3)
        assert (changed.key_id, changed.revoke_ns) == ("k0", 99)
        assert await store.since(change) == ([], change)
        for child, parent in (("c1", "k2"), ("c2", "c1"), ("c3", "c2"), ("d1", "k1")):
            await store.add(replace(_key(child, 0), parent=parent))
        with pytest.raises(Conflict):
            await store.add(replace(_key("c4", 0), parent="k0"))  # revoked meanwhile
        await store.revoke("c3", 101, alone=False)
        _, change = await store.since(change)
        await store.revoke("c1", 102, alone=False)
        found, _ = await store.since(change)
        assert {(key.key_id, key.parent, key.revoke_ns) for key in found} == {("c1", "k2", 102), ("c2", "c1", 102)}
        await store.used([("k2", 60), ("k2", 30)])
        used = await store.key("k2")
        assert used is not None
        assert used.last_used_ns == 60
        assert used.networks == made[2].networks
        assert not await store.link("0xab", Link("alice", "c2"), 1), "it has been revoked"
        assert await store.link("0xab", Link("alice", "d1"), 1)
        assert await store.link("0xab", Link("alice", ""), 2)
        assert not await store.link("0xab", Link("bob", ""), 3)
        assert not await store.link("0xcd", Link("alice", ""), 4)
        assert await store.link("0xef", Link("carol", ""), 5)
        assert (await store.link_of("0xab"), await store.wallet_of("alice")) == (Link("alice", "d1"), "0xab")
        assert (await store.link_of("0xcd"), await store.wallet_of("bob")) == (None, None)
        await store.revoke("d1", 103, alone=True)
        assert await store.wallet_of("alice") == "0xab", "replaced, not lost"
        await store.revoke("k1", 104, alone=False)
        assert (await store.link_of("0xab"), await store.was_unlinked("0xab")) == (None, True)
        assert (await store.link_of("0xef"), await store.was_unlinked("0xef")) == (Link("carol", ""), False)


def _key(key_id: str, expire_ns: int) -> Key:
    networks = networks_of([HERE, ELSEWHERE, "::1"], "f")
    scopes = frozenset({Scope.READ, Scope.ADMIN})
    return Key(key_id, KeyKind.BEARER, "alice", "é", scopes, networks, key_id.encode(), 5, expire_ns)


async def test_no_secret_reaches_a_log(tmp_path: Path) -> None:
    """A gateway in a process of its own, as talkative as can be, and all that was ever secret in this session."""
    async with books.running(books.settings(f"sqlite:///{tmp_path}/book.sqlite")) as book:
        (port,) = free_ports(1)
        process = gateways.GatewayProcess(
            tmp_path,
            DATABASE_URL=f"sqlite:///{tmp_path}/gateway.sqlite",
            BOOK_ADDRESS=f"127.0.0.1:{book.port}",
            GATEWAY_ADDRESS=f"127.0.0.1:{port}",
            FORWARD_ADDRESS="127.0.0.1:0",
            CLEARBOOK_AUTH="required",
            CLEARBOOK_ADMIN_TOKEN=keys.ADMIN_TOKEN,
            CLEARBOOK_SECRETS_KEY=keys.SECRETS_KEY,
            LOG_LEVEL="debug",
            AUTH_FAILURES_MAX="1000000",
        )
        try:
            await process.up()
            await _use_everything(port)
            await asyncio.to_thread(process.child.terminate)
            await asyncio.to_thread(process.child.wait, books.STEP_SECONDS_MAX)
        finally:
            process.clear()
    log = process.log()
    assert "CreateUserApiKey" in log
    assert all(json.loads(line) for line in log.splitlines() if line.startswith("{"))
    for secret in keys.made | {keys.ADMIN_TOKEN, keys.SECRETS_KEY}:
        assert secret not in log
    assert not process.bugs()


async def _use_everything(port: int) -> None:
    async with keys.operating(port) as operator, nobody_at(port) as nobody:
        for kind in (ED25519, HMAC, BEARER):
            async with signing(port, await operator.key("alice", kind, TRADE)) as alice:
                await alice.balances()
                await make(alice, BEARER)
                assert (await refused(alice.place(limit("SELL", "1.00", "1"))))[1] == "INSUFFICIENT_FUNDS"
        await sign_in(nobody, Account.create())
        for wrong in keys.made:
            async with signing(port, Bearer(wrong + "x")) as stranger:
                assert (await refused(stranger.balances()))[0] == "UNAUTHENTICATED"


async def test_the_benchmark_does_not_wait_for_a_look_into_the_database_at_each_call() -> None:
    lines: list[object] = []
    async with asyncio.timeout(15):  # in turn, the wrong ones alone took 50 s
        await identity.main(50, lines.append)
    assert len(lines) == 7, "a heading and six kinds of credentials"
