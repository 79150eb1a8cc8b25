"""SettlerService: where each trade and transfer stands, and every change of it, replayable by index."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from clearbook.internal.v1 import settler_service_pb2, settler_service_pb2_grpc
from clearbook.v1 import settlement_service_pb2

from services.errors import Reason, Rejected
from services.runtime import metrics
from services.settler.model import Change, Item
from services.settler.store import Store
from services.settler.wire import settlement_of

NAME: Final = "clearbook.internal.v1.SettlerService"
HEARTBEAT_SECONDS: Final = 5.0
CHANGES_PER_READ_MAX: Final = 100
SUBSCRIBERS_MAX: Final = 200
RECENT_CHANGES_MAX: Final = 64
"""Messages kept for the next subscriber that needs the same one."""

add = settler_service_pb2_grpc.add_SettlerServiceServicer_to_server
"""Adds a servicer to a server."""

Context = grpc.aio.ServicerContext[Any, Any]

_subscribers = metrics.gauge("settler_subscribers", "Open StreamSettlements calls.")


class Settler(settler_service_pb2_grpc.SettlerServiceServicer):
    """Answers from the store. A subscriber costs a read position; a slow one is cut off by the server's write bound."""

    def __init__(self, store: Store, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._store = store
        self._heartbeat_seconds = heartbeat_seconds
        self._open = 0
        self._recent: OrderedDict[int, settler_service_pb2.StreamSettlementsResponse] = OrderedDict()

    async def GetSettlement(
        self, request: settler_service_pb2.GetSettlementRequest, context: Context
    ) -> settler_service_pb2.GetSettlementResponse:
        """See the proto."""
        item = await self._find(request.request)
        change = None if item is None else await self._store.change_of(item.settlement_sequence)
        if item is None or change is None:
            raise Rejected(Reason.SETTLEMENT_NOT_FOUND)
        response = settlement_service_pb2.GetSettlementResponse(settlement=settlement_of(item, change))
        return settler_service_pb2.GetSettlementResponse(response=response)

    async def _find(self, request: settlement_service_pb2.GetSettlementRequest) -> Item | None:
        by_trade = bool(request.market) or bool(request.trade_id)
        ways = bool(request.settlement_sequence) + by_trade + bool(request.transfer_id)
        if ways != 1:
            raise Rejected(
                Reason.INVALID_FIELD, "name settlement_sequence, or market and trade_id, or transfer_id", "request"
            )
        if request.settlement_sequence:
            sequence = _int64(request.settlement_sequence, "settlement_sequence")
            return next(iter(await self._store.items(sequence, sequence)), None)
        if request.transfer_id:
            return await self._store.item_of_transfer(_text(request.transfer_id, "transfer_id"))
        if not request.market or not request.trade_id:
            missing = "trade_id" if request.market else "market"
            raise Rejected(Reason.INVALID_FIELD, f"{missing} is missing", missing)
        return await self._store.item_of_trade(_text(request.market, "market"), _int64(request.trade_id, "trade_id"))

    async def StreamSettlements(
        self, request: settler_service_pb2.StreamSettlementsRequest, context: Context
    ) -> AsyncIterator[settler_service_pb2.StreamSettlementsResponse]:
        """See the proto. The first message comes at once, the last change's index with it."""
        index = _int64(request.request.after_index, "after_index")
        if index > self._store.last_index:
            raise Rejected(
                Reason.OUT_OF_SEQUENCE, f"after_index {index} is ahead: the last is {self._store.last_index}"
            )
        if self._open >= SUBSCRIBERS_MAX:
            raise Rejected(Reason.OVERLOADED, f"{SUBSCRIBERS_MAX} streams are open already")
        self._open += 1
        _subscribers.inc()
        try:
            async for response in self._follow(index):
                yield response
        finally:
            self._open -= 1
            _subscribers.dec()

    async def _follow(self, index: int) -> AsyncIterator[settler_service_pb2.StreamSettlementsResponse]:
        greeted = False
        while True:
            for change in await self._store.changes_after(index, CHANGES_PER_READ_MAX):
                yield await self._message(change)
                index, greeted = change.index, True
            if index < self._store.last_index:
                continue
            if not greeted or not await self._store.news.wait(self._heartbeat_seconds):
                response = settlement_service_pb2.StreamSettlementsResponse(index=index)
                yield settler_service_pb2.StreamSettlementsResponse(response=response)
                greeted = True

    async def _message(self, change: Change) -> settler_service_pb2.StreamSettlementsResponse:
        """One change as a message: built once for all who follow closely."""
        if known := self._recent.get(change.index):
            return known
        items = await self._store.items(change.first, change.last)
        settlements = [settlement_of(item, change) for item in items]
        response = settlement_service_pb2.StreamSettlementsResponse(index=change.index, settlements=settlements)
        message = settler_service_pb2.StreamSettlementsResponse(response=response)
        self._recent[change.index] = message
        if len(self._recent) > RECENT_CHANGES_MAX:
            self._recent.popitem(last=False)
        return message


def _int64(number: int, field: str) -> int:
    if number >= 1 << 63:
        raise Rejected(Reason.INVALID_FIELD, f"{field} is too large", field)
    return number


def _text(text: str, field: str) -> str:
    if "\0" in text or len(text) > 200:
        raise Rejected(Reason.INVALID_FIELD, f"{field} is not a name", field)
    return text
