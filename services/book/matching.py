"""The book of one market, and the rules by which an order trades with it: by price, then time. Pure."""

from collections.abc import Iterator
from typing import Final, final

from services.book.model import (
    CANCEL_CAUSE_BUDGET,
    CANCEL_CAUSE_FOK,
    CANCEL_CAUSE_POST_ONLY,
    CANCEL_CAUSE_SELF_TRADE,
    CANCEL_CAUSE_UNSPECIFIED,
    ORDER_STATE_OPEN,
    ORDER_TYPE_LIMIT,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_FOK,
    Market,
    Order,
    PlaceOrder,
    Trade,
)
from services.book.side import Resting, Side
from services.fees import fee
from services.locks import lock


@final
class Book:
    """One market: its two sides, and what has happened in it so far.

    `orders` finds every resting order by its id; the books of a shard share it.
    """

    __slots__ = (
        "asks",
        "base_per_lot",
        "bids",
        "last_trade_id",
        "market",
        "market_sequence",
        "notional_min",
        "orders",
        "quote_per_tick_lot",
    )

    def __init__(self, market: Market, base_per_lot: int, quote_per_tick_lot: int, orders: dict[int, Resting]) -> None:
        self.market = market
        self.notional_min: Final = market.notional_min
        self.base_per_lot: Final = base_per_lot
        self.quote_per_tick_lot: Final = quote_per_tick_lot
        self.orders: Final = orders
        self.bids: Final = Side(True)
        self.asks: Final = Side(False)
        self.market_sequence = 0
        self.last_trade_id = 0

    def trade(self, place: PlaceOrder, settlement_sequence: int, trades: list[Trade]) -> tuple[int, int]:
        """Trades an order with what rests against it, at the makers' prices, and appends the trades as they happen.

        Their settlement sequences go on from `settlement_sequence`. Returns the lots that remain, and why they must not
        rest (CANCEL_CAUSE_UNSPECIFIED: nothing is left to trade with).
        """
        side = self.asks if place.side == SIDE_BUY else self.bids
        remaining = place.quantity_lots
        limited = place.type == ORDER_TYPE_LIMIT
        limit_key = side.key(place.price_ticks)
        best = side.best
        if best is None or (limited and best.key < limit_key):
            cause = CANCEL_CAUSE_FOK if place.time_in_force == TIME_IN_FORCE_FOK else CANCEL_CAUSE_UNSPECIFIED
            return remaining, cause
        if place.post_only:
            return remaining, CANCEL_CAUSE_POST_ONLY
        if place.time_in_force == TIME_IN_FORCE_FOK and not self._fills_wholly(place):
            return remaining, CANCEL_CAUSE_FOK
        budgeted = place.side == SIDE_BUY and not limited
        budget = place.budget
        while remaining > 0:
            level = side.best
            if level is None or (limited and level.key < limit_key):
                break
            maker = level.oldest
            assert maker is not None, "an empty level"
            lots = min(remaining, maker.remaining_lots)
            if budgeted:
                affordable = budget // (level.price_ticks * self.quote_per_tick_lot)
                if affordable == 0:
                    return remaining, CANCEL_CAUSE_BUDGET
                lots = min(lots, affordable)
            if maker.order.account_id == place.account_id:
                return remaining, CANCEL_CAUSE_SELF_TRADE
            side.fill(maker, lots)
            if maker.remaining_lots == 0:
                del self.orders[maker.order.order_id]
            trade = self._trade(maker, lots, place.taker_fee_ppm, settlement_sequence + len(trades))
            trades.append(trade)
            remaining -= lots
            budget -= trade.quote_amount
        return remaining, CANCEL_CAUSE_UNSPECIFIED

    def changed(self) -> int:
        """Numbers a command that changed this book."""
        self.market_sequence += 1
        return self.market_sequence

    def notional(self, price_ticks: int, lots: int) -> int:
        """Price x quantity, base units of the quote asset."""
        return price_ticks * lots * self.quote_per_tick_lot

    def rest(self, order: Order, arrival: int) -> None:
        """Puts what remains of an order behind all others of its price; `arrival` is its journal_sequence."""
        resting = Resting(order, arrival, order.quantity_lots - order.filled_lots)
        self.orders[order.order_id] = resting
        (self.bids if order.side == SIDE_BUY else self.asks).insert(resting)

    def withdraw(self, resting: Resting) -> None:
        """Takes an order out of the book."""
        del self.orders[resting.order.order_id]
        (self.bids if resting.order.side == SIDE_BUY else self.asks).remove(resting)

    def lock_of(self, resting: Resting) -> int:
        """What a resting order sets aside now."""
        return self.lock(resting.order.side, resting.order.price_ticks, resting.remaining_lots)

    def lock(self, side: int, price_ticks: int, remaining_lots: int) -> int:
        """What a limit order sets aside."""
        buys = side == SIDE_BUY
        return lock(buys, True, price_ticks, remaining_lots, 0, self.base_per_lot, self.quote_per_tick_lot)

    def order_now(
        self, resting: Resting, state: int = ORDER_STATE_OPEN, cause: int = CANCEL_CAUSE_UNSPECIFIED
    ) -> Order:
        """A resting order as it is now, or as it is once it has ended for a cause."""
        order = resting.order
        return Order(
            order.order_id,
            order.account_id,
            order.market_id,
            order.side,
            order.type,
            order.time_in_force,
            order.post_only,
            order.price_ticks,
            order.quantity_lots,
            order.quantity_lots - resting.remaining_lots,
            order.budget,
            order.client_order_id,
            order.maker_fee_ppm,
            order.taker_fee_ppm,
            state,
            cause,
            self.lock_of(resting) if state == ORDER_STATE_OPEN else 0,
        )

    def open_orders(self) -> Iterator[Order]:
        """Every order that rests here: bids, then asks, each best first, oldest first."""
        for side in (self.bids, self.asks):
            for level in side.levels_best_first():
                for resting in level.orders():
                    yield self.order_now(resting)

    def validate(self) -> int:
        """Checks both sides, the index, and that the sides do not cross. Returns how many orders rest.

        Raises AssertionError. Reads everything: for tests.
        """
        symbol = self.market.symbol
        bid, ask = self.bids.best, self.asks.best
        assert bid is None or ask is None or bid.price_ticks < ask.price_ticks, f"{symbol} is crossed"
        count = 0
        for side in (self.bids, self.asks):
            side.validate()
            for level in side.levels_best_first():
                for resting in level.orders():
                    order = resting.order
                    name = f"{symbol}: order {order.order_id}"
                    assert self.orders.get(order.order_id) is resting, f"{name} is not in the index"
                    assert order.market_id == self.market.market_id, f"{name} is of another market"
                    assert (order.side == SIDE_BUY) == side.buys, f"{name} is on the wrong side"
                    assert self.lock_of(resting) > 0, f"{name} sets nothing aside"
                    count += 1
        return count

    def _fills_wholly(self, place: PlaceOrder) -> bool:
        """Whether `trade` would fill the order: the same walk without a trace."""
        side = self.asks if place.side == SIDE_BUY else self.bids
        limited = place.type == ORDER_TYPE_LIMIT
        limit_key = side.key(place.price_ticks)
        budgeted = place.side == SIDE_BUY and not limited
        budget, remaining = place.budget, place.quantity_lots
        for level in side.levels_best_first():
            if limited and level.key < limit_key:
                return False
            for maker in level.orders():
                if maker.order.account_id == place.account_id:
                    return False
                lots = min(remaining, maker.remaining_lots)
                budget -= level.price_ticks * lots * self.quote_per_tick_lot
                if budgeted and budget < 0:
                    return False
                remaining -= lots
                if remaining == 0:
                    return True
        return False

    def _trade(self, maker: Resting, lots: int, taker_fee_ppm: int, settlement_sequence: int) -> Trade:
        """What a maker's fill looks like. The buyer receives base, the seller quote; each pays its fee out of that."""
        order = maker.order
        price_ticks = order.price_ticks
        base_amount = lots * self.base_per_lot
        quote_amount = price_ticks * lots * self.quote_per_tick_lot
        maker_receives, taker_receives = base_amount, quote_amount
        if order.side == SIDE_SELL:
            maker_receives, taker_receives = quote_amount, base_amount
        self.last_trade_id += 1
        return Trade(
            self.last_trade_id,
            settlement_sequence,
            price_ticks,
            lots,
            base_amount,
            quote_amount,
            order.order_id,
            order.account_id,
            fee(maker_receives, order.maker_fee_ppm),
            fee(taker_receives, taker_fee_ppm),
            maker.remaining_lots,
            self.lock_of(maker),
        )
