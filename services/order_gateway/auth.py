"""Who is calling: the seam behind which identity is decided. Everything else sees a Caller.

An authenticator turns a call's metadata into an Identity, without I/O: every request passes here.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Protocol

from services.errors import Reason, Rejected
from services.order_gateway.call import Call
from services.order_gateway.identity.scopes import ACCOUNT_SCOPES, Scope
from services.order_gateway.identity.who import ADMIN_USER, Identity, checked_user

USER_KEY = "x-clearbook-user"
AUTHORIZATION_KEY = "authorization"
API_KEY = "x-api-key"
TIMESTAMP_KEY = "x-timestamp"
RECV_WINDOW_KEY = "x-recv-window"
NONCE_KEY = "x-nonce"
SIGNATURE_KEY = "x-signature-bin"
TOKEN_BYTES = 32
PREFIX_CHARS = 8

_BEARER = "bearer "


class Authenticator(Protocol):
    """Decides who calls."""

    def identify(self, call: Call) -> Identity:
        """Who the call's credentials name.

        Raises:
            Rejected: UNAUTHENTICATED, with one answer for an unknown and for a wrong credential; PERMISSION_DENIED for
                credentials and a name that disagree.
        """
        ...


def _scopes(*, admin: bool) -> frozenset[Scope]:
    return ACCOUNT_SCOPES | {Scope.ADMIN} if admin else ACCOUNT_SCOPES


class OpenAuthenticator:
    """Believes whoever names a user: for one's own machine only."""

    def identify(self, call: Call) -> Identity:
        """The user of x-clearbook-user; `admin` is the admin."""
        name = call.metadata.get(USER_KEY, "")
        if not name:
            raise Rejected(Reason.UNAUTHENTICATED, f"metadata {USER_KEY} is missing: it names the user")
        return Identity(checked_user(name, USER_KEY), _scopes(admin=name == ADMIN_USER))


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
        self._by_prefix.setdefault(hashed[:PREFIX_CHARS], []).append((hashed, Identity(user, _scopes(admin=admin))))

    def identify(self, call: Call) -> Identity:
        """The user of `authorization: Bearer …`; a user named beside it must be the same.

        Raises:
            Rejected: UNAUTHENTICATED; PERMISSION_DENIED for the token of one user with the name of another.
        """
        given = call.metadata.get(AUTHORIZATION_KEY, "")
        token = given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else ""
        hashed = token_hash(token)
        # Found by a part of the hash, compared in constant time: what can be timed tells nothing of a token.
        for known, identity in self._by_prefix.get(hashed[:PREFIX_CHARS], ()):
            if hmac.compare_digest(known, hashed):
                # The shim always names one, the documented user_id: acting for another than it says would surprise.
                if call.metadata.get(USER_KEY) not in {None, "", identity.user}:
                    raise Rejected(Reason.PERMISSION_DENIED, f"the token is not of the user in {USER_KEY}", USER_KEY)
                return identity
        raise Rejected(Reason.UNAUTHENTICATED)


def token_hash(token: str) -> str:
    """SHA-256, in hexadecimal: all that is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """256 random bits, printable."""
    return secrets.token_urlsafe(TOKEN_BYTES)
