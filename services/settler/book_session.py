"""The settler's session at the book: what is final on chain goes in as commands, and comes back as journaled events.

The settler is a gateway like any other. It follows the journal from a durable cursor, so it always knows what the book
has taken, whoever sent it: DepositFinal and ClaimFinal once each, in the order of the contract's numbers;
SettlementFinal as it advances, and before the claims of what it made final. After a lost connection it opens a new
session, reads on past its beginning, and submits what is still due.
"""

import asyncio
from typing import Any, Final

import grpc

from services.command_ids import command_id_of
from services.errors import Reason
from services.runtime import log, metrics, rpc
from services.runtime.run import Closing
from services.runtime.streams import reconnecting
from services.settler import wire
from services.settler.alarms import Alarms, Halted
from services.settler.inbox import Inbox
from services.settler.news import News
from services.settler.store import Store

OPEN_SECONDS_MAX: Final = 10.0
OUTCOME_SECONDS_MAX: Final = 30.0
REFUSED_RETRY_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 10.0
DEPOSITS_MAX: Final = 64
"""Deposits submitted at once, and claims."""
CURSOR_EVENTS_MAX: Final = 5_000
"""Events read before the cursor is stored though nothing concerned the settler."""

_submitted = metrics.counter("settler_submitted", "Commands submitted to the book.", ["kind"])

logger = log.get("book")


