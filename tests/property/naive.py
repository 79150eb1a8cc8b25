"""The engine's rules once more, written to be read rather than to be fast: lists, loops and fractions.

It shares nothing with services/book/engine.py but the messages. A book is one list of orders as they came; whoever is
next is found by looking at all of them; what an order would do is found by doing it and taking it back.
"""

from __future__ import annotations

import copy
import math
import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, TypeVar

from services.allow_list import AllowList
from services.book import model as m
from services.records import Record
from services.withdrawal_rules import WithdrawalRules

GATEWAY, EPOCH = 2**56, 2**36
OPEN_STATES = (m.ORDER_STATE_OPEN, m.ORDER_STATE_WAITING)
ENDED = -1
"""In the place of an entry's id."""
FIXED = {"fees": 1, "faucet": 2, "insurance": 3, "outside": 4, "adjustments": 5}


class Wrong(Exception):
    """The command is refused."""


class Resting:
    """An order in the book."""

    def __init__(self, order_id: int, place: m.PlaceOrder, lots: int) -> None:
        self.order_id, self.place, self.lots = order_id, place, lots
        self.shown = self.slice()
        self.came = 0
        self.best = 0
        """The best price that a trailing stop has seen."""

    def slice(self) -> int:
        """How much of it is shown when it comes to the end of the queue."""
        iceberg = self.place.terms and self.place.terms.display_lots
        return min(self.lots, iceberg) if iceberg else self.lots


R = TypeVar("R", bound=Record)


def like(record: R, **changes: Any) -> R:
    """The same with other fields."""
    return type(record)(**{name: getattr(record, name) for name in record.__match_args__} | changes)


class Group:
    """Orders that belong together; the entry's id is 0 once the exits have begun."""

    def __init__(self, entry_id: int, exits: list[Resting]) -> None:
        self.entry_id, self.exits, self.received = entry_id, exits, 0
        self.holder: Resting | None = None


class NaiveMarket:
    """A market and everything that rests in it, oldest first."""

    def __init__(self, market: m.Market, base_decimals: int, quote_decimals: int) -> None:
        self.market = market
        need(decimals(market.tick_size) + decimals(market.lot_size) <= quote_decimals, "INVALID_MARKET")
        need(decimals(market.lot_size) <= base_decimals, "INVALID_MARKET")
        self.base_per_lot = whole(Fraction(Decimal(market.lot_size)) * 10**base_decimals)
        step = Fraction(Decimal(market.tick_size)) * Fraction(Decimal(market.lot_size))
        self.quote_per_tick_lot = whole(step * 10**quote_decimals)
        self.resting: list[Resting] = []
        self.waiting: list[Resting] = []
        self.released: list[Resting] = []
        self.held: list[Resting] = []
        self.groups: list[Group] = []
        self.over: list[Group] = []
        self.richer: list[Group] = []
        self.last = 0
        self.elsewhere: tuple[int, int] | None = None
        """What the price is there, and when it was seen."""
        self.changes = 0
        self.trades = 0

    def queue(self, side: int) -> list[Resting]:
        """One side, best price first; equal prices stay as they came."""
        mine = [resting for resting in self.resting if resting.place.side == side]
        return sorted(
            mine, key=lambda resting: -resting.place.price_ticks if side == m.SIDE_BUY else resting.place.price_ticks
        )

    def against(self, place: m.PlaceOrder) -> list[Resting]:
        """Who an order could trade with, in order."""
        other = m.SIDE_SELL if place.side == m.SIDE_BUY else m.SIDE_BUY
        willing = []
        for resting in self.queue(other):
            if place.type == m.ORDER_TYPE_LIMIT:
                if place.side == m.SIDE_BUY and resting.place.price_ticks > place.price_ticks:
                    continue
                if place.side == m.SIDE_SELL and resting.place.price_ticks < place.price_ticks:
                    continue
            willing.append(resting)
        return willing

    def worth_least(self) -> int:
        """What a limit order must be worth: what the rules say, if there are any."""
        rules = self.market.rules
        return rules.notional_min if rules is not None else self.market.notional_min

    def locked_of(self, order_id: int, place: m.PlaceOrder, lots: int) -> int:
        """What an open order sets aside beside those that it belongs to."""
        for group in self.groups:
            for each in group.exits:
                if each.order_id == order_id and group.entry_id:
                    cuts = [self.cut(exit_.place, group.received) for exit_ in group.exits]
                    worth = [self.locked(cut, cut.quantity_lots) if cut.quantity_lots else 0 for cut in cuts]
                    return max(worth) if group.exits[worth.index(max(worth))] is each else 0
                if each.order_id == order_id and each is not group.holder:
                    return 0
        return self.locked(place, lots)

    def cut(self, place: m.PlaceOrder, received: int) -> m.PlaceOrder:
        """An exit for what its entry received; for no lots at all if that is too little."""
        if place.side == m.SIDE_SELL:
            lots = received // self.base_per_lot
        elif place.type == m.ORDER_TYPE_LIMIT:
            lots = received // (place.price_ticks * self.quote_per_tick_lot)
        else:
            lots = place.quantity_lots if received else 0
            place = like(place, budget=min(place.budget, received) or place.budget)
        return like(place, quantity_lots=min(lots, place.quantity_lots))

    def locked(self, place: m.PlaceOrder, lots: int) -> int:
        """What an order sets aside by itself."""
        if place.side == m.SIDE_SELL:
            return lots * self.base_per_lot
        if place.type == m.ORDER_TYPE_MARKET:
            return place.budget
        return lots * place.price_ticks * self.quote_per_tick_lot


def decimals(step: str) -> int:
    """How many a step needs: 0.50 needs one."""
    return len(step.rstrip("0").partition(".")[2]) if "." in step else 0


def whole(number: Fraction) -> int:
    """A fraction that is an integer."""
    assert number.denominator == 1
    return number.numerator


def market_like(market: m.Market, market_id: int, state: int) -> m.Market:
    """The same with another id and state."""
    fields = {name: getattr(market, name) for name in m.Market.__match_args__}
    return m.Market(**{**fields, "market_id": market_id, "state": state})


def need(condition: bool, reason: str) -> None:
    """Refuses unless the condition holds."""
    if not condition:
        raise Wrong(reason)


def fee(received: int, ppm: int) -> int:
    """Rounded up."""
    return math.ceil(Fraction(received * ppm, 1_000_000))


