"""A process's own certificate, looked at before it is used: gRPC would only say that it cannot listen."""

import datetime as dt
import math

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from services.runtime import log, metrics
from services.runtime.config import Tls
from services.runtime.run import StartError

RENEW_DAYS = 30
"""A certificate that ends sooner deserves a warning."""

_not_after = metrics.gauge("tls_not_after_seconds", "When a certificate in use ends, in Unix time.", ["address"])

logger = log.get("certificates")


def check(tls: Tls, address: str) -> None:
    """Looks at a server's key material; warns and tells metrics when it ends.

    Args:
        tls: the server's.
        address: where it listens, for metrics and messages.

    Raises:
        StartError: a part is missing or unreadable, key and certificate do not belong together, or it has ended.
    """
    if not (tls.certificate and tls.key):
        raise StartError(f"TLS on {address} needs both a certificate and its key (…TLS_CERTIFICATE and …TLS_KEY)")
    try:
        certificate = x509.load_pem_x509_certificate(tls.certificate)
        key = load_pem_private_key(tls.key, password=None)
        if tls.authority is not None:
            x509.load_pem_x509_certificates(tls.authority)
    except (ValueError, TypeError) as error:
        raise StartError(f"TLS on {address}: a certificate or key is not readable PEM: {error}") from None
    encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*encoding) != key.public_key().public_bytes(*encoding):
        raise StartError(f"TLS on {address}: the key is not the certificate's")
    ends = certificate.not_valid_after_utc
    days = days_left(certificate)
    if days < 0:
        raise StartError(f"TLS on {address}: the certificate ended at {ends:%Y-%m-%d %H:%M} UTC: renew it")
    if days < RENEW_DAYS:
        logger.warning("the certificate ends soon", address=address, days=days)
    _not_after.labels(address).set(ends.timestamp())


def days_left(certificate: x509.Certificate) -> int:
    """Whole days until a certificate ends; negative once it has ended."""
    left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    return math.floor(left / dt.timedelta(days=1))
