"""The book of one market, and the rules by which an order trades with it: by price, then time. Pure."""

from collections.abc import Iterator
from typing import Final, final

from services.book.expiries import Expiries
from services.book.groups import Group
from services.book.model import (
    CANCEL_CAUSE_BAND,
    CANCEL_CAUSE_BUDGET,
    CANCEL_CAUSE_EXPIRED,
    CANCEL_CAUSE_FOK,
    CANCEL_CAUSE_IOC,
    CANCEL_CAUSE_LINKED,
    CANCEL_CAUSE_MARKET,
    CANCEL_CAUSE_POST_ONLY,
    CANCEL_CAUSE_SELF_TRADE,
    CANCEL_CAUSE_UNSPECIFIED,
    MARKET_STATE_OPEN,
    MARKET_STATE_PRE_OPEN,
    ORDER_STATE_CANCELED,
    ORDER_STATE_FILLED,
    ORDER_STATE_OPEN,
    ORDER_STATE_WAITING,
    ORDER_TYPE_LIMIT,
    SELF_TRADE_ALLOW,
    SELF_TRADE_CANCEL_BOTH,
    SELF_TRADE_CANCEL_NEWEST,
    SELF_TRADE_DECREMENT,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_DAY,
    TIME_IN_FORCE_FOK,
    TIME_IN_FORCE_IOC,
    TRIGGER_TRAILING,
    TRIGGER_UNSPECIFIED,
    Market,
    Order,
    PlaceOrder,
    ReferencePriceSet,
    Trade,
)
from services.book.owners import Owners
from services.book.side import Level, Resting, Side
from services.book.triggers import Triggers
from services.book.turn import Turn
from services.exact import product
from services.fees import PPM, fee
from services.locks import lock
from services.reference import is_fresh


def self_trade_of(place: PlaceOrder) -> int:
    """What happens when the order meets one of its owner's."""
    return SELF_TRADE_CANCEL_NEWEST if place.terms is None else place.terms.self_trade


def waits(place: PlaceOrder) -> bool:
    """Whether the order waits for a price before it goes to market."""
    return place.terms is not None and place.terms.trigger != TRIGGER_UNSPECIFIED


def is_trailing(place: PlaceOrder) -> bool:
    """Whether its trigger follows the price."""
    return place.terms is not None and place.terms.trigger == TRIGGER_TRAILING


def is_signed(place: PlaceOrder) -> bool:
    """Whether its account's wallet has signed it."""
    return place.terms is not None and place.terms.signed != ""


def is_immediate(place: PlaceOrder) -> bool:
    """Whether nothing of the order may rest."""
    return TIME_IN_FORCE_IOC <= place.time_in_force <= TIME_IN_FORCE_FOK


def is_over(place: PlaceOrder, time_ns: int) -> bool:
    """Whether its time is over by then."""
    return place.terms is not None and 0 < place.terms.expires_ns <= time_ns


def resized(place: PlaceOrder, quantity_lots: int) -> PlaceOrder:
    """The same order of another quantity."""
    return reshaped(place, place.price_ticks, quantity_lots)


def reshaped(
    place: PlaceOrder, price_ticks: int, quantity_lots: int, client_order_id: str = "", budget: int = 0
) -> PlaceOrder:
    """The same order with another price and quantity, and another client_order_id and budget if they are given."""
    return PlaceOrder(
        place.account_id,
        place.market_id,
        place.side,
        place.type,
        place.time_in_force,
        place.post_only,
        price_ticks,
        quantity_lots,
        budget or place.budget,
        client_order_id or place.client_order_id,
        place.maker_fee_ppm,
        place.taker_fee_ppm,
        place.terms,
    )


def notional_min_of(market: Market) -> int:
    """The least price x quantity of a limit order: by the market's rules if it has any."""
    return market.notional_min if market.rules is None else market.rules.notional_min


