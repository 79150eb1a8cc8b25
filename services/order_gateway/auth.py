"""Who is calling: the seam behind which identity is decided. Everything else sees a Caller.

An authenticator turns a call's metadata into an Identity, without I/O: every request passes here.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from services.errors import Reason, Rejected
from services.order_gateway.call import Metadata
from services.order_gateway.ledger import SYSTEM_ACCOUNTS

USER_KEY = "x-clearbook-user"
AUTHORIZATION_KEY = "authorization"
USER_CHARS_MAX = 64
TOKEN_BYTES = 32
ADMIN_USER = "admin"
PREFIX_CHARS = 8

_USER = re.compile(rf"[A-Za-z0-9._-]{{1,{USER_CHARS_MAX}}}", re.ASCII)
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody known: a user's name, and whether AdminService is theirs."""

    user: str
    admin: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody known, with an account."""

    user: str
    account_id: int
    admin: bool


class Authenticator(Protocol):
    """Decides who calls."""

    def identify(self, metadata: Metadata) -> Identity:
        """Who the metadata names.

        Raises:
            Rejected: UNAUTHENTICATED, with one answer for an unknown and for a wrong credential; PERMISSION_DENIED for
                credentials and a name that disagree.
        """
        ...


def checked_user(name: str, field: str) -> str:
    """A name that a user may have.

    Raises:
        Rejected: INVALID_FIELD for another shape, PERMISSION_DENIED for the names of the system's own accounts.
    """
    if _USER.fullmatch(name) is None:
        raise Rejected(
            Reason.INVALID_FIELD, f"{field} must be 1 to {USER_CHARS_MAX} of A-Z, a-z, 0-9, '.', '_' and '-'", field
        )
    if name.lower() in SYSTEM_ACCOUNTS:
        raise Rejected(Reason.PERMISSION_DENIED, f"{name} is an account of the system's own", field)
    return name


class OpenAuthenticator:
    """Believes whoever names a user: for one's own machine only."""

    def identify(self, metadata: Metadata) -> Identity:
        """The user of x-clearbook-user; `admin` is the admin."""
        name = metadata.get(USER_KEY, "")
        if not name:
            raise Rejected(Reason.UNAUTHENTICATED, f"metadata {USER_KEY} is missing: it names the user")
        return Identity(checked_user(name, USER_KEY), admin=name == ADMIN_USER)


class TokenAuthenticator:
    """Knows bearer tokens by their hash.

    Args:
        known: (hash, user, admin) of all tokens given out.
        admin_token: a first admin's token, from the configuration; "" for none.
    """

    def __init__(self, known: Iterable[tuple[str, str, bool]] = (), admin_token: str = "") -> None:
        self._by_prefix: dict[str, list[tuple[str, Identity]]] = {}
        for hashed, user, admin in known:
            self.learn(hashed, user, admin=admin)
        if admin_token:
            self.learn(token_hash(admin_token), ADMIN_USER, admin=True)

    def learn(self, hashed: str, user: str, *, admin: bool) -> None:
        """Knows one token more from now on."""
        self._by_prefix.setdefault(hashed[:PREFIX_CHARS], []).append((hashed, Identity(user, admin)))

    def identify(self, metadata: Metadata) -> Identity:
        """The user of `authorization: Bearer …`; a user named beside it must be the same.

        Raises:
            Rejected: UNAUTHENTICATED; PERMISSION_DENIED for the token of one user with the name of another.
        """
        given = metadata.get(AUTHORIZATION_KEY, "")
        token = given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else ""
        hashed = token_hash(token)
        # Found by a part of the hash, compared in constant time: what can be timed tells nothing of a token.
        for known, identity in self._by_prefix.get(hashed[:PREFIX_CHARS], ()):
            if hmac.compare_digest(known, hashed):
                # The shim always names one, the documented user_id: acting for another than it says would surprise.
                if metadata.get(USER_KEY) not in {None, "", identity.user}:
                    raise Rejected(Reason.PERMISSION_DENIED, f"the token is not of the user in {USER_KEY}", USER_KEY)
                return identity
        raise Rejected(Reason.UNAUTHENTICATED)


def token_hash(token: str) -> str:
    """SHA-256, in hexadecimal: all that is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """256 random bits, printable."""
    return secrets.token_urlsafe(TOKEN_BYTES)
