"""Between the protos and the gateway's own values: keys, sessions, sign-ins."""

from collections.abc import Iterable

from clearbook.v1 import account_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.errors import Reason, Rejected
from services.order_gateway.identity.addresses import networks_of
from services.order_gateway.identity.key import (
    LABEL_CHARS_MAX,
    NEVER_NS,
    PUBLIC_KEY_BYTES,
    Key,
    KeyKind,
    NewKey,
)
from services.order_gateway.identity.scopes import Scope
from services.units import INT64_MAX

MADE_KINDS = {KeyKind.ED25519, KeyKind.HMAC_SHA256, KeyKind.BEARER}
"""Those that can be asked for."""


def new_key(request: pb.CreateApiKeyRequest) -> NewKey:
    """The key that a request asks for. Raises Rejected: INVALID_FIELD with the field."""
    if request.kind not in {int(kind) for kind in MADE_KINDS}:
        raise _invalid("kind", "must be KEY_KIND_ED25519, KEY_KIND_HMAC_SHA256 or KEY_KIND_BEARER")
    kind = KeyKind(request.kind)
    if len(request.label) > LABEL_CHARS_MAX or not request.label.isprintable():
        raise _invalid("label", f"must be at most {LABEL_CHARS_MAX} printable characters")
    if any(number not in {int(scope) for scope in Scope} for number in request.scopes):
        raise _invalid("scopes", f"must be of {', '.join(f'SCOPE_{scope.name}' for scope in Scope)}")
    public = request.public_key
    if kind is KeyKind.ED25519 and len(public) != PUBLIC_KEY_BYTES:
        raise _invalid("public_key", f"must be the {PUBLIC_KEY_BYTES} bytes of an Ed25519 public key")
    if kind is not KeyKind.ED25519 and public:
        raise _invalid("public_key", "is for KEY_KIND_ED25519 only")
    return NewKey(
        kind,
        request.label,
        frozenset(Scope(number) for number in request.scopes) or frozenset({Scope.READ}),
        networks_of(request.allowed_ips, "allowed_ips"),
        _time_ns(request.expire_time, "expire_time") if request.HasField("expire_time") else NEVER_NS,
        public,
    )


def _time_ns(time: Timestamp, field: str) -> int:
    try:
        nanoseconds = time.ToNanoseconds()
    except ValueError:
        nanoseconds = NEVER_NS
    if not NEVER_NS < nanoseconds <= INT64_MAX:
        raise _invalid(field, "is no time that we can keep")
    return nanoseconds


def api_key(key: Key) -> pb.ApiKey:
    """A key as its owner sees it."""
    return pb.ApiKey(
        key_id=key.key_id,
        kind=pb.KeyKind.ValueType(key.kind),
        label=key.label,
        scopes=scopes(key.scopes),
        allowed_ips=[str(network) for network in key.networks],
        create_time=time(key.create_ns),
        expire_time=time(key.expire_ns),
        last_used_time=time(key.last_used_ns),
        revoke_time=time(key.revoke_ns),
        parent_key_id=key.parent,
    )


def scopes(given: Iterable[Scope]) -> list[pb.Scope.ValueType]:
    """Scopes, in the order of their numbers."""
    return [pb.Scope.ValueType(scope) for scope in sorted(given)]


def time(time_ns: int) -> Timestamp | None:
    """A time; None for NEVER_NS."""
    if time_ns == NEVER_NS:
        return None
    stamp = Timestamp()
    stamp.FromNanoseconds(time_ns)
    return stamp


def _invalid(field: str, what: str) -> Rejected:
    return Rejected(Reason.INVALID_FIELD, f"{field} {what}", field)
