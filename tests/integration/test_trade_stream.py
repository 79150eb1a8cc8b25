"""OrderService.Trade beside a real book: a conversation, broken streams, bounds, the end of keys and of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from clearbook.v1 import order_service_pb2 as pb

from services.order_gateway.check import violations
from services.order_gateway.rpcs import trading
from services.runtime import rpc
from tests import books, gateways
from tests.gateways import Client, Exchange, limit, market, refused

STEP_SECONDS_MAX = 20.0
STOP: dict[str, Any] = {"trigger": pb.TRIGGER_STOP, "trigger_price": "29900.00"}
IOC = {"time_in_force": pb.TIME_IN_FORCE_IOC}
ACCEPTED, RESULT, FULL = pb.ACK_LEVEL_ACCEPTED, pb.ACK_LEVEL_RESULT, pb.ACK_LEVEL_FULL


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with gateways.exchange(tmp_path) as running:
        yield running
        assert violations(running.gateway.ledger) == []


class Talk:
    """One Trade call."""

    def __init__(self, client: Client) -> None:
        self.call = client.orders.Trade(metadata=client.metadata)
        self._answers: list[pb.TradeAnswer] = []

    async def say(self, request_id: int, *orders: pb.PlaceOrderRequest, cancels: Any = (), **fields: Any) -> None:
        named = [pb.CancelOrderRequest(**name) for name in cancels]
        await self.call.write(pb.TradeRequest(request_id=request_id, orders=orders, cancels=named, **fields))

    async def answer(self) -> pb.TradeAnswer:
        async with asyncio.timeout(STEP_SECONDS_MAX):
            while not self._answers:
                response = await self.call.read()
                assert response is not grpc.aio.EOF, await self.call.code()
                self._answers += response.answers
        return self._answers.pop(0)

    async def ask(self, request_id: int, *orders: pb.PlaceOrderRequest, **fields: Any) -> pb.TradeAnswer:
        await self.say(request_id, *orders, **fields)
        answer = await self.answer()
        assert answer.request_id == request_id
        return answer

    async def ended(self) -> tuple[str, str]:
        """(gRPC code, reason) of a stream that must end by itself."""
        async with asyncio.timeout(STEP_SECONDS_MAX):
            return (await refused(self.call.read()))[:2]


def told(outcomes: Any) -> list[tuple[str, ...]]:
    """(state, filled) of each, or (reason, field)."""
    return [
        (outcome.refusal.reason, outcome.refusal.field)
        if outcome.HasField("refusal")
        else (pb.OrderState.Name(outcome.state).removeprefix("ORDER_STATE_"), outcome.filled_quantity)
        for outcome in outcomes
    ]


async def test_a_conversation(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await bob.place(limit("BUY", "30000.00", "0.3", "bid"))
    talk = Talk(alice)
    first = await talk.ask(
        7, limit("SELL", "30000.00", "1", "a"), limit("SELL", "1.001", "1", "b"), limit("BUY", "1.00", "1", "c", **IOC)
    )
    assert told(first.orders) == [("OPEN", "0.3"), ("INVALID_PRICE", "price"), ("CANCELED", "0")]
    result = first.orders[0]
    assert (result.client_order_id, result.filled_quote) == ("a", "9000")
    assert first.orders[2].cancel_cause == pb.CANCEL_CAUSE_IOC
    assert not result.HasField("order") and not result.executions
    full = await talk.ask(7, limit("SELL", "30000.00", "1", "a"), ack=FULL)
    assert full.orders[0].order == (await alice.get(client_order_id="a")).order
    assert [execution.quantity for execution in full.orders[0].executions] == ["0.3"]
    accepted = await talk.ask(2**64 - 1, limit("SELL", "30000.00", "2", "d"), ack=ACCEPTED)
    order_id = (await alice.get(client_order_id="d")).order.order_id
    assert list(accepted.orders) == [pb.TradeOutcome(order_id=order_id, client_order_id="d")]
    theirs = (await bob.place(limit("SELL", "40000.00", "0.1", "theirs"))).order
    mine, others = [{"client_order_id": "a"}, {"order_id": order_id}], [{"client_order_id": "gone"}, {}]
    cancels = [*mine, *others, {"client_order_id": "theirs"}, {"order_id": theirs.order_id}]
    both = await talk.ask(0, limit("SELL", "29000.00", "97.1", "e"), limit("SELL", "1.00", "97", "f"), cancels=cancels)
    # 0.7 and 2 are free again once the cancels are answered, and not before
    assert told(both.orders) == [("INSUFFICIENT_FUNDS", ""), ("OPEN", "0")]
    assert told(both.cancels) == [
        ("CANCELED", "0.3"), ("CANCELED", "0"), ("ORDER_NOT_FOUND", ""), ("INVALID_FIELD", "order_id"),
        ("ORDER_NOT_FOUND", ""), ("ORDER_NOT_FOUND", ""),
    ]  # fmt: skip
    assert both.cancels[0].cancel_cause == pb.CANCEL_CAUSE_USER
    await talk.call.done_writing()
    assert await talk.call.read() is grpc.aio.EOF and await talk.call.code() is grpc.StatusCode.OK
    answered = sum(len(answer.orders) for answer in (first, full, accepted, both))
    assert (answered, len((await alice.list()).orders)) == (7, 4)


async def test_all_that_orders_can_be_asked_on_one_stream_in_its_order(exchange: Exchange) -> None:
    alice, bob = exchange.user("alice"), exchange.user("bob")
    await bob.place(limit("BUY", "30000.00", "1", "bid"))
    talk = Talk(alice)
    for number in range(3):
        await talk.ask(number, *[limit("SELL", f"3100{number}.00", "0.1", f"s{number}-{n}") for n in range(100)])
    await talk.ask(3, limit("BUY", "20000.00", "1", "b"))
    take, stop = limit("SELL", "33000.00", "100", "take"), market("SELL", "100", "stop", **STOP)
    alone = pb.PlaceGroupRequest(exits=[limit("SELL", "1.00", "1")])
    request: dict[str, Any] = {
        "groups": [pb.PlaceGroupRequest(exits=[take, stop]), alone],
        "cancel_all": pb.CancelAllOrdersRequest(side=pb.SIDE_SELL),
        "replaces": [
            pb.ReplaceOrderRequest(client_order_id="b", price="21000.00", new_client_order_id="b2"),
            pb.ReplaceOrderRequest(client_order_id="s0-0", price="32000.00"),
        ],
    }
    answer = await talk.ask(4, limit("SELL", "40000.00", "70", "all"), cancels=[{"client_order_id": "s0-0"}], **request)
    assert (answer.cancel_all.canceled_count, len(answer.cancel_all.orders)) == (300, 300), "more than one command ends"
    assert told(answer.cancel_all.orders)[0] == ("CANCELED", "0")
    assert told(answer.cancels) == [("ORDER_ENDED", "")], "all were canceled first"
    assert told(answer.replaces) == [("OPEN", "0"), ("ORDER_ENDED", "")]
    assert answer.replaces[0].client_order_id == "b2"
    assert told(answer.orders) == [("OPEN", "0")], "what the cancels freed is not there yet"
    assert [item.refusal.reason for item in answer.groups] == ["INSUFFICIENT_FUNDS", "INVALID_GROUP"]
    assert told((await talk.ask(5, cancels=[{"client_order_id": "all"}])).cancels) == [("CANCELED", "0")]
    again = await talk.ask(5, groups=request["groups"][:1], ack=FULL)
    assert told(again.groups[0].orders) == [("OPEN", "0"), ("WAITING", "0")]
    assert [item.order.locked for item in again.groups[0].orders] == ["100", "0"]
    counted = await talk.ask(6, cancel_all=pb.CancelAllOrdersRequest(), ack=ACCEPTED)
    assert (counted.cancel_all.canceled_count, len(counted.cancel_all.orders)) == (3, 0)
    nowhere = await talk.ask(7, cancel_all=pb.CancelAllOrdersRequest(market="NO-SUCH"))
    assert nowhere.cancel_all.refusal.reason == "MARKET_NOT_FOUND"
    many = await talk.ask(8, groups=[pb.PlaceGroupRequest(exits=[pb.PlaceOrderRequest()] * 2)] * 251)
    assert (many.refusal.reason, many.refusal.field) == ("TOO_LARGE", "orders"), "each order of a group counts"
    left = Talk(alice)
    await left.ask(8, groups=request["groups"][:1], cancel_on_disconnect=True)
    left.call.cancel()
    await books.eventually(
        lambda: not exchange.gateway.ledger.open_orders(exchange.gateway.ledger.account_ids["alice"])
    )


WHOLE: list[tuple[dict[str, Any], tuple[str, str]]] = [
    # requests of which nothing is taken; the stream goes on
    ({}, ("INVALID_FIELD", "orders")),
    ({"cancels": [{"order_id": "1"}] * 501}, ("TOO_LARGE", "orders")),
    ({"cancels": [{"order_id": "1" * 1_000}] * 300}, ("TOO_LARGE", "orders")),
    ({"cancels": [{"order_id": "1"}], "ack": 9}, ("INVALID_FIELD", "ack")),
    ({"cancels": [{"order_id": "1"}] * 901}, ("TOO_LARGE", "")),
]


async def test_a_request_is_refused_as_a_whole(tmp_path: Path) -> None:
    async with gateways.exchange(tmp_path, limit_account_requests="1/900", limit_account_orders="1/5") as exchange:
        talk = Talk(exchange.user("alice"))
        for number, (fields, expected) in enumerate(WHOLE):
            answer = await talk.ask(number, **fields)
            assert (answer.refusal.reason, answer.refusal.field) == expected, fields
            assert not answer.orders and not answer.cancels
        some = [limit("SELL", "30000.00", "0.1") for _ in range(3)]
        assert told((await talk.ask(1, *some)).orders) == [("OPEN", "0")] * 3
        assert (await talk.ask(2, *some)).refusal.reason == "RATE_LIMITED"
        assert told((await talk.ask(3, *some[:2])).orders) == [("OPEN", "0")] * 2, "all of them, or none"


@pytest.mark.parametrize("user", ["", "fees"])
async def test_who_may_not_open_one(exchange: Exchange, user: str) -> None:
    client = exchange.user(user)
    client.metadata = client.metadata if user else ()
    code, _ = await Talk(client).ended()
    assert code in {"UNAUTHENTICATED", "PERMISSION_DENIED"}


async def test_streams_of_one_account_are_limited(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trading, "STREAMS_ACCOUNT_MAX", 2)
    alice, one = exchange.user("alice"), limit("SELL", "30000.00", "0.1")
    talks = [Talk(alice) for _ in range(2)]
    for talk in talks:
        assert told((await talk.ask(1, one)).orders) == [("OPEN", "0")]
    assert await Talk(alice).ended() == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    await talks[0].call.done_writing()
    assert await talks[0].call.read() is grpc.aio.EOF
    assert told((await Talk(alice).ask(1, one)).orders) == [("OPEN", "0")]


async def test_bytes_that_are_no_request_end_the_stream(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    async with rpc.connect(f"127.0.0.1:{exchange.gateway.port}") as channel:
        call: Any = channel.stream_stream("/clearbook.v1.OrderService/Trade")(metadata=alice.metadata)
        await call.write(b"\xff\xff")
        assert await refused(call.read()) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST", "")


async def test_what_a_broken_stream_left_open_is_sent_again(exchange: Exchange) -> None:
    alice = exchange.user("alice")
    requests = [
        [limit("SELL", f"3000{number}.00", "0.01", f"{number}-{item}") for item in range(40)] for number in range(8)
    ]
    broken = Talk(alice)
    for number, orders in enumerate(requests):
        await broken.say(number, *orders)
        if number == 3:
            await broken.answer()
    broken.call.cancel()
    talk = Talk(alice)
    for number, orders in enumerate(requests):
        await talk.say(number, *orders, ack=FULL)
    answers = [await talk.answer() for _ in requests]
    assert [answer.request_id for answer in answers] == list(range(8)), "in the order of the requests"
    placed = [outcome.order for answer in answers for outcome in answer.orders]
    ids = [order.order_id for order in placed]
    assert len(set(ids)) == 320 and all(order.state == pb.ORDER_STATE_OPEN for order in placed)
    assert sum(map(len, (exchange.gateway.ledger.open_by_account.values()))) == 320, "nothing twice"


async def test_orders_are_canceled_on_disconnect(exchange: Exchange) -> None:
    alice, ledger = exchange.user("alice"), exchange.gateway.ledger
    await alice.place(limit("SELL", "31000.00", "0.1", "unary"))
    talk, other = Talk(alice), Talk(alice)
    assert told((await other.ask(1, limit("SELL", "31000.00", "0.1", "other"))).orders) == [("OPEN", "0")]
    await talk.ask(1, limit("SELL", "31000.00", "0.1", "before"))
    await talk.ask(2, *(limit("SELL", "31000.00", "0.1") for _ in range(5)), cancel_on_disconnect=True)
    await talk.ask(3, limit("SELL", "31000.00", "0.1", "mine"))
    await talk.say(4, *(limit("SELL", "31000.00", "0.1") for _ in range(300)))
    talk.call.cancel()
    account_id = ledger.account_ids["alice"]
    await books.eventually(lambda: len(ledger.open_orders(account_id)) <= 3)
    left = [order.client_order_id for order in (await alice.list(open_only=True)).orders]
    assert left == ["before", "other", "unary"]
    assert told((await other.ask(2, limit("SELL", "31000.00", "0.1"))).orders) == [("OPEN", "0")], "it goes on"


async def test_a_closing_server_ends_streams_and_cancels_what_they_leave(tmp_path: Path) -> None:
    async with books.running(books.settings(f"sqlite:///{tmp_path}/book.sqlite")) as book, AsyncExitStack() as clients:
        await gateways.Depositor(book.port).fund(**gateways.DEPOSITS)
        given = gateways.settings(f"sqlite:///{tmp_path}/gateway.sqlite", book.port)
        async with gateways.running(given) as gateway:
            alice = (await clients.enter_async_context(gateways.clients(gateway.port)))("alice")
            await alice.place(limit("SELL", "31000.00", "0.1", "stays"))
            talk = Talk(alice)
            await talk.ask(1, *(limit("SELL", "31000.00", "0.1") for _ in range(3)), cancel_on_disconnect=True)
        assert await talk.ended() == ("UNAVAILABLE", "CLOSING")
        left = [order.client_order_id for order in gateway.ledger.open.values()]
        assert left == ["stays"]
