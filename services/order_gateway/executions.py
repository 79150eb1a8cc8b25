"""The gateway's line to the book: commands up, events down, and the fold of every event into the ledger.

One connection is: StreamEvents from the ledger's cursor, OpenSession, fold past the session's beginning, then Submit.
When any part of it breaks, all of it is made again, for ever.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import grpc
from clearbook.internal.v1 import matching_service_pb2 as pb
from clearbook.internal.v1.matching_service_pb2_grpc import MatchingServiceStub

from services.errors import Reason
from services.order_gateway import wire
from services.order_gateway.folding import Listener, fold
from services.order_gateway.ledger import Ledger
from services.order_gateway.model import EventRow
from services.order_gateway.progress import Progress
from services.order_gateway.session import Session
from services.order_gateway.store import Store
from services.runtime import log, metrics, rpc
from services.runtime.run import Closing, StartError, leaves_of

OPEN_SESSION_SECONDS_MAX = 10.0
CATCH_UP_SECONDS_MAX = 60.0
"""From OpenSession's answer to its event in the fold."""
SUBMIT_METHOD = "/clearbook.internal.v1.MatchingService/Submit"
SUBMIT_SECONDS_MAX = 10.0
"""How long the book may leave one message of commands unread."""
RECONNECT_SECONDS_MAX = 1.0

if TYPE_CHECKING:  # it exists in the stubs only
    from clearbook.internal.v1.matching_service_pb2_grpc import MatchingServiceAsyncStub

    Submit = grpc.aio.StreamUnaryMultiCallable[bytes, pb.SubmitResponse]

_sequence = metrics.gauge("gateway_journal_sequence", "Last event folded.")
_events = metrics.counter("gateway_folded_events", "Events folded.")
_is_open = metrics.gauge("gateway_session_open", "1 while the book takes our commands.")

logger = log.get("executions")

Watcher = Callable[[bool], None]

_LOST = (grpc.RpcError, OSError, TimeoutError, asyncio.InvalidStateError)
"""How a connection breaks."""


