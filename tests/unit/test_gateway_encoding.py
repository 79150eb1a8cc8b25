"""What the gateway reads and writes by hand is what protobuf reads and writes; whatever is not plain is left to it."""

from typing import Any

import pytest
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as matching
from clearbook.v1 import order_service_pb2 as pb
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services import protobuf
from services.errors import Reason, Rejected
from services.order_gateway import batch_wire, encoding, model, trade_wire, wire
from services.order_gateway.model import Placed, Placement, TimeInForce, Wanted
from services.units import Asset, market_of
from tests.unit.gateway_values import MARKET, order
from tests.unit.journal_events import OTHERS, amounts, counts, plain_events, positive, rates

USD = Asset(2, "USD", 18)
MARKETS = {
    "BTC-USD": MARKET,
    "ODD-USD": market_of(2, "ODD-USD", Asset(1, "ODD", 18), USD, "0.25", "30"),
    "FINE-USD": market_of(3, "FINE-USD", Asset(3, "FINE", 36), USD, "0.000000001", "0.000000001"),
}
LIMIT: dict[str, Any] = {
    "client_order_id": "c1", "market": "BTC-USD", "side": 1, "type": 1, "price": "30000.00", "quantity": "0.01",
}  # fmt: skip
TIME_NS = 1_700_000_000_123_456_789


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way this build would take."""
    monkeypatch.setattr(encoding, "BY_HAND", True)


# What clients ask for.

NUMBERS = (
    *("30000", "30000.5", "0.01", "0.75", "60", "0060.00", "0", "0.0", "", ".5", "5.", "5..1", "1e3", "-1", "٣"),
    *("9" * 18, "9" * 19, "0." + "0" * 15 + "1", "0." + "0" * 17 + "1", "9223372036.854775807", "9223372036.854775808"),
)
SPECIAL: list[dict[str, Any]] = [
    {"type": 2, "price": ""},
    {"time_in_force": 4, "expire_time": Timestamp(seconds=1)},
    {"quote_budget": "1"},
    {"trigger": 1, "trigger_price": "1"},
    {"trigger_source": 1},
    {"trail": "1"},
    {"display_quantity": "0.001"},
    {"min_quantity": "0.001"},
    {"self_trade_prevention": 2},
    {"post_only_mode": 1},
]


def asked(request: pb.TradeRequest | pb.PlaceOrdersRequest, made_id: str = "") -> list[Any]:
    """All that is wanted, refusals as what can be compared of them."""
    found = batch_wire.wanted(request, made_id, MARKETS)
    return [(item.reason, item.message, item.field) if isinstance(item, Rejected) else item for item in found]


def asked_of_protobuf(request: pb.TradeRequest | pb.PlaceOrdersRequest, made_id: str = "") -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "BY_HAND", False)
        return asked(request, made_id)


numbers = st.sampled_from(NUMBERS) | st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,9})?", fullmatch=True) | st.text(max_size=5)
requests = st.builds(
    pb.PlaceOrderRequest,
    client_order_id=st.sampled_from(["", "c1", "a b", "é", "x" * 64, "x" * 65, "a\x7f", "!~"]),
    market=st.sampled_from([*MARKETS, "", "NO-USD", "é"]),
    side=st.integers(-1, 3),
    type=st.integers(-1, 2),
    time_in_force=st.integers(-1, 6),
    price=numbers,
    quantity=numbers,
    post_only=st.booleans(),
)


@given(st.lists(requests | st.sampled_from([pb.PlaceOrderRequest(**LIMIT | each) for each in SPECIAL]), max_size=4))
@example([pb.PlaceOrderRequest(**LIMIT | {"price": price, "market": name}) for price in NUMBERS for name in MARKETS])
@example([pb.PlaceOrderRequest(**LIMIT | {"quantity": text, "market": name}) for text in NUMBERS for name in MARKETS])
@settings(deadline=None)
def test_orders_are_read_by_hand_as_by_protobuf(orders: list[pb.PlaceOrderRequest]) -> None:
    trade = pb.TradeRequest(
        request_id=2**64 - 1,
        cancels=[pb.CancelOrderRequest(client_order_id="x" * 200)],
        orders=orders,
        ack=pb.ACK_LEVEL_FULL,
        replaces=[pb.ReplaceOrderRequest(order_id="1")],
    )
    assert asked(trade) == asked_of_protobuf(trade)
    several = pb.PlaceOrdersRequest(orders=orders)
    assert asked(several, "made") == asked_of_protobuf(several, "made")


@pytest.mark.parametrize(
    "fields", [{}, {"post_only": True}, {"time_in_force": 3}, {"side": 2}, {"client_order_id": ""}]
)
def test_plain_orders_are_read_by_hand(fields: dict[str, Any]) -> None:
    request = pb.PlaceOrderRequest(**LIMIT | fields)
    expected = Wanted(wire.placement(request, MARKETS), request.client_order_id or "made")
    assert encoding.plain_wanted([request.SerializeToString()], ["made"], MARKETS) == [expected]


@pytest.mark.parametrize("fields", [*SPECIAL, {"price": "0.001"}, {"price": "0.01"}, {"market": "NO"}], ids=str)
def test_other_orders_are_not(fields: dict[str, Any]) -> None:
    request = pb.PlaceOrderRequest(**LIMIT | fields)
    assert encoding.plain_wanted([request.SerializeToString()], [""], MARKETS) == [None]


def test_fields_of_tomorrow_are_passed_over() -> None:
    strange = pb.PlaceOrderRequest.FromString(
        pb.PlaceOrderRequest(**LIMIT).SerializeToString() + b"\xc8\x3e\x01" + b"\xcd\x3e1234" + b"\xc9\x3e12345678"
    )
    trade = pb.TradeRequest.FromString(
        b"\xc8\x3e\x01" + b"\xcd\x3e1234" + b"\xc9\x3e12345678" + pb.TradeRequest(orders=[strange]).SerializeToString()
    )
    assert asked(trade) == asked_of_protobuf(trade) == asked(pb.TradeRequest(orders=[pb.PlaceOrderRequest(**LIMIT)]))


GROUP = b"\xa3\x06\xa4\x06"  # an empty one, of an unknown field
FIXED = (b"\x0d\xff\xff\xff\xff", b"\x09" + b"\xff" * 8)  # known numbers, as what they are not
UNKNOWN = (GROUP, *FIXED, b"\x0b\x0c", b"\x08\x01", b"\x1a\x01x", b"\xc2\x3e\x01x")


@pytest.mark.parametrize("strange", UNKNOWN, ids=bytes.hex)
@pytest.mark.parametrize("kind", [pb.TradeRequest, pb.PlaceOrdersRequest])
def test_what_is_unknown_is_passed_over_wherever_it_is(
    kind: type[pb.TradeRequest] | type[pb.PlaceOrdersRequest], strange: bytes
) -> None:
    plain = pb.PlaceOrderRequest(**LIMIT)
    within = pb.PlaceOrderRequest.FromString(plain.SerializeToString() + strange)
    beside = kind.FromString(kind(orders=[plain, within]).SerializeToString() + GROUP)
    for request in (kind(orders=[within, plain]), beside):
        assert asked(request) == asked_of_protobuf(request) == asked(kind(orders=[plain, plain]))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request of orders with bytes replaced, put in or taken out; within an order the lengths are made to fit."""
    orders = draw(st.lists(requests | st.just(pb.PlaceOrderRequest(**LIMIT)), min_size=1, max_size=3))
    within = [_damage(draw, order.SerializeToString()) for order in orders]
    trade = b"".join(b"\x1a" + protobuf.varint(len(data)) + data for data in within)
    return _damage(draw, trade) if draw(st.booleans()) else trade


