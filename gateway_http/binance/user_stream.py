"""Somebody's account, told as Binance's user data stream for as long as the credential is good."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from clearbook.v1 import account_service_pb2 as account_pb

from gateway_http.account_messages import STREAM_ACCOUNT
from gateway_http.binance.account_events import AccountEvents
from gateway_http.binance.asking import Asker
from gateway_http.binance.market_data import now_ms
from gateway_http.binance.markets import Markets
from gateway_http.lasting import ANSWER_SECONDS_MAX
from services.errors import Reason, Rejected

Say = Callable[[dict[str, Any]], None]


class UserStream:
    """One reader of an account.

    Attributes:
        ended: resolved with the reason when there is no more to tell.
    """

    def __init__(self, asker: Asker, markets: Markets, say: Say) -> None:
        """`asker`: in whose name; `say`: takes each event."""
        self._asker, self._markets, self._say = asker, markets, say
        self._task: asyncio.Task[object] | None = None
        self.ended: asyncio.Future[Rejected] = asyncio.get_running_loop().create_future()

    async def begin(self) -> None:
        """Begins. Raises Rejected: why not."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = self._asker.closing.spawn(self._follow(begun), "user data")
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await begun
        except TimeoutError:
            await self.stop()
            raise Rejected(Reason.UNAVAILABLE) from None
        except BaseException:
            await self.stop()
            raise

    def finish(self, why: Rejected) -> None:
        """There is no more to tell, unless that was said already."""
        if not self.ended.done():
            self.ended.set_result(why)

    async def stop(self) -> None:
        """Ends it without a word."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _follow(self, begun: "asyncio.Future[None]") -> None:
        try:
            await self._tell(begun)
            why = Rejected(Reason.UNAVAILABLE)
        except Rejected as rejected:
            why = rejected
        if not begun.done():
            begun.set_exception(why)
            return
        self._say({"e": "eventStreamTerminated", "E": now_ms()})
        self.finish(why)

    async def _tell(self, begun: "asyncio.Future[None]") -> None:
        events, caller = AccountEvents(), self._asker.caller
        request = account_pb.StreamAccountRequest().SerializeToString()
        stream = self._asker.forward.stream(STREAM_ACCOUNT, request, caller.metadata, caller.peer, caller.signed)
        async with aclosing(stream) as messages:
            async for packed in messages:
                message = account_pb.StreamAccountResponse.FromString(packed.response)
                if message.lagged:
                    raise Rejected(Reason.LAGGED)  # what was missed cannot be told: who reads has to ask anew
                symbols = await self._markets.symbols()
                for event in events.of(message, symbols, now_ms()):
                    self._say(event)
                if not begun.done() and message.index:
                    begun.set_result(None)
