"""Keys for tests: an exchange that requires them, an operator who makes them, and calls signed with them."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc
from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.timestamp_pb2 import Timestamp

from clearbook.credentials import Bearer, Credential, Ed25519, Hmac, with_credential
from services.runtime import rpc
from tests.gateways import Client

ADMIN_TOKEN = "the-first-operators-token-of-the-tests"
SECRETS_KEY = "ab" * 32
REQUIRED: dict[str, Any] = {
    "clearbook_auth": "required",
    "clearbook_admin_token": ADMIN_TOKEN,
    "clearbook_secrets_key": SECRETS_KEY,
    "auth_failures_max": 10**6,
}
"""Settings of a gateway that requires credentials; its limit of failures is tested where it is the matter."""
ED25519, HMAC, BEARER = pb.KEY_KIND_ED25519, pb.KEY_KIND_HMAC_SHA256, pb.KEY_KIND_BEARER
READ, TRADE, WITHDRAW, ADMIN = pb.SCOPE_READ, pb.SCOPE_TRADE, pb.SCOPE_WITHDRAW, pb.SCOPE_ADMIN
HERE, ELSEWHERE = "127.0.0.0/8", "203.0.113.0/24"

made: set[str] = set()
"""Every secret that a test of this session was given: none may be found in a log."""


def now_ms() -> int:
    return time.time_ns() // 10**6


def nonce() -> str:
    return secrets.token_hex(8)


def stamp(time_ms: int) -> Timestamp:
    found = Timestamp()
    found.FromMilliseconds(time_ms)
    return found


@dataclass(frozen=True)
class Held:
    """A key, with what its owner keeps of it."""

    key_id: str
    kind: int
    secret: str
    private: bytes

    @property
    def credential(self) -> Credential:
        if self.kind == ED25519:
            return Ed25519(self.key_id, self.private)
        return Hmac(self.key_id, self.secret) if self.kind == HMAC else Bearer(self.secret)

    def sign(self, payload: bytes) -> bytes:
        if self.kind == ED25519:
            return Ed25519PrivateKey.from_private_bytes(self.private).sign(payload)
        return hmac.digest(self.secret.encode(), payload, "sha256")


Ask = Callable[[pb.CreateApiKeyRequest], Awaitable[pb.CreateApiKeyResponse]]


async def new_key(ask: Ask, kind: int = ED25519, *scopes: int, **more: Any) -> Held:
    """Has a key made."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw() if kind == ED25519 else b""
    asked: dict[str, Any] = {"kind": kind, "scopes": scopes or (READ,), "public_key": public, **more}
    response = await ask(pb.CreateApiKeyRequest(**asked))
    made.update({response.secret} - {""})
    return Held(response.key.key_id, kind, response.secret, private.private_bytes_raw())


class Operator:
    """The first operator."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def key(self, user: str, kind: int = ED25519, *scopes: int, **more: Any) -> Held:
        """A key for a user."""

        async def ask(key: pb.CreateApiKeyRequest) -> pb.CreateApiKeyResponse:
            request = admin_pb.CreateUserApiKeyRequest(user=user, key=key)
            answer: admin_pb.CreateUserApiKeyResponse = await self.client.administer("CreateUserApiKey", request)
            return answer.key

        return await new_key(ask, kind, *scopes, **more)

    async def revoke(self, key_id: str) -> None:
        await self.client.administer("RevokeUserApiKey", admin_pb.RevokeUserApiKeyRequest(key_id=key_id))


@asynccontextmanager
async def signing(port: int, held: Held | Credential) -> AsyncIterator[Client]:
    """A client whose calls carry a credential."""
    credential = held.credential if isinstance(held, Held) else held
    async with rpc.connect(f"127.0.0.1:{port}") as channel:
        yield Client(with_credential(channel, credential), ())


@asynccontextmanager
async def operating(port: int) -> AsyncIterator[Operator]:
    made.add(ADMIN_TOKEN)
    async with signing(port, Bearer(ADMIN_TOKEN)) as client:
        yield Operator(client)


async def raw(
    channel: grpc.aio.Channel, name: str, metadata: Mapping[str, str | bytes], request: bytes = b"", *, streams: bool
) -> tuple[str, str]:
    """(code, details) of a call with exactly these bytes and this metadata; of a stream, once it says something."""
    pairs = tuple(metadata.items())
    try:
        if streams:
            call: Any = cast("Any", channel.unary_stream(name))(request, metadata=pairs, timeout=15)
            await call.read()
            call.cancel()
        else:
            await cast("Any", channel.unary_unary(name))(request, metadata=pairs, timeout=15)
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""
