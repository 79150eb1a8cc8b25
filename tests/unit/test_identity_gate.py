"""The gate with keys of its own and a clock that the test sets: who comes through, with which scopes, how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clearbook.credentials import signing_payload
from services.errors import Reason, Rejected
from services.order_gateway.accounts import Accounts
from services.order_gateway.call import Call
from services.order_gateway.gate import Gate
from services.order_gateway.identity.authenticator import Authenticator
from services.order_gateway.identity.failures import Failures
from services.order_gateway.identity.issuer import Issuer
from services.order_gateway.identity.key import Key, KeyKind
from services.order_gateway.identity.key_store import KeyStore
from services.order_gateway.identity.keyring import Keyring
from services.order_gateway.identity.scopes import Scope
from services.order_gateway.identity.secret_box import SecretsKey
from services.order_gateway.identity.who import Caller, Identity
from services.order_gateway.limits import Limits, LimitSettings
from services.order_gateway.methods import Access

METHOD = "/clearbook.v1.OrderService/PlaceOrder"
START_MS = 1_790_000_000_000
LATER_MS = START_MS + 100_000
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


class Stored:
    """The database of keys."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}

    async def live(self, _now_ns: int) -> tuple[list[Key], int]:
        return list(self.keys.values()), 0

    async def since(self, change: int) -> tuple[list[Key], int]:
        return [], change

    async def drop_sessions_ended_before(self, _time_ns: int) -> None:
        pass

    async def key(self, key_id: str) -> Key | None:
        return self.keys.get(key_id)


class Known:
    async def caller(self, identity: Identity, _seconds: float) -> Caller:
        return Caller(identity, 1_001)


class Scene:
    """A gate in required mode, and alice's key with the scope TRADE."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = START_MS
        self.stored = Stored()
        self.keyring = Keyring(cast("KeyStore", self.stored), SecretsKey("", folder, may_make=False), self.clock)
        self.authenticator = Authenticator(
            self.keyring, Failures(lambda: 0, 100), open_mode=False, audience="clearbook", clock=self.clock
        )
        limits = Limits(LimitSettings())
        accounts = cast("Accounts", Known())
        self.gate = Gate(self.authenticator, self.keyring, limits, accounts, lambda: True)
        self.nonces = 0
        self.now_ms = LATER_MS

    def clock(self) -> int:
        return self.now_ms * 10**6

    async def load(self, expire_ns: int = 0) -> None:
        public = PRIVATE.public_key().public_bytes_raw()
        key = Key("k1", KeyKind.ED25519, "alice", "", frozenset({Scope.TRADE}), (), public, 5, expire_ns)
        self.stored.keys["k1"] = key
        await self.keyring.load()

    def call(self, timestamp_ms: int, request: bytes = b"", **changed: Any) -> Call:
        self.nonces += 1
        stamped, nonce = str(timestamp_ms), str(self.nonces)
        payload = signing_payload(METHOD, "clearbook", stamped, "5000", nonce, request)
        metadata = {"x-api-key": "k1", "x-timestamp": stamped, "x-recv-window": "5000", "x-nonce": nonce}
        return Call(METHOD, metadata, changed.get("sent", request), PRIVATE.sign(payload))

    async def admits(self, call: Call, access: Access = Access.TRADE) -> str:
        """OK, or the reason why not."""
        try:
            found = await self.gate.admit(call, access)
        except Rejected as rejected:
            return rejected.reason.name
        assert isinstance(found, Caller)
        assert (found.user, found.identity.key_id) == ("alice", "k1")
        return "OK"


@pytest.fixture
def bare(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
async def scene(bare: Scene) -> Scene:
    await bare.load()
    return bare


@pytest.mark.parametrize(
    ("behind_ms", "answer"),
    [
        (0, "OK"), (5_000, "OK"), (5_001, "UNAUTHENTICATED"), (-999, "OK"), (-1_000, "UNAUTHENTICATED"),
        (100_001, "UNAUTHENTICATED"),
    ],
)  # fmt: skip
async def test_the_gate_keeps_the_time(scene: Scene, behind_ms: int, answer: str) -> None:
    assert await scene.admits(scene.call(LATER_MS - behind_ms)) == answer


@pytest.mark.parametrize(
    ("stamp_ms", "answer"), [(-1, "UNAUTHENTICATED"), (0, "NOT_TAKEN"), (999, "NOT_TAKEN"), (1_000, "OK")]
)
async def test_what_an_earlier_process_may_have_taken(scene: Scene, stamp_ms: int, answer: str) -> None:
    scene.now_ms = START_MS + 500
    assert await scene.admits(scene.call(START_MS + stamp_ms)) == answer


async def test_a_request_is_good_once(scene: Scene) -> None:
    call = scene.call(LATER_MS)
    assert [await scene.admits(call), await scene.admits(call)] == ["OK", "UNAUTHENTICATED"]
    scene.now_ms += 5_000
    assert await scene.admits(call) == "UNAUTHENTICATED", "its last moment"


async def test_a_signature_covers_the_body(scene: Scene) -> None:
    assert await scene.admits(scene.call(LATER_MS, b"one", sent=b"two")) == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("access", "answer"),
    [
        (Access.READ, "OK"),
        (Access.TRADE, "OK"),
        (Access.WITHDRAW, "PERMISSION_DENIED"),
        (Access.ADMIN, "PERMISSION_DENIED"),
    ],
)
async def test_a_scope_is_asked_for(scene: Scene, access: Access, answer: str) -> None:
    assert await scene.admits(scene.call(LATER_MS), access) == answer


async def test_a_key_is_its_owners_to_revoke(scene: Scene, tmp_path: Path) -> None:
    issuer = Issuer(
        cast("KeyStore", scene.stored), scene.keyring, SecretsKey("", tmp_path, may_make=False), scene.clock
    )
    for user, key_id in (("bob", "k1"), ("alice", "k2")):
        with pytest.raises(Rejected) as caught:
            await issuer.revoke(key_id, user)
        assert caught.value.reason is Reason.KEY_NOT_FOUND
    assert await scene.admits(scene.call(LATER_MS)) == "OK"


async def test_a_key_ends_at_its_time(bare: Scene) -> None:
    scene, ends = bare, LATER_MS + 10
    await scene.load(ends * 10**6)
    scene.now_ms = ends - 1
    assert await scene.admits(scene.call(scene.now_ms)) == "OK"
    scene.now_ms = ends
    assert await scene.admits(scene.call(scene.now_ms)) == "UNAUTHENTICATED"
