"""Long messages as JSON: the same text as short ones, with everybody else's turn in between; and what they weigh."""

import asyncio

import msgspec
import pytest
from clearbook.v1 import book_service_pb2 as pb
from google.protobuf.message import Message

from gateway_http.limits import L3_WEIGHT
from gateway_http.market_routes import _BOOK, _weight
from gateway_http.proto_json import PART_ITEMS_MAX, json_parts, json_value, long_json
from gateway_http.turns import Turns


def orders(count: int) -> list[pb.BookOrder]:
    return [pb.BookOrder(order_id=f"{at}", price="1.00", quantity="1", priority=at) for at in range(1, count + 1)]


def page(count: int) -> pb.GetOrderBookResponse:
    return pb.GetOrderBookResponse(market="BTC-USD", sequence=7, bid_orders=orders(count), next_page_token="x")


def snapshot(count: int) -> pb.StreamOrderBookResponse:
    return pb.StreamOrderBookResponse(snapshot=pb.BookSnapshot(sequence=7, lagged=True, ask_orders=orders(count)))


@pytest.mark.parametrize(
    "message",
    [
        *(make(count) for make in (page, snapshot) for count in (0, 1, PART_ITEMS_MAX, 2 * PART_ITEMS_MAX + 1, 5_000)),
        pb.ListMarketsResponse(),
    ],
    ids=lambda message: f"{type(message).__name__} {message.ByteSize()}",
)
async def test_a_long_message_is_the_same_json_in_parts(message: Message) -> None:
    expected = msgspec.json.encode(json_value(message))
    parts = list(json_parts(message))
    assert b"".join(parts) == expected == await long_json(message, Turns())
    assert all(part.count(b"order_id") <= PART_ITEMS_MAX for part in parts)


async def test_others_have_their_turn_while_long_messages_are_made_one_at_a_time() -> None:
    """As many turns as there are parts: two that are wanted at once are not made side by side."""
    turns, taken = Turns(), 0
    making = [asyncio.ensure_future(long_json(page(5_000), turns)) for _ in range(2)]
    while not all(each.done() for each in making):
        await asyncio.sleep(0)
        taken += 1
    assert taken >= 2 * 5_000 // PART_ITEMS_MAX


@pytest.mark.parametrize(
    ("detail", "weight"), [(pb.BOOK_DETAIL_L1, 1), (pb.BOOK_DETAIL_L2, 1), (pb.BOOK_DETAIL_L3, L3_WEIGHT)]
)
def test_a_page_of_orders_weighs_more(detail: pb.BookDetail.ValueType, weight: int) -> None:
    request = pb.GetOrderBookRequest(market="BTC-USD", detail=detail).SerializeToString()
    assert _weight(_BOOK["GetOrderBook"], request) == weight
    assert _weight(_BOOK["ListTrades"], b"") == 1
