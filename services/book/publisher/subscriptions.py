"""One call of StreamMarketData: the subscriptions of a client, and their messages in turn."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial

from services.book.publisher import market_data_wire as wire
from services.book.publisher.source import Source
from services.errors import Reason, Rejected

SUBSCRIPTIONS_MAX = 256
"""Of one stream at once, and named by one request."""
ANSWERS_WAITING_MAX = 1_024
"""Acknowledgements that a client has not taken: beyond them none of its requests is read."""
HEARTBEAT_MILLISECONDS_DEFAULT = 5_000
HEARTBEAT_MILLISECONDS_MIN, HEARTBEAT_MILLISECONDS_MAX = 100, 60_000

Open = Callable[[wire.Item], AbstractContextManager[Source]]


@dataclass(eq=False)
class _Subscription:
    head: bytes
    channel: str
    source: Source
    closing: ExitStack
    alive: bool = True


class Subscriptions:
    """What a client has subscribed on one stream. Memory: a position each, and the answers that it has not taken."""

    def __init__(self, open_source: Open, beat: Callable[[], bytes | None]) -> None:
        """None yet.

        Args:
            open_source: what a subscription reads, or Rejected.
            beat: a sign of life; None: nobody can give one now.
        """
        self._open, self._beat = open_source, beat
        self._by_id: dict[int, _Subscription] = {}
        self._ready: dict[_Subscription, None] = {}
        self._answers: deque[bytes] = deque()
        self._rung, self._room = asyncio.Event(), asyncio.Event()
        self._heartbeat_seconds = HEARTBEAT_MILLISECONDS_DEFAULT / 1_000

    async def take_all(self, requests: AsyncIterator[wire.Wanted]) -> None:
        """Takes requests as they come, as long as their answers are read.

        Raises:
            Rejected: INVALID_FIELD: a request that cannot be answered item by item.
        """
        try:
            async for wanted in requests:
                while len(self._answers) > ANSWERS_WAITING_MAX:
                    self._room.clear()
                    await self._room.wait()
                self.take(wanted)
        finally:
            self._rung.set()

    def take(self, wanted: wire.Wanted) -> None:
        """Subscribes and unsubscribes; each is answered. Raises as take_all."""
        for name, items in (("subscribe", wanted.subscribe), ("unsubscribe", wanted.unsubscribe)):
            if len(items) > SUBSCRIPTIONS_MAX:
                raise Rejected(Reason.INVALID_FIELD, f"{name}: {len(items)} items, at most {SUBSCRIPTIONS_MAX}", name)
        if beat := wanted.heartbeat_milliseconds:
            if not HEARTBEAT_MILLISECONDS_MIN <= beat <= HEARTBEAT_MILLISECONDS_MAX:
                field = "heartbeat_milliseconds"
                limits = f"{HEARTBEAT_MILLISECONDS_MIN} to {HEARTBEAT_MILLISECONDS_MAX}"
                raise Rejected(Reason.INVALID_FIELD, f"{field} must be {limits}, not {beat}", field)
            self._heartbeat_seconds = beat / 1_000
        for subscription_id in wanted.unsubscribe:
            self._answer(subscription_id, wire.ENDED, partial(self._end, subscription_id))
        for item in wanted.subscribe:
            self._answer(item.subscription_id, wire.ACCEPTED, partial(self._begin, item))
        self._rung.set()

    def _answer(self, subscription_id: int, done: wire.State, what: Callable[[], None]) -> None:
        try:
            what()
        except Rejected as why:
            self._answers.append(wire.acknowledged(subscription_id, wire.REFUSED, why))
        else:
            self._answers.append(wire.acknowledged(subscription_id, done))

    def _begin(self, item: wire.Item) -> None:
        subscription_id = item.subscription_id
        if not subscription_id or subscription_id in self._by_id:
            message = f"{subscription_id} is 0, or the id of a subscription that lives"
            raise Rejected(Reason.INVALID_FIELD, message, "id")
        if len(self._by_id) >= SUBSCRIPTIONS_MAX:
            raise Rejected(Reason.OVERLOADED, f"{SUBSCRIPTIONS_MAX} subscriptions live on this stream already")
        with ExitStack() as stack:
            source = stack.enter_context(self._open(item))
            subscription = _Subscription(wire.head(subscription_id), item.channel, source, stack)
            wake = partial(self._wake, subscription)
            for bell in source.bells:
                bell.hear(wake)
                stack.callback(bell.leave, wake)
            subscription.closing = stack.pop_all()
        self._by_id[subscription_id] = subscription
        self._ready[subscription] = None

    def _end(self, subscription_id: int) -> None:
        subscription = self._by_id.pop(subscription_id, None)
        if subscription is None:
            raise Rejected(Reason.INVALID_FIELD, f"no subscription {subscription_id} lives", "unsubscribe")
        subscription.alive = False
        self._ready.pop(subscription, None)
        subscription.closing.close()

    def _wake(self, subscription: _Subscription) -> None:
        self._ready[subscription] = None
        self._rung.set()

    async def told(self, reading: "asyncio.Task[None]") -> AsyncIterator[bytes]:
        """All messages, each subscription's in turn, until the client can ask for no more and has nothing subscribed.

        Args:
            reading: `take_all`.

        Raises:
            Rejected: what `reading` raises; LAGGED: the client is too slow for a subscription that does not bear it.
        """
        while True:
            self._rung.clear()
            while self._answers:
                yield self._answers.popleft()
            self._room.set()
            if reading.done():
                reading.result()
                if not self._by_id and not self._answers:
                    return
            for subscription in list(self._ready):
                for data in await self._turn(subscription):
                    if subscription.alive:
                        yield wire.framed(subscription.head, subscription.channel, data)
            if not (self._ready or self._answers) and not await self._heard():
                beat = self._beat()
                if beat is not None:
                    yield beat

    async def _turn(self, subscription: _Subscription) -> list[bytes]:
        """A few messages of one subscription; as long as there are any, its turn comes again."""
        if not subscription.alive:
            return []
        del self._ready[subscription]
        messages = await subscription.source.more()
        if messages and subscription.alive:
            self._ready[subscription] = None
        return messages

    async def _heard(self) -> bool:
        """Whether there is something new; False: there was nothing for a heartbeat's time."""
        try:
            async with asyncio.timeout(self._heartbeat_seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Ends all subscriptions."""
        for subscription_id in list(self._by_id):
            self._end(subscription_id)
