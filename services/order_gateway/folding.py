"""The fold of a journal row: ledger, database, and all who wait hear of each event in turn. Compiled."""

from collections.abc import Callable, Sequence

from services.order_gateway.ledger import Change, Ledger
from services.order_gateway.model import EventRow, OrderCanceled, OrderPlaced, SessionOpened
from services.order_gateway.pending import Pending
from services.order_gateway.session import Session

Listener = Callable[[Change], None]


def fold(
    row: EventRow,
    ledger: Ledger,
    session: Session,
    pending: Pending,
    listeners: Sequence[Listener],
    others: Sequence[Listener],
) -> None:
    """Takes the events of one journal row, in one step: nobody sees half of it.

    Args:
        row: the next one.
        ledger: has the event before any listener hears of it.
        session: whose command it answers, if one of ours; that one hears of it last.
        pending: what the database is to be told.
        listeners: hear of every change.
        others: of those alone that are no plain order's: nearly all are, and each call costs.
    """
    assert row.first_sequence == ledger.sequence + 1, f"row {row.first_sequence} after {ledger.sequence}"
    ledger.incarnation = ledger.incarnation or row.incarnation
    time_ns = row.time_ns
    for event in row.events:
        flight = session.landed(event.command_id)
        change = ledger.apply(event, time_ns)
        pending.add(change)
        body = event.body
        if isinstance(body, SessionOpened) and body.gateway == session.gateway:
            session.superseded_by(body.epoch)
        if not isinstance(body, OrderPlaced | OrderCanceled):
            for listener in others:
                listener(change)
        for listener in listeners:
            listener(change)
        if flight is not None:
            flight.end(change)
    assert ledger.sequence == row.last_sequence, f"row ends at {row.last_sequence}, not {ledger.sequence}"
