"""Replaces: an open order gets another price, quantity or client_order_id, and keeps its order_id."""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import islice

from services.errors import Reason, Rejected
from services.locks import lock
from services.order_gateway.budget import insufficient
from services.order_gateway.cancels import has_ended
from services.order_gateway.ledger import Change, Ledger, Reservation
from services.order_gateway.model import Order, Placed, Replacement, ReplaceOrder
from services.order_gateway.orders import PLACED_EXECUTIONS_MAX, Orders
from services.order_gateway.outcomes import answer, give, heard, promised
from services.order_gateway.session import Session, refusal
from services.units import Market


class Replaces:
    """Changes open orders at their owner's wish.

    Args:
        ledger: the fold.
        session: the way into the book.
        orders: knows them by name.
    """

    def __init__(self, ledger: Ledger, session: Session, orders: Orders) -> None:
        self._ledger, self._session, self._orders = ledger, session, orders
        self._tasks: set[asyncio.Task[Placed]] = set()

    async def replace(self, account_id: int, wanted: Replacement, seconds: float) -> Placed:
        """Replaces an open order; the order after it, and what it traded at once.

        The same again finds nothing left to change, so it may be sent again as often as need be. With a new
        client_order_id it is not even tried again once the order has or had that.

        Raises:
            Rejected: ORDER_NOT_FOUND, ORDER_ENDED, ORDER_LINKED, QUANTITY_TRADED, WOULD_TRADE, INSUFFICIENT_FUNDS,
                CLIENT_ORDER_ID_REUSED, INVALID_PRICE, INVALID_QUANTITY, what the market's rules refuse, OVERLOADED,
                NOT_TAKEN, DEADLINE.
        """
        (replaced,) = self.begin(account_id, [wanted], seconds)
        return await answer(replaced, seconds)

    def begin(self, account_id: int, several: Sequence[Replacement], seconds: float) -> "list[asyncio.Future[Placed]]":
        """Puts replaces on their way, in their order; each will be what `replace` returns, or raise what it raises.

        An order whose own outcome is not known yet, or which only the database knows, is found first: that one goes
        later.
        """
        promises = []
        for wanted in several:
            order, name = self._orders.at_hand(account_id, wanted.name), wanted.new_client_order_id
            if order is not None and (not name or self._orders.name_is_known(account_id, name)):
                promises.append(self._submit(order, wanted))
            else:
                promises.append(self._spawn(account_id, wanted, seconds))
        return promises

    def _submit(self, order: Order, wanted: Replacement) -> "asyncio.Future[Placed]":
        replaced: asyncio.Future[Placed] = promised()
        try:
            if wanted.new_client_order_id:
                claimed, mine = self._orders.claim(order, wanted.new_client_order_id)
                if not mine:
                    return claimed
                replaced = claimed
            if not order.is_open:
                raise has_ended(order)
            self._fly(order, wanted, replaced)
        except Rejected as rejected:
            give(replaced, rejected)
        return replaced

    def _fly(self, order: Order, wanted: Replacement, replaced: "asyncio.Future[Placed]") -> None:
        market = self._ledger.markets[order.market_id]
        if wanted.price and not order.limit:
            raise Rejected(Reason.INVALID_PRICE, "a market order has no price", "price")
        price_ticks = market.price_ticks(wanted.price) if wanted.price else order.price_ticks
        quantity_lots = market.quantity_lots(wanted.quantity) if wanted.quantity else order.quantity_lots
        if quantity_lots <= order.filled_lots:
            raise Rejected(Reason.QUANTITY_TRADED, field="quantity")
        asset, more = order.lock_asset(market), growth(order, price_ticks, quantity_lots, market)
        available = self._ledger.balance(order.account_id, asset.asset_id).available
        if available < more:
            raise insufficient(asset, more, available)
        asked = ReplaceOrder(
            order.account_id, order.order_id, price_ticks, quantity_lots, more, wanted.new_client_order_id
        )
        reservation = Reservation(order.account_id, asset.asset_id, more)
        self._session.submit_told(asked, order.account_id, reservation, partial(self._landed, order, replaced))

    def _landed(self, order: Order, replaced: "asyncio.Future[Placed]", found: Change | Rejected) -> None:
        if isinstance(found, Rejected):
            return give(replaced, found)
        refused = refusal(found)
        if refused is not None and refused.reason is Reason.ORDER_NOT_FOUND:
            # It ended while the command was on its way.
            refused = has_ended(self._ledger.orders.get(order.order_id, order))
        if refused is not None:
            return give(replaced, refused)
        after = found.effects.order(order.order_id)
        assert after is not None, f"{found.body} answers a replace of order {order.order_id}"
        taken = found.effects.traded(order.order_id)
        return give(replaced, Placed(after, tuple(islice(taken, PLACED_EXECUTIONS_MAX))))

    def _spawn(self, account_id: int, wanted: Replacement, seconds: float) -> "asyncio.Future[Placed]":
        task = asyncio.create_task(self._find_and_replace(account_id, wanted, seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(heard)
        return task

    async def _find_and_replace(self, account_id: int, wanted: Replacement, seconds: float) -> Placed:
        order, name = await self._orders.find(account_id, wanted.name, seconds), wanted.new_client_order_id
        if name and not self._orders.name_is_known(account_id, name) and await self._orders.look_up_name(order, name):
            return Placed(self._ledger.orders.get(order.order_id, order), ())
        return await answer(self._submit(order, wanted), seconds)


def growth(order: Order, price_ticks: int, quantity_lots: int, market: Market) -> int:
    """By how much an order may come to set aside more, however much of it trades before the book hears of this."""

    def needed(ticks: int, lots: int) -> int:
        return lock(order.buys, order.limit, ticks, lots, order.budget, market.base_per_lot, market.quote_per_tick_lot)

    now = needed(price_ticks, quantity_lots - order.filled_lots) - order.lock
    then = needed(price_ticks, max(quantity_lots - order.quantity_lots, 0))  # all that it asks for now has traded
    return max(now, then if order.limit else 0, 0)
