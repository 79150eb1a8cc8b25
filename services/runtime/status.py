"""A refusal on the wire: `Rejected` ↔ google.rpc.Status, for gRPC and for whatever else carries our answers."""

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from services.errors import Reason, Rejected
from services.runtime import log

DOMAIN = "clearbook"
DETAILS_KEY = "grpc-status-details-bin"
MESSAGE_CHARS_MAX = 500

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_NUMBERS: dict[Reason, int] = {reason: grpc.StatusCode[reason.grpc_code].value[0] for reason in Reason}


def status_of(rejected: Rejected) -> status_pb2.Status:
    """The status that tells a client of this refusal: code, message, ErrorInfo and, where they say more, others.

    BadRequest names the field, RetryInfo says when to come again.
    """
    message = rejected.message[:MESSAGE_CHARS_MAX]
    status = status_pb2.Status(code=_NUMBERS[rejected.reason], message=message)
    info = error_details_pb2.ErrorInfo(reason=rejected.reason.name, domain=DOMAIN)
    if identity := log.request_id.get():
        info.metadata["request_id"] = identity
    status.details.add().Pack(info)
    if rejected.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=rejected.field, description=message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if rejected.retry_after_seconds:
        delay = duration_pb2.Duration(seconds=rejected.retry_after_seconds)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def internal_error() -> Rejected:
    """The answer to a bug: it names the request, so that the log can be searched, and nothing else."""
    return Rejected(Reason.INTERNAL, f"internal error, request {log.request_id.get() or 'unknown'}")


def number_of(reason: Reason) -> int:
    """The number of a reason's google.rpc.Code."""
    return _NUMBERS[reason]


def code_of(status: status_pb2.Status) -> grpc.StatusCode:
    """The gRPC code of a status."""
    return _BY_NUMBER[status.code]


def refusal_in(status: status_pb2.Status) -> Rejected | None:
    """The refusal that a status tells of; None when it is none of ours."""
    reason: Reason | None = None
    field, retry_after_seconds = "", 0
    for detail in status.details:
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason = Reason.__members__.get(info.reason)
        elif detail.Unpack(request) and request.field_violations:
            field = request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_seconds = retry.retry_delay.seconds
    if reason is None:
        return None
    return Rejected(reason, status.message, field, retry_after_seconds=retry_after_seconds)


def status_from(error: grpc.RpcError) -> status_pb2.Status | None:
    """The rich status that came with a failed call, where it has one."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return None
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None


def rejected_from(error: grpc.RpcError) -> Reason | None:
    """Why a call was refused; None when the failure is not a refusal of ours (a broken connection, a bug)."""
    status = status_from(error)
    refusal = refusal_in(status) if status is not None else None
    return refusal.reason if refusal is not None else None
