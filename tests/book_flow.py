"""Random life in a few markets, by the real engine: journal rows as the book streams them, and what is true after each.

The same seed gives the same flow. The truth is read off the engine's own resting orders, not off any depth.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable

from clearbook.internal.v1.matching_service_pb2 import StreamEventsResponse

from services.book import model as m
from services.book import wire
from services.book.engine import Engine
from services.command_ids import command_id_of
from tests.property.naive import like

Levels = list[tuple[int, int]]
GATEWAY = 1
INCARNATION = "flow"
BTC, USD = m.Asset(1, "BTC", 18), m.Asset(2, "USD", 18)
MARKETS = [
    m.Market(0, "BTC-USD", 1, 2, "0.01", "0.00001", 10**18),
    m.Market(0, "USD-BTC", 2, 1, "0.0005", "0.1"),  # a tick that is not a power of ten
]


class Flow:
    """Commands at random, prices around `middle` within `spread` ticks; with `special` of all kinds there are.

    Attributes:
        rows: everything so far.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        incarnation: str = INCARNATION,
        spread: int = 12,
        start_ns: int = 1_700_000_000 * 10**9,
        special: bool = False,
    ) -> None:
        self.random, self.special = random.Random(seed), special
        self.engine = Engine()
        self.incarnation, self.spread, self.time_ns = incarnation, spread, start_ns
        self.rows: list[StreamEventsResponse] = []
        self._number = 0
        own: list[m.CommandBody] = [m.LeaderStarted(1, incarnation), m.CreateAsset(BTC), m.CreateAsset(USD)]
        self.row([m.Command(0, body) for body in [*own, *map(m.CreateMarket, MARKETS), m.OpenSession(GATEWAY)]])
        self.row([self._numbered(m.OpenAccount(name)) for name in ("ann", "bob", "cat", "dan")])

    def row(self, commands: Iterable[m.Command]) -> StreamEventsResponse:
        """One row of these commands."""
        first = self.engine.journal_sequence + 1
        self.time_ns += self.random.randrange(1, 10**7)
        events = [wire.encode_event(self.engine.apply(command, self.time_ns)) for command in commands]
        row = StreamEventsResponse(
            first_journal_sequence=first,
            last_journal_sequence=self.engine.journal_sequence,
            time_ns=self.time_ns,
            events=b"".join(events),
            incarnation=self.incarnation,
        )
        self.rows.append(row)
        return row

    def some(self, commands: int = 1) -> StreamEventsResponse:
        """One row of random commands."""
        return self.row(self._command() for _ in range(commands))

    def tick(self) -> StreamEventsResponse:
        """A row in which nothing happens."""
        return self.row([m.Command(0, m.AdvanceTime())])

    def place(
        self, market_id: int, side: int, price: int, lots: int, account: int = 1004, *, times: int = 1
    ) -> StreamEventsResponse:
        """A row of one limit order, or of several alike, of somebody who places no others."""
        return self.row([self._numbered(_limit(account, market_id, side, price, lots)) for _ in range(times)])

    def ladder(self, market_id: int, side: int, price: int, lots: int, levels: int) -> StreamEventsResponse:
        """A row of a limit order at each of so many prices, from one on."""
        prices = range(price, price + levels)
        return self.row([self._numbered(_limit(1004, market_id, side, each, lots)) for each in prices])

    def do(self, body: m.CommandBody) -> StreamEventsResponse:
        """A row of one command."""
        return self.row([self._numbered(body)])

    def change(self, market_id: int, state: int, rules: m.MarketRules | None = None) -> StreamEventsResponse:
        """A row in which a market gets another state, or (0) only other rules."""
        return self.row([self._numbered(m.ChangeMarket(market_id, state, rules))])

    def levels(self, market_id: int, buys: bool) -> Levels:
        """The truth, best first."""
        lots: dict[int, int] = defaultdict(int)
        book = self.engine.books[market_id]
        for level in (book.bids if buys else book.asks).levels_best_first():
            for resting in level.orders():
                lots[level.price_ticks] += resting.remaining_lots
        return sorted(lots.items(), reverse=buys)

    def _numbered(self, body: m.CommandBody) -> m.Command:
        first = self._number + 1
        self._number += m.numbers_of(body)
        return m.Command(command_id_of(GATEWAY, 1, first), body)

    def _command(self) -> m.Command:
        if self.special and self.random.random() < 0.4:
            return self._numbered(self._special())
        pick, r = self.random.random(), self.random
        if pick < 0.3 and (mine := list(self.engine.orders.values())):
            order = r.choice(mine)
            return self._numbered(m.CancelOrder(order.place.account_id, order.order_id))
        account, market_id, side = (
            r.choice([1001, 1002, 1003]),
            r.choice([1, 1, 2]),
            r.choice([m.SIDE_BUY, m.SIDE_SELL]),
        )
        if pick < 0.33:
            return m.Command(0, m.AdvanceTime())
        lots = r.choice([1, 2, 5, 10, 70])
        if pick < 0.4:
            budget = lots * 10**30 if side == m.SIDE_BUY else 0
            kind = (m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_IOC)
            return self._numbered(m.PlaceOrder(account, market_id, side, *kind, quantity_lots=lots, budget=budget))
        away = r.randrange(-3, self.spread)
        price = 3_000_000 - away if side == m.SIDE_BUY else 3_000_000 + away
        tif = r.choice([m.TIME_IN_FORCE_GTC] * 6 + [m.TIME_IN_FORCE_IOC, m.TIME_IN_FORCE_FOK])
        post_only = tif == m.TIME_IN_FORCE_GTC and r.random() < 0.1
        return self._numbered(_limit(account, market_id, side, price, lots * 100_000, tif, post_only))

    def _special(self) -> m.CommandBody:
        """What no plain event can tell of, most often."""
        r, orders = self.random, list(self.engine.orders.values())
        kind, account, market_id = r.randrange(12), r.choice([1001, 1002, 1003]), r.choice([1, 1, 2])
        if kind < 3 and orders:
            order = r.choice(orders)
            price, lots = 3_000_000 + r.randrange(-5, 6), r.choice([1, 3, 8]) * 100_000
            return m.ReplaceOrder(order.place.account_id, order.order_id, r.choice([0, price]), r.choice([0, lots]))
        if kind == 3:
            return m.CancelOrders(account, r.choice([0, market_id]))
        if kind == 4:
            states = (m.MARKET_STATE_OPEN, m.MARKET_STATE_OPEN, m.MARKET_STATE_PRE_OPEN, m.MARKET_STATE_CLOSED)
            return m.ChangeMarket(market_id, r.choice(states))
        if kind < 7:
            first, other = self._waiting(account, market_id), self._shown(account, market_id)
            return m.PlaceGroup(None, [like(first, side=other.side), other])
        return self._waiting(account, market_id) if kind < 9 else self._shown(account, market_id)

    def _waiting(self, account: int, market_id: int) -> m.PlaceOrder:
        """A stop or take-profit of a limit order."""
        r, order = self.random, self._shown(account, market_id)
        trigger = r.choice([m.TRIGGER_STOP, m.TRIGGER_TAKE_PROFIT])
        return like(order, terms=m.Terms(trigger=trigger, trigger_ticks=3_000_000 + r.randrange(-4, 5)))

    def _shown(self, account: int, market_id: int) -> m.PlaceOrder:
        """An iceberg that does anything when it meets its owner's orders."""
        r, side = self.random, self.random.choice([m.SIDE_BUY, m.SIDE_SELL])
        price, lots = 3_000_000 + r.randrange(-4, 5), r.choice([2, 5, 10]) * 100_000
        order = _limit(account, market_id, side, price, lots)
        return like(order, terms=m.Terms(self_trade=r.randrange(5), display_lots=r.choice([0, 50_000, 100_000])))


def _limit(
    account: int, market_id: int, side: int, price: int, lots: int, tif: int = m.TIME_IN_FORCE_GTC, post: bool = False
) -> m.PlaceOrder:
    return m.PlaceOrder(account, market_id, side, m.ORDER_TYPE_LIMIT, tif, post, price, lots)
