"""HMAC secrets at rest: AES-256-GCM under a key from the environment, bound to the key's id."""

import contextlib
import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_HEX_DIGITS = 64
NONCE_BYTES = 12
KEY_FILE = "secrets.key"
"""In the data folder: the embedded run's own."""

_KEY = re.compile(rf"[0-9a-fA-F]{{{KEY_HEX_DIGITS}}}", re.ASCII)


class WrongSecretsKey(Exception):
    """A secret was sealed under another key, or has been changed."""


def checked_secrets_key(text: str) -> str:
    """A key as the setting has it. Raises ValueError."""
    if text and _KEY.fullmatch(text) is None:
        raise ValueError(f"must be {KEY_HEX_DIGITS} hexadecimal digits (openssl rand -hex 32)")
    return text


class SecretBox:
    """Seals and opens secrets.

    Args:
        key: hexadecimal, see `checked_secrets_key`.
    """

    def __init__(self, key: str) -> None:
        self._cipher = AESGCM(bytes.fromhex(key))

    def seal(self, secret: bytes, key_id: str) -> bytes:
        """A secret as it may be stored."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, key_id.encode())

    def open(self, sealed: bytes, key_id: str) -> bytes:
        """The secret again. Raises WrongSecretsKey."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], key_id.encode())
        except InvalidTag:
            raise WrongSecretsKey(f"key {key_id} was sealed under another CLEARBOOK_SECRETS_KEY") from None


class SecretsKey:
    """Where the box's key comes from: the setting, or else a file of our own in the data folder.

    Args:
        setting: CLEARBOOK_SECRETS_KEY; "" where it is not set.
        folder: the data folder.
        may_make: whether a file is made when first needed: for the embedded run.
    """

    def __init__(self, setting: str, folder: Path, *, may_make: bool) -> None:
        self._file, self._may_make = folder / KEY_FILE, may_make
        self._box = SecretBox(setting) if setting else None

    def to_seal(self) -> SecretBox | None:
        """The box for a new secret; None where there is no key."""
        if self._box is None and self._may_make and not self._file.exists():
            _make(self._file)
        return self._opened()

    def to_open(self, key_id: str) -> SecretBox:
        """The box for a secret that is there. Raises WrongSecretsKey: there is no key."""
        box = self._opened()
        if box is None:
            raise WrongSecretsKey(f"key {key_id} is of HMAC: CLEARBOOK_SECRETS_KEY must be what its secret is under")
        return box

    def _opened(self) -> SecretBox | None:
        if self._box is None and self._file.exists():
            self._box = SecretBox(checked_secrets_key(self._file.read_text().strip()))
        return self._box


def _make(file: Path) -> None:
    """A fresh key in a file that its owner alone may read, there in one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_hex(KEY_HEX_DIGITS // 2))
    with contextlib.suppress(FileExistsError):  # another process was first: its key is the one
        os.link(fresh, file)
    fresh.unlink()