def _damage(draw: st.DrawFn, data: bytes) -> bytes:
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(data)))
        put = draw(st.sampled_from(UNKNOWN) | st.binary(max_size=4))
        data = data[:start] + put + data[draw(st.integers(start, min(start + 4, len(data)))) :]
    return data


@given(damaged())
@settings(deadline=None)
def test_whatever_protobuf_takes_is_read_as_by_protobuf(data: bytes) -> None:
    try:
        trade = pb.TradeRequest.FromString(data)
    except DecodeError:
        return
    assert asked(trade) == asked_of_protobuf(trade)


# What clients are told.


@given(positive, st.text(max_size=300))
def test_what_was_taken_is_told_as_protobuf_tells_it(order_id: int, client_order_id: str) -> None:
    known: list[Placed | Rejected] = [
        Placed(order(order_id=order_id, client_order_id=client_order_id), ()),
        Rejected(Reason.INVALID_FIELD, "is wrong", "price"),
        Placed(order(), ()),
    ]
    told = []
    for hand in (True, False):
        encoding.BY_HAND, response = hand, pb.TradeResponse()  # type: ignore[misc]
        outcomes = trade_wire.Outcomes(None, (), (), known, ())
        trade_wire.add_answer(response, 7, pb.ACK_LEVEL_ACCEPTED, outcomes, {})
        told.append(response)
    assert told[0] == told[1]


