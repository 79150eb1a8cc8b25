"""All keys that are good now, in memory, in step with their database; and the streams that each has opened.

Another gateway may make and revoke keys in the same database: what changed there is read twice in a second, and sooner
when somebody shows what is not known here.
"""

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from services.errors import Reason, Rejected
from services.order_gateway.identity.key import Key, KeyKind
from services.order_gateway.identity.key_store import KeyStore
from services.order_gateway.identity.proof import Verify, verifier
from services.order_gateway.identity.secret_box import SecretsKey, WrongSecretsKey
from services.runtime import log
from services.runtime.db import Unavailable
from services.runtime.run import Closing, StartError

REFRESH_SECONDS = 0.4
"""From one look at the database to the next: a key that was revoked elsewhere is good for so much longer."""
REFRESH_SECONDS_MIN = 0.1
"""Between two looks that were asked for by what is not known here."""
LOOK_SECONDS_MAX = 1.0
"""How long whoever shows what is not known here waits for such a look: a database that hangs keeps nobody longer."""
USED_SECONDS = 60.0
"""From one note of when keys were last used to the next."""
NS_PER_MINUTE = 60 * 10**9
SESSIONS_KEPT_NS = 30 * 24 * 3600 * 10**9
"""How long the row of an ended session stays."""
DROP_SECONDS = 3600.0
"""From one removal of such rows to the next."""

logger = log.get("keys")


@dataclass(slots=True)
class _Held:
    """A key at hand."""

    key: Key
    verify: Verify
    used_ns: int
    streams: set[Closing] = field(default_factory=set)


