"""`clearbook certs`: a development authority, a certificate for each role, and one for the public ports.

    DIR/ca.pem, ca.key                              the authority; made once, its key needed only here
    DIR/<role>/certificate.pem, key.pem, ca.pem     all that one process needs: give it its own folder and no other
    DIR/public/certificate.pem, key.pem, ca.pem     for the public ports

Running it again makes new keys and certificates under the same authority. Processes read theirs at their start.
"""

import datetime as dt
import ipaddress
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.runtime.certificates import RENEW_DAYS, days_left
from services.runtime.roles import Role

AUTHORITY_DAYS: Final = 1_825
LEAF_DAYS: Final = 90
CLOCK_SKEW: Final = dt.timedelta(minutes=5)
PUBLIC: Final = "public"
PUBLIC_HOSTS: Final = ("localhost", "127.0.0.1", "::1", "gateway", "publisher", "http")
"""Where the public ports are: on this machine, and in compose.yaml's network."""
SUBJECT: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Clearbook development authority")])
CERTIFICATE, KEY = "certificate.pem", "key.pem"
AUTHORITY, AUTHORITY_KEY = "ca.pem", "ca.key"
LISTENS_IN_PUBLIC: Final = (Role.GATEWAY, Role.PUBLISHER, Role.HTTP)
LEAVES: Final = (*(role.value for role in Role), PUBLIC)


class CertsError(Exception):
    """What is there is not ours to change, or cannot be read. One line."""


@dataclass(frozen=True)
class Authority:
    """Who signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make(folder: Path, hosts: Sequence[str] = ()) -> list[str]:
    """Makes what is missing and renews the rest, but the authority.

    Args:
        folder: DIR above.
        hosts: more names and IP addresses under which the public ports are reached; those of before stay.

    Returns:
        What was made, one line each.

    Raises:
        CertsError: an authority or a certificate is there that this command did not make; nothing was written then.
    """
    asked, made = [_general_name(host) for host in (*PUBLIC_HOSTS, *hosts)], []
    try:
        authority = _load_authority(folder)
        if authority is None:
            _refuse_foreign(folder, None)
            authority = _new_authority()
            _write(folder, authority.certificate, authority.key, AUTHORITY, AUTHORITY_KEY)
            made.append(f"{folder}/ca.pem: a new authority, until {_day(authority.certificate)}")
        _refuse_foreign(folder, authority.certificate)
        names = list(dict.fromkeys([*asked, *_known_names(folder)]))
        for leaf in LEAVES:
            certificate, key = _new_leaf(authority, leaf, names)
            _write(folder / leaf, certificate, key)
            _replace(folder / leaf / AUTHORITY, authority.certificate.public_bytes(Encoding.PEM), 0o644)
            made.append(f"{folder}/{leaf}/{CERTIFICATE}: until {_day(certificate)}")
    except OSError as error:
        raise CertsError(f"{error.filename}: {error.strerror}") from None
    return made


def check(folder: Path) -> tuple[list[str], bool]:
    """When each certificate ends, one line each, and whether all are good for RENEW_DAYS more.

    Raises:
        CertsError: one is missing or unreadable.
    """
    authority = _load_certificate(folder / AUTHORITY)
    lines, fine = [], True
    for path in (folder / AUTHORITY, *(folder / leaf / CERTIFICATE for leaf in LEAVES)):
        certificate = _load_certificate(path)
        days, ours = days_left(certificate), _signed_by(certificate, authority)
        state = "not of this authority" if not ours else "ended" if days < 0 else f"{days} days left"
        lines.append(f"{path}: until {_day(certificate)}, {state}")
        fine = fine and ours and days >= RENEW_DAYS
    return lines, fine


def command(folder: Path, hosts: Sequence[str], *, only_check: bool) -> int:
    """The command line's. Returns the exit code: 0, 1 if a certificate should be renewed, 2 if it cannot be done."""
    try:
        lines, fine = check(folder) if only_check else (make(folder, hosts), True)
    except CertsError as error:
        sys.stderr.write(f"clearbook certs: {error}\n")
        return 2
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0 if fine else 1


def _new_authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = _usage(signs_certificates=True)
    builder = _builder(SUBJECT, SUBJECT, key.public_key(), dt.timedelta(days=AUTHORITY_DAYS))
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def _new_leaf(
    authority: Authority, leaf: str, hosts: list[x509.GeneralName]
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A role's certificate speaks both ways, the public ports' only answers: it opens nothing between our processes."""
    key = ec.generate_private_key(ec.SECP256R1())
    names, purposes = hosts, [ExtendedKeyUsageOID.SERVER_AUTH]
    if leaf != PUBLIC:
        role = Role(leaf)
        names = [x509.UniformResourceIdentifier(role.uri), x509.DNSName(role.host)]
        purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"clearbook {leaf}")])
    left = authority.certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    builder = _builder(subject, SUBJECT, key.public_key(), min(dt.timedelta(days=LEAF_DAYS), left))
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: dt.timedelta
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise CertsError(f"{host!r} is no host name") from None


def _known_names(folder: Path) -> list[x509.GeneralName]:
    """What the public ports' certificate names already: renewing it forgets none."""
    path = folder / PUBLIC / CERTIFICATE
    if not path.exists():
        return []
    return list(_load_certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def _load_authority(folder: Path) -> Authority | None:
    """The authority that this command made; None where there is none yet. Raises CertsError for any other."""
    certificate_file, key_file = folder / AUTHORITY, folder / AUTHORITY_KEY
    if not certificate_file.exists() and not key_file.exists():
        return None
    certificate = _load_certificate(certificate_file)
    if certificate.subject != SUBJECT or certificate.issuer != SUBJECT:
        raise CertsError(f"{certificate_file} is an authority that this command did not make: choose another folder")
    try:
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        raise CertsError(f"{key_file}, the authority's key, is missing or unreadable: choose another folder") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertsError(f"{key_file} is not the key of {certificate_file}: choose another folder")
    if days_left(certificate) < 0:
        raise CertsError(f"{certificate_file} has ended: make a new authority in another folder")
    return Authority(certificate, key)


def _refuse_foreign(folder: Path, authority: x509.Certificate | None) -> None:
    """Raises CertsError if a certificate is there that the authority (None: one to be made) has not signed."""
    for leaf in LEAVES:
        path = folder / leaf / CERTIFICATE
        if path.exists() and (authority is None or not _signed_by(_load_certificate(path), authority)):
            raise CertsError(f"{path} is of another authority: choose another folder")


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CertsError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise CertsError(f"{path} is no certificate") from None


def _write(
    folder: Path,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    certificate_name: str = CERTIFICATE,
    key_name: str = KEY,
) -> None:
    """Both files, each whole or not at all; the key for its owner's eyes only."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / key_name, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _replace(folder / certificate_name, certificate.public_bytes(Encoding.PEM), 0o644)


def _replace(path: Path, data: bytes, mode: int) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    new.replace(path)


def _day(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def environment(folder: Path, role: Role) -> dict[str, str]:
    """The settings with which a process uses what is in DIR."""
    mine, public = folder / role.value, folder / PUBLIC
    files = {
        "TLS_CERTIFICATE": mine / CERTIFICATE,
        "TLS_KEY": mine / KEY,
        "TLS_AUTHORITY": mine / AUTHORITY,
        "PUBLIC_TLS_AUTHORITY": public / AUTHORITY,
    }
    if role in LISTENS_IN_PUBLIC:
        files |= {"PUBLIC_TLS_CERTIFICATE": public / CERTIFICATE, "PUBLIC_TLS_KEY": public / KEY}
    return {name: str(file) for name, file in files.items()}