# What the book is asked for.

placements = st.builds(
    Placement,
    *(st.sampled_from([*MARKETS.values()]), st.booleans(), st.booleans(), st.sampled_from(TimeInForce), st.booleans()),
    *(counts, positive, st.none() | amounts),
)
commands = st.builds(model.PlaceOrder, positive, placements, amounts, st.text(max_size=300), rates, rates)


@given(st.lists(st.tuples(positive, commands), min_size=1, max_size=4), st.booleans())
def test_orders_are_asked_for_as_by_protobuf(asked: list[tuple[int, model.PlaceOrder]], twice: bool) -> None:
    asked += [(command_id | 1, command) for command_id, command in asked] if twice else []
    by_hand = encoding.commands(asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "BY_HAND", False)
        assert by_hand == [wire.submit_request([each]) for each in asked]


def test_what_else_is_asked_for_is_left_to_protobuf() -> None:
    placement = Placement(MARKET, True, True, TimeInForce.GTC, False, 300, 5, None, model.Terms(minimum_lots=1))
    special = model.PlaceOrder(1001, placement, 0, "c", 0, 0)
    assert encoding.commands([(1, special)]) == [None]
    data = wire.submit_request([(1, special), (2, model.CancelOrder(1001, 7))])
    kinds = [command.WhichOneof("kind") for command in matching.SubmitRequest.FromString(data).commands]
    assert kinds == ["place_order", "cancel_order"]


# What the book tells.


@given(st.lists(plain_events | st.sampled_from(OTHERS), max_size=3))
@settings(deadline=None, max_examples=50)
def test_events_are_read_by_hand_as_by_protobuf(events: list[journal.Event]) -> None:
    message = matching.StreamEventsResponse(
        first_journal_sequence=1,
        time_ns=TIME_NS,
        events=journal.EventBatch(events=events).SerializeToString(),
        incarnation="i",
    )
    read = wire.event_row(message)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "BY_HAND", False)
        assert read == wire.event_row(message)


@given(plain_events)
@settings(deadline=None, max_examples=50)
def test_plain_events_are_read_by_hand(event: journal.Event) -> None:
    batch = journal.EventBatch(events=[event]).SerializeToString()
    assert isinstance(encoding.events(batch, TIME_NS)[0], model.Event)


@pytest.mark.parametrize("event", OTHERS, ids=lambda event: event.WhichOneof("kind"))
def test_other_events_are_not(event: journal.Event) -> None:
    data = journal.EventBatch(events=[event]).SerializeToString()
    assert encoding.events(data, TIME_NS) == [data]


@pytest.mark.parametrize("fields", [{"time_in_force": 6}, {"state": 5}, {"state": 0}, {"cancel_cause": 16}], ids=str)
def test_what_this_gateway_is_too_old_for_is_left_to_protobuf_which_stops(fields: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"order_id": 1, "time_in_force": 1, "state": 1}
    told = journal.Order(**usual | fields)
    event = journal.Event(journal_sequence=1, order_placed=journal.OrderPlaced(order=told))
    with pytest.raises(KeyError):
        wire.event_row(matching.StreamEventsResponse(events=journal.EventBatch(events=[event]).SerializeToString()))


@given(plain_events, st.sampled_from(OTHERS), st.data())
@settings(deadline=None, max_examples=50)
def test_a_row_cut_short_is_refused_as_by_protobuf(
    first: journal.Event, last: journal.Event, data: st.DataObject
) -> None:
    events = data.draw(st.permutations([first, last]))
    batch, whole = (journal.EventBatch(events=each).SerializeToString() for each in (events, events[:1]))
    size = data.draw(st.integers(1, len(batch) - 1).filter(lambda size: size != len(whole)))
    with pytest.raises(DecodeError):
        wire.event_row(matching.StreamEventsResponse(events=batch[:size]))
