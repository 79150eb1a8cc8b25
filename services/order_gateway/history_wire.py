"""Between the protos and the lists: filters in, entries out."""

from typing import Any

from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb
from clearbook.v1 import order_service_pb2 as order_pb

from services.order_gateway import money_wire, wire
from services.order_gateway.account import Entry, PostingKind
from services.order_gateway.ledger import Ledger
from services.order_gateway.paging import Span, instant
from services.order_gateway.views import Update
from services.order_gateway.wire import invalid, set_time
from services.units import Asset

Spanned = (
    order_pb.ListOrdersRequest | order_pb.ListExecutionsRequest | pb.ListLedgerEntriesRequest | pb.ListTransfersRequest
)


def span(request: Spanned) -> Span:
    """The journal times that a request asks for. Raises Rejected: INVALID_FIELD with the field."""
    start, end = request.start_time, request.end_time
    return Span(
        instant(start.seconds, start.nanos, "start_time") if request.HasField("start_time") else None,
        instant(end.seconds, end.nanos, "end_time") if request.HasField("end_time") else None,
    )


def entry_kind(number: int) -> PostingKind | None:
    """The kind that a request asks for; None: any. The numbers are the proto's."""
    if number == pb.LEDGER_ENTRY_KIND_UNSPECIFIED:
        return None
    if number not in {item.value for item in PostingKind}:
        raise invalid("kind", f"has no value {number}")
    return PostingKind(number)


def entry(value: Entry, asset: Asset) -> pb.LedgerEntry:
    """A posting as its owner sees it."""
    message = pb.LedgerEntry(
        journal_sequence=value.journal_sequence,
        line=value.line,
        asset=asset.symbol,
        amount=asset.format(value.amount),
        kind=value.kind.value,  # type: ignore[arg-type]  # the numbers are the proto's
    )
    set_time(message.event_time, value.time_ns)
    return message


def transfer_kind(number: int) -> str:
    """The name of the kind that a request asks for, without its prefix; "": any."""
    if number == pb.TRANSFER_KIND_UNSPECIFIED:
        return ""
    if number not in pb.TransferKind.values():
        raise invalid("kind", f"has no value {number}")
    return pb.TransferKind.Name(number).removeprefix("TRANSFER_KIND_")  # type: ignore[arg-type]  # it is one of them


def account(account_id: int, name: str, tier: str, freeze_reason: str, ledger: Ledger) -> admin_pb.Account:
    """An account as operators see it."""
    return admin_pb.Account(
        account_id=str(account_id),
        user=name,
        balances=money_wire.balances(account_id, ledger).balances,
        fee_tier=tier,
        freeze_reason=freeze_reason,
    )


def audit_entry(*, create_ns: int, **fields: Any) -> admin_pb.AuditEntry:
    """An entry of the audit log, of its own fields by name."""
    message = admin_pb.AuditEntry(**fields)
    set_time(message.create_time, create_ns)
    return message


def account_change(update: Update, account_id: int, ledger: Ledger, *, last: bool) -> pb.StreamAccountResponse:
    """One message of StreamAccount; `last`: of those that make up an update."""
    markets, assets = ledger.markets, ledger.assets
    return pb.StreamAccountResponse(
        snapshot=update.snapshot,
        index=update.sequence if last else 0,
        balances=[money_wire.balance(assets[asset_id], value) for asset_id, value in update.balances],
        orders=[wire.order(item, markets[item.market_id]) for item in update.orders],
        executions=[wire.execution(item, markets[item.market_id]) for item in update.executions],
        transfers=[money_wire.transfer(item, account_id, ledger, update.final_through) for item in update.movements],
        lagged=update.lagged,
        account_id=str(account_id) if update.snapshot else "",
        settled_through=update.final_through if last else 0,
    )
