"""What one socket has subscribed, by the ids that the client chose: market data through Watch, its account itself."""

import asyncio
from contextlib import aclosing
from typing import Any

from clearbook.v1 import book_service_pb2 as book_pb

from gateway_http.account_messages import Telling, telling
from gateway_http.channels import PRIVATE_SUBSCRIPTIONS_MAX
from gateway_http.feeds import Subscriber
from gateway_http.forward import Forward
from gateway_http.lasting import Begun, Lasting, answer_by, has_begun
from gateway_http.limits import L3_WEIGHT
from gateway_http.subscribing import Item, acknowledged, refused
from gateway_http.watch import Watch
from services.errors import Reason, Rejected
from services.runtime.limits import Limit, of_ip
from services.runtime.metadata import SESSION_KEY


class Subscriptions:
    """Of one socket."""

    def __init__(
        self,
        forward: Forward,
        peer: str,
        out: Subscriber,
        speaking: asyncio.Lock,
        lasting: Lasting,
        watch: Watch,
        messages: Limit,
    ) -> None:
        """None yet.

        Args:
            forward: the client of order_gateway.
            peer: the client's address.
            out: takes what is sent to it.
            speaking: held while an answer is made: what follows from it comes after it.
            lasting: keeps streams of the account.
            watch: keeps market data.
            messages: of clients, which books of orders count as, too.
        """
        self._forward, self._peer, self._out, self._speaking = forward, peer, out, speaking
        self._lasting, self._watch, self._messages = lasting, watch, messages

    async def begin(self, items: list[Item], beat_ms: int, session: str) -> list[dict[str, Any]]:
        """What became of each: of market data as BookService says.

        Args:
            items: what is asked for.
            beat_ms: after how much silence there is a heartbeat; 0: as it is.
            session: who is logged on; "": nobody.

        Raises:
            Rejected: market data cannot be had, so none of them was begun.
        """
        deadline, ours = answer_by(), self._lasting.subscriptions()
        items = [self._weighed(item) for item in items]
        room = PRIVATE_SUBSCRIPTIONS_MAX - len(ours)
        wanted = [
            item.request
            for item in items
            if isinstance(item.request, book_pb.MarketDataSubscription) and item.subscription not in ours
        ]
        found = iter(await self._watch.subscribe(wanted, beat_ms) if wanted else ())
        told = []
        for item in items:
            if item.refusal is not None:
                answer = refused(item.refusal)
            elif not isinstance(item.request, book_pb.MarketDataSubscription):
                refusal = self._why_not(item.subscription, session, room)
                room -= refusal is None
                answer = refused(refusal) if refusal else await self._begin_ours(item, session, deadline)
            elif item.subscription in ours:
                answer = refused(_taken(item.subscription))
            else:
                answer = next(found)
            told.append(acknowledged(item.subscription, answer))
        return told

    async def end(self, ids: list[int]) -> list[dict[str, Any]]:
        """What became of each. Raises Rejected as `begin`."""
        ours = self._lasting.subscriptions()
        theirs = [each for each in ids if each not in ours]
        found = iter(await self._watch.unsubscribe(theirs) if theirs else ())
        ended = book_pb.SubscriptionAcknowledgement(state=book_pb.SUBSCRIPTION_STATE_ENDED)
        for each in ours.intersection(ids):
            await self._lasting.cancel(each)
        return [acknowledged(each, ended if each in ours else next(found)) for each in ids]

    async def _begin_ours(self, item: Item, session: str, deadline: float) -> book_pb.SubscriptionAcknowledgement:
        ask = telling(item)
        try:
            await self._lasting.begin(item.subscription, lambda begun: self.tell(session, ask, begun), deadline)
        except Rejected as rejected:
            return refused(rejected)
        return book_pb.SubscriptionAcknowledgement(state=book_pb.SUBSCRIPTION_STATE_ACCEPTED)

    def _weighed(self, item: Item) -> Item:
        """The item, or its refusal: all orders of a book were asked for too often."""
        asked = item.request
        if not isinstance(asked, book_pb.MarketDataSubscription) or asked.order_book.detail != book_pb.BOOK_DETAIL_L3:
            return item
        try:
            self._messages.take(of_ip(self._peer), {}, min(L3_WEIGHT, self._messages.rate.burst))
        except Rejected as why:
            return item._replace(request=None, refusal=why)
        return item

    def _why_not(self, subscription: int, session: str, room: int) -> Rejected | None:
        if not session:
            return log_on_first()
        ours = self._lasting.subscriptions()
        if subscription in ours or subscription in self._watch.live:
            return _taken(subscription)
        if room <= 0:
            return Rejected(
                Reason.OVERLOADED, f"a socket has at most {PRIVATE_SUBSCRIPTIONS_MAX} subscriptions of accounts"
            )
        return None

    async def tell(self, session: str, ask: Telling, begun: Begun) -> None:
        """Sends a stream of the account's for as long as there is one. Who reads too slowly has it begin again."""
        while True:
            request = ask.request.SerializeToString()
            async with aclosing(
                self._forward.stream(ask.method, request, {SESSION_KEY: session}, self._peer)
            ) as stream:
                try:
                    async for message in stream:
                        has_begun(begun, message)
                        if words := ask.words(message.response):
                            async with self._speaking:
                                await self._out.say(words)
                except Rejected as rejected:
                    if rejected.reason is not Reason.LAGGED or not begun.done():
                        raise
                else:
                    raise Rejected(Reason.UNAVAILABLE)


def log_on_first() -> Rejected:
    """The answer to who asks for an account and is nobody."""
    return Rejected(Reason.UNAUTHENTICATED, "log on first: session.logon")


def _taken(subscription: int) -> Rejected:
    return Rejected(Reason.INVALID_FIELD, f"{subscription} is the id of a subscription that lives", "id")
