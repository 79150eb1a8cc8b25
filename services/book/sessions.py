"""The gateways' sessions as the door sees them: whose turn it is, which number is due, how much is in flight.

The engine has the truth (it numbers epochs and commands); this keeps what does not fit from ever reaching it.

All order gateways share one seat: whoever opens a session ends everybody else's. A gateway knows what its own commands
in flight have reserved, and of another's it would learn too late: two at once could spend the same funds twice.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate

from services.book.engine import Session as KnownSession
from services.command_ids import SESSION_COMMANDS_MAX, command_id_of, epoch_of, gateway_of
from services.errors import Reason, Rejected
from services.runtime.config import GATEWAY_NUMBER_MAX
from services.runtime.run import Closing

WINDOW_COMMANDS = 4_096
"""Taken and not yet durable, per session."""


def seat_of(gateway: int) -> int:
    """Of those with the same seat only the newest session may submit: all order gateways; each settler by itself."""
    return 0 if gateway <= GATEWAY_NUMBER_MAX else gateway


class Session:
    """One session that may submit.

    Attributes:
        ending: set once it may not any more; `refusal` then says why.
        in_flight: commands taken that are not durable yet.
    """

    def __init__(self, gateway: int, epoch: int, last_number: int) -> None:
        self.gateway, self.epoch = gateway, epoch
        self.ending = Closing()
        self.refusal = Rejected(Reason.CLOSING)
        self.in_flight = 0
        self._last_number = last_number

    def take(self, command_ids: Sequence[int], numbers: Sequence[int] | None = None) -> None:
        """Counts commands in, all or none; `numbers` says how many numbers each takes, else one.

        Raises:
            Rejected: SESSION_SUPERSEDED or CLOSING once it ended; OUT_OF_SEQUENCE unless they are the next numbers;
                OVERLOADED beyond the window.
        """
        if self.ending.is_set():
            raise self.refusal
        due = command_id_of(self.gateway, self.epoch, self._last_number + 1)
        taken = numbers or [1] * len(command_ids)
        for command_id, next_id in zip(command_ids, accumulate(taken, initial=due), strict=False):
            if command_id != next_id:
                raise Rejected(Reason.OUT_OF_SEQUENCE, f"command {command_id} where {next_id} is due", "command_id")
        if self._last_number + sum(taken) > SESSION_COMMANDS_MAX:
            raise Rejected(Reason.OUT_OF_SEQUENCE, "the session has no numbers left: open a new one")
        if self.in_flight + len(command_ids) > WINDOW_COMMANDS:
            raise Rejected(
                Reason.OVERLOADED,
                f"{self.in_flight} commands in flight, {len(command_ids)} more exceed the window of {WINDOW_COMMANDS}",
            )
        self._last_number += sum(taken)
        self.in_flight += len(command_ids)

    def end(self, refusal: Rejected) -> None:
        """It may submit no more. Idempotent: the first reason stays."""
        if not self.ending.is_set():
            self.refusal = refusal
            self.ending.set()


class Sessions:
    """The newest session of each gateway, and which of them may submit.

    Args:
        known: the engine's, by gateway.
    """

    def __init__(self, known: Mapping[int, KnownSession]) -> None:
        self._newest = {
            gateway: Session(gateway, session.epoch, session.last_number) for gateway, session in known.items()
        }
        self._opening: Counter[int] = Counter()

    def of(self, command_id: int) -> Session:
        """The session of a command.

        Raises:
            Rejected: SESSION_SUPERSEDED (or CLOSING), or OUT_OF_SEQUENCE for one that was never opened.
        """
        gateway, epoch = gateway_of(command_id), epoch_of(command_id)
        session = self._newest.get(gateway)
        if session is None or epoch > session.epoch:
            raise Rejected(Reason.OUT_OF_SEQUENCE, f"gateway {gateway} has no session {epoch}", "command_id")
        if session.ending.is_set():
            raise session.refusal
        if epoch < session.epoch:
            raise _superseded(gateway, epoch, gateway)
        return session

    @contextmanager
    def opening(self, gateway: int) -> Iterator[None]:
        """While a newer session of the gateway is on its way through the journal: nothing may come behind it."""
        seat = seat_of(gateway)
        self.supersede(gateway)
        self._opening[seat] += 1
        try:
            yield
        finally:
            self._opening[seat] -= 1

    def supersede(self, gateway: int) -> None:
        """A newer session of the gateway's seat is about to be journaled: nothing may come behind it."""
        for older in self._newest.values():
            if seat_of(older.gateway) == seat_of(gateway):
                older.end(_superseded(older.gateway, older.epoch, gateway))

    def opened(self, gateway: int, epoch: int) -> None:
        """A session is durable."""
        older = self._newest.get(gateway)
        if older is not None and older.epoch >= epoch:
            return  # one newer still was durable first
        self.supersede(gateway)
        self._newest[gateway] = Session(gateway, epoch, 0)
        if self._opening[seat_of(gateway)] > 1:  # one newer still is queued already, perhaps applied: this one is over
            self.supersede(gateway)

    def close(self) -> None:
        """Ends them all: the process is closing."""
        for session in self._newest.values():
            session.end(Rejected(Reason.CLOSING))


def _superseded(gateway: int, epoch: int, by: int) -> Rejected:
    return Rejected(
        Reason.SESSION_SUPERSEDED,
        f"a newer session of gateway {by} took over from session {epoch} of gateway {gateway}",
    )
