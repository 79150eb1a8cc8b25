"""The gate with keys of its own and a clock that the test sets: who comes through, with which scopes, how often."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clearbook.credentials import signing_payload
from services.errors import Reason, Rejected
from services.order_gateway.accounts import Accounts
from services.order_gateway.call import Call
from services.order_gateway.gate import Gate
from services.order_gateway.identity import authenticator, keyring
from services.order_gateway.identity.addresses import networks_of
from services.order_gateway.identity.authenticator import Authenticator
from services.order_gateway.identity.failures import Failures
from services.order_gateway.identity.issuer import Issuer
from services.order_gateway.identity.key import Key, KeyKind
from services.order_gateway.identity.key_store import KeyStore
from services.order_gateway.identity.keyring import Keyring
from services.order_gateway.identity.proof import Verify, nobodys, token_hash, verifier
from services.order_gateway.identity.scopes import Scope
from services.order_gateway.identity.secret_box import SecretsKey
from services.order_gateway.identity.who import Caller, Identity
from services.order_gateway.limits import Limits, LimitSettings
from services.order_gateway.methods import Access, Method
from services.order_gateway.service import _stream_call
from services.runtime.db import Unavailable
from tests.books import eventually

METHOD = "/clearbook.v1.OrderService/PlaceOrder"
START_MS = 1_790_000_000_000
LATER_MS = START_MS + 100_000
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
FAILURES_MAX = 3


class Stored:
    """The database of keys."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.away = False
        self.looks = 0
        self.dropped_before_ns = 0
        self.news: list[Key] = []
        self.written: list[dict[str, int]] = []
        """What the next look finds."""
        self.answers = asyncio.Event()
        """Cleared: whoever looks waits."""
        self.answers.set()

    async def live(self, _now_ns: int) -> tuple[list[Key], int]:
        return list(self.keys.values()), 0

    async def since(self, change: int) -> tuple[list[Key], int]:
        self.looks += 1
        if self.away:
            raise Unavailable("away")
        found, self.news = self.news, []
        await self.answers.wait()
        return found, change

    async def used(self, times: Iterable[tuple[str, int]]) -> None:
        if self.away:
            raise Unavailable("away")
        self.written.append(dict(times))

    async def drop_sessions_ended_before(self, time_ns: int) -> None:
        self.dropped_before_ns = time_ns

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
            self.keyring, Failures(lambda: 0, FAILURES_MAX), open_mode=False, audience="clearbook", clock=self.clock
        )
        limits = Limits(LimitSettings(limit_ip_streams=2))
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
        key_id = changed.get("key_id", "k1")
        metadata = {"x-api-key": key_id, "x-timestamp": stamped, "x-recv-window": "5000", "x-nonce": nonce}
        signature = changed.get("by", PRIVATE).sign(payload)
        return Call(METHOD, metadata, changed.get("sent", request), signature, peer="203.0.113.9")

    def bearing(self, token: str, peer: str = "203.0.113.9") -> Call:
        return Call(METHOD, {"authorization": f"Bearer {token}"}, peer=peer)

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
        (Access.REFERENCE_PRICE, "PERMISSION_DENIED"),
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
            await issuer.revoke(key_id, user, alone=False)
        assert caught.value.reason is Reason.KEY_NOT_FOUND
    assert await scene.admits(scene.call(LATER_MS)) == "OK"


async def test_a_key_ends_at_its_time(bare: Scene) -> None:
    scene, ends = bare, LATER_MS + 10
    await scene.load(ends * 10**6)
    scene.now_ms = ends - 1
    assert await scene.admits(scene.call(scene.now_ms)) == "OK"
    scene.now_ms = ends
    assert await scene.admits(scene.call(scene.now_ms)) == "UNAUTHENTICATED"


# What is wrong is one answer, after the same work.

