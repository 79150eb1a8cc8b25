"""Credentials of the Python client: keys as other programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from clearbook.credentials import Ed25519

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def pem(key: Any, passphrase: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    written: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return written


def test_a_key_in_a_file_signs_as_the_key_does(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(KEY))
    metadata = dict(Ed25519.from_pem("id", tmp_path / "key.pem").metadata("/a.B/C", b"x"))
    same = dict(Ed25519("id", KEY.private_bytes_raw()).metadata("/a.B/C", b"x"))
    assert metadata.keys() == same.keys() and metadata["x-api-key"] == "id"
    signature = metadata["x-signature-bin"]
    assert isinstance(signature, bytes) and len(signature) == 64


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "PEM"),
        (b"no key", "PEM"),
        (pem(generate_private_key(SECP256R1())), "no Ed25519"),
        (pem(KEY, b"secret"), "[Pp]assword"),
    ],
    ids=["empty", "text", "another kind", "passphrase"],
)
def test_what_is_no_such_key_is_said(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(ValueError, match=why):
        Ed25519.from_pem("id", tmp_path / "key.pem")
