"""Makes and revokes keys: nobody can pass on more than they have."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from services.errors import Reason, Rejected
from services.order_gateway.identity import addresses, scopes
from services.order_gateway.identity.addresses import networks_of
from services.order_gateway.identity.key import NEVER_NS, Key, KeyKind, NewKey
from services.order_gateway.identity.key_store import KeyStore
from services.order_gateway.identity.keyring import Keyring
from services.order_gateway.identity.proof import new_token, token_hash
from services.order_gateway.identity.scopes import Scope
from services.order_gateway.identity.secret_box import SecretsKey
from services.order_gateway.identity.who import ADMIN_USER, Identity
from services.runtime.db import Conflict

KEYS_MAX = 50
"""Live keys of one account, sessions not counted."""
SESSIONS_MAX = 20
"""Live sessions of one account; the oldest ends for a new one."""
SESSION_SECONDS = 24 * 3600
KEY_ID_BYTES = 8
NS_PER_SECOND = 10**9
BOOTSTRAP_PREFIX, BOOTSTRAP_HASH_BYTES = "bootstrap-", 4
"""Of the id of the first operator's token, from the configuration: another token's keys are another family."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key, and what is never shown again: an HMAC secret or a token; "" for ED25519."""

    key: Key
    secret: str


class Issuer:
    """Makes keys.

    Args:
        secrets_key: seals the secrets of HMAC keys.
        clock: nanoseconds since the epoch.
    """

    def __init__(
        self,
        store: KeyStore,
        keyring: Keyring,
        secrets_key: SecretsKey,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store, self._keyring, self._secrets_key, self._clock = store, keyring, secrets_key, clock
        self._making = asyncio.Lock()  # the count and the key that it lets in belong together

    async def create(self, asking: Identity, asked: NewKey) -> Issued:
        """A key for the account of whoever asks, within what the asking credential may itself.

        Raises:
            Rejected: PERMISSION_DENIED, INVALID_FIELD, TOO_MANY_KEYS, NO_SECRETS_KEY.
        """
        if not scopes.all_within(asked.scopes, asking.scopes):
            raise Rejected(Reason.PERMISSION_DENIED, "the new key would do what the credential may not", "scopes")
        return await self._create(asking, asking.user, self._within(asking, asked))

    async def create_for(self, operator: Identity, user: str, asked: NewKey) -> Issued:
        """A key for any user, as an operator asks for it: what may do more than an account may lies within his own.

        Raises:
            Rejected: as `create` does.
        """
        more = not asked.scopes <= scopes.ACCOUNT_SCOPES
        return await self._create(operator, user, self._within(operator, asked) if more else asked)

    def _within(self, asking: Identity, asked: NewKey) -> NewKey:
        """What is asked for, with the networks and the expiry of the asking credential where they are left open.

        Raises:
            Rejected: PERMISSION_DENIED: they lie beyond it; UNAUTHENTICATED: it has been revoked since it was admitted.
        """
        mine = self._mine(asking)
        if mine is None:
            return asked
        networks, expire_ns = asked.networks or mine.networks, asked.expire_ns or mine.expire_ns
        if not addresses.all_within(networks, mine.networks):
            raise Rejected(
                Reason.PERMISSION_DENIED, "the new key would be good where the credential is not", "allowed_ips"
            )
        if mine.expire_ns and expire_ns > mine.expire_ns:
            raise Rejected(Reason.PERMISSION_DENIED, "the new key would outlive the credential", "expire_time")
        return replace(asked, networks=networks, expire_ns=expire_ns)

    def _mine(self, asking: Identity) -> Key | None:
        """The credential that asks; None where a name was all. Raises Rejected: UNAUTHENTICATED: it is gone."""
        mine = self._keyring.get(asking.key_id)
        if mine is None and asking.key_id:
            raise Rejected(Reason.UNAUTHENTICATED)
        return mine

    async def _create(self, asking: Identity, user: str, asked: NewKey) -> Issued:
        now, networks, expire_ns = self._clock(), asked.networks, asked.expire_ns
        if expire_ns and expire_ns <= now:
            raise Rejected(Reason.INVALID_FIELD, "expire_time must be in the future", "expire_time")
        if Scope.WITHDRAW in asked.scopes and not networks:
            raise Rejected(Reason.INVALID_FIELD, "allowed_ips must be given for the scope WITHDRAW", "allowed_ips")
        key_id = secrets.token_hex(KEY_ID_BYTES)
        proof, secret = self._proof(key_id, asked)
        key = Key(
            key_id, asked.kind, user, asked.label, asked.scopes, networks, proof, now, expire_ns, parent=asking.key_id
        )
        async with self._making:
            if len(self._keyring.live_of(user, KeyKind.ED25519, KeyKind.HMAC_SHA256, KeyKind.BEARER)) >= KEYS_MAX:
                raise Rejected(Reason.TOO_MANY_KEYS, f"an account has at most {KEYS_MAX} live keys; revoke one")
            await self._keep(key)
        return Issued(key, secret)

    def _proof(self, key_id: str, asked: NewKey) -> tuple[bytes, str]:
        """What is kept of a key, and what is shown of it once."""
        if asked.kind is KeyKind.ED25519:
            return asked.public_key, ""
        secret = new_token()
        if asked.kind is KeyKind.BEARER:
            return token_hash(secret), secret
        box = self._secrets_key.to_seal()
        if box is None:
            raise Rejected(Reason.NO_SECRETS_KEY)
        return box.seal(secret.encode(), key_id), secret

    async def _keep(self, key: Key, *, parent_lives: bool = True) -> None:
        try:
            await self._store.add(key, parent_lives=parent_lives)
        except Conflict:  # what it is made with was revoked since it was admitted
            raise Rejected(Reason.UNAUTHENTICATED) from None
        self._keyring.learn(key)

    async def open_session(
        self, user: str, granted: frozenset[Scope], peer: str, asking: Identity | None, linked_by: str
    ) -> Issued:
        """A session of somebody who has signed in. One that may WITHDRAW is good from this address only.

        Args:
            user: who.
            granted: what it may do.
            peer: from where.
            asking: the credential shown beside the wallet's signature, whose networks and expiry hold for the session.
            linked_by: what linked the wallet: without another credential the session ends with it.

        Raises:
            Rejected: UNAUTHENTICATED: the credential that asks has been revoked meanwhile.
        """
        now = self._clock()
        networks = networks_of([peer], "peer") if Scope.WITHDRAW in granted else ()
        token = new_token()
        expire_ns = now + SESSION_SECONDS * NS_PER_SECOND
        mine = self._mine(asking) if asking is not None else None
        if mine is not None:
            networks, expire_ns = networks or mine.networks, min(expire_ns, mine.expire_ns or expire_ns)
        key_id = secrets.token_hex(KEY_ID_BYTES)
        key = Key(
            key_id,
            KeyKind.SESSION,
            user,
            "sign-in by wallet",
            granted,
            networks,
            token_hash(token),
            now,
            expire_ns,
            parent=asking.key_id if asking is not None else linked_by,
        )
        async with self._making:
            # What linked the wallet may have been replaced since, and the wallet kept.
            await self._keep(key, parent_lives=asking is not None)
            for old in self._keyring.live_of(user, KeyKind.SESSION)[:-SESSIONS_MAX]:
                await self._revoke(old.key_id, alone=True)  # nothing is wrong with it, nor with what it made
        return Issued(key, token)

    async def revoke(self, key_id: str, user: str, *, alone: bool) -> Key:
        """Revokes a key at once, with all that were made with it; the key as it is then. Idempotent.

        Args:
            key_id: which.
            user: whose it must be.
            alone: leave those that were made with it: for a key that is replaced, not lost.

        Raises:
            Rejected: KEY_NOT_FOUND, also for another's.
        """
        key = await self._store.key(key_id)
        if key is None or user != key.user:
            raise Rejected(Reason.KEY_NOT_FOUND)
        await self._revoke(key_id, alone=alone)
        return self._keyring.as_used(await self._store.key(key_id) or key)

    async def revoke_anybodys(self, key_id: str, *, alone: bool) -> None:
        """Revokes a key as `revoke` does; of an operator's token, which no database has, all that were made with it.

        Raises:
            Rejected: KEY_NOT_FOUND.
        """
        if await self._store.key(key_id) is None and (alone or not await self._store.has_made(key_id)):
            raise Rejected(Reason.KEY_NOT_FOUND)
        await self._revoke(key_id, alone=alone)

    async def _revoke(self, key_id: str, *, alone: bool) -> None:
        await self._store.revoke(key_id, self._clock(), alone=alone)
        await self._keyring.refresh()

    async def end_sessions(self, user: str) -> None:
        """Revokes all sessions of a user, those of other gateways too. Raises Unavailable."""
        await self._keyring.refresh()
        async with self._making:
            for session in self._keyring.live_of(user, KeyKind.SESSION):
                await self._revoke(session.key_id, alone=False)

    async def page(self, user: str | None, before_number: int, limit: int) -> list[Key]:
        """Keys of a user (None: of all), newest first, made before a number."""
        return [self._keyring.as_used(key) for key in await self._store.keys(user, before_number, limit)]

    async def adopt(self, tokens: Iterable[tuple[str, str, bool, int]]) -> None:
        """Makes keys of what older versions kept: (hash in hexadecimal, user, admin, create_ns). Idempotent."""
        for hashed, user, admin, create_ns in tokens:
            granted = scopes.ACCOUNT_SCOPES - {Scope.WITHDRAW} | ({Scope.ADMIN} if admin else set())
            key_id = hashlib.sha256(hashed.encode()).hexdigest()[: 2 * KEY_ID_BYTES]
            key = Key(
                key_id, KeyKind.BEARER, user, "token of an older version", granted, (), bytes.fromhex(hashed), create_ns
            )
            try:
                await self._store.add(key)
            except Conflict:
                continue  # adopted before


def bootstrap_key(token: str) -> Key:
    """The first operator's key: nothing but ADMIN, kept nowhere."""
    proof = token_hash(token)
    return Key(
        BOOTSTRAP_PREFIX + proof[:BOOTSTRAP_HASH_BYTES].hex(),
        KeyKind.BEARER,
        ADMIN_USER,
        "CLEARBOOK_ADMIN_TOKEN",
        frozenset({Scope.ADMIN}),
        (),
        proof,
        NEVER_NS,
    )
