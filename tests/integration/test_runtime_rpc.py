"""Real servers and channels on loopback."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

import grpc
import pytest
import structlog
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]

from services.errors import Reason, Rejected
from services.runtime import db, log, rpc, streams
from services.runtime.run import Closing, StartError
from tests.narrow import narrow

SERVICE = "test.Echo"
SEEN: list[str] = []

CROWD = 100


class Echo:
    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.released = asyncio.Event()

    async def say(self, request: StringValue, context: Any) -> StringValue:
        match request.value:
            case "refuse":
                raise Rejected(Reason.INSUFFICIENT_FUNDS, "not enough USD", "quantity")
            case "bug":
                raise KeyError("the secret of the bug")
            case "database":
                raise db.Unavailable("disk full at /some/path")
            case "abort":
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
            case "wait":
                try:
                    await self.released.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
            case name if name in Reason.__members__:
                context.set_trailing_metadata((("retry-after", "7"),) if name == "RATE_LIMITED" else ())
                raise Rejected(Reason[name])
            case "id":
                return StringValue(value=log.request_id.get())
        return StringValue(value=request.value)

    async def count(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        try:
            for i in range(3):
                yield StringValue(value=str(i))
            if request.value == "refuse":
                raise Rejected(Reason.INSUFFICIENT_FUNDS, "enough")
            if request.value == "endless":
                await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def flood(self, _request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        while True:
            yield StringValue(value="x" * 10_000)

    async def join(self, requests: AsyncIterator[StringValue], _context: Any) -> StringValue:
        return StringValue(value="".join([request.value async for request in requests]))

    async def chat(self, requests: AsyncIterator[StringValue], context: Any) -> None:
        async for request in requests:
            await context.write(StringValue(value=request.value.upper()))


def add_echo(echo: Echo, server: Any) -> None:
    kinds: dict[str, tuple[Callable[..., Any], Any]] = {
        "Say": (grpc.unary_unary_rpc_method_handler, echo.say),
        "Count": (grpc.unary_stream_rpc_method_handler, echo.count),
        "Flood": (grpc.unary_stream_rpc_method_handler, echo.flood),
        "Join": (grpc.stream_unary_rpc_method_handler, echo.join),
        "Chat": (grpc.stream_stream_rpc_method_handler, echo.chat),
    }
    methods = {
        name: kind(behavior, StringValue.FromString, StringValue.SerializeToString)
        for name, (kind, behavior) in kinds.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))


Start = Callable[..., Awaitable[tuple[rpc.Server, grpc.aio.Channel]]]


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log.configure("test", "info", stream)
    yield stream
    structlog.reset_defaults()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def start(echo: Echo) -> AsyncIterator[Start]:
    servers: list[rpc.Server] = []
    channels: list[grpc.aio.Channel] = []

    async def start(**options: Any) -> tuple[rpc.Server, grpc.aio.Channel]:
        server = rpc.Server("127.0.0.1:0", **options)
        server.add(add_echo, echo, SERVICE)
        channel = rpc.connect(f"127.0.0.1:{await server.start()}")
        servers.append(server)
        channels.append(channel)
        return server, channel

    yield start
    for channel in channels:
        await channel.close()
    for server in servers:
        await server.stop(0)


@pytest.fixture
async def channel(start: Start) -> grpc.aio.Channel:
    return (await start())[1]


def unary(channel: grpc.aio.Channel, name: str = "Say") -> Any:
    return channel.unary_unary(f"/{SERVICE}/{name}", StringValue.SerializeToString, StringValue.FromString)


def stream(channel: grpc.aio.Channel, name: str = "Count") -> Any:
    return channel.unary_stream(f"/{SERVICE}/{name}", StringValue.SerializeToString, StringValue.FromString)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_whoever_may_come_again_is_told_when(channel: grpc.aio.Channel) -> None:
    for reason in Reason:
        trailer = dict((await failure(unary(channel)(StringValue(value=reason.name)))).trailing_metadata() or ())
        wanted = "7" if reason is Reason.RATE_LIMITED else "1" if reason.http_status in {429, 503} else None
        assert trailer.get("retry-after") == wanted, reason


async def test_all_four_kinds_of_calls(channel: grpc.aio.Channel) -> None:
    async def words() -> AsyncIterator[StringValue]:
        for word in ("a", "b"):
            yield StringValue(value=word)

    codec = (StringValue.SerializeToString, StringValue.FromString)
    assert (await unary(channel)(StringValue(value="hello"))).value == "hello"
    assert [m.value async for m in stream(channel)(StringValue())] == ["0", "1", "2"]
    assert (await channel.stream_unary(f"/{SERVICE}/Join", *codec)(words())).value == "ab"
    assert [m.value async for m in channel.stream_stream(f"/{SERVICE}/Chat", *codec)(words())] == ["A", "B"]


async def test_a_refusal_says_why(channel: grpc.aio.Channel) -> None:
    error = await failure(unary(channel)(StringValue(value="refuse"), metadata=(("x-request-id", "abc"),)))
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not enough USD")
    assert rpc.rejected_from(error) is Reason.INSUFFICIENT_FUNDS
    status = rpc.status_from(error)
    assert status is not None
    refusal = rpc.refusal_in(status)
    assert refusal is not None
    assert (refusal.reason, refusal.message, refusal.field) == (Reason.INSUFFICIENT_FUNDS, "not enough USD", "quantity")
    assert [d.type_url.rpartition(".")[2] for d in status.details] == ["ErrorInfo", "BadRequest"]


async def test_a_stream_may_end_in_a_refusal(channel: grpc.aio.Channel) -> None:
    call = stream(channel)(StringValue(value="refuse"))
    assert [(await call.read()).value for _ in range(3)] == ["0", "1", "2"]
    assert rpc.rejected_from(await failure(call.read())) is Reason.INSUFFICIENT_FUNDS


async def test_a_bug_tells_its_request_and_nothing_else(
    channel: grpc.aio.Channel, capsys: pytest.CaptureFixture[str]
) -> None:
    error = await failure(unary(channel)(StringValue(value="bug"), metadata=(("x-request-id", "abc-1"),)))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "internal error, request abc-1"
    assert "secret" not in str(error.trailing_metadata())
    assert rpc.rejected_from(error) is Reason.INTERNAL


async def test_a_database_that_fails_is_unavailable(channel: grpc.aio.Channel) -> None:
    error = await failure(unary(channel)(StringValue(value="database")))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "path" not in (error.details() or "")


async def test_an_own_abort_goes_through(channel: grpc.aio.Channel) -> None:
    error = await failure(unary(channel)(StringValue(value="abort")))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")


@pytest.mark.parametrize(("given", "kept"), [("abc-123", True), ("x" * 65, False), ("a b", False), (None, False)])
async def test_the_request_id_is_kept_if_sane(channel: grpc.aio.Channel, given: str | None, kept: bool) -> None:
    metadata = (("x-request-id", given),) if given else ()
    answer = (await unary(channel)(StringValue(value="id"), metadata=metadata)).value
    assert (answer == given) is kept
    assert answer


@pytest.mark.parametrize("kind", ["Say", "Count"])
async def test_bytes_that_do_not_parse_are_an_invalid_argument(channel: grpc.aio.Channel, kind: str) -> None:
    method = channel.unary_unary if kind == "Say" else channel.unary_stream
    call: Any = method(f"/{SERVICE}/{kind}", lambda b: b, StringValue.FromString)(b"\xff\xff\xff")
    error = await failure(call if kind == "Say" else call.read())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_too_large_a_message_is_resource_exhausted(start: Start) -> None:
    _, channel = await start(message_bytes_max=1_000)
    error = await failure(unary(channel)(StringValue(value="x" * 2_000)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_bomb_is_measured_after_it_is_unpacked(start: Start) -> None:
    server, _ = await start(message_bytes_max=10_000)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", compression=grpc.Compression.Gzip) as channel:
        error = await failure(unary(channel)(StringValue(value="x" * 1_000_000)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_client_that_leaves_cancels_its_call(channel: grpc.aio.Channel, echo: Echo) -> None:
    call = unary(channel)(StringValue(value="wait"))
    await asyncio.sleep(0.1)
    call.cancel()
    async with asyncio.timeout(2):
        await echo.cancelled.wait()


async def test_an_unread_stream_that_is_left_ends(channel: grpc.aio.Channel, echo: Echo) -> None:
    call = stream(channel)(StringValue(value="endless"))
    assert (await call.read()).value == "0"
    call.cancel()
    async with asyncio.timeout(2):
        await echo.cancelled.wait()


async def test_a_stalled_reader_is_cut_off(start: Start) -> None:
    _, channel = await start(write_seconds_max=0.3)
    call = stream(channel, "Flood")(StringValue())
    await call.read()
    await asyncio.sleep(2)

    async def read_on() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    async with asyncio.timeout(5):
        error = await failure(read_on())
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rpc.rejected_from(error) is Reason.LAGGED


async def test_a_crowd_of_stalled_readers_that_vanishes_is_no_bug(start: Start, logged: io.StringIO) -> None:
    """A write may fail before anybody says that the call has ended."""
    server, _ = await start()
    channels = [narrow(f"127.0.0.1:{server.port}") for _ in range(CROWD)]
    for channel in channels:
        await stream(channel, "Flood")(StringValue()).read()
    await asyncio.gather(*(channel.close() for channel in channels))

    def ended() -> list[dict[str, Any]]:
        return [line for line in map(json.loads, logged.getvalue().splitlines()) if line["event"] != "listening"]

    async with asyncio.timeout(10):
        while len(ended()) < CROWD:
            await asyncio.sleep(0.05)
    assert {(line["event"], line.get("code")) for line in ended()} == {("rpc", "CANCELLED")}


async def test_a_reader_that_vanishes_is_no_bug(start: Start, logged: io.StringIO) -> None:
    server, _ = await start()
    for _ in range(5):
        channel = rpc.connect(f"127.0.0.1:{server.port}")
        await stream(channel, "Flood")(StringValue()).read()
        await channel.close()
    await asyncio.sleep(0.3)
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert [line["code"] for line in lines if line["event"] == "rpc"] == ["CANCELLED"] * 5
    assert {line["event"] for line in lines} <= {"rpc", "listening"}


async def test_what_is_written_to_nobody_is_no_bug_either() -> None:
    class Gone:
        async def write(self, _message: StringValue) -> None:
            raise grpc.aio.BaseError

    with pytest.raises(Rejected, match="has gone"):
        await rpc.write_bounded(cast("Any", Gone()), StringValue(), 1.0)


async def test_stopping_ends_streams_at_once_and_lets_calls_finish(start: Start, echo: Echo) -> None:
    server, channel = await start()
    endless = stream(channel)(StringValue(value="endless"))
    for _ in range(3):
        await endless.read()
    waiting = unary(channel)(StringValue(value="wait"))
    await asyncio.sleep(0.1)
    stopping = asyncio.create_task(server.stop(5))
    async with asyncio.timeout(1):
        error = await failure(endless.read())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert rpc.rejected_from(error) is Reason.CLOSING
    assert not stopping.done()
    echo.released.set()
    assert (await waiting).value == "wait"
    async with asyncio.timeout(2):
        await stopping


async def test_health_follows_each_service(start: Start) -> None:
    server, channel = await start()
    stub: Any = health_pb2_grpc.HealthStub(channel)

    async def state(service: str) -> int:
        status: int = (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status
        return status

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await state(SERVICE), await state("")) == (not_serving, not_serving)
    await server.set_serving(SERVICE, True)
    await server.set_serving(f"{SERVICE}/BTC-USD", False)
    assert (await state(SERVICE), await state("")) == (serving, serving)
    assert await state(f"{SERVICE}/BTC-USD") == not_serving
    with pytest.raises(grpc.aio.AioRpcError):
        await state("unheard.of")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_and_describes_itself(channel: grpc.aio.Channel, version: str) -> None:
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    request, response = reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
    call: Any = channel.stream_stream(method, request.SerializeToString, response.FromString)()
    await call.write(request(list_services=""))
    listed = [service.name for service in (await call.read()).list_services_response.service]
    assert SERVICE in listed
    assert f"grpc.reflection.{version}.ServerReflection" in listed
    for name in listed:
        if name != SERVICE:  # which has no descriptor: it was made by hand
            await call.write(request(file_containing_symbol=name))
            assert (await call.read()).file_descriptor_response.file_descriptor_proto
    for name in (method[1:].replace("/", "."), f"{SERVICE}.NoSuchMethod"):
        await call.write(request(file_containing_symbol=name))
        assert bool((await call.read()).file_descriptor_response.file_descriptor_proto) is name.endswith("Info")
    await call.done_writing()


async def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError, match=f"cannot listen on {address}"):
            await rpc.Server(address).start()


async def test_frequent_pings_are_welcome(start: Start) -> None:
    server, _ = await start()
    options = [
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    assert ("grpc.http2.min_ping_interval_without_data_ms", 5_000) in rpc._server_options(1, 1)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        assert (await unary(channel)(StringValue(value="a"))).value == "a"


async def test_reconnecting_opens_again_until_the_end() -> None:
    closing = Closing()
    attempts = []

    async def session() -> None:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) == 4:
            await asyncio.Event().wait()
        raise ConnectionError("gone")

    task = asyncio.create_task(rpc.reconnecting(closing, "test", session, delay_seconds_max=0.2))
    while len(attempts) < 4:
        await asyncio.sleep(0.01)
    closing.set()
    async with asyncio.timeout(1):
        await task


@pytest.mark.parametrize(("steady_seconds", "level"), [(10.0, "info"), (0.0, "warning")])
async def test_who_was_never_there_is_no_warning_while_all_start(
    steady_seconds: float, level: str, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STEADY_SECONDS", steady_seconds)
    closing = Closing()

    async def session() -> None:
        asyncio.get_running_loop().call_soon(closing.set)  # the first attempt is the last
        raise ConnectionError("gone")

    await rpc.reconnecting(closing, "test", session)
    (line,) = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert (line["event"], line["level"]) == ("reconnecting", level)


async def test_reconnecting_lets_bugs_through() -> None:
    async def session() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await rpc.reconnecting(Closing(), "test", session)


async def test_stream_until_ends_with_a_reason() -> None:
    closing = Closing()

    async def numbers() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    stream = rpc.stream_until(closing, numbers())
    assert await anext(stream) == 1
    closing.set()
    with pytest.raises(Rejected) as caught:
        await anext(stream)
    assert caught.value.reason is Reason.CLOSING


async def test_a_channel_finds_a_restarted_server(echo: Echo) -> None:
    first = rpc.Server("127.0.0.1:0")
    first.add(add_echo, echo, SERVICE)
    port = await first.start()
    async with rpc.connect(f"127.0.0.1:{port}") as channel:
        await unary(channel)(StringValue(value="a"))
        await first.stop(0)
        error = await failure(unary(channel)(StringValue(value="a")))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        second = rpc.Server(f"127.0.0.1:{port}")
        second.add(add_echo, echo, SERVICE)
        await second.start()
        async with asyncio.timeout(3):
            assert (await unary(channel)(StringValue(value="b"), wait_for_ready=True)).value == "b"
        await second.stop(0)


async def test_one_line_for_each_call(start: Start, logged: io.StringIO) -> None:
    _, channel = await start(log_unary="info")
    await unary(channel)(StringValue(value="hello"), metadata=(("x-request-id", "abc"),))
    await failure(unary(channel)(StringValue(value="refuse")))
    await failure(unary(channel)(StringValue(value="bug")))
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    calls = [line for line in lines if line["event"] == "rpc"]
    assert [line["code"] for line in calls] == ["OK", "FAILED_PRECONDITION", "INTERNAL"]
    assert calls[0] | {"method": f"/{SERVICE}/Say", "request_id": "abc", "service": "test", "logger": "rpc"} == calls[0]
    assert calls[0]["ms"] > 0
    assert [("Traceback" in line["exception"]) for line in lines if line["event"] == "bug"] == [True]
