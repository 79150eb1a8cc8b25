"""What one command may do is bounded; the rest stays due, through a restart too, and is done by the next."""

from __future__ import annotations

from services.book import expiries, triggers
from services.book import model as m
from services.book.auction import AUCTION_TRADES_MAX
from services.book.engine import Engine
from services.book.rules import TRAILING_ORDERS_MAX
from services.book.switches import NS_PER_SECOND
from services.book.turn import TURN_STEPS_MAX
from services.command_ids import command_id_of

ANN, BOB, CAT = 1001, 1002, 1003
MORE = 9
MANY = TURN_STEPS_MAX + MORE


class Floor:
    """An engine with one market; restarted whenever it is asked to."""

    def __init__(self) -> None:
        self.engine, self.number, self.time_ns = Engine(), 0, 1
        bodies: list[m.CommandBody] = [
            m.LeaderStarted(1, "bounds"),
            m.OpenSession(1),
            m.CreateAsset(m.Asset(0, "BTC", 0)),
            m.CreateAsset(m.Asset(0, "USD", 0)),
            m.CreateMarket(m.Market(0, "BTC-USD", 1, 2, "1", "1")),
            *(m.OpenAccount(name) for name in ("ann", "bob", "cat")),
        ]
        for body in bodies:
            self.engine.apply(m.Command(0, body), 1)

    def say(self, body: m.CommandBody) -> m.EventBody:
        command_id = 0
        if not isinstance(body, m.AdvanceTime):
            self.number += 1
            command_id = command_id_of(1, 1, self.number)
        return self.engine.apply(m.Command(command_id, body), self.time_ns).body

    def order(
        self, account_id: int, side: int, price_ticks: int, terms: m.Terms | None = None, time_in_force: int = 1
    ) -> m.EventBody:
        kind = m.ORDER_TYPE_LIMIT if price_ticks else m.ORDER_TYPE_MARKET
        return self.say(m.PlaceOrder(account_id, 1, side, kind, time_in_force, False, price_ticks, 1, terms=terms))

    def restart(self) -> None:
        snapshot = self.engine.snapshot()
        self.engine = Engine.restore(snapshot)
        self.engine.validate()
        assert self.engine.snapshot() == snapshot


def steps(body: m.EventBody) -> int:
    assert isinstance(body, m.OrdersChanged), body
    return len(body.steps)


def test_what_expires_at_once() -> None:
    floor = Floor()
    for _ in range(MANY):
        floor.order(ANN, m.SIDE_BUY, 100, m.Terms(expires_ns=5), m.TIME_IN_FORCE_GTD)
    assert not floor.engine.is_due(4)
    floor.time_ns = 5
    assert floor.engine.is_due(5)
    assert steps(floor.say(m.AdvanceTime())) == TURN_STEPS_MAX
    floor.restart()
    assert floor.engine.is_due(5)
    assert steps(floor.order(BOB, m.SIDE_SELL, 101)) == MORE + 1
    assert not floor.engine.is_due(5)
    assert isinstance(floor.say(m.AdvanceTime()), m.TimeAdvanced)


def test_a_day_ends_wholly_before_its_market_opens_again() -> None:
    floor = Floor()
    for _ in range(MANY):
        floor.order(ANN, m.SIDE_BUY, 100, None, m.TIME_IN_FORCE_DAY)
    assert steps(floor.say(m.ChangeMarket(1, m.MARKET_STATE_CLOSED))) == TURN_STEPS_MAX
    floor.restart()
    for state in (m.MARKET_STATE_OPEN, m.MARKET_STATE_PRE_OPEN, m.MARKET_STATE_HALTED):
        refused = floor.say(m.ChangeMarket(1, state))
        assert isinstance(refused, m.Refused)
        assert refused.reason == "MARKET_CLOSED"
    assert steps(floor.say(m.ChangeMarket(1, m.MARKET_STATE_CLOSED))) == MORE
    assert isinstance(floor.say(m.ChangeMarket(1, m.MARKET_STATE_OPEN)), m.MarketChanged)
    assert not list(floor.engine.open_orders(1))


def test_what_one_price_releases() -> None:
    floor = Floor()
    for _ in range(MANY):
        floor.order(ANN, m.SIDE_BUY, 50, m.Terms(trigger=m.TRIGGER_STOP, trigger_ticks=100))
    floor.order(BOB, m.SIDE_SELL, 100)
    assert steps(floor.order(CAT, m.SIDE_BUY, 100)) == TURN_STEPS_MAX + 1
    floor.restart()
    assert floor.engine.is_due(1)
    assert steps(floor.say(m.AdvanceTime())) == MORE
    assert not floor.engine.is_due(1)
    assert len(list(floor.engine.open_orders(1))) == MANY


def test_what_is_canceled_with_one_word() -> None:
    floor = Floor()
    for _ in range(MANY):
        floor.order(ANN, m.SIDE_BUY, 100)
    first, second = floor.say(m.CancelOrders(ANN)), floor.say(m.CancelOrders(ANN))
    assert (steps(first), steps(second)) == (TURN_STEPS_MAX, MORE)
    assert isinstance(first, m.OrdersChanged)
    assert isinstance(second, m.OrdersChanged)
    assert (first.more, second.more) == (True, False)


