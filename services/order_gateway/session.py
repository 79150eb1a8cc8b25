"""The gateway's session with the book: numbers commands, keeps what is in flight, learns what became of each.

A command is in flight from `submit` until the fold passes its event, or passes the beginning of a newer session: what
was not journaled before that never will be. Nothing here awaits; executions.py carries the commands and brings the
events.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence

from services.command_ids import GATEWAYS_MAX, command_id_of, epoch_of
from services.errors import Reason, Rejected
from services.order_gateway.ledger import Change, Ledger, Reservation
from services.order_gateway.model import (
    ApproveWithdrawal,
    CommandBody,
    OrdersChanged,
    PlaceGroup,
    PlaceOrder,
    Refused,
    ReleaseWithdrawal,
    ReplaceOrder,
    RequestWithdrawal,
    Transfer,
    numbers_of,
)
from services.order_gateway.outcomes import give, promised
from services.runtime import log, metrics

BATCH_COMMANDS_MAX = 1_024
BATCH_COMMANDS_ENOUGH = 256
"""So many that wait go though the last batch is on its way yet: gateway and book then work at the same time."""
GATHER_ACCOUNTS_MIN = 4
GATHER_SECONDS_MAX = 0.02
"""How long a batch waits for more, where the last one was of GATHER_ACCOUNTS_MIN: many send one order each then."""
GATHER_GAP_SECONDS = 0.002
"""It goes once so long brought no more."""
IN_FLIGHT_COMMANDS_MAX = 8_192
IN_FLIGHT_ACCOUNT_COMMANDS_MAX = 2_048
"""One account's share, so that a flood of one does not shut out the others."""

_BEGINNINGS = (PlaceOrder, PlaceGroup, ReplaceOrder, Transfer, RequestWithdrawal)
"""What a frozen account may not ask for."""

FIELDS = {
    Reason.INVALID_PRICE: "price",
    Reason.INVALID_QUANTITY: "quantity",
    Reason.INVALID_EXPIRY: "expire_time",
    Reason.INVALID_MINIMUM: "min_quantity",
    Reason.INVALID_DISPLAY: "display_quantity",
    Reason.INVALID_TRIGGER: "trigger",
    Reason.INVALID_GROUP: "exits",
    Reason.QUANTITY_TOO_SMALL: "quantity",
    Reason.QUANTITY_TOO_LARGE: "quantity",
    Reason.QUANTITY_TRADED: "quantity",
    Reason.NOTIONAL_TOO_SMALL: "quantity",
    Reason.NOTIONAL_TOO_LARGE: "quantity",
    Reason.PRICE_OUT_OF_BAND: "price",
    Reason.WOULD_TRADE: "price",
    Reason.TOO_MANY_TRAILING_STOPS: "trigger",
    Reason.MARKET_HALTED: "market",
    Reason.MARKET_CLOSED: "market",
    Reason.MARKET_IN_AUCTION: "market",
    Reason.ADDRESS_NOT_ALLOWED: "address",
    Reason.ADDRESS_TOO_NEW: "address",
}
"""The field to blame where the book refused, which gives bare reasons."""

_in_flight = metrics.gauge("gateway_in_flight_commands", "Commands submitted and not yet folded.")
_batches = metrics.counter("gateway_submit_batches", "Messages on the Submit stream.")
_commands = metrics.counter("gateway_submit_commands", "Commands on the Submit stream.")
_not_taken = metrics.counter("gateway_not_taken_commands", "Commands that a lost session never journaled.")

logger = log.get("session")


Landing = Callable[[Change | Rejected], None]
"""Hears what became of a command, in the step of the fold that learns it: it must not fail."""


class Flight(ABC):
    """A command on its way, until its Change is known, or Rejected(NOT_TAKEN).

    Attributes:
        account_id: on whose behalf.
        body: the command.
        command_id: its number, once it is on its way.
        reservation: what it needs, set aside already when it is launched.
    """

    __slots__ = ("account_id", "body", "command_id", "reservation")

    account_id: int
    body: CommandBody
    command_id: int
    reservation: Reservation | None

    @abstractmethod
    def end(self, found: Change | Rejected) -> None:
        """It is known now: see Landing."""


class _Told(Flight):
    """One whose end somebody is told."""

    __slots__ = ("landing",)

    def __init__(self, landing: Landing) -> None:
        self.landing = landing

    def end(self, found: Change | Rejected) -> None:
        self.landing(found)


