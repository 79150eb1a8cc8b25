"""The audit log: what operators ask for, written before it is carried out, and what came of it, after.

It lies around the table of methods, not in any of them: an operator's method that changes something cannot be called
without its entry. If the process dies in between, or the caller leaves while it is carried out, the entry keeps the
outcome UNKNOWN. The table itself refuses every change but that of an unknown outcome.
"""

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from services.errors import Rejected
from services.order_gateway.identity.who import Identity
from services.order_gateway.methods import Handler, Method
from services.order_gateway.paging import Page
from services.runtime import log
from services.runtime.db import Conflict, Database, Statement, Unavailable

OK: Final = "OK"
UNKNOWN: Final = "UNKNOWN"
FAILED: Final = "INTERNAL"
"""A bug: whether anything was changed, the log of the process may tell."""
REQUEST_CHARS_MAX = 8_000
SECRET_FIELDS = frozenset({"secret", "token", "password", "private_key", "signature"})
"""Never written, at whatever depth of a request."""
HIDDEN = "(not written)"

INDEX_TRIES_MAX = 3

_COLUMNS = "entry_index, create_ns, user_name, key_id, peer, method, request, outcome, response"
_WRITE = f"INSERT INTO audit ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '')"  # noqa: S608 - our own words
_END = "UPDATE audit SET outcome = $2, response = $3 WHERE entry_index = $1"

logger = log.get("audit")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One call. `index` counts from 1 without gaps; `request` is JSON; `outcome` is OK, a refusal's reason, UNKNOWN.

    `response` is what was answered, as JSON; "" unless the outcome is OK.
    """

    index: int
    create_ns: int
    user: str
    key_id: str
    peer: str
    method: str
    request: str
    outcome: str
    response: str


class Audit:
    """The log, in the gateway's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last: int | None = None
        """The last entry's index; None: not known for sure."""
        self._order = asyncio.Lock()
        self._endings = set[asyncio.Task[None]]()

    def around(self, methods: Iterable[Method]) -> list[Method]:
        """The same table, with the handlers of what is audited behind the log."""
        return [
            replace(method, handler=self._logged(method, method.handler))
            if method.audited and method.handler is not None
            else method
            for method in methods
        ]

    async def page(self, page: Page) -> list[AuditEntry]:
        """Entries, newest first. Raises Unavailable."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM audit WHERE entry_index < $1 ORDER BY entry_index DESC LIMIT $2",  # noqa: S608
            page.after[0],
            page.limit,
        )
        return [AuditEntry(*row) for row in rows]

    def _logged(self, method: Method, handler: Handler) -> Handler:
        async def run(operator: Identity, request: Any, seconds: float) -> Any:
            index = await self._begin(operator, method.rpc, request)
            try:
                response = await handler(operator, request, seconds)
            except Rejected as rejected:
                await self._end(index, rejected.reason.name)
                raise
            except Exception:
                await self._end(index, FAILED)
                raise
            await self._end(index, OK, as_json(response))
            return response

        return run

    async def _begin(self, operator: Identity, method: str, request: Message) -> int:
        """Writes an entry; returns its index. Raises Unavailable: then nothing must be carried out."""
        rest = (time.time_ns(), operator.user, operator.key_id, operator.peer, method, as_json(request), UNKNOWN)
        async with self._order:
            for _ in range(INDEX_TRIES_MAX):
                index = await self._next()
                self._last = None  # until it is known: whoever is cancelled meanwhile may have written it all the same
                try:
                    await self._database.write([Statement(_WRITE, [(index, *rest)])])
                except Conflict:
                    continue  # an entry that nobody waited for came in between
                except Unavailable as error:
                    raise Unavailable(f"the audit log: {error}") from None
                self._last = index
                return index
            raise Unavailable("the audit log: another process writes to it")

    async def _next(self) -> int:
        if self._last is None:
            rows = await self._database.fetch("SELECT entry_index FROM audit ORDER BY entry_index DESC LIMIT 1")
            return int(rows[0][0]) + 1 if rows else 1
        return self._last + 1

    async def _end(self, index: int, outcome: str, response: str = "") -> None:
        """Writes what came of it, even if the caller leaves meanwhile."""
        ending = asyncio.create_task(self._write_end(index, outcome, response))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        await asyncio.shield(ending)

    async def _write_end(self, index: int, outcome: str, response: str) -> None:
        """What was carried out stays so, whether this can be written or not."""
        try:
            await self._database.write([Statement(_END, [(index, outcome, response)], expect=1)])
        except Unavailable as error:
            logger.warning(
                "the outcome of an operator's call is not written", entry=index, outcome=outcome, why=str(error)
            )


def as_json(message: Message) -> str:
    """A request or an answer for the log: without secrets, and cut off where it is very long."""
    fields = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    text = json.dumps(_shown(fields), separators=(",", ":"))
    return text if len(text) <= REQUEST_CHARS_MAX else text[:REQUEST_CHARS_MAX] + "…"


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: HIDDEN if name in SECRET_FIELDS else _shown(part) for name, part in value.items()}
    return [_shown(part) for part in value] if isinstance(value, list) else value
