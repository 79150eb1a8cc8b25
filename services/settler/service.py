"""SettlerService: where each trade and transfer stands, every change of it, replayable by index; reconciliations."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from clearbook.internal.v1 import settler_service_pb2, settler_service_pb2_grpc
from clearbook.v1 import settlement_service_pb2

from services.errors import Reason, Rejected
from services.runtime import metrics
from services.settler.model import Change, Item
from services.settler.publications import Published
from services.settler.store import Store
from services.settler.wire import contract_of, liability_proof_of, reconciliation_of, settlement_of

NAME: Final = "clearbook.internal.v1.SettlerService"
HEARTBEAT_SECONDS: Final = 5.0
CHANGES_PER_READ_MAX: Final = 100
SUBSCRIBERS_MAX: Final = 200
LIST_MAX: Final = 1_000
"""Settlements in one answer of ListSettlements."""
RECENT_CHANGES_MAX: Final = 64
"""Messages kept for the next subscriber that needs the same one."""

add = settler_service_pb2_grpc.add_SettlerServiceServicer_to_server
"""Adds a servicer to a server."""

Context = grpc.aio.ServicerContext[Any, Any]

_subscribers = metrics.gauge("settler_subscribers", "Open StreamSettlements calls.")


class Settler(settler_service_pb2_grpc.SettlerServiceServicer):
    """Answers from the store. A subscriber costs a read position; a slow one is cut off by the server's write bound."""

    def __init__(self, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._held: tuple[Store, Published] | None = None
        self._heartbeat_seconds = heartbeat_seconds
        self._open = 0
        self._recent: OrderedDict[int, settler_service_pb2.StreamSettlementsResponse] = OrderedDict()

    def open(self, store: Store, published: Published) -> None:
        """From here on it answers; before, while another settler has the database, it is UNAVAILABLE."""
        self._held = store, published

    @property
    def _store(self) -> Store:
        return self._opened[0]

    @property
    def _published(self) -> Published:
        return self._opened[1]

    @property
    def _opened(self) -> tuple[Store, Published]:
        if self._held is None:
            raise Rejected(Reason.UNAVAILABLE, "this settler waits until another one gives way")
        return self._held

    async def GetSettlement(
        self, request: settler_service_pb2.GetSettlementRequest, context: Context
    ) -> settler_service_pb2.GetSettlementResponse:
        """See the proto."""
        item = await self._find(request.request)
        change = None if item is None else await self._store.change_of(item.settlement_sequence)
        if item is None or change is None:
            raise Rejected(Reason.SETTLEMENT_NOT_FOUND)
        nonce = await self._store.nonce_of(change.transaction_hash)
        response = settlement_service_pb2.GetSettlementResponse(settlement=settlement_of(item, change, nonce))
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

    async def ListSettlements(
        self, request: settler_service_pb2.ListSettlementsRequest, context: Context
    ) -> settler_service_pb2.ListSettlementsResponse:
        """See the proto."""
        limit = min(request.limit, LIST_MAX)
        items = await self._store.items_before(_text(request.market, "market"), _int64(request.before, "before"), limit)
        settlements = []
        change: Change | None = None
        nonce: int | None = None
        for item in items:
            sequence = item.settlement_sequence
            if change is None or not change.batch_id or not change.first <= sequence <= change.last:
                change = await self._store.change_of(sequence)
                nonce = None if change is None else await self._store.nonce_of(change.transaction_hash)
            if change is not None:  # else it lies beyond a gap
                settlements.append(settlement_of(item, change, nonce))
        return settler_service_pb2.ListSettlementsResponse(settlements=settlements)

    async def GetContract(
        self, request: settler_service_pb2.GetContractRequest, context: Context
    ) -> settler_service_pb2.GetContractResponse:
        """See the proto."""
        response = contract_of(self._store.meta)
        if response is None:
            raise Rejected(Reason.UNAVAILABLE, "the settler has no contract yet")
        return settler_service_pb2.GetContractResponse(response=response)

    async def GetReconciliation(
        self, request: settler_service_pb2.GetReconciliationRequest, context: Context
    ) -> settler_service_pb2.GetReconciliationResponse:
        """See the proto."""
        found = await self._published.at(_int64(request.request.index, "index"))
        if found is None:
            raise Rejected(Reason.RECONCILIATION_NOT_FOUND)
        response = settlement_service_pb2.GetReconciliationResponse(reconciliation=reconciliation_of(found))
        return settler_service_pb2.GetReconciliationResponse(response=response)

    async def GetLiabilityProof(
        self, request: settler_service_pb2.GetLiabilityProofRequest, context: Context
    ) -> settler_service_pb2.GetLiabilityProofResponse:
        """See the proto."""
        found = self._published.proof(request.account_id)
        if found is None:
            raise Rejected(Reason.RECONCILIATION_NOT_FOUND, "nothing was owed to the account at the newest one")
        reconciliation, proof = found
        response = settlement_service_pb2.GetLiabilityProofResponse(
            reconciliation=reconciliation_of(reconciliation), proof=liability_proof_of(proof)
        )
        return settler_service_pb2.GetLiabilityProofResponse(response=response)

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
        nonce = await self._store.nonce_of(change.transaction_hash)
        settlements = [settlement_of(item, change, nonce) for item in items]
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
