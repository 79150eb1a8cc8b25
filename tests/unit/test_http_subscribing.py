"""What a socket can ask to subscribe, as a table, and the messages that it is sent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import order_service_pb2 as order_pb
from clearbook.v1 import settlement_service_pb2 as settlement_pb
from google.protobuf.json_format import MessageToDict, ParseDict

from gateway_http import closing, stream
from gateway_http.account_messages import telling
from gateway_http.channels import PRIVATE_SUBSCRIPTIONS_MAX
from gateway_http.feeds import FRAMES_WAITING_MAX
from gateway_http.market_messages import CACHED_BYTES_MAX, Message, _cached, message_in
from gateway_http.private import LOGONS_FAILED_MAX
from gateway_http.subscribing import ITEMS_MAX, NO_ID, Item, check_only, heartbeat_ms, ids_in, items_in
from gateway_http.turns import Turns
from services.book.publisher import market_data_wire
from services.errors import Reason, Rejected

ROOT = Path(__file__).resolve().parent.parent.parent


def params(**fields: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(json.dumps(value)) for name, value in fields.items()}


def asked(**fields: Any) -> Item:
    (item,) = items_in(params(subscriptions=[{"id": 7} | fields]))
    return item


WANTED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"channel": "book", "market": "BTC-USD"}, {"order_book": {"market": "BTC-USD"}}),
    (
        {"channel": "book", "market": "BTC-USD", "detail": "l1", "conflation": "100_milliseconds", "price_group": 10},
        {"order_book": {
            "market": "BTC-USD", "detail": "BOOK_DETAIL_L1", "conflation": "CONFLATION_100_MILLISECONDS",
            "price_group": "10",
        }},
    ),
    (
        {"channel": "book", "market": "A", "resume_from_sequence": 5, "incarnation": "ab", "slow_reader": "disconnect"},
        {"order_book": {
            "market": "A", "resume_from_sequence": "5", "incarnation": "ab", "slow_reader": "SLOW_READER_DISCONNECT",
        }},
    ),
    ({"channel": "trades", "market": "A", "after_trade_id": "0"}, {"trades": {"market": "A", "after_trade_id": "0"}}),
    ({"channel": "tickers"}, {"tickers": {}}),
    ({"channel": "tickers", "markets": ["A", "B"]}, {"tickers": {"markets": ["A", "B"]}}),
    (
        {"channel": "candles", "market": "A", "interval": "1_minute", "start_time": "2026-11-23T00:00:00Z"},
        {"candles": {"market": "A", "interval": "CANDLE_INTERVAL_1_MINUTE", "start_time": "2026-11-23T00:00:00Z"}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), WANTED)
def test_items_are_subscriptions_of_market_data(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = asked(**fields)
    assert found.refusal is None
    assert found.request == ParseDict({"id": 7} | expected, book_pb.MarketDataSubscription())


def test_items_of_an_account() -> None:
    assert asked(channel="account", after_index=5).request == account_pb.StreamAccountRequest(after_index=5)
    assert asked(channel="orders", market="BTC-USD").request == order_pb.StreamOrdersRequest(market="BTC-USD")
    assert asked(channel="executions").request == account_pb.StreamAccountRequest()


REFUSED = [
    ({}, "channel"),
    ({"channel": 5}, "channel"),
    ({"channel": "orderbook"}, "channel"),
    ({"channel": "book", "colour": "red"}, "colour"),
    ({"channel": "book", "depth": "many"}, "depth"),
    ({"channel": "book", "detail": "l4"}, "detail"),
    ({"channel": "candles", "interval": "1_fortnight"}, "interval"),
    ({"channel": "orders", "after_index": 1}, "after_index"),
    ({"channel": "book", "id": 0}, "id"),
    ({"channel": "book", "id": 2**32}, "id"),
    ({"channel": "book", "id": "x"}, "id"),
    ({"channel": "book", "id": None}, "id"),
]


@pytest.mark.parametrize(("fields", "field"), REFUSED)
def test_an_item_that_is_wrong_is_refused_by_itself(fields: dict[str, Any], field: str) -> None:
    items = items_in(params(subscriptions=[{"id": 7} | fields, {"id": 8, "channel": "tickers"}]))
    assert (items[0].request, items[1].refusal) == (None, None)
    assert items[0].refusal is not None
    assert (items[0].refusal.reason, items[0].refusal.field) == (Reason.INVALID_FIELD, field)
    assert [item.subscription for item in items] == [NO_ID if field == "id" else 7, 8]


WHOLE: list[tuple[Any, str]] = [
    ([], "subscriptions"),
    ({}, "subscriptions"),
    ([{"id": 1}] * (ITEMS_MAX + 1), "subscriptions"),
    (["book"], "subscriptions[0]"),
]


@pytest.mark.parametrize(("given", "field"), WHOLE)
def test_a_request_that_cannot_be_answered_by_items_is_refused(given: Any, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        items_in(params(subscriptions=given))
    assert (caught.value.reason, caught.value.field) == (Reason.INVALID_FIELD, field)


def test_ids_heartbeats_and_what_else_there_may_be() -> None:
    assert ids_in(params(subscriptions=[1, 5])) == [1, 5]
    assert (heartbeat_ms({}), heartbeat_ms(params(heartbeat_milliseconds=250))) == (0, 250)
    check_only(params(subscriptions=1, heartbeat_milliseconds=2), "subscriptions", "heartbeat_milliseconds")
    for wrong in (
        lambda: ids_in(params(subscriptions=[-1])),
        lambda: heartbeat_ms(params(heartbeat_milliseconds="soon")),
        lambda: heartbeat_ms(params(heartbeat_milliseconds=2**32)),
        lambda: heartbeat_ms({"heartbeat_milliseconds": msgspec.Raw(b"1" * 5_000)}),
        lambda: ids_in({"subscriptions": msgspec.Raw(b"[" + b"1" * 5_000 + b"]")}),
        lambda: check_only(params(subscriptions=1, colour=2), "subscriptions"),
    ):
        with pytest.raises(Rejected) as caught:
            wrong()
        assert caught.value.reason is Reason.INVALID_FIELD


DELTA = book_pb.StreamOrderBookResponse(
    delta=book_pb.BookDelta(sequence=8, previous_sequence=7, asks=[book_pb.Level(price="1.50", quantity="0")])
)


@pytest.mark.parametrize("subscription", [1, 127, 128, 300, 2**32 - 1])
async def test_a_message_is_the_publishers_with_its_id(subscription: int) -> None:
    data = market_data_wire.framed(market_data_wire.head(subscription), "order_book", DELTA.SerializeToString())
    message = message_in(data)
    assert message.acknowledgement is None
    assert json.loads(await message.words(Turns())) == {
        "type": "book", "id": subscription, "data": {
            "delta": {"sequence": "8", "previous_sequence": "7", "asks": [{"price": "1.50", "quantity": "0"}]},
        },
    }  # fmt: skip


async def test_messages_that_are_of_no_channel() -> None:
    told = message_in(market_data_wire.acknowledged(5, market_data_wire.ACCEPTED))
    assert (told.subscription, told.acknowledgement) == (
        5, book_pb.SubscriptionAcknowledgement(state=book_pb.SUBSCRIPTION_STATE_ACCEPTED),
    )  # fmt: skip
    beat = message_in(market_data_wire.heartbeat(10**9))
    assert json.loads(await beat.words(Turns())) == {
        "type": "heartbeat",
        "data": {"event_time": "1970-01-01T00:00:01Z"},
    }
    assert json.loads(await message_in(b"").words(Turns()))["type"] == "unknown"


async def test_the_same_message_is_made_once_for_all_unless_it_is_long() -> None:
    def message(subscription: int, levels: int) -> Message:
        snapshot = book_pb.BookSnapshot(asks=[book_pb.Level(price=f"1.{at:05}", quantity="1") for at in range(levels)])
        told = book_pb.StreamOrderBookResponse(snapshot=snapshot).SerializeToString()
        return message_in(market_data_wire.framed(market_data_wire.head(subscription), "order_book", told))

    _cached.cache_clear()
    for subscription in range(1, 6):
        await message(subscription, 3).words(Turns())
        assert len((long := message(subscription, 2_000)).rest) > CACHED_BYTES_MAX
        assert len(json.loads(await long.words(Turns()))["data"]["snapshot"]["asks"]) == 2_000
    assert (_cached.cache_info().misses, _cached.cache_info().hits) == (1, 4)


ORDER = order_pb.Order(order_id="5", price="30000.00")
EXECUTION = order_pb.Execution(trade_id=3, price="30000.00")


def test_executions_are_told_alone_and_from_where() -> None:
    executions = telling(asked(channel="executions", after_index=4))
    assert MessageToDict(executions.request, preserving_proto_field_name=True) == {"after_index": "4"}
    said = [
        executions.words(message.SerializeToString())
        for message in (
            account_pb.StreamAccountResponse(snapshot=True, index=7, orders=[ORDER]),
            account_pb.StreamAccountResponse(index=8, orders=[ORDER]),
            account_pb.StreamAccountResponse(index=9, orders=[ORDER], executions=[EXECUTION]),
            account_pb.StreamAccountResponse(index=11),
        )
    ]
    execution = {"trade_id": "3", "price": "30000.00"}
    assert [json.loads(words)["data"] if words else None for words in said] == [
        {"snapshot": True, "index": "7"}, None, {"index": "9", "executions": [execution]}, None,
    ]  # fmt: skip
    assert executions.request == account_pb.StreamAccountRequest(after_index=11), "where it goes on if it was too slow"


def test_executions_begin_again_where_the_reader_stands_when_it_was_too_slow() -> None:
    executions = telling(asked(channel="executions"))
    executions.words(account_pb.StreamAccountResponse(snapshot=True, index=7).SerializeToString())
    lagged = account_pb.StreamAccountResponse(snapshot=True, lagged=True, index=5_000)
    with pytest.raises(Rejected) as caught:
        executions.words(lagged.SerializeToString())
    assert caught.value.reason is Reason.LAGGED
    assert executions.request == account_pb.StreamAccountRequest(after_index=7), "what was traded since is told"


def test_the_index_of_executions_is_told_when_it_comes_without_any() -> None:
    executions = telling(asked(channel="executions"))
    said = [
        executions.words(message.SerializeToString())
        for message in (
            account_pb.StreamAccountResponse(snapshot=True, orders=[ORDER]),
            account_pb.StreamAccountResponse(index=7, orders=[ORDER]),
            account_pb.StreamAccountResponse(orders=[ORDER]),
            account_pb.StreamAccountResponse(index=8, orders=[ORDER]),
            account_pb.StreamAccountResponse(executions=[EXECUTION]),
            account_pb.StreamAccountResponse(orders=[ORDER]),
            account_pb.StreamAccountResponse(index=9, orders=[ORDER]),
            account_pb.StreamAccountResponse(index=10),
        )
    ]
    execution = {"trade_id": "3", "price": "30000.00"}
    assert [json.loads(words)["data"] if words else None for words in said] == [
        {"snapshot": True}, {"index": "7"}, None, None, {"executions": [execution]}, None, {"index": "9"}, None,
    ]  # fmt: skip


def test_settlements_go_on_where_the_reader_stands() -> None:
    settlements = telling(asked(channel="settlements", after_index=4))
    assert settlements.request == settlement_pb.StreamSettlementsRequest(after_index=4)
    moved = settlement_pb.Settlement(settlement_sequence=3, state=settlement_pb.SETTLEMENT_STATE_MINED)
    change = settlement_pb.StreamSettlementsResponse(index=5, settlements=[moved])
    assert json.loads(settlements.words(change.SerializeToString())) == {
        "type": "settlements", "id": 7,
        "data": {"index": "5", "settlements": [{"settlement_sequence": "3", "state": "SETTLEMENT_STATE_MINED"}]},
    }  # fmt: skip
    assert settlements.words(settlement_pb.StreamSettlementsResponse(index=5).SerializeToString()) == "", "a heartbeat"
    assert settlements.request == settlement_pb.StreamSettlementsRequest(after_index=5)


def test_an_account_and_its_orders_begin_anew_when_they_were_too_slow() -> None:
    account = telling(asked(channel="account", after_index=4))
    change = account_pb.StreamAccountResponse(index=9, orders=[ORDER])
    assert json.loads(account.words(change.SerializeToString())) == {
        "type": "account", "id": 7, "data": {"index": "9", "orders": [{"order_id": "5", "price": "30000.00"}]},
    }  # fmt: skip
    assert account.request == account_pb.StreamAccountRequest()
    orders = telling(asked(channel="orders", market="BTC-USD"))
    snapshot = order_pb.StreamOrdersResponse(snapshot=True, journal_sequence=3)
    heartbeat = order_pb.StreamOrdersResponse(journal_sequence=4)
    assert json.loads(orders.words(snapshot.SerializeToString())) == {
        "type": "orders", "id": 7, "data": {"snapshot": True, "journal_sequence": "3"},
    }  # fmt: skip
    assert orders.words(heartbeat.SerializeToString()) == ""
    assert orders.request == order_pb.StreamOrdersRequest(market="BTC-USD")


def test_the_guide_has_each_code_that_sockets_are_closed_with() -> None:
    table = (ROOT / "docs/api.md").read_text().partition("| close code | when |\n")[2].partition("\n\n")[0]
    told = {int(code) for row in table.splitlines()[1:] for code in re.findall(r"\d{4}", row.split("|")[1])}
    assert {*stream.CODES.values(), closing.GOING_AWAY, closing.POLICY, closing.BROKEN} <= told
    for bound in (ITEMS_MAX, PRIVATE_SUBSCRIPTIONS_MAX, FRAMES_WAITING_MAX, LOGONS_FAILED_MAX):
        assert re.search(rf"\b{bound}\b", (ROOT / "docs/api.md").read_text())
