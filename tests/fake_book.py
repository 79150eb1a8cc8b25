"""A MatchingService that streams given rows over real gRPC, and that can be cut, frozen and replaced at will."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self

import grpc
from clearbook.internal.v1 import matching_service_pb2 as pb

from services.errors import Reason, Rejected
from services.runtime import rpc
from tests.book_flow import Flow

SERVICE = "clearbook.internal.v1.MatchingService"


class FakeBook:
    """Streams a flow's rows, those that it will have later included, as soon as `told`.

    Attributes:
        flow: where the rows come from.
        asked: the cursors of all StreamEvents calls.
    """

    def __init__(self, flow: Flow, address: str = "127.0.0.1:0") -> None:
        self.flow, self.asked = flow, list[int]()
        self._told = asyncio.Event()
        self._server = rpc.Server(address, message_bytes_max=64 * 1024 * 1024)
        self._server.add(_add, self, SERVICE)
        self.address = ""

    async def __aenter__(self) -> Self:
        self.address = f"127.0.0.1:{await self._server.start()}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    def tell(self) -> None:
        """There are more rows."""
        self._told.set()
        self._told = asyncio.Event()

    async def stream_events(
        self, request: pb.StreamEventsRequest, _context: Any
    ) -> AsyncIterator[pb.StreamEventsResponse]:
        after = request.after_journal_sequence
        self.asked.append(after)
        if (after or request.incarnation) and request.incarnation != self.flow.incarnation:
            raise Rejected(Reason.INCARNATION_MISMATCH)
        position = 0
        while True:
            told, rows = self._told, self.flow.rows[position:]
            position += len(rows)
            for row in rows:
                if row.first_journal_sequence > after:
                    yield row
            if position == len(self.flow.rows):
                await told.wait()


def _add(book: FakeBook, server: Any) -> None:
    handler = grpc.unary_stream_rpc_method_handler(
        book.stream_events, pb.StreamEventsRequest.FromString, pb.StreamEventsResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"StreamEvents": handler}),))