class Awaited(Flight):
    """One whose end is waited for."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done: asyncio.Future[Change] = promised()

    def end(self, found: Change | Rejected) -> None:
        """See Flight."""
        give(self.done, found)


class Session:
    """One gateway number's way into the book.

    Args:
        ledger: where reservations are kept.
        gateway: the number, 1 to GATEWAYS_MAX, of this process alone.
        is_frozen: whether an account may begin nothing new.
    """

    def __init__(self, ledger: Ledger, gateway: int, is_frozen: Callable[[int], bool] = lambda _: False) -> None:
        assert 0 < gateway <= GATEWAYS_MAX, f"gateway number {gateway}"
        self.gateway = gateway
        self._is_frozen = is_frozen
        self._ledger = ledger
        self._epoch = 0
        self._number = 0
        self._window = 0
        self._waiting: deque[Flight] = deque()
        self._flights: dict[int, Flight] = {}
        self._by_account: dict[int, int] = {}
        self._wake = asyncio.Event()
        self._last_accounts = 0
        _in_flight.set_function(self._flights.__len__)

    @property
    def is_open(self) -> bool:
        """Whether commands are taken now."""
        return self._window > 0

    # For those who want something done.

    def submit(self, body: CommandBody, account_id: int, reservation: Reservation | None = None) -> Awaited:
        """Puts a command on its way, and its reservation into effect.

        Args:
            body: the command.
            account_id: on whose behalf.
            reservation: what it needs; the caller has looked that it is available.

        Raises:
            Rejected: NOT_TAKEN while there is no session, OVERLOADED, ACCOUNT_FROZEN. Nothing is reserved then.
        """
        flight = Awaited()
        self._submit(flight, body, account_id, reservation)
        return flight

    def submit_told(
        self, body: CommandBody, account_id: int, reservation: Reservation | None, landing: Landing
    ) -> None:
        """The same for who is told what becomes of it."""
        self._submit(_Told(landing), body, account_id, reservation)

    def _submit(self, flight: Flight, body: CommandBody, account_id: int, reservation: Reservation | None) -> None:
        if self._begins(body, account_id):
            raise Rejected(Reason.ACCOUNT_FROZEN)
        self._check_room(account_id, 0)
        if reservation is not None:
            self._ledger.reserve(reservation)
        flight.account_id, flight.body, flight.reservation = account_id, body, reservation
        self.launch(account_id, (flight,))

    def room(self, account_id: int) -> int:
        """How many orders of an account may be launched now."""
        if self._is_frozen(account_id):
            return 0
        mine = self._by_account.get(account_id, 0)
        return min(self._window - len(self._flights), IN_FLIGHT_ACCOUNT_COMMANDS_MAX - mine)

    def check_room(self, account_id: int, ahead: int) -> None:
        """Raises what `submit` raises of an order that `ahead` others are to be launched before."""
        if self._is_frozen(account_id):
            raise Rejected(Reason.ACCOUNT_FROZEN)
        self._check_room(account_id, ahead)

    def _check_room(self, account_id: int, ahead: int) -> None:
        if not self.is_open:
            raise Rejected(Reason.NOT_TAKEN, "the book is away; send again with the same id")
        if len(self._flights) + ahead >= self._window:
            raise Rejected(Reason.OVERLOADED)
        mine = self._by_account.get(account_id, 0) + ahead
        if mine >= IN_FLIGHT_ACCOUNT_COMMANDS_MAX:
            raise Rejected(Reason.OVERLOADED, f"this account has {mine} commands in flight; wait for their answers")

    def launch(self, account_id: int, flights: Sequence[Flight]) -> None:
        """Puts commands of an account on their way: there is room for them, and their funds are set aside."""
        for flight in flights:
            command_id = command_id_of(self.gateway, self._epoch, self._number + 1)
            self._number += numbers_of(flight.body)
            flight.command_id = command_id
            self._flights[command_id] = flight
        self._by_account[account_id] = self._by_account.get(account_id, 0) + len(flights)
        self._waiting.extend(flights)
        self._wake.set()

    def _begins(self, body: CommandBody, account_id: int) -> bool:
        """Here, where everything passes on its way to the book: what a frozen account asks for, or is to be let go."""
        if isinstance(body, ApproveWithdrawal | ReleaseWithdrawal):
            withdrawal = self._ledger.withdrawals.get(body.withdrawal_id)
            return withdrawal is not None and self._is_frozen(withdrawal.from_account_id)
        if isinstance(body, Transfer) and body.to_account_id in self._ledger.leaving:
            return True  # the contract gives it to insurance
        return isinstance(body, _BEGINNINGS) and self._is_frozen(account_id)

    # For the fold.

    def landed(self, command_id: int) -> Flight | None:
        """The flight that the next event answers, no longer in flight, its reservation released; None: not ours."""
        flight = self._flights.pop(command_id, None)
        if flight is not None:
            self._forget(flight)
        return flight

    def row_ended(self) -> None:
        """A journal row has been folded: perhaps all that was on its way has landed."""
        if not self._sent:
            self._wake.set()

    def superseded_by(self, epoch: int) -> None:
        """A newer session of ours begins in the journal: what is in flight from before was never taken."""
        lost = [flight for flight in self._flights.values() if epoch_of(flight.command_id) < epoch]
        for flight in lost:
            del self._flights[flight.command_id]
            self._forget(flight)
            flight.end(Rejected(Reason.NOT_TAKEN))
        if lost:
            _not_taken.inc(len(lost))
            logger.warning("commands were not taken", commands=len(lost), epoch=epoch)

    # For the connection.

    def open(self, epoch: int, window_commands: int) -> None:
        """Takes commands under a new epoch. The fold has passed the session's beginning."""
        assert epoch > self._epoch, f"epoch {epoch} after {self._epoch}"
        assert not self._flights, "the fold passed the session's beginning: nothing older can be in flight"
        self._epoch, self._number = epoch, 0
        self._window = min(window_commands, IN_FLIGHT_COMMANDS_MAX)
        logger.info("session open", gateway=self.gateway, epoch=epoch, window=self._window)

    def close(self) -> None:
        """Takes no more commands: the way is lost. What was not sent is not taken; of the rest the fold will tell."""
        self._window = 0
        while self._waiting:
            flight = self._flights.pop(self._waiting.popleft().command_id)
            self._forget(flight)
            flight.end(Rejected(Reason.NOT_TAKEN))

    async def batch(self) -> list[Flight]:
        """All that waits, at most BATCH_COMMANDS_MAX, in order. Waits for the first, and for the last batch to land
        unless enough wait.

        So a lone command goes at once, and what comes while a batch is on its way goes together: a message, a row of
        the journal and the events of it cost all processes about the same for one command as for a hundred. That is
        also why it lets more in first: where many accounts send, as long as each GATHER_GAP_SECONDS bring some, and
        then as long as each turn of the event loop does.
        """
        await self._ready()
        if self._last_accounts >= GATHER_ACCOUNTS_MIN:
            await self._gather()
            await self._ready()  # the session may have been closed and opened meanwhile
        size = 0
        while size < len(self._waiting) < BATCH_COMMANDS_MAX:
            size = len(self._waiting)
            await asyncio.sleep(0)
        size = min(len(self._waiting), BATCH_COMMANDS_MAX)
        _batches.inc()
        _commands.inc(size)
        batch = [self._waiting.popleft() for _ in range(size)]
        self._last_accounts = len({flight.account_id for flight in batch})
        return batch

    async def _ready(self) -> None:
        while not self._waiting or (self._sent and len(self._waiting) < BATCH_COMMANDS_ENOUGH):
            self._wake.clear()
            await self._wake.wait()

    async def _gather(self) -> None:
        """Waits while more come, until enough wait, for GATHER_SECONDS_MAX at most."""
        clock, size = asyncio.get_running_loop().time, 0
        give_up = clock() + GATHER_SECONDS_MAX
        while size < len(self._waiting) < BATCH_COMMANDS_ENOUGH and clock() < give_up:
            size = len(self._waiting)
            await asyncio.sleep(GATHER_GAP_SECONDS)

    @property
    def _sent(self) -> int:
        """Commands on their way to the book or back."""
        return len(self._flights) - len(self._waiting)

    def _forget(self, flight: Flight) -> None:
        mine = self._by_account[flight.account_id] - 1
        if mine:
            self._by_account[flight.account_id] = mine
        else:
            del self._by_account[flight.account_id]
        if flight.reservation is not None:
            self._ledger.release(flight.reservation)


def refusal(change: Change) -> Rejected | None:
    """The book's refusal of a command, as its caller hears it; None if the command was carried out."""
    body = change.body
    name = body.reason if isinstance(body, Refused) else body.refused if isinstance(body, OrdersChanged) else ""
    if not name:
        return None
    reason = Reason.__members__.get(name)
    if reason is None:
        logger.error("the book refused for a reason unknown here", reason=name)
        return Rejected(Reason.INTERNAL)
    return Rejected(reason, field=FIELDS.get(reason, ""))


async def outcome(flight: Awaited, seconds: float) -> Change:
    """What became of a command.

    Raises:
        Rejected: the book's refusal; NOT_TAKEN; DEADLINE when it is not known within `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            change = await asyncio.shield(flight.done)
    except TimeoutError:
        raise Rejected(Reason.DEADLINE) from None
    refused = refusal(change)
    if refused is not None:
        raise refused
    return change
