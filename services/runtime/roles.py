"""Who may speak to whom between our own processes: a certificate names a role, and a table says what each may call.

The role is the certificate's one SPIFFE ID, `spiffe://clearbook/role/gateway`, and the name that clients check is
`gateway.clearbook.internal`: whoever answers at the book's address must be the book, wherever it runs. Without mutual
TLS (on loopback) there are no roles, and nobody is refused.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from services.errors import Reason, Rejected
from services.runtime import log


class Role(StrEnum):
    """What a process is."""

    BOOK = "book"
    PUBLISHER = "publisher"
    GATEWAY = "gateway"
    SETTLER = "settler"
    HTTP = "http"

    @property
    def uri(self) -> str:
        """The SPIFFE ID in its certificate."""
        return f"spiffe://clearbook/role/{self.value}"

    @property
    def host(self) -> str:
        """The name in its certificate that its clients check, in place of the address that they dial."""
        return f"{self.value}.clearbook.internal"


Admitted = Mapping[str, frozenset[Role]]
"""Method by full name → roles that may call it. A method that is missing may be called by none."""

ADMITTED: Final[Admitted] = {
    "/clearbook.internal.v1.MatchingService/OpenSession": frozenset({Role.GATEWAY, Role.SETTLER}),
    "/clearbook.internal.v1.MatchingService/Submit": frozenset({Role.GATEWAY, Role.SETTLER}),
    "/clearbook.internal.v1.MatchingService/StreamEvents": frozenset({Role.GATEWAY, Role.SETTLER, Role.PUBLISHER}),
    "/clearbook.internal.v1.MatchingService/StreamSettlementMessages": frozenset({Role.SETTLER}),
    "/clearbook.internal.v1.SettlerService/GetSettlement": frozenset({Role.GATEWAY}),
    "/clearbook.internal.v1.SettlerService/ListSettlements": frozenset({Role.GATEWAY}),
    "/clearbook.internal.v1.SettlerService/StreamSettlements": frozenset({Role.GATEWAY}),
    "/clearbook.internal.v1.SettlerService/GetContract": frozenset({Role.GATEWAY}),
    "/clearbook.internal.v1.SettlerService/GetReconciliation": frozenset({Role.GATEWAY}),
    "/clearbook.internal.v1.SettlerService/GetLiabilityProof": frozenset({Role.GATEWAY}),
    "/clearbook.internal.v1.ForwardService/Forward": frozenset({Role.HTTP}),
    "/clearbook.internal.v1.ForwardService/ForwardStream": frozenset({Role.HTTP}),
}
"""Health and reflection are for whoever has a certificate of our authority."""

_BY_URI: Final = {role.uri: role for role in Role}

logger = log.get("roles")


def role_of(context: Any) -> Role | None:
    """The role of the process that calls.

    None where the transport proves none: plain text, no certificate, or one without exactly one SPIFFE ID of ours.
    (gRPC gives a SPIFFE ID only where the certificate has a single one, as URI and not as any other name.)
    """
    named = context.auth_context().get("peer_spiffe_id", ())
    return _BY_URI.get(named[0].decode()) if len(named) == 1 else None


def admit(context: Any, method: str, admitted: Admitted) -> None:
    """Raises Rejected(PERMISSION_DENIED) unless the caller's role may call the method."""
    role = role_of(context)
    if role is None or role not in admitted.get(method, frozenset()):
        name = role or "a certificate without a role"
        logger.warning("refused", role=name, method=method, peer=context.peer())
        raise Rejected(Reason.PERMISSION_DENIED, f"{name} may not call {method}")