class NaiveEngine:
    """One shard."""

    def __init__(self) -> None:
        self.journal_sequence = 0
        self.settlements = 0
        self.final = 0
        self.deposits = 0
        self.claims = 0
        self.exits = 0
        self.leaving: set[int] = set()
        self.exited: set[tuple[int, int]] = set()
        self.notes: list[m.NoteDebt] = []
        self.waiting: list[m.Withdrawal] = []
        self.withdrawal_rules: dict[int, WithdrawalRules] = {}
        self.requests: list[tuple[int, m.Withdrawal]] = []
        """Not canceled, of assets that had rules: when, and what."""
        self.lists: dict[int, tuple[dict[str, int], bool, int]] = {}
        """By account: addresses with when they are usable, whether it is on, when it is off again."""
        self.epoch = 0
        self.names = dict(FIXED)
        self.assets: list[m.Asset] = []
        self.markets: list[NaiveMarket] = []
        self.epochs: dict[int, int] = {}
        self.time_ns = 0
        self.steps: list[m.OrderChanged] = []
        self.levels: set[tuple[int, int, int]] = set()
        self.hides = False
        self.switches: dict[tuple[int, int], int] = {}
        self.left: list[int] = []

    def apply(self, command: m.Command, time_ns: int) -> m.Event:
        """One command, one event."""
        self.journal_sequence += 1
        self.time_ns = time_ns
        self.steps, self.levels, self.hides = [], set(), False
        change = 0
        body: Any
        try:
            handler = getattr(self, "on_" + type(command.body).__name__)
            if isinstance(command.body, m.PlaceOrder):
                body, change = handler(command.command_id, command.body)
            elif isinstance(command.body, m.CancelOrder | m.ReplaceOrder | m.CancelOrders):
                body, change = handler(command.body)
            elif isinstance(command.body, m.PlaceGroup):
                body, change = handler(command.command_id, command.body)
            elif isinstance(command.body, m.RequestWithdrawal):
                body = handler(command.command_id, command.body)
            else:
                body = handler(command.body)
        except Wrong as wrong:
            body = m.Refused(str(wrong), command)
            if self.steps:
                body = m.OrdersChanged(self.steps, self.books(), body)
        return m.Event(self.journal_sequence, command.command_id, change, body)

    # What can be seen.

    def open_orders(self, market_id: int) -> list[m.Order]:
        """Bids, then asks, each best first, oldest first."""
        market = self.markets[market_id - 1]
        return [
            self.order(market, resting.order_id, resting.place, resting.lots, m.ORDER_STATE_OPEN, 0)
            for side in (m.SIDE_BUY, m.SIDE_SELL)
            for resting in market.queue(side)
        ] + [
            self.order(market, each.order_id, each.place, each.lots, m.ORDER_STATE_WAITING, 0)
            for each in sorted([*market.waiting, *market.released, *market.held], key=lambda each: each.order_id)
        ]

    def open(self) -> list[Resting]:
        """All orders that can be canceled."""
        return [each for market in self.markets for each in self.all_of(market)]

    def all_of(self, market: NaiveMarket) -> list[Resting]:
        """All orders that are open there."""
        return [*market.resting, *market.waiting, *market.released, *market.held]

    def locks(self) -> dict[tuple[int, int], int]:
        """By account and asset."""
        locks: dict[tuple[int, int], int] = {}
        for market in self.markets:
            for resting in self.all_of(market):
                buys = resting.place.side == m.SIDE_BUY
                asset = market.market.quote_asset_id if buys else market.market.base_asset_id
                key = resting.place.account_id, asset
                locked = market.locked_of(resting.order_id, resting.place, resting.lots)
                locks[key] = locks.get(key, 0) + locked
        for withdrawal in self.waiting:
            key = withdrawal.request.account_id, withdrawal.request.asset_id
            locks[key] = locks.get(key, 0) + withdrawal.request.amount
        return locks

    def order(
        self, market: NaiveMarket, order_id: int, place: m.PlaceOrder, lots: int, state: int, cause: int
    ) -> m.Order:
        """An order with `lots` left."""
        return m.Order(
            order_id=order_id,
            place=place,
            filled_lots=place.quantity_lots - lots,
            state=state,
            cancel_cause=cause,
            lock_remaining=market.locked_of(order_id, place, lots) if state in OPEN_STATES else 0,
        )

    def account(self, account_id: int) -> None:
        """Refuses an unknown one."""
        need(account_id in self.names.values(), "ACCOUNT_NOT_FOUND")

    # Orders.

    def check(self, place: m.PlaceOrder) -> NaiveMarket:
        """Whether the order can be taken."""
        self.account(place.account_id)
        self.stays(place.account_id)
        need(1 <= place.market_id <= len(self.markets), "MARKET_NOT_FOUND")
        market = self.markets[place.market_id - 1]
        self.expire(market)
        gtc, ioc, fok = m.TIME_IN_FORCE_GTC, m.TIME_IN_FORCE_IOC, m.TIME_IN_FORCE_FOK
        gtd, day, terms = m.TIME_IN_FORCE_GTD, m.TIME_IN_FORCE_DAY, place.terms or m.Terms()
        need(place.side in (m.SIDE_BUY, m.SIDE_SELL), "INVALID_FIELD")
        need(place.type in (m.ORDER_TYPE_LIMIT, m.ORDER_TYPE_MARKET), "INVALID_FIELD")
        limit = place.type == m.ORDER_TYPE_LIMIT
        need(place.time_in_force in ((gtc, ioc, fok, gtd, day) if limit else (ioc, fok)), "INVALID_FIELD")
        need(not place.post_only or (limit and place.time_in_force in (gtc, gtd, day)), "INVALID_FIELD")
        need(place.time_in_force != gtd or place.terms is not None, "INVALID_FIELD")
        need(limit or place.price_ticks == 0, "INVALID_FIELD")
        budgeted = not limit and place.side == m.SIDE_BUY
        need(0 < place.budget < 2**256 if budgeted else place.budget == 0, "INVALID_FIELD")
        need(0 <= place.maker_fee_ppm <= 10**6 and 0 <= place.taker_fee_ppm <= 10**6, "INVALID_FIELD")
        need(0 < place.quantity_lots < 2**63, "INVALID_QUANTITY")
        if limit:
            need(0 < place.price_ticks < 2**63, "INVALID_PRICE")
            notional = place.quantity_lots * place.price_ticks * market.quote_per_tick_lot
            need(notional >= market.worth_least(), "NOTIONAL_TOO_SMALL")
        self.allowed(market, place)
        need(terms.self_trade in range(5) and (place.post_only or not terms.reprice), "INVALID_FIELD")
        expiry = terms.expires_ns
        need(self.time_ns < expiry < 2**63 if place.time_in_force == gtd else expiry == 0, "INVALID_EXPIRY")
        trails, waits = terms.trigger == m.TRIGGER_TRAILING, terms.trigger != 0
        need(terms.trigger in range(4) and terms.trigger_source in (0, 1), "INVALID_TRIGGER")
        need(terms.trigger_source == 0 or terms.trigger in (1, 2), "INVALID_TRIGGER")
        need(0 < terms.trail_ticks < 2**63 if trails else terms.trail_ticks == 0, "INVALID_TRIGGER")
        need(0 < terms.trigger_ticks < 2**63 if waits and not trails else terms.trigger_ticks == 0, "INVALID_TRIGGER")
        if terms.display_lots != 0:
            hides = 0 < terms.display_lots < place.quantity_lots
            need(hides and limit and place.time_in_force in (gtc, gtd, day), "INVALID_DISPLAY")
        if terms.minimum_lots != 0:
            fits = 0 < terms.minimum_lots <= place.quantity_lots
            need(fits and not place.post_only and place.time_in_force != fok, "INVALID_MINIMUM")
        return market

    def band(self, market: NaiveMarket) -> tuple[int, int]:
        """The lowest and the highest price that an order may have, or trade at."""
        rules = market.market.rules
        if rules is None or not rules.band_ppm:
            return 0, 2**64
        middle = market.last
        if market.elsewhere is not None:
            ticks, seen = market.elsewhere
            if Fraction(self.time_ns - seen, 10**9) <= (rules.reference_age_max_seconds or 30):
                middle = ticks
        if not middle:
            return 0, 2**64
        share = Fraction(rules.band_ppm, 1_000_000)
        return max(math.ceil(middle * (1 - share)), 1), math.floor(middle * (1 + share))

    def allowed(self, market: NaiveMarket, place: m.PlaceOrder) -> None:
        """What the market's rules and state say of an order."""
        rules, limit = market.market.rules, place.type == m.ORDER_TYPE_LIMIT
        waits = place.terms is not None and place.terms.trigger != 0
        if rules is not None:
            need(place.quantity_lots >= rules.quantity_min_lots, "QUANTITY_TOO_SMALL")
            need(not rules.quantity_max_lots or place.quantity_lots <= rules.quantity_max_lots, "QUANTITY_TOO_LARGE")
            low, high = self.band(market)
            need(not limit or waits or low <= place.price_ticks <= high, "PRICE_OUT_OF_BAND")
            worth = place.quantity_lots * place.price_ticks * market.quote_per_tick_lot if limit else place.budget
            need(not rules.notional_max or worth <= rules.notional_max, "NOTIONAL_TOO_LARGE")
        state = market.market.state
        need(state != m.MARKET_STATE_HALTED, "MARKET_HALTED")
        need(state != m.MARKET_STATE_CLOSED, "MARKET_CLOSED")
        if state == m.MARKET_STATE_PRE_OPEN and not waits:
            rests = limit and place.time_in_force not in (m.TIME_IN_FORCE_IOC, m.TIME_IN_FORCE_FOK)
            least = place.terms.minimum_lots if place.terms else 0
            need(rests and not place.post_only and least == 0, "MARKET_IN_AUCTION")

    def auction(self, market: NaiveMarket) -> None:
        """All trade at the one price at which most can."""
        bids, asks = market.queue(m.SIDE_BUY), market.queue(m.SIDE_SELL)
        if not bids or not asks or bids[0].place.price_ticks < asks[0].place.price_ticks:
            return
        ranks = []
        for price in {each.place.price_ticks for each in market.resting}:
            bought = sum(each.lots for each in bids if each.place.price_ticks >= price)
            sold = sum(each.lots for each in asks if each.place.price_ticks <= price)
            away = abs(price - market.last) if market.last else 0
            ranks.append((-min(bought, sold), abs(bought - sold), away, price))
        price = min(ranks)[3]
        while True:
            bids = [each for each in market.queue(m.SIDE_BUY) if each.place.price_ticks >= price]
            asks = [each for each in market.queue(m.SIDE_SELL) if each.place.price_ticks <= price]
            if not bids or not asks:
                self.auction(market)
                return
            maker, taker = sorted((bids[0], asks[0]), key=lambda each: (each.came, each.order_id))
            mode = taker.place.terms.self_trade if taker.place.terms else 0
            if maker.place.account_id == taker.place.account_id and mode != m.SELF_TRADE_ALLOW:
                self.meet_own(market, maker, taker, mode)
                continue
            lots = min(maker.shown, taker.shown)
            for each in (maker, taker):
                self.happens_at(each.place)
                self.consume(market, each, lots)
                self.part(market, each.order_id)
            trade = self.trade(market, maker, taker.place, lots, price)
            self.step(market, taker.order_id, taker.place, taker.lots, 0, [trade])
            for each, fee_paid in ((maker, trade.maker_fee), (taker, trade.taker_fee)):
                received = trade.base_amount if each.place.side == m.SIDE_BUY else trade.quote_amount
                self.entry_received(market, each.order_id, received - fee_paid)
                if each.lots == 0:
                    self.entry_over(market, each.order_id)

    def meet_own(self, market: NaiveMarket, maker: Resting, taker: Resting, mode: int) -> None:
        """Two of one owner's meet in an auction."""
        fewest = min(maker.lots, taker.lots)
        for each in (maker, taker):
            if mode == m.SELF_TRADE_DECREMENT and each.lots > fewest:
                self.part(market, each.order_id)
                each.place = like(each.place, quantity_lots=each.place.quantity_lots - fewest)
                each.lots -= fewest
                each.shown = min(each.shown, each.lots)
                self.happens_at(each.place)
                self.step(market, each.order_id, each.place, each.lots, 0, [])
                continue
            one_ends = maker if mode == m.SELF_TRADE_CANCEL_OLDEST else taker
            if mode in (m.SELF_TRADE_DECREMENT, m.SELF_TRADE_CANCEL_BOTH) or each is one_ends:
                self.ends(market, each, m.CANCEL_CAUSE_SELF_TRADE)

    def consume(self, market: NaiveMarket, resting: Resting, lots: int) -> None:
        """Lots of a resting order have traded."""
        resting.lots -= lots
        resting.shown -= lots
        if resting.shown == 0:
            market.resting.remove(resting)
            if resting.lots > 0:
                resting.shown = resting.slice()
                resting.came = self.journal_sequence
                market.resting.append(resting)
                self.hides = True

    def expire(self, market: NaiveMarket) -> None:
        """Does what is due: ends what is over, and releases whom nobody could release before."""
        self.expire_only(market)
        if market.market.state == m.MARKET_STATE_CLOSED:
            days = [each for each in self.all_of(market) if each.place.time_in_force == m.TIME_IN_FORCE_DAY]
            for each in sorted(days, key=lambda each: each.order_id):
                if each in self.all_of(market):
                    self.ends(market, each, m.CANCEL_CAUSE_DAY_END)
        self.settle(market)

    def expire_only(self, market: NaiveMarket) -> None:
        """Ends what is over by now, the earliest first."""
        over = [
            (each.place.terms.expires_ns, each.order_id, each)
            for each in self.all_of(market)
            if each.place.terms and 0 < each.place.terms.expires_ns <= self.time_ns
        ]
        for _, _, each in sorted(over, key=lambda entry: entry[:2]):
            if each in self.all_of(market):
                self.ends(market, each, m.CANCEL_CAUSE_EXPIRED)

    def settle(self, market: NaiveMarket) -> None:
        """Releases whoever waits for the prices as they are, until nobody does."""
        self.begin_exits(market)
        self.tell_richer(market)
        self.find_hit(market)
        while market.released and market.market.state == m.MARKET_STATE_OPEN:
            each = market.released.pop(0)
            self.part(market, each.order_id)
            assert each.place.terms
            self.enter(market, each.order_id, each.place, each.lots, each.place.terms.minimum_lots)
            self.begin_exits(market)
            self.tell_richer(market)
            self.find_hit(market)

    def part(self, market: NaiveMarket, order_id: int) -> None:
        """If the order is an exit, the other one ends, and the group is no more."""
        for group in list(market.groups):
            if order_id in [each.order_id for each in group.exits]:
                market.groups.remove(group)
                for each in group.exits:
                    if each.order_id != order_id and each in self.all_of(market):
                        self.ends(market, each, m.CANCEL_CAUSE_LINKED)

    def entry_over(self, market: NaiveMarket, order_id: int) -> None:
        """If the order is an entry, its exits are to begin."""
        for group in list(market.groups):
            if group.entry_id == order_id:
                group.entry_id = ENDED
                market.over.append(group)

    def entry_received(self, market: NaiveMarket, order_id: int, amount: int) -> None:
        """If the order is an entry, so much is for its exits."""
        for group in market.groups:
            if group.entry_id == order_id:
                group.received += amount
                if amount and group not in market.richer:
                    market.richer.append(group)

    def tell_richer(self, market: NaiveMarket) -> None:
        """Exits that wait for an entry that has received something are told, with what they set aside now."""
        for group in market.richer:
            if group in market.groups and group.entry_id != ENDED:
                for each in group.exits:
                    self.tell_waiting(market, each)
        market.richer = []

    def begin_exits(self, market: NaiveMarket) -> None:
        """The exits of entries that are over: for what came in, or not at all."""
        while market.over:
            group = market.over.pop(0)
            if group in market.groups:
                market.groups.remove(group)
            begun = []
            for each in [exit_ for exit_ in group.exits if exit_ in market.held]:
                market.held.remove(each)
                cut = market.cut(each.place, group.received)
                if cut.quantity_lots and market.market.state == m.MARKET_STATE_OPEN:
                    begun.append(Resting(each.order_id, cut, cut.quantity_lots))
                else:
                    place, cause = each.place, m.CANCEL_CAUSE_MARKET if cut.quantity_lots else m.CANCEL_CAUSE_LINKED
                    self.step(market, each.order_id, place, place.quantity_lots, cause, [])
            self.begin(market, begun)

    def begin(self, market: NaiveMarket, exits: list[Resting]) -> None:
        """Exits begin: those that wait first."""
        if len(exits) == 2:
            group = Group(0, exits)
            first, second = (market.locked(each.place, each.lots) for each in exits)
            group.holder = exits[0] if first >= second else exits[1]
            market.groups.append(group)
        for each in exits:
            if each.place.terms and each.place.terms.trigger:
                self.wait(market, each)
        for each in exits:
            if not (each.place.terms and each.place.terms.trigger):
                least = each.place.terms.minimum_lots if each.place.terms else 0
                self.enter(market, each.order_id, each.place, each.lots, least, each)

    def wait(self, market: NaiveMarket, resting: Resting) -> None:
        """An order begins to wait for its trigger."""
        resting.best = market.last
        market.waiting.append(resting)
        self.tell_waiting(market, resting)

    def tell_waiting(self, market: NaiveMarket, resting: Resting) -> None:
        """It waits."""
        waiting = self.order(market, resting.order_id, resting.place, resting.lots, m.ORDER_STATE_WAITING, 0)
        self.steps.append(m.OrderChanged(waiting, []))

    def on_PlaceGroup(self, first_id: int, asked: m.PlaceGroup) -> tuple[m.EventBody, int]:
        orders = [*([asked.entry] if asked.entry else []), *asked.exits]
        need(1 <= len(asked.exits) <= 2 and len(orders) > 1, "INVALID_GROUP")
        self.account(orders[0].account_id)
        self.stays(orders[0].account_id)
        need(1 <= orders[0].market_id <= len(self.markets), "MARKET_NOT_FOUND")
        market = self.markets[orders[0].market_id - 1]
        self.expire(market)
        need(len({(place.account_id, place.market_id) for place in orders}) == 1, "INVALID_GROUP")
        need(len({place.side for place in asked.exits}) == 1, "INVALID_GROUP")
        need(asked.entry is None or asked.entry.side != asked.exits[0].side, "INVALID_GROUP")
        free = [place for place in asked.exits if not (place.terms and place.terms.trigger)]
        if len(asked.exits) == 2:
            need(len(free) <= 1, "INVALID_GROUP")
            for place in free:
                rests = place.type == m.ORDER_TYPE_LIMIT and place.time_in_force not in (2, 3)
                need(rests, "INVALID_GROUP")
        for place in orders:
            self.check(place)
        exits = [
            Resting(first_id + number + (asked.entry is not None), place, place.quantity_lots)
            for number, place in enumerate(asked.exits)
        ]
        if asked.entry is None:
            self.begin(market, exits)
        else:
            market.groups.append(Group(first_id, exits))
            for each in exits:
                market.held.append(each)
                self.tell_waiting(market, each)
            self.start(market, first_id, asked.entry)
        self.settle(market)
        return m.OrdersChanged(self.steps, self.books()), 0

    def start(self, market: NaiveMarket, order_id: int, place: m.PlaceOrder) -> None:
        """A new order waits or enters."""
        if place.terms and place.terms.trigger:
            self.wait(market, Resting(order_id, place, place.quantity_lots))
        else:
            self.enter(market, order_id, place, place.quantity_lots, place.terms.minimum_lots if place.terms else 0)

    def find_hit(self, market: NaiveMarket) -> None:
        """Moves those that wait for the prices as they are to the released, in their order."""
        for each in market.waiting:
            terms = each.place.terms
            if terms and terms.trigger == m.TRIGGER_TRAILING and market.last:
                better = min if each.place.side == m.SIDE_BUY else max
                each.best = better(each.best or market.last, market.last)
        ranked = []
        for each in market.waiting:
            terms = each.place.terms
            assert terms
            buys = each.place.side == m.SIDE_BUY
            rises = buys if terms.trigger != m.TRIGGER_TAKE_PROFIT else not buys
            if terms.trigger_source == m.TRIGGER_SOURCE_QUOTE:
                queue = market.queue(m.SIDE_SELL if buys else m.SIDE_BUY)
                price = queue[0].place.price_ticks if queue else 0
            else:
                price = market.last
            at = terms.trigger_ticks
            if terms.trigger == m.TRIGGER_TRAILING:
                at = each.best + terms.trail_ticks if buys else max(each.best - terms.trail_ticks, 1)
                if each.best == 0:
                    continue
            if price and (price >= at if rises else price <= at):
                kind = "last" if terms.trigger_source != m.TRIGGER_SOURCE_QUOTE else "ask" if buys else "bid"
                order = ["last", "ask", "bid"].index(kind), not rises, at if rises else -at
                ranked.append((order, market.waiting.index(each), each))
        for _, _, each in sorted(ranked, key=lambda entry: entry[:2]):
            market.waiting.remove(each)
            market.released.append(each)

    def on_PlaceOrder(self, order_id: int, place: m.PlaceOrder) -> tuple[m.EventBody, int]:
        market = self.check(place)
        self.start(market, order_id, place)
        self.settle(market)
        if len(self.steps) > 1 or self.hides:
            return m.OrdersChanged(self.steps, self.books()), 0
        (own,) = self.steps
        return m.OrderPlaced(own.order, own.trades), self.changed(market) if self.levels else 0

    def books(self) -> list[m.BookChanged]:
        """Every level where something happened, market by market."""
        books = []
        for market_id in sorted({market_id for market_id, _, _ in self.levels}):
            market = self.markets[market_id - 1]
            levels = [
                m.LevelChanged(
                    side, price, sum(each.shown for each in market.queue(side) if each.place.price_ticks == price)
                )
                for level_market_id, side, price in sorted(self.levels)
                if level_market_id == market_id
            ]
            books.append(m.BookChanged(market_id, self.changed(market), levels))
        return books

    def changed(self, market: NaiveMarket) -> int:
        """Numbers a change of a market's book."""
        market.changes += 1
        return market.changes

    def happens_at(self, place: m.PlaceOrder) -> None:
        """Something happens at an order's price."""
        self.levels.add((place.market_id, place.side, place.price_ticks))

    def enter(
        self,
        market: NaiveMarket,
        order_id: int,
        place: m.PlaceOrder,
        left: int,
        least: int,
        known: Resting | None = None,
    ) -> None:
        """Trades what is left of an order, at least so much, and rests or ends it; all if it asks for that."""
        place = self.repriced(market, place)
        if market.market.state == m.MARKET_STATE_PRE_OPEN:
            self.stay(market, order_id, place, left, known)
            return
        if place.post_only and market.against(place):
            self.step(market, order_id, place, left, 4, [])
            self.entry_over(market, order_id)
            self.part(market, order_id)
            return
        before = self.saved(market)
        start = left
        left, lost, cause, trades = self.sweep(market, place, left)
        at_once = sum(trade.quantity_lots for trade in trades)
        killed = m.CANCEL_CAUSE_FOK if place.time_in_force == m.TIME_IN_FORCE_FOK and at_once < start else 0
        if at_once < least:
            killed = m.CANCEL_CAUSE_MINIMUM
        if killed:
            restored, self.settlements, self.steps, self.levels, self.hides = before
            market.__dict__.update(restored.__dict__)
            self.step(market, order_id, place, start, killed, [])
            self.entry_over(market, order_id)
            self.part(market, order_id)
            return
        place = like(place, quantity_lots=place.quantity_lots - lost)
        if left and not cause and place.time_in_force in (m.TIME_IN_FORCE_IOC, m.TIME_IN_FORCE_FOK):
            cause = m.CANCEL_CAUSE_IOC
        if left and not cause:
            self.rest(market, order_id, place, left, known)
        if trades:
            self.part(market, order_id)
        self.step(market, order_id, place, left, cause, trades)
        for trade in trades:
            received = trade.base_amount if place.side == m.SIDE_BUY else trade.quote_amount
            self.entry_received(market, order_id, received - trade.taker_fee)
        if cause or not left:
            self.entry_over(market, order_id)
        if cause or not left:
            self.part(market, order_id)

    def repriced(self, market: NaiveMarket, place: m.PlaceOrder) -> m.PlaceOrder:
        """Where an order comes to rest that may be repriced."""
        if place.post_only and place.terms and place.terms.reprice:
            while (queue := market.against(place)) and place.price_ticks > 1:
                best = queue[0].place.price_ticks
                if place.side == m.SIDE_BUY and best == 1:
                    break
                place = like(place, price_ticks=best - 1 if place.side == m.SIDE_BUY else best + 1)
        return place

    def saved(
        self, market: NaiveMarket
    ) -> tuple[NaiveMarket, int, list[m.OrderChanged], set[tuple[int, int, int]], bool]:
        """All that an order may change. Messages are never changed, so they stay the same ones."""
        groups = [*market.groups, *market.over, *market.richer]
        orders = [*self.all_of(market), *(each for group in groups for each in group.exits)]
        messages = [market.market, *(each.place for each in orders)]
        copied = copy.deepcopy(market, {id(message): message for message in messages})
        return copied, self.settlements, list(self.steps), set(self.levels), self.hides

    def stay(self, market: NaiveMarket, order_id: int, place: m.PlaceOrder, left: int, known: Resting | None) -> None:
        """Before the market opens an order rests without a trade, or cannot."""
        cause = m.CANCEL_CAUSE_IOC if place.time_in_force in (m.TIME_IN_FORCE_IOC, m.TIME_IN_FORCE_FOK) else 0
        if not cause:
            self.rest(market, order_id, place, left, known)
        self.step(market, order_id, place, left, cause, [])
        if cause:
            self.entry_over(market, order_id)
            self.part(market, order_id)

    def rest(self, market: NaiveMarket, order_id: int, place: m.PlaceOrder, left: int, known: Resting | None) -> None:
        """An order comes to the end of the queue."""
        resting = known or Resting(order_id, place, left)
        resting.place, resting.lots, resting.came = place, left, self.journal_sequence
        resting.shown = resting.slice()
        market.resting.append(resting)
        self.hides = self.hides or resting.shown < left
        self.happens_at(place)

    def step(
        self, market: NaiveMarket, order_id: int, place: m.PlaceOrder, left: int, cause: int, trades: list[m.Trade]
    ) -> None:
        """An order is like this now."""
        state = m.ORDER_STATE_CANCELED if cause else m.ORDER_STATE_OPEN if left else m.ORDER_STATE_FILLED
        self.steps.append(m.OrderChanged(self.order(market, order_id, place, left, state, cause), trades))

    def ends(self, market: NaiveMarket, resting: Resting, cause: int) -> None:
        """An open order ends."""
        for orders in (market.waiting, market.released, market.held):
            if resting in orders:
                orders.remove(resting)
        if resting in market.resting:
            market.resting.remove(resting)
            self.happens_at(resting.place)
            self.hides = self.hides or resting.shown < resting.lots
        self.step(market, resting.order_id, resting.place, resting.lots, cause, [])
        self.entry_over(market, resting.order_id)
        self.part(market, resting.order_id)

    def sweep(self, market: NaiveMarket, place: m.PlaceOrder, left: int) -> tuple[int, int, int, list[m.Trade]]:
        """Trades maker by maker. Returns what is left, what was lost to own orders, why it must go, and the trades."""
        trades: list[m.Trade] = []
        lost, budget = 0, place.budget
        mode = place.terms.self_trade if place.terms else m.SELF_TRADE_CANCEL_NEWEST
        budgeted = place.type == m.ORDER_TYPE_MARKET and place.side == m.SIDE_BUY
        low, high = self.band(market)
        while left and (queue := market.against(place)):
            maker = queue[0]
            if place.type == m.ORDER_TYPE_MARKET and not (
                maker.place.price_ticks <= high if place.side == m.SIDE_BUY else maker.place.price_ticks >= low
            ):
                return left, lost, m.CANCEL_CAUSE_BAND, trades
            price_of_lot = maker.place.price_ticks * market.quote_per_tick_lot
            lots = min(left, maker.shown)
            if budgeted:
                while lots and lots * price_of_lot > budget:
                    lots = min(lots - 1, budget // price_of_lot)
                if lots == 0:
                    return left, lost, m.CANCEL_CAUSE_BUDGET, trades
            if maker.place.account_id == place.account_id and mode != m.SELF_TRADE_ALLOW:
                both = min(left, maker.lots)
                if mode == m.SELF_TRADE_CANCEL_NEWEST:
                    return left, lost, m.CANCEL_CAUSE_SELF_TRADE, trades
                if mode == m.SELF_TRADE_DECREMENT and maker.lots > both:
                    self.part(market, maker.order_id)
                    maker.place = like(maker.place, quantity_lots=maker.place.quantity_lots - both)
                    maker.lots -= both
                    maker.shown = min(maker.shown, maker.lots)
                    self.happens_at(maker.place)
                    self.step(market, maker.order_id, maker.place, maker.lots, 0, [])
                    return left, lost, m.CANCEL_CAUSE_SELF_TRADE, trades
                self.ends(market, maker, m.CANCEL_CAUSE_SELF_TRADE)
                if mode == m.SELF_TRADE_CANCEL_BOTH or (mode == m.SELF_TRADE_DECREMENT and left == both):
                    return left, lost, m.CANCEL_CAUSE_SELF_TRADE, trades
                if mode == m.SELF_TRADE_DECREMENT:
                    left, lost = left - both, lost + both
                continue
            left -= lots
            budget -= lots * price_of_lot
            self.consume(market, maker, lots)
            self.happens_at(maker.place)
            self.part(market, maker.order_id)
            trades.append(self.trade(market, maker, place, lots))
            received = trades[-1].base_amount if maker.place.side == m.SIDE_BUY else trades[-1].quote_amount
            self.entry_received(market, maker.order_id, received - trades[-1].maker_fee)
            if maker.lots == 0:
                self.entry_over(market, maker.order_id)
        return left, lost, 0, trades

    def trade(self, market: NaiveMarket, maker: Resting, taker: m.PlaceOrder, lots: int, price: int = 0) -> m.Trade:
        """Numbers it and divides the money."""
        market.trades += 1
        price = price or maker.place.price_ticks
        market.last = price
        self.settlements += 1
        base = lots * market.base_per_lot
        quote = lots * price * market.quote_per_tick_lot
        buyer_is_maker = maker.place.side == m.SIDE_BUY
        return m.Trade(
            trade_id=market.trades,
            settlement_sequence=self.settlements,
            price_ticks=price,
            quantity_lots=lots,
            base_amount=base,
            quote_amount=quote,
            maker_order_id=maker.order_id,
            maker_account_id=maker.place.account_id,
            maker_fee=fee(base if buyer_is_maker else quote, maker.place.maker_fee_ppm),
            taker_fee=fee(quote if buyer_is_maker else base, taker.taker_fee_ppm),
            maker_remaining_lots=maker.lots,
            maker_lock_remaining=market.locked_of(maker.order_id, maker.place, maker.lots),
        )

    def on_CancelOrder(self, cancel: m.CancelOrder) -> tuple[m.EventBody, int]:
        for market in self.markets:
            for resting in self.all_of(market):
                if resting.order_id == cancel.order_id and resting.place.account_id == cancel.account_id:
                    self.expire(market)
                    now = [each for each in self.all_of(market) if each.order_id == cancel.order_id]
                    need(bool(now), "ORDER_NOT_FOUND")
                    self.ends(market, now[0], cancel.cause or m.CANCEL_CAUSE_USER)
                    self.settle(market)
                    if len(self.steps) > 1 or self.hides:
                        return m.OrdersChanged(self.steps, self.books()), 0
                    return m.OrderCanceled(self.steps[0].order), self.changed(market) if self.levels else 0
        raise Wrong("ORDER_NOT_FOUND")

    def on_ReplaceOrder(self, asked: m.ReplaceOrder) -> tuple[m.EventBody, int]:
        found = [
            (market, each)
            for market in self.markets
            for each in self.all_of(market)
            if (each.order_id, each.place.account_id) == (asked.order_id, asked.account_id)
        ]
        need(bool(found), "ORDER_NOT_FOUND")
        self.stays(asked.account_id)
        market = found[0][0]
        self.expire(market)
        now = [each for each in self.all_of(market) if each.order_id == asked.order_id]
        need(bool(now), "ORDER_NOT_FOUND")
        resting = now[0]
        grouped = [each.order_id for group in market.groups for each in group.exits]
        grouped += [group.entry_id for group in market.groups]
        need(resting.order_id not in grouped, "ORDER_LINKED")
        old = resting.place
        price, quantity = asked.price_ticks or old.price_ticks, asked.quantity_lots or old.quantity_lots
        client_order_id = asked.client_order_id or old.client_order_id
        place = like(old, price_ticks=price, quantity_lots=quantity, client_order_id=client_order_id)
        need(0 < quantity < 2**63, "INVALID_QUANTITY")
        need(0 < price < 2**63 if old.type == m.ORDER_TYPE_LIMIT else price == 0, "INVALID_PRICE")
        enough = quantity * price * market.quote_per_tick_lot >= market.worth_least()
        need(enough or old.type == m.ORDER_TYPE_MARKET, "NOTIONAL_TOO_SMALL")
        self.allowed(market, place)
        filled = old.quantity_lots - resting.lots
        need(quantity > filled, "QUANTITY_TRADED")
        more = market.locked(place, quantity - filled) - market.locked(old, resting.lots)
        need(asked.growth_max is None or more <= asked.growth_max, "INSUFFICIENT_FUNDS")
        if resting not in market.resting:
            resting.place, resting.lots, resting.shown = place, quantity, quantity
            self.tell_waiting(market, resting)
            self.settle(market)
            return m.OrdersChanged(self.steps, self.books()), 0
        place = self.repriced(market, place)
        if place.price_ticks == old.price_ticks and quantity <= old.quantity_lots:
            self.happens_at(old)
            resting.place, resting.lots = place, quantity - filled
            resting.shown = min(resting.shown, resting.lots)
            self.step(market, resting.order_id, place, resting.lots, 0, [])
        else:
            if place.post_only and market.against(place):
                raise Wrong("WOULD_TRADE")
            self.happens_at(old)
            market.resting.remove(resting)
            self.enter(market, resting.order_id, place, quantity - filled, 0)
        self.settle(market)
        return m.OrdersChanged(self.steps, self.books()), 0

    def on_CancelOrders(self, asked: m.CancelOrders) -> tuple[m.EventBody, int]:
        self.account(asked.account_id)
        need(0 <= asked.market_id <= len(self.markets), "MARKET_NOT_FOUND")
        need(asked.side in (0, 1, 2), "INVALID_FIELD")
        found = []
        for market in self.markets:
            for each in self.all_of(market):
                mine = each.place.account_id == asked.account_id
                if mine and asked.market_id in (0, each.place.market_id) and asked.side in (0, each.place.side):
                    found.append((each.order_id, market, each))
        for _, market, each in sorted(found, key=lambda entry: entry[0]):
            if each not in self.all_of(market):
                continue
            self.ends(market, each, asked.cause or m.CANCEL_CAUSE_USER)
        for market in self.markets:
            self.expire_only(market)
        for market in self.markets:
            self.settle(market)
        return m.OrdersChanged(self.steps, self.books()), 0

    def on_CancelAfter(self, asked: m.CancelAfter) -> m.CancelAfterSet:
        self.account(asked.account_id)
        need(0 <= asked.market_id <= len(self.markets), "MARKET_NOT_FOUND")
        need(0 <= asked.seconds <= 24 * 60 * 60, "INVALID_FIELD")
        self.switches.pop((asked.account_id, asked.market_id), None)
        if asked.seconds == 0:
            return m.CancelAfterSet(asked.account_id, asked.market_id, 0)
        then = self.time_ns + asked.seconds * 10**9
        self.switches[asked.account_id, asked.market_id] = then
        return m.CancelAfterSet(asked.account_id, asked.market_id, then)

    def run_out(self) -> None:
        """Cancels the orders of everybody who was not heard of in time."""
        for (account_id, market_id), then in list(self.switches.items()):
            if then > self.time_ns:
                continue
            del self.switches[account_id, market_id]
            for each in self.open():
                if each.place.account_id == account_id and market_id in (0, each.place.market_id):
                    self.left.append(each.order_id)
        for order_id in sorted(self.left):
            for market in self.markets:
                for each in self.all_of(market):
                    if each.order_id == order_id:
                        self.ends(market, each, m.CANCEL_CAUSE_CANCEL_AFTER)
        self.left = []
        for market in self.markets:
            self.expire_only(market)
        for market in self.markets:
            self.settle(market)

    def on_SetTradingDefaults(self, asked: m.SetTradingDefaults) -> m.TradingDefaultsSet:
        self.account(asked.account_id)
        need(asked.self_trade in (0, 1, 2, 3, 4), "INVALID_FIELD")
        return m.TradingDefaultsSet(asked.account_id, asked.self_trade)

    # The rest.

    def on_LeaderStarted(self, leader: m.LeaderStarted) -> m.LeaderStarted:
        return leader

    def on_AdvanceTime(self, _: m.AdvanceTime) -> m.EventBody:
        self.run_out()
        for market in self.markets:
            self.expire(market)
        return m.OrdersChanged(self.steps, self.books()) if self.steps else m.TimeAdvanced()

    def on_OpenSession(self, opening: m.OpenSession) -> m.SessionOpened:
        need(1 <= opening.gateway <= 127, "INVALID_FIELD")
        self.epochs[opening.gateway] = self.epochs.get(opening.gateway, 0) + 1
        return m.SessionOpened(opening.gateway, self.epochs[opening.gateway])

    def on_OpenAccount(self, opening: m.OpenAccount) -> m.AccountOpened:
        need(1 <= len(opening.name) <= 256, "INVALID_FIELD")
        need(opening.name not in self.names, "ALREADY_EXISTS")
        self.names[opening.name] = 1001 + len(self.names) - len(FIXED)
        return m.AccountOpened(self.names[opening.name], opening.name)

    def on_Transfer(self, transfer: m.Transfer) -> m.Transferred:
        self.account(transfer.from_account_id)
        self.account(transfer.to_account_id)
        self.stays(transfer.from_account_id)
        self.stays(transfer.to_account_id)
        need(1 <= transfer.asset_id <= len(self.assets), "ASSET_NOT_FOUND")
        need(0 < transfer.amount < 2**256 and transfer.transfer_id != "", "INVALID_FIELD")
        need(transfer.from_account_id != transfer.to_account_id, "INVALID_FIELD")
        need(4 not in (transfer.from_account_id, transfer.to_account_id), "INVALID_FIELD")
        need(len(transfer.reason) <= 200, "INVALID_FIELD")
        self.settlements += 1
        return m.Transferred(transfer, self.settlements)

    def on_DepositFinal(self, deposit: m.DepositFinal) -> m.Deposited:
        need(deposit.deposit_index == self.deposits + 1, "OUT_OF_SEQUENCE")
        asset_id = self.asset_id(deposit.asset)
        need(0 < deposit.amount < 2**256 and deposit.account_id > 0, "INVALID_FIELD")
        self.deposits += 1
        if (deposit.account_id, asset_id) in self.exited:
            return m.Deposited(deposit, asset_id, FIXED["insurance"], 0)
        if deposit.account_id in self.names.values() and deposit.account_id != FIXED["outside"]:
            return m.Deposited(deposit, asset_id, 0, 0)
        self.settlements += 1
        return m.Deposited(deposit, asset_id, FIXED["insurance"], self.settlements)

    def asset_id(self, symbol: str) -> int:
        """Refuses an unknown one."""
        symbols = [asset.symbol for asset in self.assets]
        need(symbol in symbols, "ASSET_NOT_FOUND")
        return symbols.index(symbol) + 1

    def address(self, text: str) -> None:
        """Refuses what is none."""
        need(re.fullmatch("0x[0-9a-f]{40}", text) is not None and int(text, 16) > 0, "INVALID_FIELD")

    def on_RequestWithdrawal(self, withdrawal_id: int, asked: m.RequestWithdrawal) -> m.WithdrawalRequested:
        self.account(asked.account_id)
        self.stays(asked.account_id)
        need(1 <= asked.asset_id <= len(self.assets), "ASSET_NOT_FOUND")
        need(asked.transfer_id != "" and asked.account_id != FIXED["outside"], "INVALID_FIELD")
        need(0 < asked.amount < 2**256, "INVALID_FIELD")
        self.address(asked.address)
        addresses, only, off_ns = self.lists.get(asked.account_id, ({}, False, 0))
        if only and not (off_ns and self.time_ns >= off_ns):
            need(asked.address in addresses, "ADDRESS_NOT_ALLOWED")
            need(self.time_ns >= addresses[asked.address], "ADDRESS_TOO_NEW")
        rules = self.withdrawal_rules.get(asked.asset_id)
        if rules is None:
            self.waiting.append(m.Withdrawal(withdrawal_id, asked))
            return m.WithdrawalRequested(self.waiting[-1])
        mine = [each.request for then, each in self.requests if self.time_ns - then < 24 * 3600 * 10**9]
        whole = asked.amount + sum(
            each.amount for each in mine if (each.account_id, each.asset_id) == (asked.account_id, asked.asset_id)
        )
        need(asked.amount >= rules.amount_min, "WITHDRAWAL_TOO_SMALL")
        need(not rules.amount_max or asked.amount <= rules.amount_max, "WITHDRAWAL_TOO_LARGE")
        need(not rules.day_max or whole <= rules.day_max, "WITHDRAWAL_LIMIT_EXCEEDED")
        release_ns = self.time_ns + rules.cooling_seconds * 10**9 if whole <= rules.unapproved_max else 0
        self.waiting.append(m.Withdrawal(withdrawal_id, asked, release_ns))
        self.requests.append((self.time_ns, self.waiting[-1]))
        return m.WithdrawalRequested(self.waiting[-1])

    def on_SetWithdrawalRules(self, asked: m.SetWithdrawalRules) -> m.WithdrawalRulesSet:
        need(1 <= asked.asset_id <= len(self.assets), "ASSET_NOT_FOUND")
        rules = asked.rules
        for amount in (rules.amount_min, rules.amount_max, rules.day_max, rules.unapproved_max):
            need(0 <= amount < 2**256, "INVALID_FIELD")
        need(0 <= rules.cooling_seconds <= 30 * 86_400 and len(asked.reason) <= 200, "INVALID_FIELD")
        need(rules.amount_max == 0 or rules.amount_min <= rules.amount_max, "INVALID_FIELD")
        need(rules.day_max == 0 or rules.amount_min <= rules.day_max, "INVALID_FIELD")
        self.withdrawal_rules[asked.asset_id] = rules
        return m.WithdrawalRulesSet(asked.asset_id, rules)

    def on_ChangeAllowList(self, asked: m.ChangeAllowList) -> m.AllowListChanged:
        need(asked.account_id in self.names.values() and asked.account_id > 1_000, "ACCOUNT_NOT_FOUND")
        need(0 <= asked.delay_seconds <= 30 * 86_400, "INVALID_FIELD")
        addresses, only, off_ns = self.lists.get(asked.account_id, ({}, False, 0))
        then = self.time_ns + asked.delay_seconds * 10**9
        if asked.change in (1, 2):
            self.address(asked.address)
            kept = {known: usable for known, usable in addresses.items() if known != asked.address}
            added = {asked.address: then}
            if asked.change == 1:
                addresses = addresses if asked.address in addresses else kept | added
            else:
                addresses = kept
        else:
            need(asked.change in (3, 4) and asked.address == "", "INVALID_FIELD")
            if asked.change == 3:
                only, off_ns = True, 0
            elif only and off_ns == 0:
                off_ns = then
        self.lists[asked.account_id] = addresses, only, off_ns
        return m.AllowListChanged(asked.account_id, AllowList(tuple(addresses.items()), only, off_ns))

    def taken(self, withdrawal_id: int) -> m.Withdrawal:
        """One that waits, and waits no more."""
        found = [each for each in self.waiting if each.withdrawal_id == withdrawal_id]
        need(bool(found), "WITHDRAWAL_NOT_FOUND")
        self.waiting.remove(found[0])
        return found[0]

    def on_ApproveWithdrawal(self, approval: m.ApproveWithdrawal) -> m.WithdrawalApproved | m.WithdrawalCleared:
        for place, each in enumerate(self.waiting):
            if each.withdrawal_id == approval.withdrawal_id:
                self.stays(each.request.account_id)
                need(each.release_ns == 0, "OUT_OF_SEQUENCE")
                rules = self.withdrawal_rules.get(each.request.asset_id)
                if rules is not None and rules.cooling_seconds:
                    then = self.time_ns + rules.cooling_seconds * 10**9
                    self.waiting[place] = m.Withdrawal(each.withdrawal_id, each.request, then)
                    return m.WithdrawalCleared(self.waiting[place])
        return self.gone(approval.withdrawal_id)

    def on_ReleaseWithdrawal(self, release: m.ReleaseWithdrawal) -> m.WithdrawalApproved:
        for each in self.waiting:
            if each.withdrawal_id == release.withdrawal_id:
                self.stays(each.request.account_id)
                need(each.release_ns != 0 and self.time_ns >= each.release_ns, "OUT_OF_SEQUENCE")
        return self.gone(release.withdrawal_id)

    def gone(self, withdrawal_id: int) -> m.WithdrawalApproved:
        """To the chain."""
        withdrawal = self.taken(withdrawal_id)
        self.settlements += 1
        return m.WithdrawalApproved(withdrawal, self.settlements)

    def on_CancelWithdrawal(self, cancel: m.CancelWithdrawal) -> m.WithdrawalCanceled:
        need(len(cancel.reason) <= 200, "INVALID_FIELD")
        withdrawal = self.taken(cancel.withdrawal_id)
        self.requests = [item for item in self.requests if item[1].withdrawal_id != cancel.withdrawal_id]
        return m.WithdrawalCanceled(withdrawal, cancel.reason)

    def on_ClaimFinal(self, claim: m.ClaimFinal) -> m.Claimed:
        need(claim.claim_index == self.claims + 1, "OUT_OF_SEQUENCE")
        asset_id = self.asset_id(claim.asset)
        need(0 < claim.amount < 2**256, "INVALID_FIELD")
        self.address(claim.address)
        if claim.exit_account_id:
            need(self.is_user(claim.exit_account_id), "INVALID_FIELD")
            need(claim.exit_account_id in self.leaving, "OUT_OF_SEQUENCE")
            need(all(account_id != claim.exit_account_id for account_id, _ in self.locks()), "OUT_OF_SEQUENCE")
            self.exited |= {(claim.exit_account_id, asset_id)}
        self.claims += 1
        return m.Claimed(claim, asset_id)

    def on_ExitRequestFinal(self, asked: m.ExitRequestFinal) -> m.ExitRequested:
        need(asked.exit_index == self.exits + 1, "OUT_OF_SEQUENCE")
        need(self.is_user(asked.account_id), "INVALID_FIELD")
        self.exits += 1
        self.leaving -= {asked.account_id}
        if not asked.canceled:
            self.leaving |= {asked.account_id}
        return m.ExitRequested(asked)

    def on_NoteDebt(self, note: m.NoteDebt) -> m.DebtNoted:
        need(note.note_index == len(self.notes) + 1, "OUT_OF_SEQUENCE")
        asset_id = self.asset_id(note.asset)
        need(len(note.reason) <= 200 and 0 < note.amount < 2**256, "INVALID_FIELD")
        need(note.account_id in self.names.values(), "INVALID_FIELD")
        need(note.account_id not in (FIXED["insurance"], FIXED["outside"]), "INVALID_FIELD")
        before = [each for each in self.notes if each.debt_id == note.debt_id]
        content = {(each.account_id, each.asset, each.amount) for each in [*before, note]}
        states = [each.state for each in [*before, note]]
        need(states in ([1], [1, 2], [1, 3], [1, 2, 3]) and len(content) == 1, "INVALID_FIELD")
        need(bool(before) or note.debt_id == note.note_index, "INVALID_FIELD")
        self.notes.append(note)
        return m.DebtNoted(note, asset_id)

    def stays(self, account_id: int) -> None:
        need(account_id not in self.leaving, "ACCOUNT_FROZEN")

    def is_user(self, account_id: int) -> bool:
        return account_id > 1000 and account_id in self.names.values()

    def on_SettlementFinal(self, final: m.SettlementFinal) -> m.SettlementFinalized:
        need(self.final < final.through_settlement_sequence <= self.settlements, "OUT_OF_SEQUENCE")
        self.final = final.through_settlement_sequence
        return m.SettlementFinalized(self.final)

    def on_CreateAsset(self, creation: m.CreateAsset) -> m.AssetCreated:
        symbol, decimals = creation.asset.symbol, creation.asset.decimals
        good = symbol.isascii() and symbol.isalnum() and symbol.upper() == symbol and len(symbol) <= 16
        need(good and 0 <= decimals <= 36, "INVALID_FIELD")
        need(symbol not in [asset.symbol for asset in self.assets], "ALREADY_EXISTS")
        self.assets.append(m.Asset(len(self.assets) + 1, symbol, decimals))
        self.settlements += 1
        return m.AssetCreated(self.assets[-1], self.settlements)

    def on_CreateMarket(self, creation: m.CreateMarket) -> m.MarketCreated:
        asked = creation.market
        need(asked.symbol not in [market.market.symbol for market in self.markets], "ALREADY_EXISTS")
        ids = [asset.asset_id for asset in self.assets]
        need(asked.base_asset_id in ids and asked.quote_asset_id in ids, "ASSET_NOT_FOUND")
        need(asked.base_asset_id != asked.quote_asset_id, "INVALID_MARKET")
        base, quote = self.assets[asked.base_asset_id - 1], self.assets[asked.quote_asset_id - 1]
        need(asked.symbol == base.symbol + "-" + quote.symbol, "INVALID_FIELD")
        need(0 <= asked.notional_min < 2**256 and asked.state in range(5), "INVALID_FIELD")
        self.rules_fit(asked.rules)
        for step in (asked.tick_size, asked.lot_size):
            try:
                need(step.replace(".", "").isdecimal() and Decimal(step) > 0, "INVALID_FIELD")
            except InvalidOperation:
                raise Wrong("INVALID_FIELD") from None
        market = market_like(asked, len(self.markets) + 1, asked.state or m.MARKET_STATE_OPEN)
        self.markets.append(NaiveMarket(market, base.decimals, quote.decimals))
        return m.MarketCreated(market)

    def on_SetReferencePrice(self, asked: m.SetReferencePrice) -> m.ReferencePriceSet:
        need(1 <= asked.market_id <= len(self.markets), "MARKET_NOT_FOUND")
        market = self.markets[asked.market_id - 1]
        need(0 < asked.price_ticks < 2**63, "INVALID_PRICE")
        need(1 <= len(asked.source) <= 64 and 0 < asked.observed_ns < 2**63, "INVALID_FIELD")
        rules, told = market.market.rules, market.elsewhere
        seconds = rules.reference_age_max_seconds if rules is not None else 0
        need(asked.observed_ns >= self.time_ns - (seconds or 30) * 10**9, "REFERENCE_OUTDATED")
        need(told is None or told[1] <= asked.observed_ns, "REFERENCE_OUTDATED")
        seen = min(self.time_ns, asked.observed_ns)
        market.elsewhere = asked.price_ticks, seen
        return m.ReferencePriceSet(asked.market_id, asked.price_ticks, asked.source, seen)

    def on_ChangeMarket(self, change: m.ChangeMarket) -> m.EventBody:
        need(1 <= change.market_id <= len(self.markets), "MARKET_NOT_FOUND")
        need(change.state in range(5) and (change.state != 0 or change.rules is not None), "INVALID_FIELD")
        self.rules_fit(change.rules)
        need(len(change.reason) <= 200, "INVALID_FIELD")
        market = self.markets[change.market_id - 1]
        state = change.state or market.market.state
        market.market = like(market.market, state=state, rules=change.rules or market.market.rules)
        if state == m.MARKET_STATE_OPEN:
            self.expire_only(market)
            self.auction(market)
        self.expire(market)
        if self.steps:
            return m.OrdersChanged(self.steps, self.books(), None, False, market.market)
        return m.MarketChanged(market.market)

    def rules_fit(self, rules: m.MarketRules | None) -> None:
        """Refuses rules that cannot be."""
        if rules is not None:
            lots = (rules.quantity_min_lots, rules.quantity_max_lots)
            need(all(0 <= each < 2**63 for each in lots), "INVALID_FIELD")
            need(all(0 <= worth < 2**256 for worth in (rules.notional_min, rules.notional_max)), "INVALID_FIELD")
            need(0 <= rules.band_ppm < 10**6 and rules.open_orders_max >= 0, "INVALID_FIELD")
            need(rules.reference_age_max_seconds in range(24 * 60 * 60 + 1), "INVALID_FIELD")
