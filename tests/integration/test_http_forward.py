"""The shim's one stream to the gateway, against a gateway that is scripted: broken streams, silence, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from clearbook.internal.v1 import forward_service_pb2 as wire
from clearbook.internal.v1 import forward_service_pb2_grpc as services

from gateway_http import feeds, forward
from gateway_http.feeds import Subscriber
from gateway_http.forward import Forward
from services.errors import Reason, Rejected
from services.runtime import rpc
from services.runtime.run import Closing
from services.runtime.status import status_of
from tests.suite import free_ports

Answer = Callable[[wire.ForwardRequest], wire.ForwardResponse | None]


def echo(item: wire.ForwardRequest) -> wire.ForwardResponse:
    return wire.ForwardResponse(id=item.id, response=item.request)


class Gateway(services.ForwardServiceServicer):
    """Answers as told; None: says nothing. Streams are another test's."""

    def ForwardStream(
        self, request: wire.ForwardStreamRequest, context: Any
    ) -> AsyncIterator[wire.ForwardStreamResponse]:
        raise AssertionError(f"nobody asks for {request.request.method} here: {context.peer()}")

    def __init__(self, answer: Answer) -> None:
        self.answer, self.taken = answer, asyncio.Queue[wire.ForwardRequest]()
        self.messages: list[int] = []
        """How many items each had."""

    async def Forward(self, request_iterator: Any, context: Any) -> AsyncIterator[wire.ForwardResponse]:  # noqa: ARG002
        async for message in request_iterator:
            self.messages.append(1 + len(message.more))
            together = wire.ForwardResponse()
            for item in (message, *message.more):
                self.taken.put_nowait(item)
                if (answer := self.answer(item)) is not None:
                    together.more.append(answer)
            if together.more:
                yield together


@asynccontextmanager
async def gateway(port: int, answer: Answer) -> AsyncIterator[Gateway]:
    server, servicer = rpc.Server(f"127.0.0.1:{port}"), Gateway(answer)
    server.add(services.add_ForwardServiceServicer_to_server, servicer, "clearbook.internal.v1.ForwardService")
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(0)


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Forward]:
    made, closing = Forward(f"127.0.0.1:{port}"), Closing()
    running = asyncio.create_task(made.run(closing))
    try:
        async with asyncio.timeout(30):
            yield made
    finally:
        closing.set()
        await running


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


async def test_answers_find_their_askers_in_any_order(port: int) -> None:
    held: list[wire.ForwardRequest] = []

    def last_first(item: wire.ForwardRequest) -> wire.ForwardResponse | None:
        held.append(item)
        return None

    async with gateway(port, last_first) as server, client(port) as shim:
        calls = [asyncio.create_task(shim.call("/m", b"%d" % n, {"k": "v"}, "peer")) for n in range(3)]
        taken = [await server.taken.get() for _ in calls]
        assert [(item.method, dict(item.metadata), item.peer) for item in taken] == [("/m", {"k": "v"}, "peer")] * 3
        server.answer = echo
        calls += [asyncio.create_task(shim.call("/m", b"3", {}, ""))]
        assert await calls[3] == b"3"
        assert not any(call.done() for call in calls[:3])
        for call in calls[:3]:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_what_waits_goes_together_and_one_alone_at_once(port: int) -> None:
    async with client(port) as shim:
        calls = [asyncio.create_task(shim.call("/m", b"%d" % n, {}, "", brief=n == 1)) for n in range(3)]
        await asyncio.sleep(0)
        async with gateway(port, echo) as server:
            assert await asyncio.gather(*calls) == [b"0", b"1", b"2"]
            taken = [server.taken.get_nowait() for _ in calls]
            assert [(item.id, item.brief) for item in taken] == [(1, False), (2, True), (3, False)]
            assert await shim.call("/m", b"alone", {}, "") == b"alone"
            assert server.messages == [3, 1]


async def test_what_was_on_its_way_is_sent_again(port: int) -> None:
    async with client(port) as shim:
        async with gateway(port, lambda _: None) as server:
            call = asyncio.create_task(shim.call("/m", b"order", {}, ""))
            first = await server.taken.get()
        assert not call.done()
        async with gateway(port, echo) as server:
            assert await call == b"order"
            assert await server.taken.get() == first


async def test_what_waited_for_a_gateway_is_sent_once_there_is_one(port: int) -> None:
    async with client(port) as shim:
        call = asyncio.create_task(shim.call("/m", b"order", {}, ""))
        await asyncio.sleep(0.2)
        async with gateway(port, echo):
            assert await call == b"order"


async def test_refusals_come_back_whole(port: int) -> None:
    refusal = Rejected(Reason.INVALID_PRICE, "not on the grid", "price")

    def refuse(item: wire.ForwardRequest) -> wire.ForwardResponse:
        return wire.ForwardResponse(id=item.id, status=status_of(refusal).SerializeToString())

    async with gateway(port, refuse), client(port) as shim:
        with pytest.raises(Rejected) as caught:
            await shim.call("/m", b"", {}, "")
    assert (caught.value.reason, caught.value.message, caught.value.field) == (
        Reason.INVALID_PRICE,
        "not on the grid",
        "price",
    )


async def test_not_sent_and_not_answered_are_told_apart(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "SEND_SECONDS_MAX", 0.3)
    monkeypatch.setattr(forward, "ANSWER_SECONDS_MAX", 0.6)
    async with client(port) as shim:
        with pytest.raises(Rejected) as caught:
            await shim.call("/m", b"", {}, "")
        assert caught.value.reason is Reason.UNAVAILABLE
        monkeypatch.setattr(forward, "SEND_SECONDS_MAX", 20.0)
        async with gateway(port, lambda _: None) as server:
            with pytest.raises(Rejected) as caught:
                await shim.call("/m", b"", {}, "")
            assert caught.value.reason is Reason.DEADLINE
            assert server.taken.qsize() == 1


async def test_no_more_than_the_limit_wait(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "OPEN_ITEMS_MAX", 2)
    async with gateway(port, lambda _: None) as server, client(port) as shim:
        waiting = [asyncio.create_task(shim.call("/m", b"", {}, "")) for _ in range(2)]
        await server.taken.get()
        with pytest.raises(Rejected) as caught:
            await shim.call("/m", b"", {}, "")
        assert caught.value.reason is Reason.OVERLOADED
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        server.answer = echo
        assert await shim.call("/m", b"again", {}, "") == b"again"


async def test_a_subscriber_gets_every_frame_or_the_newest() -> None:
    reader = Subscriber()
    for number in range(feeds.FRAMES_WAITING_MAX):
        reader.put(str(number))
    assert [await reader.next() for _ in range(3)] == ["0", "1", "2"]
    for number in range(100, 100 + feeds.FRAMES_WAITING_MAX):
        reader.put(str(number))
    found = [await reader.next()]
    assert int(found[0]) >= 100, "it fell too far behind and skips"
    while reader._frames:
        found.append(await reader.next())
    assert found[-1] == str(99 + feeds.FRAMES_WAITING_MAX)
    assert found == sorted(found, key=int)
