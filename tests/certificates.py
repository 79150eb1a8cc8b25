"""Certificates for tests: an authority of the moment with all roles, and such as must be refused."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.cli import certs
from services.runtime.config import PublicTlsSettings, Tls, TlsSettings
from services.runtime.roles import Role


class Certificates:
    """What `clearbook certs` makes in a folder, loaded as processes load it."""

    def __init__(self, folder: Path) -> None:
        certs.make(folder)
        self.folder = folder

    def role(self, role: Role) -> Tls:
        """A process's own."""
        tls = TlsSettings.load(**self.settings(role)).tls()
        assert tls is not None
        return tls

    @property
    def public(self) -> Tls:
        """A public port's own."""
        tls = PublicTlsSettings.load(**self.settings(Role.GATEWAY)).public_tls()
        assert tls is not None
        return tls

    @property
    def believed(self) -> Tls:
        """A client's of the public ports."""
        return Tls(authority=self.role(Role.HTTP).authority)

    def settings(self, role: Role) -> dict[str, str]:
        """The fields with which a process uses them."""
        return {name.lower(): value for name, value in certs.environment(self.folder, role).items()}

    def odd(self, *names: x509.GeneralName, days: int = 1, server_only: bool = False) -> Tls:
        """A certificate of this authority that `clearbook certs` would not make."""
        authority = x509.load_pem_x509_certificate((self.folder / certs.AUTHORITY).read_bytes())
        signer = load_pem_private_key((self.folder / certs.AUTHORITY_KEY).read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server_only else ExtendedKeyUsageOID.CLIENT_AUTH
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=10))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Tls(
            made.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            authority.public_bytes(Encoding.PEM),
        )
