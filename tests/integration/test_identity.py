"""Identity over real gRPC: keys, signatures, sign-in by wallet, revocation, two gateways, restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import admin_service_pb2 as admin_pb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct

from clearbook.credentials import Bearer, Credential, Ed25519, Hmac, with_credential
from services.runtime import rpc
from tests import gateways
from tests.gateways import Client, Exchange, limit, refused

ADMIN_TOKEN = "the-first-operators-token"
SECRETS_KEY = "ab" * 32
REQUIRED: dict[str, Any] = {
    "clearbook_auth": "required",
    "clearbook_admin_token": ADMIN_TOKEN,
    "clearbook_secrets_key": SECRETS_KEY,
}


@asynccontextmanager
async def signer(port: int, credential: Credential) -> AsyncIterator[Client]:
    async with rpc.connect(f"127.0.0.1:{port}") as channel:
        yield Client(with_credential(channel, credential), ())


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path, **REQUIRED) as running:
        yield running


async def test_first_light(exchange: Exchange) -> None:
    port = exchange.gateway.port
    private = Ed25519PrivateKey.generate()
    async with signer(port, Bearer(ADMIN_TOKEN)) as operator:
        made = await operator.administer(
            "CreateUserApiKey",
            admin_pb.CreateUserApiKeyRequest(
                user="alice",
                key=account_pb.CreateApiKeyRequest(
                    kind=account_pb.KEY_KIND_ED25519,
                    scopes=[account_pb.SCOPE_TRADE],
                    public_key=private.public_key().public_bytes_raw(),
                ),
            ),
        )
        assert (await refused(operator.balances()))[0] == "PERMISSION_DENIED"
    async with signer(port, Ed25519(made.key.key.key_id, private.private_bytes_raw())) as alice:
        assert await alice.balances() == {}
        mine = await alice.accounts.CreateApiKey(
            account_pb.CreateApiKeyRequest(kind=account_pb.KEY_KIND_HMAC_SHA256, label="bot")
        )
        async with signer(port, Hmac(mine.key.key_id, mine.secret)) as bot:
            assert await bot.balances() == {}
            assert (await refused(bot.place(limit("BUY", "1.00", "1"))))[0] == "PERMISSION_DENIED"
            listed = await bot.accounts.ListApiKeys(account_pb.ListApiKeysRequest())
            assert [key.label for key in listed.keys] == ["bot", ""]
            who = await bot.accounts.GetSession(account_pb.GetSessionRequest())
            assert (who.user, who.key_id) == ("alice", mine.key.key_id)
            await alice.accounts.RevokeApiKey(account_pb.RevokeApiKeyRequest(key_id=mine.key.key_id))
            assert (await refused(bot.balances()))[0] == "UNAUTHENTICATED"


async def test_sign_in(exchange: Exchange) -> None:
    wallet = Account.create()
    async with rpc.connect(f"127.0.0.1:{exchange.gateway.port}") as channel:
        nobody = Client(channel, ())
        asked = await nobody.accounts.CreateSignIn(account_pb.CreateSignInRequest(address=wallet.address))
        signature = bytes(wallet.sign_message(encode_defunct(text=asked.message)).signature)
        request = account_pb.SignInRequest(message=asked.message, signature=signature)
        session = await nobody.accounts.SignIn(request)
        assert session.user == wallet.address.lower()
        with pytest.raises(grpc.aio.AioRpcError, match="no valid credential"):
            await nobody.accounts.SignIn(request)
    async with signer(exchange.gateway.port, Bearer(session.token)) as mine:
        who = await mine.accounts.GetSession(account_pb.GetSessionRequest())
        assert who.wallet_address == wallet.address.lower()