WRONG: dict[str, Callable[[Scene], Call]] = {
    "an unknown key": lambda s: s.call(LATER_MS, key_id="nobodys"),
    "an unknown key, signed by a stranger": lambda s: s.call(LATER_MS, key_id="nobodys", by=STRANGER),
    "signed by a stranger": lambda s: s.call(LATER_MS, by=STRANGER),
    "for another body": lambda s: s.call(LATER_MS, b"one", sent=b"two"),
    "stale": lambda s: s.call(LATER_MS - 6_000),
    "from the future": lambda s: s.call(LATER_MS + 6_000),
    "an expired key": lambda s: s.call(LATER_MS, key_id="expired"),
    "a revoked key": lambda s: s.call(LATER_MS, key_id="revoked"),
    "a key that is good elsewhere": lambda s: s.call(LATER_MS, key_id="elsewhere"),
    "a key of another kind": lambda s: s.call(LATER_MS, key_id="bearer"),
    "an unknown token": lambda s: s.bearing("unknown"),
    "an expired token": lambda s: s.bearing("expired-token"),
}
MORE: dict[str, dict[str, Any]] = {
    "expired": {"expire_ns": (LATER_MS - 10) * 10**6},
    "revoked": {"revoke_ns": 7},
    "elsewhere": {"networks": networks_of(["198.51.100.0/24"], "f")},
    "bearer": {"kind": KeyKind.BEARER, "proof": token_hash("token")},
    "expired-token": {"kind": KeyKind.BEARER, "proof": token_hash("expired-token"), "expire_ns": 6},
}
"""Keys beside k1, as they differ from it."""