class BookSession:
    """Run :meth:`run`."""

    def __init__(self, stub: wire.Stub, store: Store, inbox: Inbox, alarms: Alarms, gateway: int) -> None:
        self._stub = stub
        self._store = store
        self._inbox = inbox
        self._alarms = alarms
        self._gateway = gateway
        self._folded = store.number("journal_sequence")
        self._outcomes: dict[int, str] = {}
        self._followed = News()
        self._up_to_date = False

    async def run(self, closing: Closing) -> None:
        """Keeps a session until `closing`."""
        lost = (grpc.RpcError, OSError, TimeoutError, Halted)
        await reconnecting(closing, "session at the book", self._session, retry_on=lost)

    async def _session(self) -> None:
        self._up_to_date = False
        opened = await self._stub.OpenSession(wire.session_request(self._gateway), timeout=OPEN_SECONDS_MAX)
        await self._check_incarnation(opened.incarnation)
        following = asyncio.create_task(self._follow(), name="follow")
        submitting = asyncio.create_task(self._submit(opened.epoch, opened.journal_sequence), name="submit")
        try:
            done, _ = await asyncio.wait({following, submitting}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            following.cancel()
            submitting.cancel()
            await asyncio.wait({following, submitting})

    async def _check_incarnation(self, incarnation: str) -> None:
        known = self._store.meta.get("incarnation")
        if known is None:
            await self._store.remember(incarnation=incarnation)
        elif known != incarnation:
            self._alarms.raise_("journal", f"the book has journal {incarnation}, this settler's is {known}")
            raise Halted("another journal")
        else:
            self._alarms.clear("journal")

    def journal_through(self) -> int | None:
        """The journal's last settlement sequence; None while the journal has not been read up to now."""
        return max(self._inbox.owed_through, self._store.contiguous) if self._up_to_date else None

    # Following

    async def _follow(self) -> None:
        incarnation = self._store.meta["incarnation"]
        call = self._stub.StreamEvents(wire.events_request(self._folded, incarnation))
        try:
            async for response in call:
                await self._fold(wire.folded(response, self._gateway))
        except grpc.aio.AioRpcError as error:
            if rpc.rejected_from(error) is Reason.INCARNATION_MISMATCH:
                self._alarms.raise_("journal", f"the book refuses this settler's cursor: {error.details()}")
            raise
        finally:
            call.cancel()

    async def _fold(self, rows: wire.Folded) -> None:
        self._inbox.owed_through = max(self._inbox.owed_through, rows.settlement_sequence)
        values: dict[str, int] = {}
        if rows.final_through:
            values["final_journaled"] = rows.final_through
        if rows.deposit_index:
            values["deposits_journaled"] = rows.deposit_index
        if rows.claim_index:
            values["claims_journaled"] = rows.claim_index
        if rows.exit_index:
            values["exits_journaled"] = rows.exit_index
        if rows.note_index:
            values["notes_journaled"] = rows.note_index
        if rows.debts:
            await self._store.know_debts(rows.debts)
        if rows.owners:
            await self._store.know_owners(rows.owners)  # before the cursor has passed them
        if rows.deposited or rows.payouts:
            await self._store.journaled(rows.deposited, rows.payouts)  # likewise
        for index, account in rows.astray:
            why = f"deposit {index} is for account {account}, which nobody has: insurance is credited"
            self._alarms.once("deposit", why)
        for index, account in rows.late:
            why = f"deposit {index} is told after account {account} has left with it: insurance is credited"
            self._alarms.once("deposit", why)
        if values or rows.journal_sequence - self._store.number("journal_sequence") >= CURSOR_EVENTS_MAX:
            values |= {"journal_sequence": rows.journal_sequence, "owed_through": self._inbox.owed_through}
            await self._store.remember(**values)
        self._folded = rows.journal_sequence
        self._outcomes |= dict(rows.outcomes)
        self._followed.send()

    # Submitting

    async def _submit(self, epoch: int, begins: int) -> None:
        while self._folded < begins:
            await self._followed.wait()
        self._up_to_date = True
        call = self._stub.Submit()
        ended = asyncio.create_task(_end_of(call), name="submit ended")
        working = asyncio.create_task(self._work(call, epoch), name="submit working")
        try:
            done, _ = await asyncio.wait({ended, working}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            working.cancel()
            ended.cancel()
            call.cancel()
            await asyncio.wait({ended, working})

    async def _work(self, call: "grpc.aio.StreamUnaryCall[Any, Any]", epoch: int) -> None:
        number = 0
        while True:
            commands = await self._due(command_id_of(self._gateway, epoch, number + 1))
            if not commands:
                await self._store.news.wait(IDLE_SECONDS)
                continue
            self._outcomes.clear()
            await call.write(wire.submit_request(commands))
            number += len(commands)
            async with asyncio.timeout(OUTCOME_SECONDS_MAX):
                await self._answered(command_id_of(self._gateway, epoch, number))
            refused = sorted({reason for reason in self._outcomes.values() if reason})
            if refused:
                why = f"the book refuses what is final on chain: {', '.join(refused)}"
                self._alarms.raise_("submit", why, halts=False)
                await asyncio.sleep(REFUSED_RETRY_SECONDS)
            else:
                self._alarms.clear("submit")

    async def _answered(self, last: int) -> None:
        """Outcomes come in the order of the commands: the last one's is the end."""
        while last not in self._outcomes:
            await self._followed.wait()

    async def _due(self, first: int) -> list[Any]:
        """What the book has not taken yet, as commands with ids from `first` on."""
        commands: list[Any] = []
        journaled = self._store.number("deposits_journaled")
        if self._store.number("deposits_seen") > journaled:
            for seen in await self._store.deposits_after(journaled, DEPOSITS_MAX):
                if not 0 < seen.account <= wire.ACCOUNT_MAX:
                    why = f"deposit {seen.deposit_index} is for account {seen.account:#x}, which is none of ours"
                    self._alarms.raise_("deposit", why, halts=False)
                    break
                commands.append(wire.deposit_command(first + len(commands), seen))
            _submitted.labels("deposit").inc(len(commands))
        final = self._store.final_through
        if final > self._store.number("final_journaled"):
            commands.append(wire.final_command(first + len(commands), final))
            _submitted.labels("final").inc()
        commands += await self._due_notes(first + len(commands))
        commands += await self._due_exits(first + len(commands))
        commands += await self._due_claims(first + len(commands), final)
        return commands

    async def _due_notes(self, first: int) -> list[Any]:
        """What has become of debts: after what made them final, and before the exits of who owes."""
        if self._store.debts:
            await self._store.note_resolutions()
            await self._store.note_lost()
        journaled = self._store.number("notes_journaled")
        if self._store.number("notes_seen") <= journaled:
            return []
        notes = await self._store.notes_after(journaled, DEPOSITS_MAX)
        _submitted.labels("note").inc(len(notes))
        return [wire.note_command(first + place, each) for place, each in enumerate(notes)]

    async def _due_exits(self, first: int) -> list[Any]:
        """Requests of exits, and what was taken back."""
        journaled = self._store.number("exits_journaled")
        if self._store.number("exits_seen") <= journaled:
            return []
        seen = await self._store.exits_after(journaled, DEPOSITS_MAX)
        _submitted.labels("exit").inc(len(seen))
        return [wire.exit_command(first + place, each) for place, each in enumerate(seen)]

    async def _due_claims(self, first: int, final: int) -> list[Any]:
        """Claims of what the book knows to be final, or hears of just before."""
        journaled = self._store.number("claims_journaled")
        if self._store.number("claims_seen") <= journaled:
            return []
        commands: list[Any] = []
        for seen in await self._store.claims_after(journaled, DEPOSITS_MAX):
            if seen.settled_through > final:
                break
            commands.append(wire.claim_command(first + len(commands), seen))
        _submitted.labels("claim").inc(len(commands))
        return commands


async def _end_of(call: "grpc.aio.StreamUnaryCall[Any, Any]") -> None:
    """Returns or raises when the book ends a Submit stream, as it does when a newer session takes over."""
    await call
