"""`clearbook keys`: Ed25519 pairs, and signatures for scripts and grpcurl."""

import base64
import os
from pathlib import Path
from typing import Final

from clearbook.v1 import (  # noqa: F401 - their methods are found by name
    account_service_pb2,
    admin_service_pb2,
    order_service_pb2,
    settlement_service_pb2,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass

from clearbook.credentials import Ed25519, Hmac
from services.runtime.run import StartError

SECRET_VARIABLE: Final = "CLEARBOOK_KEY_SECRET"  # noqa: S105 - its name
"""An HMAC key's secret: a command line would show it to everybody on the machine."""


def new_pair(file: Path) -> str:
    """Writes a fresh private key, which its owner alone may read; returns the public half in base64.

    Raises:
        StartError: the file exists, or cannot be written.
    """
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(pem)
    except OSError as error:
        raise StartError(f"cannot write {file}: {error.strerror}") from None
    return base64.b64encode(private.public_key().public_bytes_raw()).decode()


def signed_headers(key_id: str, key: Path | None, method: str, request: str, audience: str) -> str:
    """Options for grpcurl that sign one call.

    Args:
        key_id: as CreateApiKey gave it.
        key: the private key's file; None: an HMAC key, whose secret is in CLEARBOOK_KEY_SECRET.
        method: as in "clearbook.v1.OrderService/PlaceOrder".
        request: as JSON, just as grpcurl is given it.
        audience: CLEARBOOK_AUDIENCE of the exchange.

    Raises:
        StartError: no such method, or no such request of it, or no key.
    """
    name = method.lstrip("/")
    credential = _credential(key_id, key, audience)
    pairs = credential.metadata(f"/{name}", _serialized(name, request))
    texts = [(key, base64.b64encode(value).decode() if isinstance(value, bytes) else value) for key, value in pairs]
    return " ".join(f"-H {key}:{value}" for key, value in texts)


def _serialized(name: str, request: str) -> bytes:
    try:
        described = descriptor_pool.Default().FindMethodByName(name.replace("/", "."))
    except KeyError:
        raise StartError(f"no such method: {name}") from None
    try:
        message = json_format.Parse(request, GetMessageClass(described.input_type)())
    except json_format.ParseError as error:
        raise StartError(f"the request is no {described.input_type.name}: {error}") from None
    return message.SerializeToString(deterministic=True)


def _credential(key_id: str, key: Path | None, audience: str) -> Ed25519 | Hmac:
    if key is None:
        secret = os.environ.get(SECRET_VARIABLE, "")
        if not secret:
            raise StartError(f"give --key, or the secret of an HMAC key in {SECRET_VARIABLE}")
        return Hmac(key_id, secret, audience=audience)
    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise StartError(f"cannot read {key}: {error}") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise StartError(f"{key} is no Ed25519 key")
    return Ed25519(key_id, private.private_bytes_raw(), audience=audience)
