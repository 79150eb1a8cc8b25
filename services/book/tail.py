"""The committed rows, for everybody who reads on from a cursor: the newest from memory, older ones from the database.

Readers share one bounded buffer. A reader that falls out of it reads pages of the database until it has caught up:
however slow, it costs no memory and holds nobody up.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from services.book.journal import PAGE_ROWS, Damaged, Journal, Row
from services.errors import Reason, Rejected

TAIL_ROWS_MAX = 4_096
TAIL_BYTES_MAX = 16 * 1024 * 1024
PAGE_BYTES_MAX = 1024 * 1024


class Tail:
    """What is committed.

    Args:
        journal: where older rows are.
        last_sequence: of the newest committed row.
        last_settlement_sequence: of it.

    Attributes:
        last_sequence: of the newest committed row.
        last_settlement_sequence: of it.
    """

    def __init__(self, journal: Journal, last_sequence: int, last_settlement_sequence: int) -> None:
        self._journal = journal
        self.last_sequence = last_sequence
        self.last_settlement_sequence = last_settlement_sequence
        self._order: deque[Row] = deque()
        self._by_first: dict[int, Row] = {}
        self._bytes = 0
        self._news = asyncio.Event()
        self._closed = False
        self._readers = 0
        self._read = asyncio.Event()
        self._read.set()

    def append(self, row: Row) -> None:
        """Takes a row that is durable, and wakes the readers."""
        assert row.first_sequence == self.last_sequence + 1, "rows are appended in order"
        self._order.append(row)
        self._by_first[row.first_sequence] = row
        self._bytes += len(row.events)
        while len(self._order) > TAIL_ROWS_MAX or (self._bytes > TAIL_BYTES_MAX and len(self._order) > 1):
            oldest = self._order.popleft()
            del self._by_first[oldest.first_sequence]
            self._bytes -= len(oldest.events)
        self.last_sequence = row.last_sequence
        self.last_settlement_sequence = row.last_settlement_sequence
        self._wake()

    def close(self) -> None:
        """No more rows will come: readers get what there is, then CLOSING."""
        self._closed = True
        self._wake()

    async def all_read(self) -> None:
        """Returns when no reader is left."""
        await self._read.wait()

    async def pages(self, after_sequence: int) -> AsyncGenerator[list[Row], None]:
        """Contiguous rows, at least one a page: first the one that holds `after_sequence + 1`, then on, then live.

        Use with `contextlib.aclosing`.

        Args:
            after_sequence: at most `last_sequence`.

        Raises:
            Rejected: CLOSING, once the tail is closed and read to its end.
            Damaged: the journal.
            db.Unavailable: the database.
        """
        self._readers += 1
        self._read.clear()
        try:
            while True:
                news = self._news
                if after_sequence < self.last_sequence:
                    rows = self._remembered(after_sequence) or await self._stored(after_sequence)
                    after_sequence = rows[-1].last_sequence
                    yield rows
                elif self._closed:
                    raise Rejected(Reason.CLOSING)
                else:
                    await news.wait()
        finally:
            self._readers -= 1
            if not self._readers:
                self._read.set()

    async def before_settlement(self, settlement_sequence: int) -> int:
        """The journal sequence after which everything comes that has a settlement sequence after this one."""
        last = self.last_sequence
        before = await self._journal.before_settlement(settlement_sequence)
        return last if before is None else min(before, last)

    def _remembered(self, after_sequence: int) -> list[Row]:
        rows: list[Row] = []
        size = 0
        while size < PAGE_BYTES_MAX and len(rows) < PAGE_ROWS:
            row = self._by_first.get(after_sequence + 1)
            if row is None:
                break
            rows.append(row)
            size += len(row.events)
            after_sequence = row.last_sequence
        return rows

    async def _stored(self, after_sequence: int) -> list[Row]:
        # Only up to what this process has committed: what another leader wrote is not ours to tell.
        rows = await self._journal.page(after_sequence, self.last_sequence)
        if not rows:
            raise Damaged(after_sequence + 1, "the row is missing")
        return rows

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
