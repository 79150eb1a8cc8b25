"""Who watches which account's orders: hands every change of the fold to them, in bounded queues."""

from asyncio import Event
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.errors import Reason, Rejected
from services.order_gateway.ledger import Change, Ledger
from services.order_gateway.model import Execution, Order
from services.runtime import metrics

QUEUE_UPDATES_MAX = 1_000
WATCHES_ACCOUNT_MAX = 32
"""Streams of one account at once."""

_watches = metrics.gauge("gateway_order_streams", "Open StreamOrders calls.")
_lagged = metrics.counter("gateway_order_streams_lagged", "Times that a reader was too slow and got a new snapshot.")


@dataclass(frozen=True, slots=True)
class Update:
    """What one reader is told at once."""

    sequence: int
    orders: tuple[Order, ...] = ()
    executions: tuple[Execution, ...] = ()
    snapshot: bool = False
    lagged: bool = False


class Watch:
    """One reader's view of one account, perhaps of one market only. Begins with a snapshot."""

    def __init__(self, ledger: Ledger, account_id: int, market_id: int | None) -> None:
        self._ledger, self._account_id, self._market_id = ledger, account_id, market_id
        self._queue: deque[Update] = deque()
        self._due: bool | None = False
        """A snapshot is due, of one that lagged (True) or the first (False); None: none is."""
        self._news = Event()
        self._news.set()

    async def updates(self) -> list[Update]:
        """All that is new, oldest first; waits for the first. The caller bounds the wait."""
        await self._news.wait()
        self._news.clear()
        found = list(self._queue)
        self._queue.clear()
        if self._due is not None:
            found, self._due = [self._snapshot(lagged=self._due)], None
        return found

    def tell(self, change: Change) -> None:
        """Notes what an event did to this account. Beyond QUEUE_UPDATES_MAX a fresh snapshot takes the place of all."""
        if self._due is not None:
            return  # the snapshot, when it is taken, has it
        orders = tuple(order for order in change.effects.orders if self._concerns(order))
        if not orders:
            return
        if len(self._queue) >= QUEUE_UPDATES_MAX:
            self._queue.clear()
            self._due = True
            _lagged.inc()
        else:
            executions = tuple(execution for execution in change.effects.executions if self._concerns(execution))
            self._queue.append(Update(change.sequence, orders, executions))
        self._news.set()

    def _concerns(self, item: Order | Execution) -> bool:
        return item.account_id == self._account_id and self._market_id in {None, item.market_id}

    def _snapshot(self, *, lagged: bool) -> Update:
        orders = tuple(order for order in self._ledger.open_orders(self._account_id).values() if self._concerns(order))
        return Update(self._ledger.sequence, orders, snapshot=True, lagged=lagged)


class Watches:
    """All readers. Hears every change of the fold."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._by_account: dict[int, set[Watch]] = {}

    def tell(self, change: Change) -> None:
        """Hands a change to whom it concerns."""
        for account_id in {order.account_id for order in change.effects.orders} & self._by_account.keys():
            for watch in self._by_account[account_id]:
                watch.tell(change)

    @contextmanager
    def watch(self, account_id: int, market_id: int | None) -> Iterator[Watch]:
        """A reader of an account's orders, until the block ends.

        Raises:
            Rejected: OVERLOADED beyond WATCHES_ACCOUNT_MAX.
        """
        mine = self._by_account.setdefault(account_id, set())
        if len(mine) >= WATCHES_ACCOUNT_MAX:
            raise Rejected(Reason.OVERLOADED, f"{len(mine)} order streams of this account are open already")
        watch = Watch(self._ledger, account_id, market_id)
        mine.add(watch)
        _watches.inc()
        try:
            yield watch
        finally:
            mine.discard(watch)
            _watches.dec()
            if not mine:
                self._by_account.pop(account_id, None)
