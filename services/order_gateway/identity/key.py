"""A key: who shows it, how it proves itself, what it may do, from where and until when."""

from dataclasses import dataclass
from enum import IntEnum

from services.order_gateway.identity.addresses import Network, welcomes
from services.order_gateway.identity.scopes import Scope

LABEL_CHARS_MAX = 64
PUBLIC_KEY_BYTES = 32
NEVER_NS = 0
"""In place of a time: it has not been, or will not be."""


class KeyKind(IntEnum):
    """How a key proves itself; the numbers are those of the wire and of the database."""

    ED25519 = 1
    HMAC_SHA256 = 2
    BEARER = 3
    SESSION = 4

    @property
    def signs(self) -> bool:
        """Whether it signs requests; the others are shown with each."""
        return self in {KeyKind.ED25519, KeyKind.HMAC_SHA256}


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that somebody asks for.

    Attributes:
        expire_ns: since the epoch; NEVER_NS: as long as the credential that asks.
        public_key: of ED25519 only.
    """

    kind: KeyKind
    label: str
    scopes: frozenset[Scope]
    networks: tuple[Network, ...]
    expire_ns: int
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept.

    Attributes:
        user: whose it is.
        proof: ED25519: the public key; HMAC_SHA256: the sealed secret; else the SHA-256 of the token.
        create_ns: since the epoch, as all times here.
        number: the order in which keys were made, over all users.
        parent: the id of the credential that it was made with; "" for none.
    """

    key_id: str
    kind: KeyKind
    user: str
    label: str
    scopes: frozenset[Scope]
    networks: tuple[Network, ...]
    proof: bytes
    create_ns: int
    expire_ns: int = NEVER_NS
    last_used_ns: int = NEVER_NS
    revoke_ns: int = NEVER_NS
    number: int = 0
    parent: str = ""

    def live(self, now_ns: int) -> bool:
        """Whether it is neither revoked nor expired."""
        return not self.revoke_ns and (not self.expire_ns or now_ns < self.expire_ns)

    def good(self, now_ns: int, ip: str) -> bool:
        """Whether it is live, and welcome from this address."""
        return self.live(now_ns) and welcomes(self.networks, ip)
