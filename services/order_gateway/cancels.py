"""Cancels: of one order, of several, of all that are open (which is for the book to know, in one command)."""

import asyncio
from collections.abc import Coroutine, Sequence, Set
from functools import partial
from typing import Any, TypeVar

from services.errors import Reason, Rejected
from services.order_gateway.ledger import Change, Ledger
from services.order_gateway.model import (
    CancelAfter,
    CancelAfterSet,
    CancelCause,
    CancelOrder,
    CancelOrders,
    Order,
    OrdersChanged,
)
from services.order_gateway.orders import Orders
from services.order_gateway.outcomes import Promise, Promised, answer, give, heard, outcomes
from services.order_gateway.session import Awaited, Session, outcome, refusal

T = TypeVar("T")

CANCELS_PER_COMMAND = 256
"""What one command ends, of many orders: the book's bound."""
PAGE_ORDERS = 500
"""Cancels of one account on their way at once, when many of its orders are canceled one by one."""


class Cancels:
    """Ends open orders at their owner's wish.

    Args:
        ledger: the fold.
        session: the way into the book.
        orders: knows them by name.
    """

    def __init__(self, ledger: Ledger, session: Session, orders: Orders) -> None:
        self._ledger, self._session, self._orders = ledger, session, orders
        self._tasks: set[asyncio.Task[Any]] = set()

    async def cancel(self, account_id: int, name: int | str, seconds: float) -> Order:
        """Cancels an open order, named by our id or the client's; the order after it ended.

        Raises:
            Rejected: ORDER_NOT_FOUND, ORDER_ENDED, OVERLOADED, NOT_TAKEN, DEADLINE.
        """
        (ended,) = self.begin(account_id, [name], seconds)
        return await answer(ended, seconds)

    def begin(
        self,
        account_id: int,
        names: Sequence[int | str],
        seconds: float,
        cause: CancelCause = CancelCause.USER,
    ) -> list[Promised[Order]]:
        """Puts cancels on their way, in their order; each will be what `cancel` returns, or raise what it raises.

        An order whose own outcome is not known yet, or which only the database knows, is found first: that cancel goes
        later.
        """
        found = [self._orders.at_hand(account_id, name) for name in names]
        return [
            self._submit(order, cause) if order is not None else self._spawn(account_id, name, seconds, cause)
            for name, order in zip(names, found, strict=True)
        ]

    async def cancel_all(
        self,
        account_id: int,
        market_id: int | None,
        buys: bool | None,
        seconds: float,
        cause: CancelCause = CancelCause.USER,
    ) -> list[Order]:
        """Cancels all open orders, perhaps of one market or side only; those that it ended, oldest first.

        Orders that were on their way when it was called are among them, and what another gateway has placed.

        Raises:
            Rejected: OVERLOADED, NOT_TAKEN, DEADLINE: perhaps not all were canceled; the same again ends the rest.
        """
        clock = asyncio.get_running_loop().time
        give_up = clock() + seconds
        await outcomes(self._orders.in_flight(account_id), seconds)
        command, ended, more = CancelOrders(account_id, market_id or 0, buys, cause), list[Order](), True
        while more:
            found = await outcome(self._session.submit(command, account_id), max(give_up - clock(), 0))
            ended += _ended_by(command, found)
            more = isinstance(found.body, OrdersChanged) and found.body.more
        return sorted(ended, key=lambda order: order.create_sequence)

    def begin_all(
        self, account_id: int, market_id: int | None, buys: bool | None, seconds: float
    ) -> "Promised[list[Order]]":
        """Puts cancels of all that is open on their way: what is submitted later comes after all of them.

        It will be what `cancel_all` returns, or raise what it raises.
        """
        open_orders = len(self._ledger.open_orders(account_id)) + len(self._orders.in_flight(account_id))
        command, flights = CancelOrders(account_id, market_id or 0, buys), list[Awaited]()
        try:
            for _ in range(1 + open_orders // CANCELS_PER_COMMAND):
                flights.append(self._session.submit(command, account_id))
        except Rejected as rejected:
            refused = Promise[list[Order]]()
            give(refused, rejected)
            return refused
        return self._keep(self._gather(command, flights, seconds))

    async def _gather(self, command: CancelOrders, flights: "Sequence[Awaited]", seconds: float) -> list[Order]:
        ended = list[Order]()
        for found in await outcomes([flight.done for flight in flights], seconds):
            if isinstance(found, Exception):
                raise found
            ended += _ended_by(command, found)
        return sorted(ended, key=lambda order: order.create_sequence)

    async def cancel_these(
        self, account_id: int, order_ids: Set[int], seconds: float, cause: CancelCause
    ) -> list[Order]:
        """Cancels those of some orders that are open; those that it ended. Raises Rejected as `cancel_all`."""
        clock = asyncio.get_running_loop().time
        chosen = [order_id for order_id in self._ledger.open_orders(account_id) if order_id in order_ids]
        give_up = clock() + seconds
        canceled: list[Order] = []
        for start in range(0, len(chosen), PAGE_ORDERS):
            seconds_left = max(give_up - clock(), 0)
            page = self.begin(account_id, chosen[start : start + PAGE_ORDERS], seconds_left, cause)
            for known in await outcomes(page, seconds_left):
                if isinstance(known, Order):
                    canceled.append(known)
                elif not (isinstance(known, Rejected) and known.reason is Reason.ORDER_ENDED):
                    raise known
        return canceled

    async def cancel_after(self, account_id: int, market_id: int | None, after: int, seconds: float) -> int:
        """Sets when all open orders are canceled unless this is called again; when that is, in ns of journal time.

        Args:
            account_id: whose.
            market_id: only there; None: everywhere, which is a switch of its own.
            after: seconds from now; 0: they are not canceled, and 0 is returned.
            seconds: how long to wait for the outcome.

        Raises:
            Rejected: OVERLOADED, NOT_TAKEN; DEADLINE, after which the same may be said again.
        """
        flight = self._session.submit(CancelAfter(account_id, market_id or 0, after), account_id)
        change = await outcome(flight, seconds)
        assert isinstance(change.body, CancelAfterSet), f"{change.body} answers a CancelAfter"
        return change.body.deadline_ns

    def _submit(self, order: Order, cause: CancelCause) -> "Promise[Order]":
        ended = Promise[Order]()
        command = CancelOrder(order.account_id, order.order_id, cause)
        try:
            if not order.is_open:
                raise has_ended(order)
            self._session.submit_told(command, order.account_id, None, partial(self._landed, order, ended))
        except Rejected as rejected:
            give(ended, rejected)
        return ended

    def _landed(self, order: Order, ended: "Promise[Order]", found: Change | Rejected) -> None:
        if isinstance(found, Rejected):
            return give(ended, found)
        refused = refusal(found)
        if refused is not None and refused.reason is Reason.ORDER_NOT_FOUND:
            # It ended while the cancel was on its way.
            refused = has_ended(self._ledger.orders.get(order.order_id, order))
        if refused is not None:
            return give(ended, refused)
        after = found.effects.order(order.order_id)
        assert after is not None, f"{found.body} answers a cancel of order {order.order_id}"
        return give(ended, after)

    def _spawn(self, account_id: int, name: int | str, seconds: float, cause: CancelCause) -> "asyncio.Future[Order]":
        return self._keep(self._find_and_cancel(account_id, name, seconds, cause))

    def _keep(self, work: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(heard)
        return task

    async def _find_and_cancel(self, account_id: int, name: int | str, seconds: float, cause: CancelCause) -> Order:
        order = await self._orders.find(account_id, name, seconds)
        return await answer(self._submit(order, cause), seconds)


def _ended_by(command: CancelOrders, found: Change) -> list[Order]:
    """What a command that cancels all has canceled."""
    assert isinstance(found.body, OrdersChanged), f"{found.body} answers a CancelOrders"
    mine = [order for order in found.effects.orders if order.account_id == command.account_id]
    return [order for order in mine if order.cause in {command.cause, CancelCause.LINKED}]


def has_ended(order: Order) -> Rejected:
    """The refusal of what only an open order can have."""
    return Rejected(Reason.ORDER_ENDED, f"order {order.order_id} is {order.state.name} already")
