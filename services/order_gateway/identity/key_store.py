"""Keys and wallets in their database, which several gateways may share.

Every change to a key has the next number of one counter, taken in the change's own transaction: who has read up to a
number has missed nothing before it, in whatever order transactions commit.
"""

from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path

from services.order_gateway.identity.key import NEVER_NS, Key, KeyKind
from services.order_gateway.identity.scopes import Scope
from services.runtime.db import Conflict, Database, Row, Statement

MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA = "identity"

_COLUMNS = (
    "key_id, kind, user_name, label, scopes, networks, proof, create_ns, expire_ns, last_used_ns, revoke_ns, "
    "parent, number"
)
_NEXT_CHANGE = Statement("UPDATE changes SET value = value + 1 WHERE id = 1", [()], expect=1)
_THIS_CHANGE = "(SELECT value FROM changes WHERE id = 1)"
_ADD_KEY = (
    f"INSERT INTO api_keys ({_COLUMNS}, change) VALUES "  # noqa: S608 - our own columns
    f"($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, {_THIS_CHANGE}, {_THIS_CHANGE})"
)
_IS_REVOKED = f"UPDATE api_keys SET revoke_ns = revoke_ns WHERE key_id = $1 AND revoke_ns <> {NEVER_NS}"  # noqa: S608
_REVOKE = (
    f"UPDATE api_keys SET revoke_ns = $2, change = {_THIS_CHANGE} "  # noqa: S608
    f"WHERE key_id = $1 AND revoke_ns = {NEVER_NS}"
)
_REVOKE_ALL = (
    "WITH RECURSIVE made (key_id) AS (SELECT key_id FROM api_keys WHERE key_id = $1 UNION "  # noqa: S608
    "SELECT api_keys.key_id FROM api_keys JOIN made ON api_keys.parent = made.key_id) "
    f"UPDATE api_keys SET revoke_ns = $2, change = {_THIS_CHANGE} "
    f"WHERE revoke_ns = {NEVER_NS} AND key_id IN (SELECT key_id FROM made)"
)
_USED = "UPDATE api_keys SET last_used_ns = $2 WHERE key_id = $1 AND last_used_ns < $2"
_DROP_OLD = "DELETE FROM api_keys WHERE kind = $1 AND expire_ns <> 0 AND expire_ns < $2"
_LINK = "INSERT INTO wallets (address, user_name, link_ns) VALUES ($1, $2, $3)"
_UNLINK = "DELETE FROM wallets WHERE address = $1 AND user_name = $2"
_NOTE_UNLINKED = (
    "INSERT INTO unlinked_wallets (address, user_name, unlink_ns) VALUES ($1, $2, $3) "
    "ON CONFLICT (address) DO UPDATE SET user_name = excluded.user_name, unlink_ns = excluded.unlink_ns"
)


