"""A socket's subscriptions against a scripted BookService: what is told in which order, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from clearbook.v1 import book_service_pb2 as pb

from gateway_http import watch
from gateway_http.channels import Channels
from gateway_http.closing import POLICY, TOO_SLOW
from gateway_http.feeds import FRAMES_WAITING_MAX, Subscriber
from gateway_http.forward import Forward
from gateway_http.limits import L3_WEIGHT, Limits, LimitSettings
from gateway_http.private import LOGONS_FAILED_MAX, Private, request_in
from gateway_http.stream import CODES
from gateway_http.turns import Turns
from gateway_http.watch import MarketData
from services.errors import Reason, Rejected
from services.runtime import rpc
from tests.suite import free_ports

SERVICE = "clearbook.v1.BookService"
ACCEPTED = pb.SubscriptionAcknowledgement(state=pb.SUBSCRIPTION_STATE_ACCEPTED)
ENDED = pb.SubscriptionAcknowledgement(state=pb.SUBSCRIPTION_STATE_ENDED)
NO_MARKET = pb.SubscriptionAcknowledgement(
    state=pb.SUBSCRIPTION_STATE_REFUSED, reason="MARKET_NOT_FOUND", message="no such market: X", field="market"
)
BOOK = {"id": 1, "channel": "book", "market": "BTC-USD"}
TRADES = {"id": 2, "channel": "trades", "market": "X"}


class BookService:
    """Acknowledges as the market says, and tells what it is given to tell."""

    def __init__(self) -> None:
        self.asked: list[pb.StreamMarketDataRequest] = []
        self.tells: asyncio.Queue[pb.StreamMarketDataResponse | Rejected] = asyncio.Queue()
        self.first: Callable[[int], list[pb.StreamMarketDataResponse]] = lambda _: []
        """What a subscription is told at once."""
        self.answers = True
        self.open = 0

    async def StreamMarketData(self, requests: Any, _context: Any) -> AsyncIterator[pb.StreamMarketDataResponse]:
        self.open += 1
        reading = asyncio.create_task(self._read(requests))
        try:
            while True:
                told = await self.tells.get()
                if isinstance(told, Rejected):
                    raise told
                yield told
        finally:
            self.open -= 1
            reading.cancel()

    async def _read(self, requests: Any) -> None:
        async for request in requests:
            self.asked.append(request)
            if not self.answers:
                continue
            for number in request.unsubscribe:
                self.tells.put_nowait(pb.StreamMarketDataResponse(id=number, acknowledgement=ENDED))
            for item in request.subscribe:
                told = NO_MARKET if item.trades.market == "X" else ACCEPTED
                self.tells.put_nowait(pb.StreamMarketDataResponse(id=item.id, acknowledgement=told))
            for item in request.subscribe:
                for message in self.first(item.id):
                    self.tells.put_nowait(message)


def add_to_server(service: BookService, server: Any) -> None:
    """Of the service's methods, only the one."""
    handler: Any = grpc.stream_stream_rpc_method_handler(
        service.StreamMarketData,
        pb.StreamMarketDataRequest.FromString,
        pb.StreamMarketDataResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"StreamMarketData": handler}),))


def delta(subscription: int, sequence: int) -> pb.StreamMarketDataResponse:
    change = pb.BookDelta(sequence=sequence, previous_sequence=sequence - 1)
    return pb.StreamMarketDataResponse(id=subscription, order_book=pb.StreamOrderBookResponse(delta=change))


class Socket:
    """A socket without its network."""

    def __init__(self, private: Private, out: Subscriber, shown: list[bool]) -> None:
        self.private, self.out, self.shown = private, out, shown

    async def ask(self, method: str, **params: Any) -> None:
        request = request_in(json.dumps({"id": "x", "method": method, "params": params}))
        assert request is not None
        await self.private.answer(request)

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            found: dict[str, Any] = json.loads(await self.out.next())
        return found

    async def answer(self, method: str, **params: Any) -> dict[str, Any]:
        await self.ask(method, **params)
        return await self.next()


