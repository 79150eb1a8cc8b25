"""A socket's private side against a scripted gateway: what it is sent, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from clearbook.internal.v1 import forward_service_pb2 as wire
from clearbook.internal.v1 import forward_service_pb2_grpc as services
from clearbook.v1 import account_service_pb2 as accounts
from clearbook.v1 import order_service_pb2 as orders

from gateway_http import feeds, stream
from gateway_http import forward as forward_module
from gateway_http.account_messages import STREAM_ACCOUNT
from gateway_http.channels import PRIVATE_SUBSCRIPTIONS_MAX, Channels
from gateway_http.feeds import Subscriber
from gateway_http.forward import Forward
from gateway_http.lasting import Begun, has_begun
from gateway_http.limits import Limits, LimitSettings
from gateway_http.private import GET_SESSION, Private, request_in
from gateway_http.turns import Turns
from gateway_http.watch import MarketData
from services.errors import Reason, Rejected
from services.runtime import rpc
from tests.suite import free_ports

WHO = accounts.GetSessionResponse(user="alice", key_id="k1", scopes=[accounts.SCOPE_READ])
SNAPSHOT = accounts.StreamAccountResponse(
    snapshot=True, index=7, account_id="1001", balances=[accounts.Balance(asset="BTC", total="0.10")]
)
CHANGE = accounts.StreamAccountResponse(index=9, orders=[orders.Order(order_id="5", price="30000.00")])
HEARTBEAT = accounts.StreamAccountResponse(index=8)
LOGON = {"apiKey": "k1", "timestamp": 1, "signature": "ab"}

Said = accounts.StreamAccountResponse | Rejected | None
"""A message, an end, or silence."""


class Gateway(services.ForwardServiceServicer):
    """Takes every logon. `script`: what each account stream says in turn; `session_ends`: why sessions end."""

    def __init__(self) -> None:
        self.script: list[list[Said]] = []
        self.session_ends: asyncio.Queue[Rejected] = asyncio.Queue()
        self.asked: list[wire.ForwardRequest] = []
        self.open = 0

    async def Forward(self, request_iterator: Any, context: Any) -> AsyncIterator[wire.ForwardResponse]:  # noqa: ARG002
        async for item in request_iterator:
            raise AssertionError(f"a unary call: {item}")
        yield wire.ForwardResponse()

    async def ForwardStream(
        self,
        request: wire.ForwardStreamRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[wire.ForwardStreamResponse]:
        item = request.request
        self.asked.append(item)
        self.open += 1
        try:
            if item.method == GET_SESSION:
                yield wire.ForwardStreamResponse(response=WHO.SerializeToString(), session="s1")
                raise await self.session_ends.get()
            for said in self.script.pop(0):
                if isinstance(said, Rejected):
                    raise said
                if said is None:
                    await asyncio.Event().wait()
                else:
                    yield wire.ForwardStreamResponse(response=said.SerializeToString())
        finally:
            self.open -= 1


class Socket:
    """A private side and what it says."""

    def __init__(self, private: Private, out: Subscriber) -> None:
        self.private, self._out = private, out

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        request = request_in(json.dumps({"id": "x", "method": method, "params": params}))
        assert request is not None
        await self.private.answer(request)
        return await self.next()

    async def next(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self._out.next())
        return found


@asynccontextmanager
async def shim(gateway: Gateway, **options: Any) -> AsyncIterator[Socket]:
    (port,) = free_ports(1)
    server = rpc.Server(f"127.0.0.1:{port}", **options)
    server.add(services.add_ForwardServiceServicer_to_server, gateway, "clearbook.internal.v1.ForwardService")
    await server.start()
    forward, out = Forward(f"127.0.0.1:{port}"), Subscriber()
    channels = Channels(lambda: rpc.connect(f"127.0.0.1:{port}"), 1)
    market_data = MarketData(channels, Limits(LimitSettings()), Turns())
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            private = Private(forward, market_data, "192.0.2.1", out, group)
            yield Socket(private, out)
            private.close()
    finally:
        await forward.close()
        await market_data.channels.close()
        await server.stop(0)


async def test_the_account_is_sent_with_the_names_of_the_proto() -> None:
    gateway = Gateway()
    gateway.script = [[SNAPSHOT, HEARTBEAT, CHANGE, None]]
    async with shim(gateway) as socket:
        assert (await socket.ask("session.logon", **LOGON))["status"] == 200
        answer = await socket.ask("subscribe", channels=["account"])
        assert answer == {"id": "x", "status": 200, "result": {"channels": ["account"]}}
        assert await socket.next() == {"type": "account_update", "data": {
            "snapshot": True, "index": "7", "account_id": "1001", "balances": [{"asset": "BTC", "total": "0.10"}],
        }}  # fmt: skip
        assert await socket.next() == {"type": "account_update", "data": {
            "index": "9", "orders": [{"order_id": "5", "price": "30000.00"}],
        }}, "a heartbeat is not told"  # fmt: skip
        logon, stream = gateway.asked
        assert (logon.signed.key_id, logon.signed.payload, logon.signed.signature) == (
            "k1", b"apiKey=k1&timestamp=1", "ab",
        )  # fmt: skip
        assert (stream.method, dict(stream.metadata), stream.peer) == (
            STREAM_ACCOUNT, {"x-clearbook-session": "s1"}, "192.0.2.1",
        )  # fmt: skip


async def test_who_reads_too_slowly_gets_the_state_anew() -> None:
    gateway = Gateway()
    gateway.script = [[SNAPSHOT, Rejected(Reason.LAGGED)], [SNAPSHOT, CHANGE, None]]
    async with shim(gateway) as socket:
        await socket.ask("session.logon", **LOGON)
        await socket.ask("subscribe", channels=["account"])
        kinds = [sorted((await socket.next())["data"]) for _ in range(3)]
        assert kinds == [sorted(("snapshot", "index", "account_id", "balances"))] * 2 + [["index", "orders"]]
        assert not socket.private.ended.done()


async def test_executions_are_told_to_who_reads_too_slowly_too() -> None:
    def fill(index: int) -> accounts.StreamAccountResponse:
        return accounts.StreamAccountResponse(index=index, executions=[orders.Execution(trade_id=index)])

    lagged = accounts.StreamAccountResponse(snapshot=True, lagged=True, index=5_000)
    gateway = Gateway()
    gateway.script = [[SNAPSHOT, fill(9), lagged], [fill(11), None]]
    async with shim(gateway) as socket:
        await socket.ask("session.logon", **LOGON)
        await socket.ask("subscribe", subscriptions=[{"id": 1, "channel": "executions"}])
        told = [(await socket.next())["data"].get("index") for _ in range(3)]
        assert told == ["7", "9", "11"]
        again = accounts.StreamAccountRequest.FromString(gateway.asked[-1].request)
        assert again.after_index == 9


UNREADABLE: list[bytes] = [
    b'{"id":"\xff","method":"session.status"}',
    b'{"method":"session.logon","params":{"token":"\xff"}}',
    b'{"method":"session.logon","params":{"user_id":"\xff"}}',
    b'{"method":"session.logon","params":{"apiKey":"\xff","timestamp":1,"signature":"\xfe"}}',
    b'{"method":"subscribe","params":{"channels":["\xff"]}}',
    b'{"method":"subscribe","params":{"subscriptions":"\xff"}}',
    b'{"method":"subscribe","params":{"subscriptions":[{"id":1,"channel":"\xff"}]}}',
    b'{"method":"subscribe","params":{"subscriptions":[{"id":1,"channel":"book","depth":"\xff"}]}}',
    b'{"method":"subscribe","params":{"subscriptions":[{"id":' + b"1" * 5_000 + b"}]}}",
    *(
        b'{"method":"subscribe","params":{"subscriptions":[{"id":1,"channel":%s%s}]}}' % (b"[" * depth, b"]" * depth)
        for depth in range(900, 1_000, 3)
    ),
]


async def test_a_message_that_cannot_be_read_ends_nothing() -> None:
    async with shim(Gateway()) as socket:
        for text in UNREADABLE:
            request = request_in(text)
            if request is not None:
                await socket.private.answer(request)
                assert (await socket.next())["id"] is None
        assert (await socket.ask("session.status"))["status"] == 200


async def test_a_bug_is_an_answer_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with shim(Gateway()) as socket:

        async def bug(_params: Any) -> dict[str, Any]:
            raise KeyError("a bug")

        monkeypatch.setitem(socket.private._methods, "session.status", bug)
        assert (await socket.ask("session.status"))["error"]["code"] == "INTERNAL"
        assert (await socket.ask("session.logon", **LOGON))["status"] == 200


async def test_many_subscriptions_of_accounts_have_one_deadline_and_no_more_begin_than_can_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with shim(Gateway()) as socket:
        await socket.ask("session.logon", **LOGON)
        deadlines = []

        async def begin(_name: Any, _work: Any, deadline: float) -> None:
            deadlines.append(deadline)
            raise Rejected(Reason.UNAVAILABLE)

        monkeypatch.setattr(socket.private._lasting, "begin", begin)
        items = [{"id": number, "channel": "orders"} for number in range(1, 9)]
        answer = await socket.ask("subscribe", subscriptions=items)
        reasons = [each["reason"] for each in answer["result"]["subscriptions"]]
        assert reasons == ["UNAVAILABLE"] * PRIVATE_SUBSCRIPTIONS_MAX + ["OVERLOADED"] * 4
        assert (len(deadlines), len(set(deadlines))) == (PRIVATE_SUBSCRIPTIONS_MAX, 1)


@pytest.mark.parametrize("reason", [Reason.UNAUTHENTICATED, Reason.CLOSING])
async def test_a_session_that_ends(reason: Reason) -> None:
    gateway = Gateway()
    async with shim(gateway) as socket:
        await socket.ask("session.logon", **LOGON)
        gateway.session_ends.put_nowait(Rejected(reason))
        assert (await socket.private.ended).reason is reason


async def test_an_account_that_cannot_be_streamed_any_more_ends_the_socket() -> None:
    gateway = Gateway()
    gateway.script = [[SNAPSHOT]]
    async with shim(gateway) as socket:
        await socket.ask("session.logon", **LOGON)
        await socket.ask("subscribe", channels=["account"])
        assert (await socket.private.ended).reason is Reason.UNAVAILABLE


async def test_a_subscription_that_is_refused_changes_nothing() -> None:
    gateway = Gateway()
    gateway.script = [[Rejected(Reason.OVERLOADED)], [SNAPSHOT, None]]
    async with shim(gateway) as socket:
        assert (await socket.ask("subscribe", channels=["account"]))["error"]["code"] == "UNAUTHENTICATED"
        await socket.ask("session.logon", **LOGON)
        assert (await socket.ask("subscribe", channels=["account"]))["status"] == 429
        for channels in (["orders"], [], "account", ["account", "account"], None):
            assert (await socket.ask("subscribe", channels=channels))["error"]["field"] == "channels"
        assert (await socket.ask("subscribe", channels=["account"]))["status"] == 200


async def test_what_ends_here_ends_at_the_gateway() -> None:
    gateway = Gateway()
    gateway.script = [[SNAPSHOT, None], [SNAPSHOT, None]]

    async def left(count: int) -> None:
        while gateway.open != count:
            await asyncio.sleep(0.01)

    async with shim(gateway) as socket:
        await socket.ask("session.logon", **LOGON)
        await socket.ask("subscribe", channels=["account"])
        await socket.next()
        assert gateway.open == 2
        assert (await socket.ask("unsubscribe", channels=["account"]))["result"] == {"channels": []}
        await left(1)
        await socket.ask("subscribe", channels=["account"])
        await socket.ask("session.logout")
        await left(0)
        assert not socket.private.ended.done(), "the client's own end is none to be told of"


async def test_all_sockets_streams_are_carried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_module, "Channels", partial(Channels, count=2))
    gateway = Gateway()
    gateway.script = [[SNAPSHOT, None] for _ in range(4)]
    async with shim(gateway, concurrent_streams_max=2) as socket:
        forward = socket.private._forward
        streams = [forward.stream(STREAM_ACCOUNT, b"", {}, "") for _ in range(4)]
        async with asyncio.timeout(10):
            firsts = [await anext(stream) for stream in streams]
        assert [first.response for first in firsts] == [SNAPSHOT.SerializeToString()] * 4
        for stream in streams:
            await stream.aclose()


async def test_what_comes_when_nobody_waits_any_more_harms_nobody() -> None:
    gateway = Gateway()
    async with shim(gateway) as socket:
        private = socket.private

        async def late(begun: Begun) -> None:
            begun.cancel()
            has_begun(begun, wire.ForwardStreamResponse())
            raise Rejected(Reason.UNAVAILABLE)

        with pytest.raises(asyncio.CancelledError):
            await private._lasting.begin("late", late)
        await asyncio.sleep(0)
        assert not private.ended.done()
        assert (await socket.ask("session.logon", **LOGON))["status"] == 200


async def test_what_is_for_a_socket_alone_waits_for_room_and_goes_first() -> None:
    out = Subscriber()
    for number in range(feeds.FRAMES_WAITING_MAX):
        await out.say(f"word {number}")
    out.put("frame")
    more = asyncio.create_task(out.say("one more"))
    await asyncio.sleep(0)
    assert not more.done()
    assert await out.next() == "word 0"
    await more
    told = [await out.next() for _ in range(feeds.FRAMES_WAITING_MAX + 1)]
    assert told == [f"word {number}" for number in range(1, feeds.FRAMES_WAITING_MAX)] + ["one more", "frame"]


async def test_no_frame_of_the_book_follows_the_end_of_its_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    class Feed:
        subscribers: ClassVar[dict[float, set[Subscriber]]] = {0.0: set()}
        live = True

        async def feed(self, _pair: str) -> Feed:
            return self

        async def current(self) -> None: ...

        def frame(self) -> str:
            return "frame"

    told = []

    async def until_gone(_socket: Any, _state: Any, subscriber: Subscriber, show: stream.Show) -> None:
        show(False)
        for word in ("ended", "begun"):
            await subscriber.say(word)
            told.append(await subscriber.next())
            if word == "ended":
                assert not subscriber._frames
                show(True)
        told.append(await subscriber.next())

    monkeypatch.setattr(stream, "_until_gone", until_gone)
    socket: Any = SimpleNamespace(scope={})
    state: Any = SimpleNamespace(feeds=Feed())
    await stream._serve(socket, state, "", 0.0, patient=True)
    assert told == ["ended", "begun", "frame"]


async def test_what_waits_for_a_socket_is_bounded_by_its_length_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "WORDS_CHARS_WAITING_MAX", 10)
    out = Subscriber()
    await out.say("x" * 50)
    more = asyncio.create_task(out.say("y"))
    await asyncio.sleep(0)
    assert not more.done()
    assert await out.next() == "x" * 50
    await more
    assert await out.next() == "y"


class Heard:
    """A socket's other end."""

    def __init__(self) -> None:
        self.words: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None

    async def send_text(self, text: str) -> None:
        self.words.append(json.loads(text))

    async def close(self, code: int, reason: str) -> None:
        self.closed = code, reason


async def test_who_may_come_again_is_told_when() -> None:
    socket: Any = Heard()
    await stream._end(socket, Rejected(Reason.OVERLOADED, "200 sockets are open from this address already"), 1008)
    (last,) = socket.words
    assert (last["type"], last["error"]["code"], last["error"]["retry_after"]) == ("closing", "OVERLOADED", 1)
    assert socket.closed == (1008, "200 sockets are open from this address already")
