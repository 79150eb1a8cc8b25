"""What the publisher and the settler read by hand in the journal is what protobuf reads."""

import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1.matching_service_pb2 import StreamEventsResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from services import journal_orders
from services.book.publisher import wire as publisher
from services.settler import wire as settler
from tests.unit.journal_events import OTHERS, plain_events

GATEWAY = 100


def rows(events: list[journal.Event]) -> list[object]:
    """What both make of them."""
    batch = journal.EventBatch(events=events).SerializeToString()
    response = StreamEventsResponse(
        first_journal_sequence=1, last_journal_sequence=9, time_ns=7, events=batch, incarnation="i"
    )
    return [publisher.row(response), settler.folded(response, GATEWAY)]


@given(st.lists(plain_events | st.sampled_from(OTHERS), max_size=3))
@settings(deadline=None)
def test_rows_are_read_by_hand_as_by_protobuf(events: list[journal.Event]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_orders, "BY_HAND", True)
        by_hand = rows(events)
        patch.setattr(journal_orders, "BY_HAND", False)
        assert by_hand == rows(events)


@given(plain_events)
@settings(deadline=None)
def test_plain_are_orders_that_did_not_trade(event: journal.Event) -> None:
    batch = journal.EventBatch(events=[event]).SerializeToString()
    (read,) = journal_orders.plain_orders(batch)
    assert isinstance(read, bytes) == bool(event.order_placed.trades)
    assert journal_orders.others(batch) == (batch if isinstance(read, bytes) else b"")


def test_an_order_that_rests_and_one_that_leaves() -> None:
    order = journal.Order(order_id=5, market_id=2, price_ticks=300, quantity_lots=9, filled_lots=2)
    order.side, order.state = journal.SIDE_BUY, journal.ORDER_STATE_OPEN
    placed = journal.Event(market_sequence=3, order_placed=journal.OrderPlaced(order=order))
    canceled = journal.Event(market_sequence=4, order_canceled=journal.OrderCanceled(order=order))
    batch = journal.EventBatch(events=[placed, *OTHERS, canceled]).SerializeToString()
    others = journal.EventBatch(events=OTHERS).SerializeToString()
    assert [item for item in journal_orders.plain_orders(batch) if not isinstance(item, bytes)] == [
        (2, 3, True, 300, 7, 5),
        (2, 4, True, 300, -7, 5),
    ]
    assert journal_orders.others(batch) == others


@pytest.mark.parametrize("cut", [1, 3, -1])
def test_damage_is_protobufs_to_judge(cut: int) -> None:
    batch = journal.EventBatch(events=OTHERS).SerializeToString()[:cut]
    with pytest.raises((ValueError, IndexError)):
        journal_orders.plain_orders(batch)
    assert journal_orders.others(batch) == batch
