"""Replaces: an open order gets another price, quantity or client_order_id, and keeps its order_id."""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import islice, product
from typing import NamedTuple

from services.errors import Reason, Rejected
from services.locks import lock
from services.order_gateway.budget import insufficient
from services.order_gateway.cancels import has_ended
from services.order_gateway.ledger import Change, Ledger, Reservation
from services.order_gateway.model import Order, Placed, Replacement, ReplaceOrder
from services.order_gateway.orders import PLACED_EXECUTIONS_MAX, Orders
from services.order_gateway.outcomes import Promise, Promised, answer, give, heard
from services.order_gateway.session import Session, refusal
from services.records import replaced
from services.units import Market


class _Ahead(NamedTuple):
    """Replaces of an order that are on their way to the book.

    Attributes:
        flying: how many.
        price_ticks: that it has once they have all landed.
        quantity_lots: that it has then.
    """

    flying: int
    price_ticks: int
    quantity_lots: int


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
        self._ahead: dict[int, _Ahead] = {}

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

    def begin(self, account_id: int, several: Sequence[Replacement], seconds: float) -> list[Promised[Placed]]:
        """Puts replaces on their way, in their order; each will be what `replace` returns, or raise what it raises.

        An order whose own outcome is not known yet, or which only the database knows, is found first: that one goes
        later.
        """
        promises = list[Promised[Placed]]()
        for wanted in several:
            order, name = self._orders.at_hand(account_id, wanted.name), wanted.new_client_order_id
            if order is not None and (not name or self._orders.name_is_known(account_id, name)):
                promises.append(self._submit(order, wanted))
            else:
                promises.append(self._spawn(account_id, wanted, seconds))
        return promises

    def _submit(self, order: Order, wanted: Replacement) -> "Promise[Placed]":
        replaced = Promise[Placed]()
        try:
            if wanted.new_client_order_id:
                claimed, mine = self._orders.claim(order, wanted.new_client_order_id)
                if not mine:
                    return claimed
                replaced = claimed
            self._fly(order, wanted, replaced)
        except Exception as error:  # whatever it is, it is the answer of everybody who waits; the name is free again
            give(replaced, error)
        return replaced

    def _fly(self, order: Order, wanted: Replacement, replaced: "Promise[Placed]") -> None:
        if not order.is_open:
            raise has_ended(order)
        if order.terms is not None and order.terms.signed:
            raise Rejected(
                Reason.SIGNATURE_REQUIRED, "a signed order stays as it was signed: cancel it and place another"
            )
        market = self._ledger.markets[order.market_id]
        if wanted.price and not order.limit:
            raise Rejected(Reason.INVALID_PRICE, "a market order has no price", "price")
        # What is not given is left to the book: a replace or a trade on its way may change what it is here.
        price_ticks = market.price_ticks(wanted.price) if wanted.price else 0
        quantity_lots = market.quantity_lots(wanted.quantity) if wanted.quantity else 0
        if wanted.quantity and quantity_lots <= order.filled_lots:
            raise Rejected(Reason.QUANTITY_TRADED, field="quantity")
        ahead = self._ahead.get(order.order_id, _Ahead(0, order.price_ticks, order.quantity_lots))
        asset, more = order.lock_asset(market), self._growth_max(order, ahead, price_ticks, quantity_lots)
        name = wanted.new_client_order_id
        asked = ReplaceOrder(order.account_id, order.order_id, price_ticks, quantity_lots, more, name)
        reservation = Reservation(order.account_id, asset.asset_id, more)
        self._session.submit_told(asked, order.account_id, reservation, partial(self._landed, order, replaced))
        self._ahead[order.order_id] = _Ahead(
            ahead.flying + 1, price_ticks or ahead.price_ticks, quantity_lots or ahead.quantity_lots
        )

    def _growth_max(self, order: Order, ahead: _Ahead, price_ticks: int, quantity_lots: int) -> int:
        """By how much the order may come to set aside more: enough whatever becomes of the replaces ahead, if there is
        that much. The book refuses what takes more.

        Raises:
            Rejected: INSUFFICIENT_FUNDS: it would not do in any case.
        """
        if not order.lock:  # another one sets aside for it: they are linked, as the book will say
            return 0
        market = self._ledger.markets[order.market_id]
        growths = [
            growth(each, price_ticks or each.price_ticks, quantity_lots or each.quantity_lots, market)
            for each in _possible(order, ahead, market)
        ]
        asset, least = order.lock_asset(market), min(growths)
        available = self._ledger.balance(order.account_id, asset.asset_id).available
        if available < least:
            raise insufficient(asset, least, available)
        return min(max(growths), available)

    def _landed(self, order: Order, replaced: "Promise[Placed]", found: Change | Rejected) -> None:
        ahead = self._ahead.pop(order.order_id)
        if ahead.flying > 1:
            self._ahead[order.order_id] = ahead._replace(flying=ahead.flying - 1)
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


def _possible(order: Order, ahead: _Ahead, market: Market) -> list[Order]:
    """The order as it may be once each replace ahead has landed or was refused: as far as that matters for its lock."""
    found = [order]
    for ticks, lots in product({order.price_ticks, ahead.price_ticks}, {order.quantity_lots, ahead.quantity_lots}):
        if (ticks, lots) != (order.price_ticks, order.quantity_lots) and lots > order.filled_lots:
            held = lock(
                *(order.buys, order.limit, ticks, lots - order.filled_lots, order.budget),
                *(market.base_per_lot, market.quote_per_tick_lot),
            )
            found.append(replaced(order, price_ticks=ticks, quantity_lots=lots, lock=held))
    return found


def growth(order: Order, price_ticks: int, quantity_lots: int, market: Market) -> int:
    """By how much an order may come to set aside more, however much of it trades before the book hears of this."""

    def needed(ticks: int, lots: int) -> int:
        return lock(order.buys, order.limit, ticks, lots, order.budget, market.base_per_lot, market.quote_per_tick_lot)

    now = needed(price_ticks, quantity_lots - order.filled_lots) - order.lock
    then = needed(price_ticks, max(quantity_lots - order.quantity_lots, 0))  # all that it asks for now has traded
    return max(now, then if order.limit else 0, 0)