class Work:
    """Counts what judging costs: verifications by kind, of real keys and of nobody's alike."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: Counter[KeyKind] = Counter()
        monkeypatch.setattr(keyring, "verifier", lambda key, box: self._counted(key.kind, verifier(key, box)))
        monkeypatch.setattr(
            authenticator, "nobodys", lambda: {kind: self._counted(kind, one) for kind, one in nobodys().items()}
        )

    def _counted(self, kind: KeyKind, verify: Verify) -> Verify:
        def counted(signature: bytes, payload: bytes) -> bool:
            self.done[kind] += 1
            return verify(signature, payload)

        return counted


@pytest.mark.parametrize("failures", [0, FAILURES_MAX], ids=["at first", "after too many"])
@pytest.mark.parametrize("name", WRONG)
async def test_one_answer_after_the_same_work(
    name: str, failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "REFRESH_SECONDS_MIN", 0.0)
    work = Work(monkeypatch)
    scene = Scene(tmp_path)
    await scene.load()
    for key_id, changed in MORE.items():
        scene.stored.keys[key_id] = replace(scene.stored.keys["k1"], key_id=key_id, **changed)
    await scene.keyring.load()
    for _ in range(failures):
        scene.authenticator._failures.note("203.0.113.9")
    answer = await scene.admits(WRONG[name](scene))
    kind = KeyKind.BEARER if "token" in name else KeyKind.ED25519
    if failures:
        assert (answer, work.done, scene.stored.looks) == ("OVERLOADED", {kind: 1}, 0)
    else:  # judged, the database looked into, and judged again
        assert (answer, work.done, scene.stored.looks) == ("UNAUTHENTICATED", {kind: 2}, 1)


@pytest.mark.parametrize(
    ("wrong_before", "right", "answer"),
    [
        (0, True, "OK"),
        (FAILURES_MAX, True, "OK"),
        (10 * FAILURES_MAX, True, "OK"),
        (0, False, "UNAUTHENTICATED"),
        (FAILURES_MAX - 1, False, "UNAUTHENTICATED"),
        (FAILURES_MAX, False, "OVERLOADED"),
        (10 * FAILURES_MAX, False, "OVERLOADED"),
    ],
)
async def test_who_shares_an_address_with_somebody_who_guesses(
    scene: Scene, wrong_before: int, right: bool, answer: str
) -> None:
    for _ in range(wrong_before):
        assert await scene.admits(scene.call(LATER_MS, by=STRANGER)) in {"UNAUTHENTICATED", "OVERLOADED"}
    assert await scene.admits(scene.call(LATER_MS, by=PRIVATE if right else STRANGER)) == answer


async def test_a_key_made_while_the_database_is_read_is_good(scene: Scene) -> None:
    """It is shown before that look has ended, which began before the key was there."""
    scene.stored.answers.clear()
    looking = asyncio.create_task(scene.keyring.refresh())
    while not scene.stored.looks:
        await asyncio.sleep(0)
    made = replace(scene.stored.keys["k1"], key_id="k2", user="bob", kind=KeyKind.BEARER, proof=token_hash("new"))
    scene.stored.news = [made]
    asking = asyncio.create_task(scene.gate.admit(scene.bearing("new"), Access.TRADE))
    await asyncio.sleep(0)
    scene.stored.answers.set()
    await looking
    found = await asking
    assert isinstance(found, Caller)
    assert found.identity.key_id == "k2"
    assert scene.stored.looks == 2


async def test_who_guesses_while_the_database_hangs(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """All wait for one look, which has an end; of one address only so many wait."""
    monkeypatch.setattr(keyring, "LOOK_SECONDS_MAX", 0.3)
    monkeypatch.setattr(keyring, "REFRESH_SECONDS_MIN", 0.0)
    scene.stored.answers.clear()
    peers = ["203.0.113.9"] * (FAILURES_MAX + 2) + ["198.51.100.1"] * 2
    answers = await asyncio.wait_for(
        asyncio.gather(*(scene.admits(scene.bearing("wrong", peer)) for peer in peers)), 0.3 * 3
    )
    assert answers == ["UNAUTHENTICATED"] * FAILURES_MAX + ["OVERLOADED"] * 2 + ["UNAUTHENTICATED"] * 2
    assert scene.stored.looks == 1
    assert await scene.admits(scene.call(LATER_MS)) == "OK", "who is known does not wait"


async def test_what_the_database_knows_was_no_failure(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "REFRESH_SECONDS_MIN", 0.0)
    for number in range(FAILURES_MAX + 1):
        proof = token_hash(str(number))
        scene.stored.news = [replace(scene.stored.keys["k1"], key_id=f"n{number}", kind=KeyKind.BEARER, proof=proof)]
        assert await scene.gate.admit(scene.bearing(str(number)), Access.TRADE)


async def test_a_key_that_is_gone_was_used_all_the_same(scene: Scene) -> None:
    """Also while the database is away: it is written when it is back."""
    assert await scene.admits(scene.call(LATER_MS)) == "OK"
    scene.stored.away = True
    with pytest.raises(Unavailable):
        await scene.keyring.note_used()
    revoked = replace(scene.stored.keys["k1"], revoke_ns=LATER_MS * 10**6)
    scene.keyring.learn(revoked)
    minute = LATER_MS * 10**6 - LATER_MS * 10**6 % (60 * 10**9)
    assert scene.keyring.get("k1") is None
    assert scene.keyring.as_used(revoked).last_used_ns == minute
    scene.stored.away = False
    await scene.keyring.note_used()
    await scene.keyring.note_used()
    assert scene.stored.written == [{"k1": minute}, {}]


# Streams.


async def test_an_expired_keys_streams_end_while_the_database_is_away(
    bare: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "REFRESH_SECONDS", 0.01)
    scene, ends = bare, LATER_MS + 10
    await scene.load(ends * 10**6)
    scene.stored.away = True
    following = asyncio.create_task(scene.keyring.follow())
    try:
        with scene.keyring.stream("k1") as closing:
            while scene.stored.looks < 2:
                await asyncio.sleep(0)
            assert not closing.is_set()
            scene.now_ms = ends
            await asyncio.wait_for(closing.wait(), 5)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def endless(_who: object, _request: object, _seconds: float) -> AsyncIterator[int]:
    while True:
        yield 1


async def test_sessions_that_ended_long_ago_are_dropped_while_it_runs(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(keyring, "DROP_SECONDS", 0.02)
    scene.now_ms += 5_000
    kept_from_ns = scene.clock() - keyring.SESSIONS_KEPT_NS
    assert scene.stored.dropped_before_ns < kept_from_ns, "at the start"
    following = asyncio.create_task(scene.keyring.follow())
    try:
        await eventually(lambda: scene.stored.dropped_before_ns == kept_from_ns)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_streams_of_nobody_are_counted_by_address(scene: Scene) -> None:
    method = Method("service", "Stream", Access.PUBLIC, None, streams=endless)
    networks = {"one": "2001:db8::", "other": "2001:db8:0:1::"}
    streams = []

    async def opens(network: str, host: int) -> bool:
        call = Call(METHOD, peer=f"{networks[network]}{host}")
        stream = _stream_call(scene.gate, method, call, None)
        streams.append(stream)
        try:
            return bool(await anext(stream) == 1)
        except Rejected as rejected:
            if rejected.reason is not Reason.OVERLOADED:
                raise
            return False

    assert [await opens("one", host) for host in (1, 2, 3)] == [True, True, False]
    assert await opens("other", 1)
    known = await scene.gate.admit(scene.call(LATER_MS), Access.TRADE)
    with scene.gate.while_open(Call(METHOD, peer="2001:db8::1"), known) as closing:
        assert not closing.is_set(), "an account's streams are limited by account"
    await streams[0].aclose()
    assert await opens("one", 3)
    for stream in streams:
        await stream.aclose()
