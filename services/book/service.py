"""MatchingService: the book's door."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from clearbook.internal.v1 import matching_service_pb2 as pb
from clearbook.internal.v1 import matching_service_pb2_grpc

from services.book import callers, wire
from services.book.engine import Engine
from services.book.journal import Damaged, Journal, NotLeader
from services.book.loop import Loop
from services.book.model import OpenSession, SessionOpened, numbers_of
from services.book.sessions import WINDOW_COMMANDS, Session, Sessions
from services.book.settlements import messages
from services.book.tail import Tail
from services.command_ids import gateway_of
from services.errors import Reason, Rejected
from services.runtime.roles import Role, role_of
from services.runtime.rpc import Server
from services.runtime.run import Closed

SERVICE = "clearbook.internal.v1.MatchingService"


@dataclass(frozen=True)
class Lead:
    """All that a leading book consists of."""

    engine: Engine
    journal: Journal
    tail: Tail
    loop: Loop
    sessions: Sessions


class MatchingServicer(matching_service_pb2_grpc.MatchingServiceServicer):
    """Serves once `lead` is set; UNAVAILABLE before."""

    def __init__(self) -> None:
        self.lead: Lead | None = None

    def add_to(self, server: Server) -> None:
        """Adds itself before the server's start."""
        server.add(matching_service_pb2_grpc.add_MatchingServiceServicer_to_server, self, SERVICE)

    @property
    def _leading(self) -> Lead:
        if self.lead is None:
            raise Rejected(Reason.UNAVAILABLE, "the book does not lead yet")
        return self.lead

    async def OpenSession(self, request: pb.OpenSessionRequest, context: Any) -> pb.OpenSessionResponse:
        """See the proto."""
        lead = self._leading
        gateway = wire.gateway_number(request)
        callers.check_session(role_of(context), gateway)
        # A caller that goes away does not take its command out of the queue: what follows from it happens all the same.
        opened = await asyncio.shield(asyncio.create_task(_open(lead, gateway), name="open session"))
        return pb.OpenSessionResponse(
            epoch=opened.epoch,
            journal_sequence=opened.journal_sequence,
            window_commands=WINDOW_COMMANDS,
            incarnation=lead.engine.incarnation,
        )

    async def Submit(self, request_iterator: AsyncIterator[pb.SubmitRequest], context: Any) -> pb.SubmitResponse:
        """See the proto."""
        lead = self._leading
        taken = 0
        request = await anext(request_iterator, None)
        if request is None:
            return pb.SubmitResponse()
        role, command_id = role_of(context), request.commands[0].command_id if request.commands else 0
        callers.check_session(role, gateway_of(command_id))
        session = lead.sessions.of(command_id)
        try:
            async with session.ending.guard():
                while request is not None:
                    taken += _take(lead, session, role, request)
                    request = await anext(request_iterator, None)
        except Closed:
            raise session.refusal from None
        return pb.SubmitResponse(taken_commands=taken)

    async def StreamEvents(
        self, request: pb.StreamEventsRequest, context: Any
    ) -> AsyncIterator[pb.StreamEventsResponse]:
        """See the proto. A cursor within a row is served: only the first message is cut to fit."""
        lead = self._leading
        after = request.after_journal_sequence
        incarnation = lead.engine.incarnation
        if request.incarnation != incarnation and (after or request.incarnation):
            raise Rejected(
                Reason.INCARNATION_MISMATCH, f"the cursor is of {request.incarnation!r}, not {incarnation!r}"
            )
        if after > lead.tail.last_sequence:
            await _refuse_ahead(lead, "journal_sequence", after, lead.tail.last_sequence)
        async with _dying(lead), aclosing(lead.tail.pages(after)) as pages:
            async for rows in pages:
                for row in rows:
                    cut = row.first_sequence <= after
                    yield pb.StreamEventsResponse(
                        first_journal_sequence=after + 1 if cut else row.first_sequence,
                        last_journal_sequence=row.last_sequence,
                        time_ns=row.time_ns,
                        events=wire.events_after(row.events, after) if cut else row.events,
                        incarnation=incarnation,
                    )

    async def StreamSettlementMessages(
        self, request: pb.StreamSettlementMessagesRequest, context: Any
    ) -> AsyncIterator[pb.StreamSettlementMessagesResponse]:
        """See the proto."""
        lead = self._leading
        after = request.after_settlement_sequence
        if after > lead.tail.last_settlement_sequence:
            await _refuse_ahead(lead, "settlement_sequence", after, lead.tail.last_settlement_sequence)
        async with _dying(lead), aclosing(messages(lead.tail, lead.engine, after)) as found:
            async for message in found:
                yield pb.StreamSettlementMessagesResponse(message=message)


@dataclass(frozen=True, slots=True)
class _Opened:
    epoch: int
    journal_sequence: int


async def _open(lead: Lead, gateway: int) -> _Opened:
    """Journals a newer session; from now on nothing of an older one is taken."""
    with lead.sessions.opening(gateway):
        event = await lead.loop.execute(OpenSession(gateway))
        if not isinstance(event.body, SessionOpened):
            raise Rejected(Reason.INVALID_FIELD, f"gateway {gateway} cannot open a session any more", "gateway")
        lead.sessions.opened(gateway, event.body.epoch)
        return _Opened(event.body.epoch, event.journal_sequence)


def _take(lead: Lead, session: Session, role: Role | None, request: pb.SubmitRequest) -> int:
    """All of a request or, by Rejected, nothing of it."""
    if role is not None:
        callers.check_commands(role, (command.WhichOneof("kind") for command in request.commands))
    commands = wire.submitted(request)
    session.take([command.command_id for command, _ in commands], [numbers_of(command.body) for command, _ in commands])
    lead.loop.take(commands, session)
    return len(commands)


async def _refuse_ahead(lead: Lead, what: str, cursor: int, last: int) -> None:
    """A cursor ahead of us is of another journal, unless another leader has gone on with ours: then we must end."""
    newest = await lead.journal.last()
    if newest is not None and newest.epoch > lead.engine.epoch:
        lead.loop.fail(NotLeader(f"leader {newest.epoch} has taken over from {lead.engine.epoch}"))
        raise Rejected(Reason.UNAVAILABLE)
    raise Rejected(Reason.INCARNATION_MISMATCH, f"{what} {cursor} is ahead of this journal, which ends with {last}")


@asynccontextmanager
async def _dying(lead: Lead) -> AsyncIterator[None]:
    """A damaged journal ends the process, whoever comes upon it."""
    try:
        yield
    except Damaged as error:
        lead.loop.fail(error)
        raise Rejected(Reason.UNAVAILABLE) from error