@asynccontextmanager
async def shim(service: BookService, limits: Limits | None = None) -> AsyncIterator[Socket]:
    (port,) = free_ports(1)
    server = rpc.Server(f"127.0.0.1:{port}")
    server.add(add_to_server, service, SERVICE)
    await server.start()
    address = f"127.0.0.1:{port}"
    forward, out, shown = Forward(address), Subscriber(), list[bool]()
    channels = Channels(lambda: rpc.connect(address), 1)
    market_data = MarketData(channels, limits or Limits(LimitSettings()), Turns())
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            private = Private(forward, market_data, "192.0.2.1", out, group, shown.append)
            yield Socket(private, out, shown)
            private.close()
    finally:
        await market_data.channels.close()
        await forward.close()
        await server.stop(0)


async def test_each_item_is_answered_and_what_follows_comes_after_the_answer() -> None:
    service = BookService()
    service.first = lambda number: [delta(number, 8)] if number != 2 else []
    async with shim(service) as socket:
        answer = await socket.answer("subscribe", subscriptions=[BOOK, TRADES], heartbeat_milliseconds=250)
        assert answer == {"id": "x", "status": 200, "result": {"subscriptions": [
            {"id": 1, "state": "SUBSCRIPTION_STATE_ACCEPTED"},
            {"id": 2, "state": "SUBSCRIPTION_STATE_REFUSED", "reason": "MARKET_NOT_FOUND",
             "message": "no such market: X", "field": "market"},
        ]}}  # fmt: skip
        assert service.asked[0].heartbeat_milliseconds == 250
        assert await socket.next() == {
            "type": "book", "id": 1, "data": {"delta": {"sequence": "8", "previous_sequence": "7"}},
        }  # fmt: skip
        more = await socket.answer("subscribe", subscriptions=[BOOK | {"id": 3}])
        assert [each["id"] for each in more["result"]["subscriptions"]] == [3]
        assert (await socket.next())["id"] == 3
        assert service.open == 1, "one call for all"


async def test_messages_between_are_told_while_an_answer_is_awaited() -> None:
    service = BookService()
    async with shim(service) as socket:
        await socket.answer("subscribe", subscriptions=[BOOK])
        sequences = [str(sequence) for sequence in range(1, FRAMES_WAITING_MAX + 10)]
        for sequence in sequences:
            service.tells.put_nowait(delta(1, int(sequence)))
        asking = asyncio.create_task(socket.ask("unsubscribe", subscriptions=[1, 9]))
        assert [(await socket.next())["data"]["delta"]["sequence"] for _ in sequences] == sequences
        answer = await socket.next()
        assert [each["state"] for each in answer["result"]["subscriptions"]] == ["SUBSCRIPTION_STATE_ENDED"] * 2
        await asking


async def test_the_call_ends_with_the_last_subscription_and_begins_with_the_next() -> None:
    service = BookService()

    async def left(count: int) -> None:
        while service.open != count:
            await asyncio.sleep(0.01)

    async with shim(service) as socket:
        for _ in range(2):
            await socket.answer("subscribe", subscriptions=[BOOK])
            await left(1)
            await socket.answer("unsubscribe", subscriptions=[1])
            await left(0)
        assert not socket.private.ended.done()
        await socket.answer("subscribe", subscriptions=[TRADES])
        await left(0)


@pytest.mark.parametrize("reason", [Reason.LAGGED, Reason.UNAVAILABLE, Reason.CLOSING])
async def test_what_ends_market_data_ends_the_socket(reason: Reason) -> None:
    service = BookService()
    async with shim(service) as socket:
        await socket.answer("subscribe", subscriptions=[BOOK])
        service.tells.put_nowait(Rejected(reason))
        assert (await socket.private.ended).reason is reason
    assert CODES.get(Reason.LAGGED) == TOO_SLOW


async def test_a_request_that_is_refused_whole_changes_nothing_where_nothing_is_subscribed() -> None:
    service = BookService()
    service.answers = False
    async with shim(service) as socket:
        service.tells.put_nowait(Rejected(Reason.INVALID_FIELD, "heartbeat", "heartbeat_milliseconds"))
        answer = await socket.answer("subscribe", subscriptions=[BOOK], heartbeat_milliseconds=1)
        assert (answer["status"], answer["error"]["field"]) == (422, "heartbeat_milliseconds")
        assert not socket.private.ended.done()
        service.answers = True
        assert (await socket.answer("subscribe", subscriptions=[BOOK]))["status"] == 200


