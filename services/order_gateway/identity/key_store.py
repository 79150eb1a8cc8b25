"""Keys and wallets in their database, which several gateways may share.

Every change to a key has the next number of one counter, taken in the change's own transaction: who has read up to a
number has missed nothing before it, in whatever order transactions commit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
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
_FAMILY = (
    "WITH RECURSIVE made (key_id) AS (SELECT key_id FROM api_keys WHERE key_id = $1 OR parent = $1 UNION "
    "SELECT api_keys.key_id FROM api_keys JOIN made ON api_keys.parent = made.key_id) "
)
_REVOKE_ALL = (
    f"{_FAMILY}UPDATE api_keys SET revoke_ns = $2, change = {_THIS_CHANGE} "  # noqa: S608
    f"WHERE revoke_ns = {NEVER_NS} AND key_id IN (SELECT key_id FROM made)"
)
_USED = "UPDATE api_keys SET last_used_ns = $2 WHERE key_id = $1 AND last_used_ns < $2"
_DROP_OLD = "DELETE FROM api_keys WHERE kind = $1 AND expire_ns <> 0 AND expire_ns < $2"
_LINK = "INSERT INTO wallets (address, user_name, link_ns, linked_by) VALUES ($1, $2, $3, $4)"
_UNLINK = "DELETE FROM wallets WHERE address = $1 AND user_name = $2"
_AGAIN = "ON CONFLICT (address) DO UPDATE SET user_name = excluded.user_name, unlink_ns = excluded.unlink_ns"
_NOTE_UNLINKED = f"INSERT INTO unlinked_wallets (address, user_name, unlink_ns) VALUES ($1, $2, $3) {_AGAIN}"  # noqa: S608
_NOTE_FAMILYS = (
    f"{_FAMILY}INSERT INTO unlinked_wallets (address, user_name, unlink_ns) "  # noqa: S608
    f"SELECT address, user_name, $2 FROM wallets WHERE linked_by IN (SELECT key_id FROM made) {_AGAIN}"
)
_UNLINK_FAMILYS = f"{_FAMILY}DELETE FROM wallets WHERE linked_by IN (SELECT key_id FROM made)"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Link:
    """Whose a wallet is.

    Attributes:
        linked_by: the id of the credential that linked it; "" for none: the account is the wallet's own.
    """

    user: str
    linked_by: str


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

    async def add(self, key: Key, *, parent_lives: bool = True) -> None:
        """Keeps a key. Durable on return.

        Args:
            key: the new one.
            parent_lives: its parent must not have been revoked.

        Raises:
            Conflict: there is one of that id, or its parent has been revoked meanwhile.
            Unavailable: the outcome is unknown.
        """
        parent_is_good = [_is_not_revoked(key.parent)] if parent_lives else []
        await self._database.write([_NEXT_CHANGE, *parent_is_good, Statement(_ADD_KEY, [_row(key)])])

    async def revoke(self, key_id: str, now_ns: int, *, alone: bool) -> None:
        """Revokes a key and, unless `alone`, all that were made with it, and with those, and so on.

        The wallets that these linked are unlinked then. One that is revoked stays as it is. Durable on return. Raises
        Unavailable.
        """
        rows = [(key_id, now_ns)]
        family = [
            Statement(_REVOKE_ALL, rows),
            Statement(_NOTE_FAMILYS, rows),
            Statement(_UNLINK_FAMILYS, [(key_id,)]),
        ]
        await self._database.write([_NEXT_CHANGE, *([Statement(_REVOKE, rows)] if alone else family)])

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

    async def has_made(self, key_id: str) -> bool:
        """Whether any key was made with this credential; not for "", which stands for none. Raises Unavailable."""
        return bool(key_id) and bool(
            await self._database.fetch("SELECT 1 FROM api_keys WHERE parent = $1 LIMIT 1", key_id)
        )

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

    async def link_of(self, address: str) -> Link | None:
        """Whose wallet this is (an address in lower case). Raises Unavailable."""
        rows = await self._database.fetch("SELECT user_name, linked_by FROM wallets WHERE address = $1", address)
        return Link(rows[0][0], rows[0][1]) if rows else None

    async def wallet_of(self, user: str) -> str | None:
        """The wallet of a user, in lower case. Raises Unavailable."""
        rows = await self._database.fetch("SELECT address FROM wallets WHERE user_name = $1", user)
        return rows[0][0] if rows else None

    async def link(self, address: str, link: Link, now_ns: int) -> bool:
        """Links a wallet to a user. Durable on return. Raises Unavailable.

        Returns:
            False if either has another one, or what links it has been revoked meanwhile.
        """
        row = (address, link.user, now_ns, link.linked_by)
        try:
            await self._database.write([_NEXT_CHANGE, _is_not_revoked(link.linked_by), Statement(_LINK, [row])])
        except Conflict:
            found = await self.link_of(address)
            return found is not None and found.user == link.user
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
        """Whether this wallet was taken away from somebody. Raises Unavailable."""
        return bool(await self._database.fetch("SELECT 1 FROM unlinked_wallets WHERE address = $1", address))


def _is_not_revoked(key_id: str) -> Statement:
    """A conflict if it is. All changes wait for the counter's row: nothing slips in while a key is being revoked."""
    return Statement(_IS_REVOKED, [(key_id,)], expect=0)


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
