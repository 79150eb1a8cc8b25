"""Who was admitted: what every handler is given."""

import re

from msgspec import Struct

from services.errors import Reason, Rejected
from services.order_gateway.identity.scopes import Scope, allows
from services.order_gateway.ledger import SYSTEM_ACCOUNTS

USER_CHARS_MAX = 64
ADMIN_USER = "admin"

_USER = re.compile(rf"[A-Za-z0-9._-]{{1,{USER_CHARS_MAX}}}", re.ASCII)


class Identity(Struct, frozen=True):
    """Somebody known.

    Attributes:
        user: the name.
        scopes: what the credential may do.
        key_id: names the credential; "" where a name was all that was asked for (open mode).
        peer: from where, an IP; "" where it is not known.
        made_id: of a signed request: an id made of the key and of what was signed, the same for the same request.
    """

    user: str
    scopes: frozenset[Scope]
    key_id: str = ""
    peer: str = ""
    made_id: str = ""

    def may(self, scope: Scope) -> bool:
        """Whether the credential has a scope, or one that includes it."""
        return allows(self.scopes, scope)


class Caller(Struct, frozen=True):
    """Somebody known, with an account."""

    identity: Identity
    account_id: int

    @property
    def user(self) -> str:
        """The name."""
        return self.identity.user


class Visitor(Struct, frozen=True):
    """Somebody who need not be known.

    Attributes:
        identity: if a credential was shown.
        peer: from where, an IP; "" where it is not known.
    """

    identity: Identity | None
    peer: str


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
