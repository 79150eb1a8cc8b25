"""Asking order_gateway in a caller's name: once, by the caller's own credential; several times, by a session."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final, NamedTuple, TypeVar

from clearbook.internal.v1 import forward_service_pb2 as forward_pb
from clearbook.v1 import account_service_pb2 as account_pb
from google.protobuf.message import Message

from gateway_http.forward import Forward
from gateway_http.lasting import ANSWER_SECONDS_MAX
from gateway_http.private import GET_SESSION
from gateway_http.signing import SignedRequest
from services.errors import Reason, Rejected
from services.runtime.metadata import SESSION_KEY
from services.runtime.run import Closing

PREFIX: Final = "/clearbook.v1."

R = TypeVar("R", bound=Message)


class Caller(NamedTuple):
    """Who asks, as they gave it. order_gateway judges it.

    Attributes:
        metadata: credentials, and the request's id.
        peer: the address.
        told: takes what order_gateway tells beside its answers.
        signed: the signature of a signed request, which is good once.
        stamped: its timestamp and recvWindow, as they were sent.
    """

    metadata: dict[str, str]
    peer: str
    told: dict[str, str]
    signed: SignedRequest | None = None
    stamped: tuple[str, str] = ("", "")


class Asker:
    """Asks as one caller."""

    def __init__(self, forward: Forward, caller: Caller, closing: Closing) -> None:
        """`forward`: the client of order_gateway; `closing` keeps what goes on beside."""
        self.forward, self.caller, self.closing = forward, caller, closing

    async def ask(self, rpc: str, request: Message, response: type[R], *, repeatable: bool = True) -> R:
        """The response of a method, for example "OrderService/GetOrder".

        Args:
            rpc: service and method.
            request: its request.
            response: what it answers.
            repeatable: the same may be sent twice, and nothing more comes of it.

        Raises:
            Rejected: order_gateway's refusal, OVERLOADED, UNAVAILABLE, DEADLINE.
        """
        caller = self.caller
        data = await self.forward.call(
            f"{PREFIX}{rpc}",
            request.SerializeToString(),
            caller.metadata,
            caller.peer,
            signed=caller.signed,
            told=caller.told,
            repeatable=repeatable,
        )
        return response.FromString(data)


class Logon:
    """A logon that lasts, so that a signature, which is good once, may be followed by as many calls as wanted.

    Attributes:
        who: who it is.
        asker: asks in its name.
        ended: resolved with the reason when it has ended by itself.
    """

    def __init__(self, asker: Asker) -> None:
        """Nobody is logged on before `begin`."""
        self._task: asyncio.Task[object] | None = None
        self.ended: asyncio.Future[Rejected] = asyncio.get_running_loop().create_future()
        self.who = account_pb.GetSessionResponse()
        self.asker = asker

    async def begin(self) -> None:
        """Logs on. Raises Rejected: why not."""
        begun: asyncio.Future[forward_pb.ForwardStreamResponse] = asyncio.get_running_loop().create_future()
        self._task = self.asker.closing.spawn(self._keep(begun), "logon")
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                first = await begun
        except TimeoutError:
            await self.end()
            raise Rejected(Reason.UNAVAILABLE) from None
        except BaseException:
            await self.end()
            raise
        self.who = account_pb.GetSessionResponse.FromString(first.response)
        asked = self.asker
        caller = asked.caller._replace(metadata={SESSION_KEY: first.session}, signed=None)
        self.asker = Asker(asked.forward, caller, asked.closing)

    async def _keep(self, begun: asyncio.Future[forward_pb.ForwardStreamResponse]) -> None:
        caller = self.asker.caller
        why = Rejected(Reason.UNAVAILABLE)
        calls = self.asker.forward.stream(GET_SESSION, b"", caller.metadata, caller.peer, caller.signed)
        try:
            async with aclosing(calls) as messages:
                async for message in messages:
                    if not begun.done():
                        begun.set_result(message)
        except Rejected as rejected:
            why = rejected
        if not begun.done():
            begun.set_exception(why)
        elif not self.ended.done():
            self.ended.set_result(why)

    async def end(self) -> None:
        """Logs out."""
        self.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    def cancel(self) -> None:
        """Begins to log out, for who cannot wait."""
        if self._task is not None:
            self._task.cancel()


@asynccontextmanager
async def logged_on(asker: Asker) -> AsyncIterator[Logon]:
    """A logon for as long as the block lasts, for what takes several calls. Raises Rejected: why it cannot begin."""
    logon = Logon(asker)
    await logon.begin()
    try:
        yield logon
    finally:
        await logon.end()
