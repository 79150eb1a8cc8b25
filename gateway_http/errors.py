"""Errors as REST shows them: one JSON shape, and the status that services/errors.py gives each reason."""

import re
from functools import cache
from typing import Final, NamedTuple

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


class Names(NamedTuple):
    """What a route calls fields of the gRPC API.

    Attributes:
        fields: names that are otherwise in its body.
        words: of these, names wherever they stand in a message. The others are English words too, and names at its
            beginning only.
    """

    fields: dict[str, str]
    words: dict[str, str]

    def field(self, name: str) -> str:
        """As the caller wrote it."""
        return self.fields.get(name, name)

    def message(self, text: str, field: str) -> str:
        """A message about a field, with the caller's names."""
        said = _found(tuple(self.words)).sub(lambda name: self.words[name[0]], text)
        if field in self.fields and said.startswith(f"{field} "):
            said = self.fields[field] + said.removeprefix(field)
        return said


@cache
def _found(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])({'|'.join(words)})(?![\w-])")


DOCUMENTED: Final = Names(
    fields={
        "client_order_id": "order_id",
        "market": "pair",
        "type": "order_type",
        "quantity": "amount",
        USER_KEY: "user_id",
    },
    words={"client_order_id": "order_id", USER_KEY: "user_id", "price x quantity": "price x amount"},
)
"""Of the documented order, its book and its socket."""
OF_PROTO: Final = Names({USER_KEY: "user_id"}, {USER_KEY: "user_id"})
"""Of the routes whose bodies are messages of the gRPC API."""


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


def described(rejected: Rejected, request_id: str, names: Names = DOCUMENTED) -> Problem:
    """The JSON of a refusal."""
    message = names.message(rejected.message, rejected.field)
    field = names.field(rejected.field) or None
    return Problem(rejected.reason.name, message, field, request_id, rejected.retry_after_seconds)


def problem(rejected: Rejected, request_id: str, names: Names = DOCUMENTED) -> tuple[int, bytes, dict[str, str]]:
    """HTTP status, body and headers of a refusal."""
    status = rejected.reason.http_status
    body = msgspec.json.encode(described(rejected, request_id, names))
    headers = {}
    if rejected.retry_after_seconds:
        headers[RETRY_KEY] = str(rejected.retry_after_seconds)
    if status in CLOSING_STATUSES:
        headers["connection"] = "close"
    return status, body, headers


def answer(rejected: Rejected, status: int | None = None, names: Names = DOCUMENTED) -> Response:
    """A refusal of the request that is being handled; `status` in place of the reason's own."""
    own, body, headers = problem(rejected, log.request_id.get(), names)
    return Response(body, status or own, headers, JSON)


def upgrade_required() -> Response:
    """What plain HTTP is answered where a WebSocket is (RFC 9110, 15.5.22)."""
    response = answer(Rejected(Reason.UPGRADE_REQUIRED))
    response.headers.update({"upgrade": "websocket", "connection": "upgrade"})
    return response
