"""Follows the book: every committed journal row, once, in order, from the cursor on."""

import asyncio
import time

import grpc
from clearbook.internal.v1.matching_service_pb2 import StreamEventsRequest
from clearbook.internal.v1.matching_service_pb2_grpc import MatchingServiceStub

from services.book.publisher import wire
from services.book.publisher.board import Board
from services.book.publisher.events import Row
from services.book.publisher.store import Store
from services.errors import Reason
from services.runtime import log, metrics
from services.runtime.rpc import reconnecting, rejected_from
from services.runtime.run import Closing, StartError

RECONNECT_SECONDS_MAX = 1.0
IDLE_SECONDS = 0.5
"""A connected book that has sent nothing for so long has nothing more to send."""

logger = log.get("feed")

_sequence = metrics.gauge("publisher_journal_sequence", "The last journal entry published.")
_live = metrics.gauge("publisher_live", "1 while the book is followed at its head.")
_behind = metrics.histogram("publisher_behind_seconds", "From a journal row's commit time to its publication.")


class Feed:
    """Reads the book's events into the board and notes in the store what changed.

    Attributes:
        caught_up: set once the head of the journal was reached for the first time.
    """

    def __init__(self, channel: grpc.aio.Channel, board: Board, store: Store) -> None:
        self._channel, self._board, self._store = channel, board, store
        self.caught_up = asyncio.Event()
        self._board.live = False

    async def run(self, closing: Closing) -> None:
        """Follows until `closing`, whatever happens to the connection.

        Raises:
            StartError: the book has another journal than the one that the store was made of.
        """
        await reconnecting(closing, "events from book", self._session, delay_seconds_max=RECONNECT_SECONDS_MAX)

    async def _session(self) -> None:
        stub = MatchingServiceStub(self._channel)
        asked_ns = time.time_ns()
        call = stub.StreamEvents(
            StreamEventsRequest(
                after_journal_sequence=self._board.journal_sequence, incarnation=self._board.incarnation
            )
        )
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._idle)
        try:
            async for response in call:
                row = wire.row(response)
                self._apply(row)
                if not self._board.live:
                    timer.cancel()
                    if row.time_ns >= asked_ns:
                        self._at_head()
                    else:
                        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._idle)
                await self._store.noted()
        except grpc.aio.AioRpcError as error:
            if rejected_from(error) is Reason.INCARNATION_MISMATCH:
                raise self._other_journal(error.details() or "") from None
            raise
        finally:
            timer.cancel()
            call.cancel()
            self._board.live = False
            _live.set(0)

    def _apply(self, row: Row) -> None:
        if self._board.incarnation not in {"", row.incarnation}:
            raise self._other_journal(f"it is {row.incarnation}, the store is of {self._board.incarnation}")
        self._board.apply(row, self._store.batch)
        _sequence.set(row.last)
        _behind.observe(max(time.time_ns() - row.time_ns, 0) / 1e9)

    def _idle(self) -> None:
        """Nothing came for a while. Over a standing connection that is the head."""
        if self._channel.get_state() is grpc.ChannelConnectivity.READY:
            self._at_head()

    def _at_head(self) -> None:
        self._board.live = True
        _live.set(1)
        if not self.caught_up.is_set():
            logger.info("caught up", journal_sequence=self._board.journal_sequence)
            self.caught_up.set()

    @staticmethod
    def _other_journal(why: str) -> StartError:
        return StartError(
            f"the book's journal is not the one that this store was made of ({why}): "
            "start once with --rebuild to forget the store and read the journal from its first entry"
        )