def test_what_a_switch_cancels_at_once() -> None:
    floor = Floor()
    for _ in range(MANY):
        floor.order(ANN, m.SIDE_BUY, 100)
    floor.say(m.CancelAfter(ANN, 1, 1))
    floor.say(m.CancelAfter(BOB, 0, 1))
    floor.restart()
    floor.time_ns = NS_PER_SECOND
    assert not floor.engine.is_due(floor.time_ns)
    floor.time_ns += 1
    assert floor.engine.is_due(floor.time_ns)
    assert steps(floor.say(m.AdvanceTime())) == TURN_STEPS_MAX
    floor.order(ANN, m.SIDE_BUY, 100)
    floor.restart()
    assert floor.engine.is_due(floor.time_ns)
    assert steps(floor.say(m.AdvanceTime())) == MORE
    assert not floor.engine.is_due(floor.time_ns)
    assert len(list(floor.engine.open_orders(1))) == 1


def test_how_many_of_its_own_an_order_takes_away() -> None:
    floor = Floor()
    for _ in range(MANY):
        floor.order(ANN, m.SIDE_SELL, 100)
    own = floor.order(ANN, m.SIDE_BUY, 100, m.Terms(self_trade=m.SELF_TRADE_CANCEL_OLDEST))
    assert steps(own) == TURN_STEPS_MAX + 1
    assert isinstance(own, m.OrdersChanged)
    assert own.steps[-1].order.cancel_cause == m.CANCEL_CAUSE_SELF_TRADE
    floor.engine.validate()


def test_an_auction_that_takes_more_than_one_command() -> None:
    floor = Floor()
    floor.say(m.ChangeMarket(1, m.MARKET_STATE_PRE_OPEN))
    for _ in range(2 * AUCTION_TRADES_MAX + MORE):
        floor.order(ANN, m.SIDE_BUY, 100)
        floor.order(BOB, m.SIDE_SELL, 100)
    assert steps(floor.say(m.ChangeMarket(1, m.MARKET_STATE_OPEN))) == AUCTION_TRADES_MAX
    floor.restart()
    refused = floor.order(CAT, m.SIDE_BUY, 100)
    assert steps(refused) == AUCTION_TRADES_MAX
    assert isinstance(refused, m.OrdersChanged)
    assert refused.refused is not None
    assert refused.refused.reason == "MARKET_IN_AUCTION"
    assert floor.engine.is_due(1)
    assert steps(floor.say(m.AdvanceTime())) == MORE
    assert not floor.engine.is_due(1)
    assert isinstance(floor.order(CAT, m.SIDE_BUY, 100), m.OrderPlaced)
    floor.engine.validate()


def test_how_many_stops_trail() -> None:
    floor = Floor()
    trailing = m.Terms(trigger=m.TRIGGER_TRAILING, trail_ticks=1)
    for _ in range(TRAILING_ORDERS_MAX):
        assert isinstance(floor.order(ANN, m.SIDE_BUY, 100, trailing), m.OrderPlaced)
    refused = floor.order(ANN, m.SIDE_BUY, 100, trailing)
    assert isinstance(refused, m.Refused)
    assert refused.reason == "TOO_MANY_TRAILING_STOPS"


def test_what_is_kept_of_an_order_that_is_moved_without_end() -> None:
    floor = Floor()
    floor.order(ANN, m.SIDE_BUY, 100, m.Terms(expires_ns=5), m.TIME_IN_FORCE_GTD)
    floor.order(ANN, m.SIDE_BUY, 100, None, m.TIME_IN_FORCE_DAY)
    orders = [order.order_id for order in floor.engine.open_orders(1)]
    for number in range(expiries.FORGOTTEN_MIN + MANY):
        for order_id in orders:
            floor.say(m.ReplaceOrder(ANN, order_id, 100 + number % 2, 1))
    book = floor.engine.books[1]
    for kept in (book.expiries, book.days):
        assert len(kept._heap) <= expiries.FORGOTTEN_MIN
    floor.time_ns = 5
    assert steps(floor.say(m.AdvanceTime())) == 1
    assert steps(floor.say(m.ChangeMarket(1, m.MARKET_STATE_CLOSED))) == 1


def test_what_is_kept_of_stops_that_come_and_go_or_trail_without_end() -> None:
    floor = Floor()
    stop, trail = (
        m.Terms(trigger=m.TRIGGER_STOP, trigger_ticks=9_000),
        m.Terms(trigger=m.TRIGGER_TRAILING, trail_ticks=1),
    )
    floor.order(ANN, m.SIDE_SELL, 1, trail)
    for number in range(100, 100 + triggers.FORGOTTEN_MIN + MANY):
        floor.order(BOB, m.SIDE_SELL, number)
        floor.order(CAT, m.SIDE_BUY, number)
        floor.order(ANN, m.SIDE_BUY, 100, stop)
        floor.say(m.CancelOrder(ANN, command_id_of(1, 1, floor.number)))
    kept = floor.engine.books[1].triggers
    assert len(kept.current) == 1
    assert all(len(heap) <= 2 * len(kept.current) + triggers.FORGOTTEN_MIN for heap in kept._heaps)
    floor.restart()
    floor.order(BOB, m.SIDE_BUY, number - 1)
    floor.order(CAT, m.SIDE_SELL, number - 1)
    assert [order.place.account_id for order in floor.engine.open_orders(1)] == [ANN], "the trail was hit"
