"""Errors as REST shows them: one JSON shape, and the status that services/errors.py gives each reason."""

import re
from typing import Final

import msgspec
from google.rpc import status_pb2
from starlette.responses import Response

from services.errors import Reason, Rejected
from services.runtime import log
from services.runtime.metadata import RETRY_KEY, USER_KEY
from services.runtime.status import refusal_in

JSON: Final = "application/json"
CLOSING_STATUSES: Final = frozenset({408, 413})
"""The rest of the request is not read: the connection cannot be used again."""

FIELDS: Final = {
    "client_order_id": "order_id",
    "market": "pair",
    "type": "order_type",
    "quantity": "amount",
    USER_KEY: "user_id",
}
"""Names in the gRPC API that the documented REST body calls otherwise."""
_UNMISTAKABLE: Final = {
    "client_order_id": "order_id",
    USER_KEY: "user_id",
    "price x quantity": "price x amount",
}
"""Names wherever they stand in a message. The others are English words too, and names at its beginning only."""
_NAMES: Final = re.compile(rf"(?<![\w-])({'|'.join(_UNMISTAKABLE)})(?![\w-])")


class Problem(msgspec.Struct, omit_defaults=True):
    """The JSON of every error. `retry_after`: seconds; absent where asking again does not help."""

    code: str
    message: str
    field: str | None
    request_id: str
    retry_after: int = 0


def refused(status: bytes) -> Rejected:
    """The refusal in a serialized google.rpc.Status from order_gateway."""
    parsed = status_pb2.Status.FromString(status)
    return refusal_in(parsed) or Rejected(Reason.INTERNAL)


def described(rejected: Rejected, request_id: str) -> Problem:
    """The JSON of a refusal, with the names of the documented routes."""
    field = FIELDS.get(rejected.field, rejected.field) or None
    message = _NAMES.sub(lambda name: _UNMISTAKABLE[name[0]], rejected.message)
    if rejected.field in FIELDS and message.startswith(f"{rejected.field} "):
        message = FIELDS[rejected.field] + message.removeprefix(rejected.field)
    return Problem(rejected.reason.name, message, field, request_id, rejected.retry_after_seconds)


def problem(rejected: Rejected, request_id: str) -> tuple[int, bytes, dict[str, str]]:
    """HTTP status, body and headers of a refusal."""
    status = rejected.reason.http_status
    body = msgspec.json.encode(described(rejected, request_id))
    headers = {}
    if rejected.retry_after_seconds:
        headers[RETRY_KEY] = str(rejected.retry_after_seconds)
    if status in CLOSING_STATUSES:
        headers["connection"] = "close"
    return status, body, headers


def answer(rejected: Rejected, status: int | None = None) -> Response:
    """A refusal of the request that is being handled; `status` in place of the reason's own."""
    own, body, headers = problem(rejected, log.request_id.get())
    return Response(body, status or own, headers, JSON)