class Executions:
    """Follows the book.

    Args:
        ledger: what the events are folded into, loaded.
        session: what is in flight.
        store: hears of every change.
    """

    def __init__(self, ledger: Ledger, session: Session, store: Store) -> None:
        self._ledger, self._session, self._store = ledger, session, store
        self._listeners: list[Listener] = []
        self._others: list[Listener] = []
        self._watchers: list[Watcher] = []
        self.folded = Progress(ledger.sequence)
        self.ready = asyncio.Event()
        """Set once the first session is open."""

    def listen(self, listener: Listener, *, orders: bool = True) -> None:
        """Calls `listener` with every change, in order, after the ledger has it and before its command's answer.

        Args:
            listener: hears of it.
            orders: also of orders that were placed or canceled, each by a command of its own.
        """
        (self._listeners if orders else self._others).append(listener)

    def watch_session(self, watcher: Watcher) -> None:
        """Calls `watcher` with whether commands are taken, whenever that changes."""
        self._watchers.append(watcher)

    # The fold.

    def fold(self, row: EventRow) -> None:
        """Takes the events of one journal row, in one step: nobody sees half of it."""
        fold(row, self._ledger, self._session, self._store.pending, self._listeners, self._others)
        self._session.row_ended()
        self._store.row_ended(len(row.events))
        self.folded.advance(row.last_sequence)
        _sequence.set(row.last_sequence)
        _events.inc(len(row.events))

    # The line.

    async def follow(self, closing: Closing, channel: grpc.aio.Channel) -> None:
        """Keeps the line up until `closing`.

        Raises:
            StartError: the journal is another one than ours, or another process uses our gateway number.
        """
        stub: MatchingServiceAsyncStub = MatchingServiceStub(channel)
        # As the stub's, but for messages that are bytes already.
        submit: Submit = channel.stream_unary(SUBMIT_METHOD, response_deserializer=pb.SubmitResponse.FromString)
        connected = partial(self._connected, stub, submit)
        await rpc.reconnecting(closing, "book", connected, delay_seconds_max=RECONNECT_SECONDS_MAX)

    async def _connected(self, stub: "MatchingServiceAsyncStub", submit: "Submit") -> None:
        """One connection, until it breaks."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(stub), name="events from book")
                group.create_task(self._send(stub, submit, group), name="commands to book")
        except* _LOST as errors:
            lost = _cause(errors)
        finally:
            self._session.close()
            self._tell(is_open=False)
        if (reason := _fatal(lost)) is not None:
            raise StartError(reason)
        raise lost

    async def _receive(self, stub: "MatchingServiceAsyncStub") -> None:
        ledger = self._ledger
        call = stub.StreamEvents(
            pb.StreamEventsRequest(after_journal_sequence=ledger.sequence, incarnation=ledger.incarnation)
        )
        try:
            async for message in call:
                row = wire.event_row(message)
                self._check_incarnation(row.incarnation)
                self.fold(row)
                await self._store.room()
        finally:
            call.cancel()
        raise ConnectionError("the book ended the stream of events")

    async def _send(self, stub: "MatchingServiceAsyncStub", submit: "Submit", group: asyncio.TaskGroup) -> None:
        session = self._session
        opened = await stub.OpenSession(
            pb.OpenSessionRequest(gateway=session.gateway), timeout=OPEN_SESSION_SECONDS_MAX
        )
        self._check_incarnation(opened.incarnation)
        async with asyncio.timeout(CATCH_UP_SECONDS_MAX):
            await self.folded.reach(opened.journal_sequence)
        session.open(opened.epoch, opened.window_commands)
        self._tell(is_open=True)
        call = submit()
        group.create_task(_watch(call), name="end of commands to book")
        try:
            while True:
                commands = await session.batch()
                request = wire.submit_request([(command.command_id, command.body) for command in commands])
                async with asyncio.timeout(SUBMIT_SECONDS_MAX):
                    await call.write(request)
        finally:
            call.cancel()

    def _check_incarnation(self, incarnation: str) -> None:
        if self._ledger.incarnation not in {"", incarnation}:
            raise _another_journal(self._ledger.incarnation, incarnation)

    def _tell(self, *, is_open: bool) -> None:
        _is_open.set(int(is_open))
        for watcher in self._watchers:
            watcher(is_open)
        if is_open:
            self.ready.set()


async def _watch(call: "grpc.aio.StreamUnaryCall[bytes, pb.SubmitResponse]") -> None:
    """Fails when the call does: its end is the only answer it has."""
    await call
    raise ConnectionError("the book ended the stream of commands")


def _cause(errors: BaseExceptionGroup[BaseException]) -> Exception:
    """What broke the connection: a refusal that says why, rather than what fell after it."""
    leaves = [leaf for leaf in leaves_of(errors) if isinstance(leaf, Exception)]
    found = next((leaf for leaf in leaves if _fatal(leaf) is not None), leaves[0])
    # A write on a call that has just ended says so in its own way.
    return ConnectionError(str(found)) if isinstance(found, asyncio.InvalidStateError) else found


def _fatal(error: Exception) -> str | None:
    """Why trying again would be wrong; None if it is right."""
    if not isinstance(error, grpc.RpcError):
        return None
    reason = rpc.rejected_from(error)
    if reason is Reason.INCARNATION_MISMATCH:
        return f"the book's journal is not the one that this gateway's database was folded from: {_details(error)}"
    if reason is Reason.SESSION_SUPERSEDED:
        return f"another process uses this gateway's number (GATEWAY_NUMBER): {_details(error)}"
    return None


def _details(error: grpc.RpcError) -> str:
    return error.details() or "" if isinstance(error, grpc.aio.AioRpcError) else str(error)


def _another_journal(ours: str, theirs: str) -> StartError:
    return StartError(
        f"the book's journal ({theirs}) is not the one that this gateway's database was folded from ({ours}): "
        "give the book its own data again, or start the gateway with an empty database"
    )
