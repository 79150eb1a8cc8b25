"""Is it so? What a key says against what was shown, in the same time whether there is such a key or not."""

import hashlib
import hmac
import secrets
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.order_gateway.identity.key import Key, KeyKind
from services.order_gateway.identity.secret_box import SecretsKey

TOKEN_BYTES = 32

Verify = Callable[[bytes, bytes], bool]
"""(signature or token hash, what was signed) → whether it is right."""


def new_token() -> str:
    """256 random bits, printable: a bearer token, or an HMAC secret."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """SHA-256: all that is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def verifier(key: Key, secrets_key: SecretsKey) -> Verify:
    """What tells a right proof of this key from a wrong one.

    Raises:
        WrongSecretsKey: its secret cannot be opened.
    """
    if key.kind is KeyKind.ED25519:
        return _ed25519(Ed25519PublicKey.from_public_bytes(key.proof))
    if key.kind is KeyKind.HMAC_SHA256:
        return _hmac(secrets_key.to_open(key.key_id).open(key.proof, key.key_id))
    return lambda shown, _: hmac.compare_digest(shown, key.proof)


def _ed25519(public: Ed25519PublicKey) -> Verify:
    def verify(signature: bytes, payload: bytes) -> bool:
        try:
            public.verify(signature, payload)
        except InvalidSignature:
            return False
        return True

    return verify


def _hmac(secret: bytes) -> Verify:
    def verify(signature: bytes, payload: bytes) -> bool:
        return hmac.compare_digest(hmac.digest(secret, payload, "sha256"), signature)

    return verify


def nobodys() -> dict[KeyKind, Verify]:
    """A verifier of each kind that nothing satisfies: for keys that are not there. It works as hard as a real one."""
    token = secrets.token_bytes(hashlib.sha256().digest_size)

    def bearer(shown: bytes, _: bytes) -> bool:
        return hmac.compare_digest(shown, token)

    return {
        KeyKind.ED25519: _ed25519(Ed25519PrivateKey.generate().public_key()),
        KeyKind.HMAC_SHA256: _hmac(secrets.token_bytes(TOKEN_BYTES)),
        KeyKind.BEARER: bearer,
        KeyKind.SESSION: bearer,
    }