@final
class Book:
    """One market: its two sides, and what has happened in it so far.

    `orders` finds every open order by its id, `owners` by its account; the books of a shard share them. `cold` says
    whether a plain order may have to do with more than the makers it trades with: then it goes over the desk, unless
    it only rests or leaves. By their ids, `hidden` is what icebergs do not show of themselves, `groups` has the orders
    that belong to others. `released` are the orders whose trigger was hit and whose turn has not come yet,
    `held_trails` the trailing stops that wait for their entry. Within a command, and as long as an auction goes on,
    `ended` are the groups whose entry has ended; `credited` are those whose entry has received something. `edition`
    says by which rules it is decided.
    `auction_ticks` is the price at which the book still has to be uncrossed, 0 for none. `days` are the orders that end
    with the day. `reference` is what the price is elsewhere, None before it was first told.
    """

    __slots__ = (
        "asks",
        "auction_ticks",
        "base_per_lot",
        "bids",
        "cold",
        "credited",
        "days",
        "edition",
        "ended",
        "expiries",
        "groups",
        "held_trails",
        "hidden",
        "last_price_ticks",
        "last_trade_id",
        "market",
        "market_sequence",
        "notional_min",
        "orders",
        "owners",
        "quote_per_tick_lot",
        "reference",
        "released",
        "triggers",
    )

    def __init__(
        self,
        market: Market,
        base_per_lot: int,
        quote_per_tick_lot: int,
        orders: dict[int, Resting],
        owners: Owners,
        edition: int,
    ) -> None:
        self.market = market
        self.edition = edition
        self.notional_min = notional_min_of(market)
        self.base_per_lot: Final = base_per_lot
        self.quote_per_tick_lot: Final = quote_per_tick_lot
        self.orders: Final = orders
        self.owners: Final = owners
        self.bids: Final = Side(True)
        self.asks: Final = Side(False)
        self.market_sequence = 0
        self.last_trade_id = 0
        self.cold = market.state != MARKET_STATE_OPEN
        self.last_price_ticks = 0
        self.auction_ticks = 0
        self.reference: ReferencePriceSet | None = None
        self.expiries: Final = Expiries()
        self.days: Final = Expiries()
        self.triggers: Final = Triggers()
        self.released: list[int] = []
        self.held_trails: set[int] = set()
        self.hidden: dict[int, int] = {}
        self.groups: dict[int, Group] = {}
        self.ended: list[Group] = []
        self.credited: list[Group] = []

    def trade(
        self,
        place: PlaceOrder,
        lots: int,
        settlement_sequence: int,
        trades: list[Trade],
        turn: Turn | None,
        time_ns: int,
    ) -> tuple[int, int]:
        """Trades `lots` of an order with what rests against it, at the makers' prices, appending the trades.

        Their settlement sequences go on from `settlement_sequence`. What its owner's own orders come to lose by it goes
        into `turn`; an order without terms needs none. Returns the lots that remain, and why they must not rest
        (CANCEL_CAUSE_UNSPECIFIED: nothing is left to trade with).
        """
        side = self.asks if place.side == SIDE_BUY else self.bids
        remaining = lots
        limit_ticks = self.limit_of(place, time_ns)
        limited = limit_ticks > 0
        limit_key = side.key(limit_ticks)
        best = side.best
        if best is None or (limited and best.key < limit_key):
            if place.time_in_force == TIME_IN_FORCE_FOK:
                return remaining, CANCEL_CAUSE_FOK
            return remaining, self._unfilled(place, side)
        if place.post_only:
            return remaining, CANCEL_CAUSE_POST_ONLY
        if place.time_in_force == TIME_IN_FORCE_FOK and not self.fills(place, remaining, remaining, turn, time_ns):
            return remaining, CANCEL_CAUSE_FOK
        budgeted = place.side == SIDE_BUY and place.type != ORDER_TYPE_LIMIT
        budget = place.budget
        while remaining > 0:
            level = side.best
            if level is None or (limited and level.key < limit_key):
                break
            maker = level.oldest
            assert maker is not None, "an empty level"
            if turn is not None and turn.overdue and is_over(maker.place, turn.time_ns):
                if turn.room <= 0:
                    return remaining, CANCEL_CAUSE_MARKET
                self.end(maker, CANCEL_CAUSE_EXPIRED, turn)
                continue
            lots = min(remaining, maker.remaining_lots)
            if budgeted:
                affordable = budget // (level.price_ticks * self.quote_per_tick_lot)
                if affordable == 0:
                    return remaining, CANCEL_CAUSE_BUDGET
                lots = min(lots, affordable)
            if maker.place.account_id == place.account_id and self_trade_of(place) != SELF_TRADE_ALLOW:
                remaining, ended = self._meet_own(place, remaining, maker, turn)
                if ended:
                    return remaining, CANCEL_CAUSE_SELF_TRADE
                continue
            self.take(side, maker, lots, turn)
            if self.groups and turn is not None:
                self.part(maker.order_id, turn)
            trade = self.trade_of(
                maker, level.price_ticks, lots, place.taker_fee_ppm, settlement_sequence + len(trades)
            )
            trades.append(trade)
            if self.groups:
                received = trade.base_amount if maker.place.side == SIDE_BUY else trade.quote_amount
                self.credit_entry(maker.order_id, received - trade.maker_fee, maker.remaining_lots == 0)
            remaining -= lots
            budget -= trade.quote_amount
        return remaining, CANCEL_CAUSE_UNSPECIFIED if remaining == 0 else self._unfilled(place, side)

    def take(self, side: Side, maker: Resting, lots: int, turn: Turn | None) -> None:
        """Takes lots of what a resting order shows; one that has no more is gone."""
        side.fill(maker, lots)
        if maker.remaining_lots == 0 and not (self.hidden and self._show_more(maker, side, turn)):
            del self.orders[maker.order_id]

    def limit_of(self, place: PlaceOrder, time_ns: int) -> int:
        """The worst price that the order trades at: its own, or the band's for a market order; 0: any."""
        return place.price_ticks if place.type == ORDER_TYPE_LIMIT else self.band_edge(place.side == SIDE_BUY, time_ns)

    def band_edge(self, upper: bool, time_ns: int) -> int:
        """The highest or lowest price that the market's band allows then; 0: any.

        It lies around the reference price while that is fresh, else around the last trade's.
        """
        rules = self.market.rules
        if rules is None or rules.band_ppm == 0:
            return 0
        middle, reference = self.last_price_ticks, self.reference
        if reference is not None and is_fresh(reference.observed_ns, rules.reference_age_max_seconds, time_ns):
            middle = reference.price_ticks
        if middle == 0:
            return 0
        if upper:
            return middle * (PPM + rules.band_ppm) // PPM
        return max(-(-middle * (PPM - rules.band_ppm) // PPM), 1)

    def collects(self) -> bool:
        """Whether orders rest here without trading: before the market opens, and until its auction is over."""
        return self.market.state == MARKET_STATE_PRE_OPEN or self.auction_ticks > 0

    def _unfilled(self, place: PlaceOrder, side: Side) -> int:
        """Why the rest of an order must not rest that found nobody more within its limit."""
        return CANCEL_CAUSE_UNSPECIFIED if place.type == ORDER_TYPE_LIMIT or side.best is None else CANCEL_CAUSE_BAND

    def placed(self, order_id: int, place: PlaceOrder, remaining_lots: int, cause: int) -> Order:
        """An order after it has traded: filled, resting, or ended for a cause."""
        state = ORDER_STATE_FILLED
        if remaining_lots > 0:
            if cause == CANCEL_CAUSE_UNSPECIFIED and is_immediate(place):
                cause = CANCEL_CAUSE_IOC
            state = ORDER_STATE_OPEN if cause == CANCEL_CAUSE_UNSPECIFIED else ORDER_STATE_CANCELED
        return self.order_of(order_id, place, remaining_lots, state, cause)

    def changed(self) -> int:
        """Numbers a command that changed this book."""
        self.market_sequence += 1
        return self.market_sequence

    def notional(self, price_ticks: int, lots: int) -> int:
        """Price x quantity, base units of the quote asset."""
        return price_ticks * lots * self.quote_per_tick_lot

    def rest(self, order_id: int, place: PlaceOrder, remaining_lots: int, arrival: int) -> None:
        """Puts what remains of an order behind all others of its price; `arrival` is its journal_sequence."""
        shown_lots = remaining_lots
        if place.terms is not None and place.terms.display_lots > 0:
            shown_lots = min(remaining_lots, place.terms.display_lots)
        self.put(order_id, place, shown_lots, remaining_lots - shown_lots, arrival)

    def rest_whole(self, order_id: int, place: PlaceOrder, arrival: int) -> Order | None:
        """What `rest` does, `placed` says and `changed` counts, for a plain limit order; None if it would trade."""
        ticks, lots, buys = place.price_ticks, place.quantity_lots, place.side == SIDE_BUY
        if buys:
            best = self.asks.best
            if best is not None and best.price_ticks <= ticks:
                return None
        else:
            best = self.bids.best
            if best is not None and best.price_ticks >= ticks:
                return None
        self.market_sequence += 1
        self.orders[order_id] = resting = Resting(order_id, place, arrival, lots)
        if self.owners.followed:
            self.owners.add(resting, self.orders)
        (self.bids if buys else self.asks).insert(resting)
        locked = lock(buys, True, ticks, lots, 0, self.base_per_lot, self.quote_per_tick_lot)
        return Order(order_id, place, 0, ORDER_STATE_OPEN, CANCEL_CAUSE_UNSPECIFIED, locked)

    def put(self, order_id: int, place: PlaceOrder, shown_lots: int, hidden_lots: int, arrival: int) -> None:
        """Puts an order into the book that shows so much of itself."""
        resting = self._open(Resting(order_id, place, arrival, shown_lots))
        (self.bids if place.side == SIDE_BUY else self.asks).insert(resting)
        if hidden_lots > 0:
            self.hidden[order_id] = hidden_lots
            self.cold = True
        self._note_expiry(order_id, place)

    def left(self, resting: Resting) -> int:
        """What an open order has yet to trade, shown or not."""
        return resting.remaining_lots + (self.hidden.get(resting.order_id, 0) if self.hidden else 0)

    def wait(self, order_id: int, place: PlaceOrder, arrival: int, best_ticks: int) -> Resting:
        """Puts an order aside until its trigger is hit; `best_ticks` is for a trailing stop."""
        waiting = self._open(Resting(order_id, place, arrival, place.quantity_lots))
        self.triggers.add(order_id, place, arrival, best_ticks)
        self.cold = True
        self._note_expiry(order_id, place)
        return waiting

    def is_quiet(self, time_ns: int) -> bool:
        """Whether nothing is due here by then, and nobody is released because an order comes to rest or leaves."""
        if self.market.state != MARKET_STATE_OPEN or self.auction_ticks > 0 or self.released or self.triggers.quoted:
            return False
        expires_ns = self.expiries.first(self.orders)
        return expires_ns == 0 or expires_ns > time_ns

    def is_plain(self, resting: Resting) -> bool:
        """Whether the order rests, shows all of itself, and belongs to no group."""
        if resting.level is None:
            return False
        return resting.order_id not in self.hidden and resting.order_id not in self.groups

    def keeps_something(self) -> bool:
        """Whether anything here is more than a plain order."""
        waits = self.triggers.current or self.triggers.trails or self.released
        if waits or self.hidden or self.groups or self.auction_ticks > 0 or self.market.state != MARKET_STATE_OPEN:
            return True
        return self.expiries.first(self.orders) > 0

    def hold(self, order_id: int, place: PlaceOrder, arrival: int) -> Resting:
        """Puts an exit aside until its entry has ended."""
        held = self._open(Resting(order_id, place, arrival, place.quantity_lots))
        self.cold = True
        if is_trailing(place):
            self.held_trails.add(order_id)
        if self.edition > 0:
            self._note_expiry(order_id, place)
        return held

    def adopt(self, edition: int) -> None:
        """A leader goes by the rules of another edition from now on."""
        if self.edition == 0:
            for group in self.all_groups():
                for order_id in group.exits if group.entry_id != 0 else []:
                    self._note_expiry(order_id, self.orders[order_id].place)
        self.edition = edition

    def _open(self, resting: Resting) -> Resting:
        """An order is open here from now on."""
        self.orders[resting.order_id] = resting
        self.owners.add(resting, self.orders)
        return resting

    def link(self, group: Group) -> None:
        """The orders of a group belong together from now on."""
        if group.entry_id != 0:
            self.groups[group.entry_id] = group
        for order_id in group.exits:
            self.groups[order_id] = group
        self.cold = True

    def part(self, order_id: int, turn: Turn) -> None:
        """An exit trades, is released or ends: the other ends, and nothing belongs to the group any more."""
        group = self.groups.get(order_id)
        if group is None or order_id == group.entry_id:
            return
        self.groups.pop(group.entry_id, None)
        for exit_id in group.exits:
            self.groups.pop(exit_id, None)
        for exit_id in group.exits:
            if exit_id != order_id and exit_id in self.orders:
                self.end(self.orders[exit_id], CANCEL_CAUSE_LINKED, turn)

    def all_groups(self) -> list[Group]:
        """Each once, by its first exit."""
        return [group for order_id, group in sorted(self.groups.items()) if order_id == group.exits[0]]

    def credit_entry(self, order_id: int, amount: int, ended: bool) -> None:
        """If the order is the entry of a group: it has received so much, less fees, and may have ended."""
        group = self.groups.get(order_id)
        if group is None or order_id != group.entry_id:
            return
        group.received += amount
        if ended:
            del self.groups[order_id]
            self.ended.append(group)
        if ended and (self.edition == 0 or self.auction_ticks == 0):
            return  # the exits begin within this command
        if amount > 0 and group not in self.credited:
            self.credited.append(group)

    def _note_expiry(self, order_id: int, place: PlaceOrder) -> None:
        if place.terms is not None and place.terms.expires_ns > 0:
            self.expiries.add(place.terms.expires_ns, order_id, self.orders)
            self.cold = True
        if place.time_in_force == TIME_IN_FORCE_DAY:
            self.days.add(1, order_id, self.orders)

    def withdraw(self, resting: Resting) -> None:
        """Takes an order out of the book, or from among those that wait."""
        del self.orders[resting.order_id]
        if resting.level is None:
            self.triggers.remove(resting.order_id)
            self.held_trails.discard(resting.order_id)
            if resting.order_id in self.released:
                self.released.remove(resting.order_id)
            return
        if self.hidden:
            self.hidden.pop(resting.order_id, None)
        (self.bids if resting.place.side == SIDE_BUY else self.asks).remove(resting)

    def shrink(self, resting: Resting, place: PlaceOrder) -> None:
        """A resting order becomes one of the same price and no greater quantity, and keeps its place."""
        lots = resting.place.quantity_lots - place.quantity_lots
        unseen = self.hidden.pop(resting.order_id, 0)
        if unseen > lots:
            self.hidden[resting.order_id] = unseen - lots
        lots -= min(unseen, lots)
        (self.bids if place.side == SIDE_BUY else self.asks).shrink(resting, place, lots)

    def would_trade(self, place: PlaceOrder) -> bool:
        """Whether a limit order would meet another."""
        if place.side == SIDE_BUY:
            ask = self.asks.best
            return ask is not None and ask.price_ticks <= place.price_ticks
        bid = self.bids.best
        return bid is not None and bid.price_ticks >= place.price_ticks

    def end(self, resting: Resting, cause: int, turn: Turn) -> None:
        """Ends an open order."""
        place = resting.place
        if resting.level is not None:
            turn.touch(self.market.market_id, place.side, place.price_ticks)
        turn.hides = turn.hides or resting.order_id in self.hidden
        order = self.order_now(resting, cause)
        self.withdraw(resting)
        turn.consequence(order)
        if self.groups:
            self.credit_entry(resting.order_id, 0, True)
            self.part(resting.order_id, turn)

    def lock_of(self, resting: Resting) -> int:
        """What a resting order sets aside now."""
        return self._lock_now(resting.order_id, resting.place, self.left(resting))

    def _lock_now(self, order_id: int, place: PlaceOrder, remaining_lots: int) -> int:
        if self.groups:
            group = self.groups.get(order_id)
            if group is not None and not group.holds(order_id):
                return 0
            if group is not None and group.entry_id not in (0, order_id):
                return self.lock_received(place, group.received)
        return self.lock(place, remaining_lots)

    def lock(self, place: PlaceOrder, remaining_lots: int) -> int:
        """What an order sets aside that has not traded at market yet."""
        return lock(
            place.side == SIDE_BUY,
            place.type == ORDER_TYPE_LIMIT,
            place.price_ticks,
            remaining_lots,
            place.budget,
            self.base_per_lot,
            self.quote_per_tick_lot,
        )

    def sized(self, place: PlaceOrder, received: int) -> PlaceOrder:
        """An exit for no more than its entry received, in whole lots."""
        if place.side == SIDE_SELL:
            return resized(place, min(place.quantity_lots, received // self.base_per_lot))
        if place.type == ORDER_TYPE_LIMIT:
            return resized(place, min(place.quantity_lots, received // self.notional(place.price_ticks, 1)))
        if received == 0:
            return resized(place, 0)
        return reshaped(place, 0, place.quantity_lots, budget=min(place.budget, received))

    def lock_received(self, place: PlaceOrder, received: int) -> int:
        """What an exit sets aside of what its entry has received."""
        sized = self.sized(place, received)
        return self.lock(sized, sized.quantity_lots)

    def order_now(self, resting: Resting, cause: int = CANCEL_CAUSE_UNSPECIFIED) -> Order:
        """An open order as it is now, or as it is once it has ended for a cause."""
        state = ORDER_STATE_OPEN if resting.level is not None else ORDER_STATE_WAITING
        if cause != CANCEL_CAUSE_UNSPECIFIED:
            state = ORDER_STATE_CANCELED
        elif resting.remaining_lots == 0:
            state = ORDER_STATE_FILLED
        return self.order_of(resting.order_id, resting.place, self.left(resting), state, cause)

    def order_of(self, order_id: int, place: PlaceOrder, remaining_lots: int, state: int, cause: int) -> Order:
        """What an event says of an order."""
        return Order(
            order_id,
            place,
            place.quantity_lots - remaining_lots,
            state,
            cause,
            self._lock_now(order_id, place, remaining_lots) if state in (ORDER_STATE_OPEN, ORDER_STATE_WAITING) else 0,
        )

    def open_orders(self) -> Iterator[Order]:
        """Every order that is open here: bids, then asks, each best first, oldest first; then those that wait."""
        for side in (self.bids, self.asks):
            for level in side.levels_best_first():
                for resting in level.orders():
                    yield self.order_now(resting)
        for resting in self.waiting():
            yield self.order_now(resting)

    def waiting(self) -> list[Resting]:
        """The orders that wait for a price or for their entry, by their ids."""
        held = [order_id for group in self.groups.values() if group.entry_id != 0 for order_id in group.exits]
        ids = {*self.triggers.current, *self.triggers.trails, *self.released, *held}
        return [self.orders[order_id] for order_id in sorted(ids)]

    def validate(self) -> int:
        """Checks both sides, the index, and that the sides do not cross. Returns how many orders rest.

        Raises AssertionError. Reads everything: for tests.
        """
        symbol = self.market.symbol
        bid, ask = self.bids.best, self.asks.best
        crossed = bid is not None and ask is not None and bid.price_ticks >= ask.price_ticks
        assert not crossed or self.market.state != MARKET_STATE_OPEN or self.auction_ticks > 0, f"{symbol} is crossed"
        count = 0
        for side in (self.bids, self.asks):
            side.validate()
            for level in side.levels_best_first():
                for resting in level.orders():
                    name = f"{symbol}: order {resting.order_id}"
                    assert self.orders.get(resting.order_id) is resting, f"{name} is not in the index"
                    assert resting.place.market_id == self.market.market_id, f"{name} is of another market"
                    assert (resting.place.side == SIDE_BUY) == side.buys, f"{name} is on the wrong side"
                    assert self.lock_of(resting) > 0 or resting.order_id in self.groups, f"{name} sets nothing aside"
                    count += 1
        for resting in self.waiting():
            assert resting.level is None, f"{symbol}: order {resting.order_id} waits and rests"
            assert resting.order_id == self.orders[resting.order_id].order_id, f"{symbol}: a waiting order is misfiled"
        assert self.cold or not self.keeps_something(), f"{symbol} is not cold"
        for order_id, group in self.groups.items():
            assert order_id in self.orders, f"{symbol}: order {order_id} has a group and is gone"
            assert order_id == group.entry_id or order_id in group.exits, (
                f"{symbol}: order {order_id} is of another group"
            )
        return count + len(self.waiting())

    def _show_more(self, maker: Resting, side: Side, turn: Turn | None) -> bool:
        """An iceberg whose shown part has traded shows the next, behind all others. Returns whether there is any."""
        hidden_lots = self.hidden.pop(maker.order_id, 0)
        if hidden_lots == 0:
            return False
        assert turn is not None, "an iceberg in a book that is not cold"
        assert maker.place.terms is not None, "hidden lots of no iceberg"
        maker.remaining_lots = min(hidden_lots, maker.place.terms.display_lots)
        if hidden_lots > maker.remaining_lots:
            self.hidden[maker.order_id] = hidden_lots - maker.remaining_lots
        maker.arrival = turn.arrival
        side.insert(maker)
        turn.hides = True
        return True

    def _meet_own(self, place: PlaceOrder, remaining: int, maker: Resting, turn: Turn | None) -> tuple[int, bool]:
        """An order has come upon one of its owner's. Returns the lots that remain of it, and whether it must end."""
        mode = self_trade_of(place)
        if mode == SELF_TRADE_CANCEL_NEWEST or turn is None or turn.room <= 0:
            return remaining, True
        if mode != SELF_TRADE_DECREMENT:
            self.end(maker, CANCEL_CAUSE_SELF_TRADE, turn)
            return remaining, mode == SELF_TRADE_CANCEL_BOTH
        lots = self.left(maker)
        if remaining < lots:
            self.decrement(maker, remaining, turn)
            return remaining, True
        self.end(maker, CANCEL_CAUSE_SELF_TRADE, turn)
        if remaining == lots:
            return remaining, True
        turn.decremented_lots += lots
        return remaining - lots, False

    def decrement(self, resting: Resting, lots: int, turn: Turn) -> None:
        """A resting order has met one of its owner's that is smaller: it asks for so many fewer lots."""
        self.part(resting.order_id, turn)
        self.shrink(resting, resized(resting.place, resting.place.quantity_lots - lots))
        turn.touch(self.market.market_id, resting.place.side, resting.place.price_ticks)
        turn.consequence(self.order_now(resting))

    def clear_overdue(self, side: Side, turn: Turn) -> None:
        """Ends those whose time is over and who would be met first, within the room."""
        while side.best is not None and turn.room > 0:
            first = side.best.oldest
            assert first is not None, "an empty level"
            if not is_over(first.place, turn.time_ns):
                return
            self.end(first, CANCEL_CAUSE_EXPIRED, turn)

    def _linked(self, order_id: int) -> int:
        """How many others end when an order of a group trades or ends."""
        group = self.groups.get(order_id) if self.groups and self.edition > 0 else None
        if group is None or order_id == group.entry_id:
            return 0
        return sum([exit_id != order_id and exit_id in self.orders for exit_id in group.exits])

    def fills(self, place: PlaceOrder, lots: int, wanted: int, turn: Turn | None, time_ns: int) -> bool:
        """Whether `trade` of `lots` would trade as many as are wanted: the same walk without a trace."""
        side = self.asks if place.side == SIDE_BUY else self.bids
        limit_ticks = self.limit_of(place, time_ns)
        limited = limit_ticks > 0
        limit_key = side.key(limit_ticks)
        budgeted = place.side == SIDE_BUY and place.type != ORDER_TYPE_LIMIT
        budget, remaining, mode = place.budget, lots, self_trade_of(place)
        room = 0 if turn is None else turn.room
        over_ns = turn.time_ns if turn is not None and turn.overdue else 0
        for level in side.levels_best_first():
            if limited and level.key < limit_key:
                return False
            lot_price = level.price_ticks * self.quote_per_tick_lot
            for maker in level.orders():
                if over_ns > 0 and is_over(maker.place, over_ns):
                    if room <= 0:
                        return False
                    room -= 1 + self._linked(maker.order_id)
                    continue
                lots = min(remaining, maker.remaining_lots)
                if budgeted:
                    lots = min(lots, budget // lot_price)
                    if lots == 0:
                        return False
                if maker.place.account_id == place.account_id and mode != SELF_TRADE_ALLOW:
                    if mode in {SELF_TRADE_CANCEL_NEWEST, SELF_TRADE_CANCEL_BOTH} or room <= 0:
                        return False
                    if mode == SELF_TRADE_DECREMENT:
                        remaining -= self.left(maker)
                        if remaining <= 0:
                            return False
                    room -= 1 + self._linked(maker.order_id)
                    continue
                room -= self._linked(maker.order_id)
                budget -= lot_price * lots
                remaining -= lots
                wanted -= lots
                if wanted <= 0:
                    return True
                if remaining == 0:
                    return False
            without_id = 0 if mode == SELF_TRADE_ALLOW else place.account_id
            unseen = self._hidden_at(level, without_id, over_ns) if self.hidden else 0
            if unseen > 0:
                lots = min(remaining, unseen)
                if budgeted:
                    lots = min(lots, budget // lot_price)
                budget -= lot_price * lots
                remaining -= lots
                wanted -= lots
                if wanted <= 0:
                    return True
                if remaining == 0 or lots < unseen:
                    return False
        return False

    def _hidden_at(self, level: Level, without_account_id: int, over_ns: int) -> int:
        """What the icebergs of a level do not show, those left out of an account and those whose time is over."""
        unseen = 0
        for maker in level.orders():
            if maker.place.account_id != without_account_id and not (over_ns > 0 and is_over(maker.place, over_ns)):
                unseen += self.hidden.get(maker.order_id, 0)
        return unseen

    def trade_of(
        self, maker: Resting, price_ticks: int, lots: int, taker_fee_ppm: int, settlement_sequence: int
    ) -> Trade:
        """What a maker's fill looks like. The buyer receives base, the seller quote; each pays its fee out of that."""
        order = maker.place
        left = self.left(maker) if self.hidden else maker.remaining_lots
        base_amount = lots * self.base_per_lot
        quote_amount = product(price_ticks * lots, self.quote_per_tick_lot)
        maker_receives, taker_receives = base_amount, quote_amount
        if order.side == SIDE_SELL:
            maker_receives, taker_receives = quote_amount, base_amount
        self.last_trade_id += 1
        self.last_price_ticks = price_ticks
        return Trade(
            self.last_trade_id,
            settlement_sequence,
            price_ticks,
            lots,
            base_amount,
            quote_amount,
            maker.order_id,
            order.account_id,
            fee(maker_receives, order.maker_fee_ppm),
            fee(taker_receives, taker_fee_ppm),
            left,
            0 if left == 0 else self._lock_now(maker.order_id, order, left),
            "" if order.terms is None else order.terms.signed,
        )