class Keyring:
    """Keys by id and by token.

    Args:
        store: where they are kept.
        secrets_key: opens the secrets of HMAC keys.
        clock: nanoseconds since the epoch.
    """

    def __init__(self, store: KeyStore, secrets_key: SecretsKey, clock: Callable[[], int] = time.time_ns) -> None:
        self._store, self._secrets_key, self._clock = store, secrets_key, clock
        self._held: dict[str, _Held] = {}
        self._by_proof: dict[bytes, str] = {}
        self._by_user: dict[str, set[str]] = {}
        self._ends: list[tuple[int, str]] = []
        """A heap: when which key expires."""
        self._change = 0
        self._used: set[str] = set()
        self._refreshing = asyncio.Lock()
        self._looked = 0.0
        """When the last look began, whatever came of it: what was committed since, it may have missed."""
        self._in_step = False
        """Whether that look succeeded."""

    # In step with the database.

    async def load(self, *own: Key) -> None:
        """Reads all that are good now, beside our own that no database has.

        Raises:
            Unavailable: the database is away.
            StartError: an HMAC key's secret cannot be opened.
        """
        await self._drop_old_sessions()
        keys, self._change = await self._store.live(self._clock())
        try:
            for key in (*keys, *own):
                self.learn(key)
        except WrongSecretsKey as wrong:
            raise StartError(str(wrong)) from None

    async def _drop_old_sessions(self) -> None:
        await self._store.drop_sessions_ended_before(self._clock() - SESSIONS_KEPT_NS)

    def learn(self, key: Key) -> None:
        """Knows one key more from now on, or forgets one that is no longer good: its streams end."""
        held = self._held.get(key.key_id)
        if not key.live(self._clock()):
            if held is not None:
                self._drop(held)
        elif held is None:
            self._held[key.key_id] = _Held(key, verifier(key, self._secrets_key), key.last_used_ns)
            self._by_user.setdefault(key.user, set()).add(key.key_id)
            if key.expire_ns:
                heapq.heappush(self._ends, (key.expire_ns, key.key_id))
            if not key.kind.signs:
                self._by_proof[key.proof] = key.key_id

    def _drop(self, held: _Held) -> None:
        key = held.key
        del self._held[key.key_id]
        self._by_proof.pop(key.proof, None)
        self._by_user[key.user].discard(key.key_id)
        for stream in list(held.streams):
            stream.set()

    async def refresh(self) -> None:
        """Reads what has changed. Raises Unavailable."""
        async with self._refreshing:
            await self._refresh()

    async def _refresh(self) -> None:
        self._looked, self._in_step = asyncio.get_running_loop().time(), False
        changed, self._change = await self._store.since(self._change)
        self._in_step = True
        for key in changed:
            try:
                self.learn(key)
            except WrongSecretsKey as wrong:  # made by a gateway that is configured otherwise
                logger.warning("a key cannot be used here", why=str(wrong))

    def drop_expired(self) -> None:
        """Forgets the keys whose time is over: their streams end."""
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            _, key_id = heapq.heappop(self._ends)
            if key_id in self._held:
                self._drop(self._held[key_id])

    async def look_again(self) -> bool:
        """Reads what has changed for somebody who showed what is not known here; whether it has been read anew.

        All who ask within REFRESH_SECONDS_MIN wait for the same look, so that guessing costs the database nothing; and
        none for longer than LOOK_SECONDS_MAX, for theirs and for one that is under way.
        """
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            async with asyncio.timeout(LOOK_SECONDS_MAX), self._refreshing:
                if self._looked < asked:
                    await asyncio.sleep(self._looked + REFRESH_SECONDS_MIN - loop.time())
                    await self._refresh()
        except (Unavailable, TimeoutError) as error:
            logger.warning("keys cannot be read", why=str(error) or f"no answer in {LOOK_SECONDS_MAX} s")
            return False
        return self._in_step

    async def follow(self) -> None:
        """Stays in step, for ever. A database that is away leaves what is known, and is asked again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_time(), name="expiry of keys")
            group.create_task(self._follow_database(), name="changes of keys")

    async def _follow_time(self) -> None:
        """Beside the database, which may be away, or take its time to answer."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            self.drop_expired()

    async def _follow_database(self) -> None:
        loop = asyncio.get_running_loop()
        noted = dropped = loop.time()
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
                if loop.time() - noted >= USED_SECONDS:
                    noted = loop.time()
                    await self.note_used()
                if loop.time() - dropped >= DROP_SECONDS:
                    dropped = loop.time()
                    await self._drop_old_sessions()
            except Unavailable as error:
                logger.warning("keys cannot be read", why=str(error))

    async def note_used(self) -> None:
        """Writes when keys were last used. Raises Unavailable."""
        used, self._used = self._used, set()
        await self._store.used((key_id, held.used_ns) for key_id in used if (held := self._held.get(key_id)))

    # At hand.

    def get(self, key_id: str) -> Key | None:
        """A key that is at hand; whether it is live and welcome is still to be asked."""
        held = self._held.get(key_id)
        return held.key if held is not None else None

    def verifier_of(self, key_id: str, kind: KeyKind) -> Verify | None:
        """What tells a right signature of a key from a wrong one; None if there is no such key of this kind."""
        held = self._held.get(key_id)
        return held.verify if held is not None and held.key.kind is kind else None

    def shown(self, proof: bytes) -> str:
        """The id of the key that a token's hash belongs to; "" for none."""
        return self._by_proof.get(proof, "")

    def live_of(self, user: str, *kinds: KeyKind) -> list[Key]:
        """A user's keys that are good now, of these kinds, the oldest first."""
        now = self._clock()
        mine = [self._held[key_id].key for key_id in self._by_user.get(user, ())]
        return sorted((key for key in mine if key.kind in kinds and key.live(now)), key=lambda key: key.create_ns)

    def use(self, key_id: str, now_ns: int) -> None:
        """Notes that a key was used, to the minute; in its first minute, when it was made."""
        held = self._held[key_id]
        minute = max(now_ns - now_ns % NS_PER_MINUTE, held.key.create_ns)
        if minute > held.used_ns:
            held.used_ns = minute
            self._used.add(key_id)

    def as_used(self, key: Key) -> Key:
        """The key with the time of its last use that is known here."""
        held = self._held.get(key.key_id)
        return replace(key, last_used_ns=max(key.last_used_ns, held.used_ns)) if held is not None else key

    @contextmanager
    def stream(self, key_id: str) -> Iterator[Closing]:
        """While a stream of this key is open: set as soon as the key is no longer good.

        Raises:
            Rejected: UNAUTHENTICATED: it no longer is.
        """
        held = self._held.get(key_id)
        if held is None:
            raise Rejected(Reason.UNAUTHENTICATED)
        closing = Closing()
        held.streams.add(closing)
        try:
            yield closing
        finally:
            held.streams.discard(closing)
