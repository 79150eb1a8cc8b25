"""Who is calling: credentials for gRPC, and a channel that adds them to every call.

    channel = with_credential(grpc.aio.insecure_channel("127.0.0.1:50051"), Ed25519.from_pem(key_id, "dora.pem"))
    await OrderServiceStub(channel).GetOrder(GetOrderRequest(order_id="1"))

A signature covers the very bytes that are sent: protobuf may write one message in more than one way, so the message is
serialized once, signed, and sent as it was signed.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, cast

import grpc
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

RECV_WINDOW_MS = 5_000
"""How long after its signing a request is good: at most 60,000."""
AUDIENCE = "clearbook"
NONCE_BYTES = 16

Metadata = tuple[tuple[str, str | bytes], ...]


class Credential(Protocol):
    """Something to call with."""

    def metadata(self, method: str, request: bytes) -> Metadata:
        """What to add to one call.

        Args:
            method: full name, as in "/clearbook.v1.OrderService/PlaceOrder".
            request: the serialized message.
        """
        ...


class User:
    """A name, which is enough where the exchange is in open mode."""

    def __init__(self, name: str) -> None:
        self._metadata: Metadata = (("x-clearbook-user", name),)

    def metadata(self, method: str, request: bytes) -> Metadata:  # noqa: ARG002 - a Credential's
        """The name."""
        return self._metadata


class Bearer:
    """A bearer token."""

    def __init__(self, token: str) -> None:
        self._metadata: Metadata = (("authorization", f"Bearer {token}"),)

    def metadata(self, method: str, request: bytes) -> Metadata:  # noqa: ARG002 - a Credential's
        """The token."""
        return self._metadata


class _Signing:
    """A key that signs."""

    def __init__(self, key_id: str, sign: Callable[[bytes], bytes], audience: str, recv_window_ms: int) -> None:
        self._key_id, self._sign = key_id, sign
        self._audience, self._window = audience, str(recv_window_ms)

    def metadata(self, method: str, request: bytes) -> Metadata:
        """A fresh signature: good once, and for the window."""
        timestamp, nonce = str(time.time_ns() // 10**6), secrets.token_urlsafe(NONCE_BYTES)
        payload = signing_payload(method, self._audience, timestamp, self._window, nonce, request)
        return (
            ("x-api-key", self._key_id),
            ("x-timestamp", timestamp),
            ("x-recv-window", self._window),
            ("x-nonce", nonce),
            ("x-signature-bin", self._sign(payload)),
        )


class Ed25519(_Signing):
    """An Ed25519 key.

    Args:
        private_key: 32 bytes.
        audience: as the exchange is configured (CLEARBOOK_AUDIENCE).
    """

    def __init__(
        self, key_id: str, private_key: bytes, *, audience: str = AUDIENCE, recv_window_ms: int = RECV_WINDOW_MS
    ) -> None:
        super().__init__(key_id, Ed25519PrivateKey.from_private_bytes(private_key).sign, audience, recv_window_ms)

    @classmethod
    def from_pem(
        cls, key_id: str, file: Path | str, *, audience: str = AUDIENCE, recv_window_ms: int = RECV_WINDOW_MS
    ) -> Self:
        """The key in a file, as `clearbook keys new` or `openssl genpkey -algorithm ed25519` writes it.

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds no Ed25519 private key, or one that a passphrase protects.
        """
        try:
            key = load_pem_private_key(Path(file).read_bytes(), password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"{file}: {error}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{file} holds no Ed25519 private key")  # noqa: TRY004 - of the file, not of an argument
        return cls(key_id, key.private_bytes_raw(), audience=audience, recv_window_ms=recv_window_ms)


class Hmac(_Signing):
    """An HMAC-SHA256 key.

    Args:
        secret: as CreateApiKey gave it.
    """

    def __init__(
        self, key_id: str, secret: str, *, audience: str = AUDIENCE, recv_window_ms: int = RECV_WINDOW_MS
    ) -> None:
        key = secret.encode()
        super().__init__(key_id, lambda payload: hmac.digest(key, payload, "sha256"), audience, recv_window_ms)


def signing_payload(method: str, audience: str, timestamp: str, recv_window: str, nonce: str, request: bytes) -> bytes:
    """The bytes that a signature covers. All texts are as in the metadata."""
    digest = hashlib.sha256(request).hexdigest()
    return f"CLEARBOOK1\n{method}\n{audience}\n{timestamp}\n{recv_window}\n{nonce}\n{digest}".encode()


def with_credential(channel: grpc.aio.Channel, credential: Credential) -> grpc.aio.Channel:
    """A channel for generated stubs: what they call carries the credential. Closing the given one stays its owner's."""
    return cast("grpc.aio.Channel", _Channel(channel, credential))


class _Channel:
    """What generated stubs ask of a channel."""

    def __init__(self, channel: grpc.aio.Channel, credential: Credential) -> None:
        self._channel, self._credential = channel, credential

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, **more: Any
    ) -> Callable[..., Any]:
        """For a method with one request and one response."""
        call: Any = self._channel.unary_unary(method, None, response_deserializer, **more)
        return self._with_credential(call, method, request_serializer)

    def unary_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, **more: Any
    ) -> Callable[..., Any]:
        """For a method that answers with a stream: signed at its opening."""
        call: Any = self._channel.unary_stream(method, None, response_deserializer, **more)
        return self._with_credential(call, method, request_serializer)

    def stream_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, **more: Any
    ) -> Callable[..., Any]:
        """For a method whose requests are a stream too: signed at its opening, over no bytes."""
        call: Any = self._channel.stream_stream(method, request_serializer, response_deserializer, **more)

        def signed(requests: Any = None, *, metadata: Sequence[tuple[str, str | bytes]] = (), **options: Any) -> Any:
            return call(requests, metadata=(*metadata, *self._credential.metadata(method, b"")), **options)

        return signed

    def _with_credential(
        self, call: Callable[..., Any], method: str, serialize: Callable[[Any], bytes]
    ) -> Callable[..., Any]:
        def signed(request: Any, *, metadata: Sequence[tuple[str, str | bytes]] = (), **more: Any) -> Any:
            data = serialize(request)
            return call(data, metadata=(*metadata, *self._credential.metadata(method, data)), **more)

        return signed
