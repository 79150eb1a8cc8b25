"""`clearbook export`: one's own history as CSV, through the public API, page by page to its end.

The columns of a kind and their order stay; a new one comes last. Numbers are the API's own decimal strings. A text that
a spreadsheet would take for a formula has an apostrophe before it.
"""

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import order_service_pb2 as order_pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.cli.calls import connected
from services.cli.cells import csv_cell
from services.cli.clients import GREETING_SECONDS_MAX, RETRY_SECONDS_MAX
from services.runtime.run import StartError

PAGE_ROWS: Final = 500
PROGRESS_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Table:
    """What is exported: the list's method and request, the answer's field, and the columns."""

    service: str
    rpc: str
    request: Any
    field: str
    columns: tuple[str, ...]


TABLES: Final = {
    "orders": Table(
        *("orders", "ListOrders", order_pb.ListOrdersRequest, "orders"),
        (
            *("order_id", "client_order_id", "market", "side", "type", "time_in_force", "post_only", "price"),
            *("quantity", "filled_quantity", "quote_budget", "filled_quote", "locked", "state", "cancel_cause"),
            *("create_time", "event_time"),
        ),
    ),
    "executions": Table(
        *("orders", "ListExecutions", order_pb.ListExecutionsRequest, "executions"),
        (
            *("trade_id", "market", "order_id", "client_order_id", "side", "price", "quantity", "fee", "fee_asset"),
            *("is_maker", "settlement_sequence", "settled", "event_time"),
        ),
    ),
    "ledger": Table(
        *("accounts", "ListLedgerEntries", account_pb.ListLedgerEntriesRequest, "entries"),
        ("journal_sequence", "line", "asset", "amount", "kind", "event_time"),
    ),
    "transfers": Table(
        *("accounts", "ListTransfers", account_pb.ListTransfersRequest, "transfers"),
        (
            *("transfer_id", "kind", "state", "outgoing", "asset", "amount", "counterparty", "address", "reason"),
            *("settlement_sequence", "create_time", "event_time", "transaction_hash"),
        ),
    ),
}
"""By the command line's name."""


def instant(text: str) -> Timestamp:
    """RFC 3339, for example 2026-11-22T00:00:00Z. Raises ValueError."""
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp


@contextmanager
def written(file: Path) -> Iterator[IO[str]]:
    """A file that is there once all of it is: what fails leaves whatever there was before.

    Raises:
        StartError: it cannot be written.
    """
    in_place = file.exists() and not file.is_file()  # a pipe, a terminal: there is nothing to take the place of
    part = file if in_place else file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            yield out
        if not in_place:
            part.replace(file)
    except OSError as error:
        raise StartError(f"cannot write {file}: {error.strerror}") from None
    finally:
        if not in_place:
            part.unlink(missing_ok=True)


async def export(kind: str, user: str, filters: dict[str, Any], out: IO[str], gateway: str | None = None) -> int:
    """Writes all rows, newest first; returns how many.

    Args:
        kind: of TABLES.
        user: who is calling, in open mode.
        filters: fields of the request.
        out: where to.
        gateway: its address, or None as configured.

    Raises:
        CallFailed: refused, or nobody answered.
        ValueError: this list has no such filter.
    """
    table, rows = TABLES[kind], 0
    writer = csv.writer(out, lineterminator="\n")
    for name in filters:
        if name not in table.request.DESCRIPTOR.fields_by_name:
            raise ValueError(f"{kind} cannot be told apart by --{name}")
    request = table.request(page_size=PAGE_ROWS, **filters)
    async with connected(user, gateway) as (clients, who):
        method = getattr(getattr(clients, table.service), table.rpc)
        while True:
            seconds = RETRY_SECONDS_MAX if request.page_token else GREETING_SECONDS_MAX
            page = await clients.call(method, request, who, seconds_max=seconds)
            found = getattr(page, table.field)
            if not request.page_token:
                writer.writerow(table.columns)  # not before: what is refused writes nothing
            writer.writerows([csv_cell(item, name) for name in table.columns] for item in found)
            if rows // PROGRESS_ROWS < (rows + len(found)) // PROGRESS_ROWS:
                sys.stderr.write(f"{rows + len(found)} rows\n")
            rows += len(found)
            request.page_token = page.next_page_token
            if not request.page_token:
                return rows
