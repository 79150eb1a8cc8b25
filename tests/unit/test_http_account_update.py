"""What a socket is sent of its account: the JSON that protobuf would make, in messages of bounded size."""

from __future__ import annotations

from typing import Any

import pytest
from clearbook.v1 import account_service_pb2 as accounts
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_http.account_messages import account_by_name
from gateway_http.proto_json import json_value
from services.order_gateway.history_wire import account_change
from services.order_gateway.model import Movement, MovementKind, MovementState
from services.order_gateway.views import PART_ITEMS_MAX, Update
from services.records import replaced
from services.units import INT64_MAX
from tests.unit.gateway_values import ALICE, BOB, ledger, order

PART_BYTES_MAX = 512 * 1024
ORDERS = 5_000
AMOUNT_MAX = 2**256 - 1


def fill(message: Message, choose: Any) -> None:
    """Sets some of the fields, at random, to anything that they can hold."""
    for field in message.DESCRIPTOR.fields:
        for _ in range(choose(st.integers(0, 2)) if field.is_repeated else choose(st.integers(0, 1))):
            if field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp":
                getattr(message, field.name).FromNanoseconds(choose(st.integers(0, 2**62)))
            elif field.message_type is not None:
                part = getattr(message, field.name)
                fill(part.add() if field.is_repeated else part, choose)
            else:
                value = choose(VALUES[field.type])
                if field.is_repeated:
                    getattr(message, field.name).append(value)
                else:
                    setattr(message, field.name, value)


VALUES: dict[int, st.SearchStrategy[Any]] = {
    3: st.integers(-(2**63), 2**63 - 1),
    4: st.integers(0, 2**64 - 1),
    8: st.booleans(),
    9: st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    12: st.binary(max_size=5),
    13: st.integers(0, 2**32 - 1),
    14: st.integers(0, 9),
}
"""By FieldDescriptor.type."""


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([accounts.StreamAccountResponse, accounts.CreateApiKeyRequest]))
def test_it_is_what_protobuf_makes_of_it(data: st.DataObject, kind: type[Message]) -> None:
    message = kind()
    fill(message, data.draw)
    assert json_value(message) == MessageToDict(message, preserving_proto_field_name=True)


@pytest.mark.parametrize("message", [Value(number_value=0.5), Struct(fields={"a": Value(bool_value=True)})])
def test_what_none_of_ours_has_is_refused(message: Message) -> None:
    with pytest.raises(TypeError, match="without a place in our JSON"):
        json_value(message)


def test_a_big_snapshot_comes_in_bounded_parts() -> None:
    book = ledger()
    largest = order(
        client_order_id='"' * 64, price_ticks=INT64_MAX, quantity_lots=INT64_MAX, filled_lots=INT64_MAX,
        filled_quote=AMOUNT_MAX, budget=AMOUNT_MAX, lock=AMOUNT_MAX, order_id=INT64_MAX, event_ns=INT64_MAX,
    )  # fmt: skip
    moved = Movement(
        "user:1001:" + '"' * 64, MovementKind.TRANSFER, MovementState.MOVED, ALICE, BOB, 1, AMOUNT_MAX,
        INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, settlement_sequence=INT64_MAX, address="0x" + "0" * 40,
        reason="\U0001f600" * 200, transaction_hash="0x" + "0" * 64,
    )  # fmt: skip
    snapshot = Update(7, tuple(replaced(largest, order_id=number) for number in range(ORDERS)), snapshot=True)
    for update in (snapshot, Update(7, movements=(moved,) * PART_ITEMS_MAX)):
        parts = update.parts()
        sent = [account_change(part, ALICE, book, last=part is parts[-1]).SerializeToString() for part in parts]
        told = [account_by_name().words(part) for part in sent]
        assert max(map(len, sent)) <= PART_BYTES_MAX
        assert max(len(text.encode()) for text in told) <= PART_BYTES_MAX
        assert len(parts) == -(-(len(update.orders) + len(update.movements)) // PART_ITEMS_MAX)
        assert all('"index":"7"' in text for text in told[-1:]) and not any('"index"' in text for text in told[:-1])
