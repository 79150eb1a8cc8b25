"""Configuration: one typed settings class per service, read once, from the environment and `.env`.

The name of a field in capitals is its environment variable: `book_address` is BOOK_ADDRESS. An empty variable counts as
unset. A service derives its settings from the parts below and calls `load`.
"""

import ipaddress
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime.log import Level
from services.runtime.run import StartError

EXIT_MISCONFIGURED = 2
PORT_MAX = 65_535
GATEWAY_NUMBER_MAX = 99
"""Of an order gateway: a settler submits to the book too, as number 100 + its shard."""
SHARD_MAX = 26
"""The number of its settler is then 126; the book knows numbers to 127."""


class HostPort(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def from_here(self) -> "HostPort":
        """Where this machine reaches it: what listens on all interfaces is on loopback too."""
        return HostPort("127.0.0.1", self.port) if self.host in {"0.0.0.0", "::"} else self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost counts as not."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def host_port(text: str) -> HostPort:
    """Parses "host:port" ("[::1]:8000" for IPv6; port 0 means any free one).

    Raises:
        ValueError: it is not of that form.
    """
    host, colon, port = text.strip().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or not (port.isascii() and port.isdigit()):
        raise ValueError(f'must be "host:port", not "{text}"')
    if int(port) > PORT_MAX:
        raise ValueError(f"port {port} is above {PORT_MAX}")
    return HostPort(bare, int(port))


def _checked_address(text: str) -> str:
    return str(host_port(text))


Address = Annotated[str, AfterValidator(_checked_address)]
"""A setting of the form "host:port", checked; still a str."""


class Tls(NamedTuple):
    """Key material in PEM.

    To a server, certificate and key are its own, and an authority makes it ask clients for certificates. To a client,
    the authority is whom it believes, and certificate and key are shown when the server asks.
    """

    certificate: bytes | None = None
    key: bytes | None = None
    authority: bytes | None = None
    name: str = ""
    """To a client: what the server's certificate must name, where that is not the address."""


class Settings(BaseSettings):
    """What every settings class derives from."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Reads the settings; `overrides` (field names) win over the environment.

        A wrong value is one line on stderr for each variable, and exit code 2.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            for line in _complaints(error):
                sys.stderr.write(line + "\n")
            raise SystemExit(EXIT_MISCONFIGURED) from None


def _complaints(error: ValidationError) -> list[str]:
    """One line for each wrong variable, without its value: it may be a secret."""
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in item["loc"]).upper() or "settings"
        lines.append(f"{name}: {item['msg'].removeprefix('Value error, ')}")
    return lines


class LogSettings(Settings):
    """How much is logged."""

    log_level: Level = "info"


class DataSettings(Settings):
    """Where the embedded run keeps its files."""

    clearbook_data: Path = Path("data")


class DatabaseSettings(DataSettings):
    """The database: DATABASE_URL, or a SQLite file of the service's own in the data folder."""

    database_url: str = Field(default="", repr=False)

    def database(self, service: str) -> str:
        """The URL for this service."""
        return self.database_url or f"sqlite:///{self.clearbook_data / service}.sqlite"


class BrokerSettings(Settings):
    """RabbitMQ. Unset means none: the settler reads the book's events directly."""

    rabbitmq_uri: str = Field(default="", repr=False)


class ListenSettings(Settings):
    """What both kinds of ports share."""

    clearbook_plaintext_bind: bool = False
    """Listen without TLS where other machines can reach us: in a network of our own, or behind a proxy with TLS."""


class TlsSettings(ListenSettings):
    """Mutual TLS between our own processes: files in PEM, all three or none. None is right on loopback only.

    The certificate names our role (services/runtime/roles.py); the authority's certificates are the only ones believed.
    """

    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_authority: Path | None = None

    def tls(self) -> Tls | None:
        """The key material, or None where nothing is set. Raises StartError."""
        return _material(tls_certificate=self.tls_certificate, tls_key=self.tls_key, tls_authority=self.tls_authority)


class PublicTlsSettings(ListenSettings):
    """TLS of a public port: files in PEM, both or none. Clients are asked for no certificate."""

    public_tls_certificate: Path | None = None
    public_tls_key: Path | None = None

    def public_tls(self) -> Tls | None:
        """The key material, or None where nothing is set. Raises StartError."""
        return _material(public_tls_certificate=self.public_tls_certificate, public_tls_key=self.public_tls_key)


class PublicClientSettings(Settings):
    """How to reach the public ports: with TLS where an authority is named."""

    public_tls_authority: Path | None = None
    """Whose certificates to believe, in PEM."""
    public_tls_name: str = ""
    """What their certificate names, where that is not the address under which they are reached."""

    def public_authority(self) -> Tls | None:
        """Whom to believe; None: plain text. Raises StartError."""
        tls = _material(public_tls_authority=self.public_tls_authority)
        return tls._replace(name=self.public_tls_name) if tls is not None else None


def _material(**files: Path | None) -> Tls | None:
    """The files' contents; the last word of a setting's name says what it is."""
    if not any(files.values()):
        return None
    read: dict[str, bytes] = {}
    for name, file in files.items():
        if file is None:
            raise StartError(f"{name.upper()} is missing: {', '.join(files).upper()} belong together")
        try:
            read[name.rpartition("_")[2]] = file.read_bytes()
        except OSError as error:
            raise StartError(f"{name.upper()}: cannot read {file}: {error.strerror}") from None
    return Tls(read.get("certificate"), read.get("key"), read.get("authority"))


class MetricsSettings(Settings):
    """Where metrics are exposed. Port 0 takes any free port."""

    metrics_host: str = "127.0.0.1"