class KeyStore:
    """The database of keys and wallets.

    Args:
        database: opened, its schema migrated; closed by whoever opened it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def live(self, now_ns: int) -> tuple[list[Key], int]:
        """All keys that are good now, and the number of the last change that they are as of. Raises Unavailable."""
        change: int = (await self._database.fetch("SELECT value FROM changes WHERE id = 1"))[0][0]
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM api_keys WHERE revoke_ns = 0 AND (expire_ns = 0 OR expire_ns > $1)",  # noqa: S608
            now_ns,
        )
        return [_key(row) for row in rows], change

    async def since(self, change: int) -> tuple[list[Key], int]:
        """Keys made or revoked after a change, and the number of the last one. Raises Unavailable."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS}, change FROM api_keys WHERE change > $1",  # noqa: S608
            change,
        )
        return [_key(row) for row in rows], max((row[-1] for row in rows), default=change)

    async def add(self, key: Key) -> None:
        """Keeps a key. Durable on return.

        Raises:
            Conflict: there is one of that id, or its parent has been revoked meanwhile.
            Unavailable: the outcome is unknown.
        """
        # All changes wait for the counter's row: no key is made while its parent is being revoked.
        parent_is_good = Statement(_IS_REVOKED, [(key.parent,)], expect=0)
        await self._database.write([_NEXT_CHANGE, parent_is_good, Statement(_ADD_KEY, [_row(key)])])

    async def revoke(self, key_id: str, now_ns: int, *, alone: bool) -> None:
        """Revokes a key and, unless `alone`, all that were made with it, and with those, and so on.

        One that is revoked stays as it is. Durable on return. Raises Unavailable.
        """
        await self._database.write([_NEXT_CHANGE, Statement(_REVOKE if alone else _REVOKE_ALL, [(key_id, now_ns)])])

    async def used(self, times: Iterable[tuple[str, int]]) -> None:
        """Notes (key_id, when it was last used). Raises Unavailable."""
        rows = list(times)
        if rows:
            await self._database.write([Statement(_USED, rows)])

    async def drop_sessions_ended_before(self, time_ns: int) -> None:
        """Forgets sessions: each sign-in makes one. Raises Unavailable."""
        await self._database.write([Statement(_DROP_OLD, [(int(KeyKind.SESSION), time_ns)])])

    async def key(self, key_id: str) -> Key | None:
        """A key, revoked or not. Raises Unavailable."""
        rows = await self._database.fetch(f"SELECT {_COLUMNS} FROM api_keys WHERE key_id = $1", key_id)  # noqa: S608
        return _key(rows[0]) if rows else None

    async def keys(self, user: str | None, before_number: int, limit: int) -> list[Key]:
        """Keys of a user (None: of all), newest first, made before a number. Raises Unavailable."""
        whose = [] if user is None else [user]
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM api_keys WHERE number < $1 {'AND user_name = $3' if whose else ''} "  # noqa: S608
            "ORDER BY number DESC LIMIT $2",
            before_number,
            limit,
            *whose,
        )
        return [_key(row) for row in rows]

    # Wallets.

    async def user_of(self, address: str) -> str | None:
        """Whose wallet this is (an address in lower case). Raises Unavailable."""
        rows = await self._database.fetch("SELECT user_name FROM wallets WHERE address = $1", address)
        return rows[0][0] if rows else None

    async def wallet_of(self, user: str) -> str | None:
        """The wallet of a user, in lower case. Raises Unavailable."""
        rows = await self._database.fetch("SELECT address FROM wallets WHERE user_name = $1", user)
        return rows[0][0] if rows else None

    async def link(self, address: str, user: str, now_ns: int) -> bool:
        """Links a wallet to a user; False if either has another one. Durable on return. Raises Unavailable."""
        try:
            await self._database.write([Statement(_LINK, [(address, user, now_ns)])])
        except Conflict:
            return await self.user_of(address) == user
        return True

    async def unlink(self, address: str, user: str, now_ns: int) -> bool:
        """Takes a user's wallet away; False if it is not the user's. Durable on return. Raises Unavailable."""
        note = Statement(_NOTE_UNLINKED, [(address, user, now_ns)])
        try:
            await self._database.write([Statement(_UNLINK, [(address, user)], expect=1), note])
        except Conflict:
            return False
        return True

    async def was_unlinked(self, address: str) -> bool:
        """Whether an operator took this wallet away from somebody. Raises Unavailable."""
        return bool(await self._database.fetch("SELECT 1 FROM unlinked_wallets WHERE address = $1", address))


def _row(key: Key) -> tuple[int | str | bytes, ...]:
    return (
        key.key_id,
        int(key.kind),
        key.user,
        key.label,
        " ".join(str(int(scope)) for scope in sorted(key.scopes)),
        " ".join(str(network) for network in key.networks),
        key.proof,
        key.create_ns,
        key.expire_ns,
        key.last_used_ns,
        key.revoke_ns,
        key.parent,
    )


def _key(row: Row) -> Key:
    return Key(
        key_id=row[0],
        kind=KeyKind(row[1]),
        user=row[2],
        label=row[3],
        scopes=frozenset(Scope(int(number)) for number in row[4].split()),
        networks=tuple(ip_network(text) for text in row[5].split()),
        proof=bytes(row[6]),
        create_ns=row[7],
        expire_ns=row[8],
        last_used_ns=row[9],
        revoke_ns=row[10],
        parent=row[11],
        number=row[12],
    )
