"""One socket's market data: a call of StreamMarketData, for as long as something is subscribed.

What is passed on is not looked at. A socket that does not take it keeps the call from being read, so the publisher
deals with a slow reader as with any other, and as the subscription asked for.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

import grpc
from clearbook.v1 import book_service_pb2 as pb

from gateway_http.channels import Channels
from gateway_http.feeds import Subscriber
from gateway_http.lasting import ANSWER_SECONDS_MAX
from gateway_http.limits import Limits
from gateway_http.market_messages import message_in
from gateway_http.turns import Turns
from services.errors import Reason, Rejected
from services.runtime import rpc

METHOD: Final = "/clearbook.v1.BookService/StreamMarketData"

Call = grpc.aio.StreamStreamCall[pb.StreamMarketDataRequest, bytes]
Method = grpc.aio.StreamStreamMultiCallable[pb.StreamMarketDataRequest, bytes]
Acknowledgements = list[pb.SubscriptionAcknowledgement]

MESSAGE_STEPS: Final = 8
"""A message that a call brings takes about as long as so many writes."""


class MarketData(NamedTuple):
    """What the sockets' watches share.

    Attributes:
        channels: to BookService.
        limits: of the shim.
        turns: of the process.
    """

    channels: Channels
    limits: Limits
    turns: Turns


class Watch:
    """A socket's subscriptions to market data.

    Attributes:
        live: ids of those that were accepted.
    """

    def __init__(
        self,
        market_data: MarketData,
        peer: str,
        out: Subscriber,
        group: asyncio.TaskGroup,
        end: Callable[[Rejected], None],
    ) -> None:
        """None yet.

        Args:
            market_data: whence it comes.
            peer: the client's address.
            out: takes what is sent.
            group: the socket's tasks.
            end: is told why, when they have ended by themselves.
        """
        self._market_data, self._peer = market_data, peer
        self._out, self._group, self._tell_end = out, group, end
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._wanted = 0
        self._answers: Acknowledgements = []
        self._answered: asyncio.Future[Acknowledgements] | None = None
        self._told = asyncio.Event()
        self.live: set[int] = set()

    async def subscribe(self, items: Sequence[pb.MarketDataSubscription], heartbeat_ms: int) -> Acknowledgements:
        """What became of each. What is subscribed is not sent before `told`.

        Raises:
            Rejected: none of them was answered.
        """
        request = pb.StreamMarketDataRequest(subscribe=items, heartbeat_milliseconds=heartbeat_ms)
        answers = await self._ask(request, len(items))
        self.live |= {
            item.id
            for item, answer in zip(items, answers, strict=True)
            if answer.state == pb.SUBSCRIPTION_STATE_ACCEPTED
        }
        return answers

    async def unsubscribe(self, ids: Sequence[int]) -> Acknowledgements:
        """What became of each. Raises as subscribe."""
        answers = await self._ask(pb.StreamMarketDataRequest(unsubscribe=ids), len(ids))
        self.live -= set(ids)
        return answers

    def told(self) -> None:
        """The client has been told what became of what it asked: messages go on."""
        self._told.set()
        if not self.live:
            self.close()

    async def _ask(self, request: pb.StreamMarketDataRequest, count: int) -> Acknowledgements:
        answered: asyncio.Future[Acknowledgements] = asyncio.get_running_loop().create_future()
        self._answered = answered
        self._wanted, self._answers = count, []
        self._told.clear()
        if self._task is None:
            self._task = self._group.create_task(self._run(), name="market data")
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                if self._call is not None:
                    await self._write(self._call, request)
                return await answered
        except TimeoutError:
            self.close()
            self._end(Rejected(Reason.UNAVAILABLE))
            raise Rejected(Reason.UNAVAILABLE) from None

    async def _write(self, call: Call, request: pb.StreamMarketDataRequest) -> None:
        try:
            await call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # it has ended: who reads it tells why

    async def _run(self) -> None:
        try:
            with ExitStack() as stack:
                stack.enter_context(self._market_data.limits.watches.one(self._peer))
                channel = stack.enter_context(self._market_data.channels.one())
                method: Method = channel.stream_stream(METHOD, pb.StreamMarketDataRequest.SerializeToString)
                call = method()
                stack.callback(call.cancel)
                self._call = call
                await self._pass_on(call)
            why = Rejected(Reason.UNAVAILABLE)
        except grpc.aio.AioRpcError as error:
            status = rpc.status_from(error)
            why = (rpc.refusal_in(status) if status is not None else None) or Rejected(Reason.UNAVAILABLE)
        except Rejected as rejected:
            why = rejected
        self._end(why)

    async def _pass_on(self, call: Call) -> None:
        turns = self._market_data.turns
        async for data in call:
            message = message_in(data)
            answer = message.acknowledgement
            if answer is None:
                await turns.turn(MESSAGE_STEPS)
                await self._out.say(await message.words(turns))
                continue
            self._answers.append(answer)
            if len(self._answers) == self._wanted and self._answered is not None and not self._answered.done():
                self._answered.set_result(self._answers)
                await self._told.wait()

    def _end(self, why: Rejected) -> None:
        """The call has ended by itself: whoever asks is told why, and if more hung on it the socket ends."""
        self._task = self._call = None
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(why)
        if self.live:
            self._tell_end(why)

    def close(self) -> None:
        """Ends the call, as asked for."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._call = None
