"""Errors as REST shows them: one JSON shape, and the status that services/errors.py gives each reason."""

from typing import Final

import msgspec
from google.rpc import status_pb2

from services.errors import Reason, Rejected
from services.runtime.status import refusal_in

RETRY_AFTER_SECONDS: Final = 1
RETRY_STATUSES: Final = frozenset({429, 503})
CLOSING_STATUSES: Final = frozenset({408, 413})
"""The rest of the request is not read: the connection cannot be used again."""

FIELDS: Final = {
    "client_order_id": "order_id",
    "market": "pair",
    "type": "order_type",
    "quantity": "amount",
    "x-clearbook-user": "user_id",
}
"""Names in the gRPC API that the documented REST body calls otherwise."""


class Problem(msgspec.Struct):
    """The JSON of every error."""

    code: str
    message: str
    field: str | None
    request_id: str


def refused(status: bytes) -> Rejected:
    """The refusal in a serialized google.rpc.Status from order_gateway."""
    parsed = status_pb2.Status.FromString(status)
    return refusal_in(parsed) or Rejected(Reason.INTERNAL)


def described(rejected: Rejected, request_id: str) -> Problem:
    """The JSON of a refusal, with the names of the documented routes."""
    field = FIELDS.get(rejected.field, rejected.field) or None
    return Problem(rejected.reason.name, rejected.message, field, request_id)


def problem(rejected: Rejected, request_id: str) -> tuple[int, bytes, dict[str, str]]:
    """HTTP status, body and headers of a refusal."""
    status = rejected.reason.http_status
    body = msgspec.json.encode(described(rejected, request_id))
    headers = {}
    if status in RETRY_STATUSES:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    if status in CLOSING_STATUSES:
        headers["connection"] = "close"
    return status, body, headers
