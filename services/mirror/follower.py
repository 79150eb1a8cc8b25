"""Whether a mirrored book may be believed now: in step, heard of lately, not late. Pure: the clock is given.

Times are nanoseconds of a clock that only runs forward. How late messages are is told without comparing two machines'
clocks: the least delay that this connection has had counts as none.
"""

from dataclasses import dataclass
from enum import Enum

from services.mirror.messages import Change, Ending, Message, Quote, Snapshot, Trade
from services.mirror.outside_book import OutsideBook, Step

NS_PER_MS = 10**6


class Standing(Enum):
    """Whether to believe the book, or why not."""

    LIVE = "live"
    SYNCING = "syncing"
    """Out of step: there is no book."""
    SILENT = "silent"
    """Nothing was heard of the symbol for too long."""
    BEHIND = "behind"
    """The exchange quotes what its depth updates have not told for too long."""
    LATE = "late"
    """Messages are on their way for too long."""


@dataclass(frozen=True)
class Patience:
    """How long is too long, in nanoseconds."""

    silent_ns: int
    behind_ns: int
    late_ns: int


class Follower:
    """One symbol's book, and when what was heard of it.

    Attributes:
        book: as far as it is known.
        heard_ns: when the symbol's last message came; None: none by this connection.
    """

    def __init__(self, patience: Patience) -> None:
        """Nothing was heard yet."""
        self.book = OutsideBook()
        self._patience = patience
        self.heard_ns: int | None = None
        self._behind_since_ns: int | None = None
        self._delay_ns = 0
        self._least_delay_ns: int | None = None

    def disconnected(self) -> None:
        """The connection is gone: what came by it does not count for the next."""
        self.book.forget()
        self.heard_ns = self._behind_since_ns = self._least_delay_ns = None
        self._delay_ns = 0

    def message(self, message: Message, now_ns: int) -> Step:
        """A message of this symbol has come."""
        self.heard_ns = now_ns
        match message:
            case Change():
                self._timed(message.time_ms, now_ns)
                step = self.book.change(message)
            case Quote():
                step = self.book.quote(message)
            case Trade():
                self._timed(message.time_ms, now_ns)
                step = Step.APPLIED
            case Ending():
                raise AssertionError("is of a connection, not of a symbol")
        self._see_behind(now_ns)
        return step

    def snapshot(self, snapshot: Snapshot, now_ns: int) -> Step:
        """The snapshot that was asked for has come."""
        step = self.book.snapshot(snapshot)
        self._see_behind(now_ns)
        return step

    def standing(self, now_ns: int) -> Standing:
        """What the book is worth now."""
        if not self.book.in_step:
            return Standing.SYNCING
        if self.heard_ns is None or now_ns - self.heard_ns > self._patience.silent_ns:
            return Standing.SILENT
        if self._behind_since_ns is not None and now_ns - self._behind_since_ns > self._patience.behind_ns:
            return Standing.BEHIND
        return Standing.LATE if self._lateness_ns > self._patience.late_ns else Standing.LIVE

    @property
    def _lateness_ns(self) -> int:
        return 0 if self._least_delay_ns is None else self._delay_ns - self._least_delay_ns

    def _timed(self, time_ms: int, now_ns: int) -> None:
        self._delay_ns = now_ns - time_ms * NS_PER_MS
        if self._least_delay_ns is None or self._delay_ns < self._least_delay_ns:
            self._least_delay_ns = self._delay_ns

    def _see_behind(self, now_ns: int) -> None:
        if not self.book.behind:
            self._behind_since_ns = None
        elif self._behind_since_ns is None:
            self._behind_since_ns = now_ns
