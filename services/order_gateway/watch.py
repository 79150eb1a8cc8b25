"""Who watches which account: hands every change of the fold to them, in bounded queues.

What a reader is told, its view decides: orders and their trades only, or the whole account. A reader begins with a
snapshot, or goes on from an index with what changed since; who is too slow gets a fresh snapshot in place of all that
waited for him.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from services.errors import Reason, Rejected
from services.order_gateway.ledger import Change, Ledger
from services.order_gateway.views import Update, View
from services.runtime import metrics

QUEUE_UPDATES_MAX = 1_000
WATCHES_ACCOUNT_MAX = 32
"""Streams of one account at once."""

HEARTBEAT_SECONDS = 5.0

_watches = metrics.gauge("gateway_order_streams", "Open StreamOrders and StreamAccount calls.")
_lagged = metrics.counter("gateway_order_streams_lagged", "Times that a reader was too slow and got a new snapshot.")


@dataclass(eq=False)
class Watch:
    """One reader. Begins with a snapshot, unless `pause` is called before anything is read."""

    view: View
    ledger: Ledger
    _queue: deque[Update] = field(default_factory=deque)
    _due: bool | None = False
    """A snapshot is due, of one that lagged (True) or the first (False); None: none is."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """There is a snapshot to read."""
        self._news.set()

    async def updates(self) -> list[Update]:
        """All that is new, oldest first; after HEARTBEAT_SECONDS of nothing, a heartbeat: nothing, as of now."""
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._news.wait()
        except TimeoutError:
            pass  # what came in this very moment is found below all the same
        self._news.clear()
        found = list(self._queue)
        self._queue.clear()
        if self._due is not None:
            found, self._due = [replace(self.view.snapshot(), lagged=self._due)], None
        return found or [Update(self.ledger.sequence, final_through=self.ledger.final_through)]

    def tell(self, change: Change) -> None:
        """Notes what an event did to this account. Beyond QUEUE_UPDATES_MAX a fresh snapshot takes the place of all."""
        if self._due is not None:
            return  # the snapshot, when it is taken, has it
        update = self.view.change(change)
        if update is None:
            return
        if len(self._queue) >= QUEUE_UPDATES_MAX:
            self._queue.clear()
            self._due = True
            _lagged.inc()
        else:
            self._queue.append(update)
        self._news.set()

    def pause(self) -> None:
        """No snapshot yet: notes changes from now on, for `resume`."""
        self._due = None
        self._news.clear()

    def resume(self, update: Update | None) -> None:
        """Goes on with what takes the place of all that was noted; with None, or if that was too much, a snapshot."""
        if self._due is None and update is not None:
            self._queue.clear()
            self._queue.append(update)
        else:
            self._queue.clear()
            self._due = False
        self._news.set()

    @property
    def noted(self) -> tuple[Update, ...]:
        """What waits to be read."""
        return tuple(self._queue)


class Watches:
    """All readers. Hears every change of the fold."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._by_account: dict[int, set[Watch]] = {}

    def tell(self, change: Change) -> None:
        """Hands a change to whom it concerns."""
        if not self._by_account:
            return
        effects = change.effects
        concerned = {order.account_id for order in effects.orders}
        concerned.update(posting.account_id for posting in effects.postings)
        for item in (*effects.movements, *effects.final):
            concerned |= {item.from_account_id, item.to_account_id}
        concerned.update(account_id for account_id, _ in effects.settled)
        for account_id in concerned & self._by_account.keys():
            for watch in self._by_account[account_id]:
                watch.tell(change)

    @contextmanager
    def watch(self, view: View) -> Iterator[Watch]:
        """A reader of an account, until the block ends.

        Raises:
            Rejected: OVERLOADED beyond WATCHES_ACCOUNT_MAX.
        """
        mine = self._by_account.setdefault(view.account_id, set())
        if len(mine) >= WATCHES_ACCOUNT_MAX:
            raise Rejected(Reason.OVERLOADED, f"{len(mine)} streams of this account are open already")
        watch = Watch(view, self._ledger)
        mine.add(watch)
        _watches.inc()
        try:
            yield watch
        finally:
            mine.discard(watch)
            _watches.dec()
            if not mine:
                self._by_account.pop(view.account_id, None)