async def test_who_is_not_answered_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "ANSWER_SECONDS_MAX", 0.2)
    service = BookService()
    service.answers = False
    async with shim(service) as socket:
        assert (await socket.answer("subscribe", subscriptions=[BOOK]))["error"]["code"] == "UNAVAILABLE"


async def test_accounts_are_for_those_who_are_logged_on() -> None:
    async with shim(BookService()) as socket:
        items = [{"id": 4, "channel": "orders"}, {"id": 5, "channel": "wrong"}]
        answer = await socket.answer("subscribe", subscriptions=items)
        told = answer["result"]["subscriptions"]
        assert [(each["id"], each["reason"]) for each in told] == [(4, "UNAUTHENTICATED"), (5, "INVALID_FIELD")]


async def test_the_documented_channel_can_be_ended_and_begun_again() -> None:
    async with shim(BookService()) as socket:
        for method, channels in (("unsubscribe", []), ("subscribe", ["orderbook_update"])):
            answer = await socket.answer(method, channels=["orderbook_update"])
            assert answer["result"] == {"channels": channels}
        assert socket.shown == [False, True]


async def test_logons_that_fail_for_no_fault_of_who_tries_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    async with shim(BookService()) as socket:

        async def stream(*_: Any) -> AsyncIterator[None]:
            for refused in [Rejected(Reason.UNAVAILABLE)]:
                raise refused
            yield

        monkeypatch.setattr(socket.private._forward, "stream", stream)
        for _ in range(LOGONS_FAILED_MAX + 1):
            assert (await socket.answer("session.logon", token="good"))["status"] == 503
        assert not socket.private.ended.done()


async def test_who_fails_to_log_on_too_often_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with shim(BookService()) as socket:

        async def stream(*_: Any) -> AsyncIterator[None]:
            for refused in [Rejected(Reason.UNAUTHENTICATED)]:
                raise refused
            yield

        monkeypatch.setattr(socket.private._forward, "stream", stream)
        for _ in range(LOGONS_FAILED_MAX):
            assert not socket.private.ended.done()
            assert (await socket.answer("session.logon", token="wrong"))["status"] == 401
        assert CODES[(await socket.private.ended).reason] == POLICY


async def test_an_address_has_some_of_the_watches_and_others_the_rest() -> None:
    limits = Limits(LimitSettings(limit_ip_watches=1))
    async with shim(BookService(), limits) as socket:
        with limits.watches.one("192.0.2.1"):
            answer = await socket.answer("subscribe", subscriptions=[BOOK])
            assert (answer["status"], answer["error"]["code"]) == (429, "OVERLOADED")
            assert "from this address" in answer["error"]["message"]
            with limits.watches.one("192.0.2.2"):
                pass
        answer = await socket.answer("subscribe", subscriptions=[BOOK])
        assert answer["result"]["subscriptions"] == [{"id": 1, "state": "SUBSCRIPTION_STATE_ACCEPTED"}]
        with pytest.raises(Rejected), limits.watches.one("192.0.2.1"):
            pass
        await socket.answer("unsubscribe", subscriptions=[1])
    with limits.watches.one("192.0.2.1"):
        pass


async def test_a_book_of_orders_counts_as_many_messages() -> None:
    limits = Limits(LimitSettings(limit_ip_messages=f"1/{2 * L3_WEIGHT}"), clock=lambda: 0)
    orders = BOOK | {"detail": "l3"}
    async with shim(BookService(), limits) as socket:
        asked = [orders | {"id": number} for number in (1, 2, 3)]
        answer = await socket.answer("subscribe", subscriptions=[*asked, BOOK | {"id": 4}])
        states = [each["state"] for each in answer["result"]["subscriptions"]]
        accepted, refused = "SUBSCRIPTION_STATE_ACCEPTED", "SUBSCRIPTION_STATE_REFUSED"
        assert states == [accepted, accepted, refused, accepted]
        assert answer["result"]["subscriptions"][2]["reason"] == "RATE_LIMITED"
