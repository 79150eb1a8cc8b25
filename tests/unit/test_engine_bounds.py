"""What one command may do is bounded; the rest stays due, through a restart too, and is done by the next."""

from __future__ import annotations

from services.book import expiries, owners, triggers
from services.book import model as m
from services.book.auction import AUCTION_TRADES_MAX, AUCTION_WALKS_MAX
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


def gone(floor: Floor, body: m.EventBody) -> m.Order:
    """The last order that a command told of."""
    assert isinstance(body, m.OrdersChanged), body
    floor.engine.validate()
    return body.steps[-1].order


def test_what_has_expired_never_trades_even_before_its_turn_has_come() -> None:
    floor = Floor()
    floor.order(BOB, m.SIDE_BUY, 100)
    for _ in range(MANY):
        floor.order(ANN, m.SIDE_BUY, 100, m.Terms(expires_ns=5), m.TIME_IN_FORCE_GTD)
    floor.order(BOB, m.SIDE_BUY, 100)
    floor.time_ns = 5
    sold = floor.say(m.PlaceOrder(CAT, 1, m.SIDE_SELL, 1, 1, False, 100, 2))
    assert steps(sold) == MANY + 1
    assert gone(floor, sold).state == m.ORDER_STATE_FILLED
    assert isinstance(sold, m.OrdersChanged)
    assert [trade.maker_account_id for trade in sold.steps[-1].trades] == [BOB, BOB]
    assert not floor.engine.orders


def test_what_has_expired_is_in_nobodys_way() -> None:
    floor = Floor()
    for _ in range(MANY):
        floor.order(ANN, m.SIDE_BUY, 100, m.Terms(expires_ns=5), m.TIME_IN_FORCE_GTD)
    floor.time_ns = 5
    rested = floor.say(m.PlaceOrder(CAT, 1, m.SIDE_SELL, 1, 1, True, 100, 1))
    assert steps(rested) == MANY + 1
    assert gone(floor, rested).state == m.ORDER_STATE_OPEN


def test_an_order_before_which_more_has_expired_than_one_command_ends() -> None:
    for time_in_force, cause in ((1, m.CANCEL_CAUSE_MARKET), (m.TIME_IN_FORCE_FOK, m.CANCEL_CAUSE_FOK)):
        floor = Floor()
        for _ in range(MANY + TURN_STEPS_MAX):
            floor.order(ANN, m.SIDE_BUY, 100, m.Terms(expires_ns=5), m.TIME_IN_FORCE_GTD)
        floor.order(BOB, m.SIDE_BUY, 100)
        floor.time_ns = 5
        sold = gone(floor, floor.order(CAT, m.SIDE_SELL, 100, time_in_force=time_in_force))
        assert (sold.state, sold.cancel_cause) == (m.ORDER_STATE_CANCELED, cause)
        assert steps(floor.order(CAT, m.SIDE_SELL, 100, time_in_force=time_in_force)) == MORE + 1
        assert not floor.engine.orders


def test_fill_or_kill_passes_over_what_has_expired() -> None:
    for live, state in ((0, m.ORDER_STATE_CANCELED), (1, m.ORDER_STATE_FILLED)):
        floor = Floor()
        for _ in range(TURN_STEPS_MAX):
            floor.order(CAT, m.SIDE_BUY, 50, m.Terms(expires_ns=4), m.TIME_IN_FORCE_GTD)
        floor.order(BOB, m.SIDE_BUY, 100)
        iceberg = m.Terms(expires_ns=5, display_lots=1)
        floor.say(m.PlaceOrder(ANN, 1, m.SIDE_BUY, 1, m.TIME_IN_FORCE_GTD, False, 100, 9, terms=iceberg))
        for _ in range(live):
            floor.order(BOB, m.SIDE_BUY, 100)
        floor.time_ns = 5
        sold = floor.say(m.PlaceOrder(CAT, 1, m.SIDE_SELL, 1, m.TIME_IN_FORCE_FOK, False, 100, 2))
        assert (gone(floor, sold).state, gone(floor, sold).filled_lots) == (state, 2 * live)


def test_what_is_released_after_its_time_does_not_trade() -> None:
    floor = Floor()
    for _ in range(TURN_STEPS_MAX):
        floor.order(ANN, m.SIDE_BUY, 50, m.Terms(expires_ns=4), m.TIME_IN_FORCE_GTD)
    stop = m.Terms(trigger=m.TRIGGER_STOP, trigger_ticks=100, expires_ns=5)
    floor.order(CAT, m.SIDE_BUY, 100, stop, m.TIME_IN_FORCE_GTD)
    for _ in range(2):
        floor.order(BOB, m.SIDE_SELL, 100)
    floor.time_ns = 5
    stopped = gone(floor, floor.order(ANN, m.SIDE_BUY, 100))
    assert (stopped.place.account_id, stopped.cancel_cause) == (CAT, m.CANCEL_CAUSE_EXPIRED)
    assert len(floor.engine.orders) == 1


def test_what_has_expired_does_not_trade_in_the_auction() -> None:
    floor = Floor()
    floor.say(m.ChangeMarket(1, m.MARKET_STATE_PRE_OPEN))
    for _ in range(MANY):
        floor.order(ANN, m.SIDE_BUY, 100, m.Terms(expires_ns=5), m.TIME_IN_FORCE_GTD)
    floor.order(BOB, m.SIDE_BUY, 100)
    floor.order(CAT, m.SIDE_SELL, 100)
    floor.time_ns = 5
    opened = floor.say(m.ChangeMarket(1, m.MARKET_STATE_OPEN))
    assert steps(opened) == MANY + 1
    assert isinstance(opened, m.OrdersChanged)
    assert [trade.maker_account_id for trade in opened.steps[-1].trades] == [BOB]
    assert not floor.engine.orders


def pairs(floor: Floor, number: int, account_id: int, ticks: int, own: int = 0) -> None:
    """So many times two exits of which one cancels the other; the first of them rests."""
    for _ in range(number):
        stop = m.Terms(trigger=m.TRIGGER_STOP, trigger_ticks=1)
        exits = [
            m.PlaceOrder(account_id, 1, m.SIDE_SELL, 1, 1, False, price_ticks, 1, terms=terms)
            for price_ticks, terms in ((ticks, m.Terms(self_trade=own) if own else None), (1, stop))
        ]
        floor.say(m.PlaceGroup(None, exits))
        floor.number += 1


def test_fill_or_kill_beside_more_exits_of_two_than_one_command_ends() -> None:
    for number, state in ((TURN_STEPS_MAX // 2, m.ORDER_STATE_FILLED), (TURN_STEPS_MAX, m.ORDER_STATE_CANCELED)):
        floor = Floor()
        pairs(floor, number, ANN, 100)
        floor.order(BOB, m.SIDE_SELL, 100)
        oldest = m.Terms(self_trade=m.SELF_TRADE_CANCEL_OLDEST)
        bought = floor.order(ANN, m.SIDE_BUY, 100, oldest, m.TIME_IN_FORCE_FOK)
        order = bought.order if isinstance(bought, m.OrderPlaced) else gone(floor, bought)
        assert order.state == state
        assert order.filled_lots == (state == m.ORDER_STATE_FILLED)
        assert len(floor.engine.orders) == (0 if order.filled_lots else 2 * number + 1)


def test_how_many_stops_trail_behind_their_entries() -> None:
    floor = Floor()
    trailing = m.Terms(trigger=m.TRIGGER_TRAILING, trail_ticks=1)
    exits = [m.PlaceOrder(ANN, 1, m.SIDE_SELL, 1, 1, False, 100, 1, terms=trailing) for _ in range(2)]
    group = m.PlaceGroup(m.PlaceOrder(ANN, 1, m.SIDE_BUY, 1, 1, False, 50, 1), exits)
    for _ in range(TRAILING_ORDERS_MAX // 2 - 1):
        assert isinstance(floor.say(group), m.OrdersChanged)
        floor.number += 2
    assert isinstance(floor.order(ANN, m.SIDE_SELL, 100, trailing), m.OrderPlaced)
    floor.restart()
    for asked in (group, m.PlaceGroup(None, exits)):
        refused = floor.say(asked)
        floor.number += 1 + (asked.entry is not None)
        assert isinstance(refused, m.Refused)
        assert refused.reason == "TOO_MANY_TRAILING_STOPS"
    assert isinstance(floor.order(ANN, m.SIDE_SELL, 100, trailing), m.OrderPlaced)
    assert isinstance(floor.order(ANN, m.SIDE_SELL, 100, trailing), m.Refused)
    floor.say(m.CancelOrder(ANN, next(iter(floor.engine.orders))))
    floor.order(BOB, m.SIDE_SELL, 50)
    for _ in range(2):
        floor.order(BOB, m.SIDE_SELL, 40)
    assert len(floor.engine.books[1].held_trails) == 2 * (TRAILING_ORDERS_MAX // 2 - 1 - 1 - 3)


def test_exits_begin_once_the_auction_is_over_and_set_aside_meanwhile_what_came() -> None:
    for end in (m.AdvanceTime(), m.ChangeMarket(1, m.MARKET_STATE_HALTED)):
        floor = Floor()
        floor.say(m.ChangeMarket(1, m.MARKET_STATE_PRE_OPEN))
        stop = m.Terms(trigger=m.TRIGGER_STOP, trigger_ticks=90)
        exits = [
            m.PlaceOrder(CAT, 1, m.SIDE_SELL, 1, 1, False, 110, 1),
            m.PlaceOrder(CAT, 1, m.SIDE_SELL, m.ORDER_TYPE_MARKET, m.TIME_IN_FORCE_IOC, False, 0, 1, terms=stop),
        ]
        floor.say(m.PlaceGroup(m.PlaceOrder(CAT, 1, m.SIDE_BUY, 1, 1, False, 100, 1), exits))
        floor.number += 2
        for _ in range(AUCTION_TRADES_MAX):
            floor.order(ANN, m.SIDE_BUY, 100)
        for _ in range(AUCTION_TRADES_MAX + 1):
            floor.order(BOB, m.SIDE_SELL, 100)
        opened = floor.say(m.ChangeMarket(1, m.MARKET_STATE_OPEN))
        assert steps(opened) == AUCTION_TRADES_MAX + 2
        assert floor.engine.locks() == {(CAT, 1): 1, (ANN, 2): 100, (BOB, 1): 1}
        floor.restart()
        ended = floor.say(end)
        assert isinstance(ended, m.OrdersChanged)
        told = [
            (step.order.state, step.order.cancel_cause) for step in ended.steps if step.order.place.account_id == CAT
        ]
        over = (m.ORDER_STATE_CANCELED, m.CANCEL_CAUSE_MARKET)
        begun = [(m.ORDER_STATE_WAITING, 0), (m.ORDER_STATE_OPEN, 0)]
        assert told == (begun if isinstance(end, m.AdvanceTime) else [over, over])
        assert (CAT, 1) in floor.engine.locks() or told == [over, over]
        floor.engine.validate()


def test_how_often_an_auction_looks_for_its_price() -> None:
    floor = Floor()
    floor.say(m.ChangeMarket(1, m.MARKET_STATE_PRE_OPEN))
    for side in (m.SIDE_SELL, m.SIDE_BUY):  # at each price twice as many as below: most trades at the highest
        for number in range(AUCTION_WALKS_MAX + MORE):
            floor.say(m.PlaceOrder(ANN, 1, side, 1, 1, False, 100 + number, 2**number))
    assert steps(floor.say(m.ChangeMarket(1, m.MARKET_STATE_OPEN))) == AUCTION_WALKS_MAX
    floor.restart()
    assert floor.engine.is_due(1)
    assert steps(floor.say(m.AdvanceTime())) == MORE
    assert not floor.engine.is_due(1)
    floor.engine.validate()


def test_an_entry_is_not_ended_without_its_exits() -> None:
    for canceled in (m.CancelOrders(ANN), m.CancelAfter(ANN, 0, 1)):
        floor = Floor()
        for _ in range(TURN_STEPS_MAX - 1):
            floor.order(ANN, m.SIDE_BUY, 90)
        exits = [m.PlaceOrder(ANN, 1, m.SIDE_SELL, 1, 1, False, ticks, 2) for ticks in (101,)]
        for _ in range(2):
            floor.say(m.PlaceGroup(m.PlaceOrder(ANN, 1, m.SIDE_BUY, 1, 1, False, 100, 2), exits))
            floor.number += 1
        floor.order(BOB, m.SIDE_SELL, 100)
        body = floor.say(canceled)
        if isinstance(body, m.CancelAfterSet):
            floor.time_ns += NS_PER_SECOND
            body = floor.say(m.AdvanceTime())
        assert steps(body) == TURN_STEPS_MAX + 1
        assert isinstance(body, m.OrdersChanged)
        assert {step.order.state for step in body.steps} == {m.ORDER_STATE_CANCELED}
        assert len(list(floor.engine.open_orders(1))) == 2
        floor.restart()


def test_whose_orders_are_canceled_is_kept_short() -> None:
    floor = Floor()
    floor.say(m.CancelOrders(ANN))
    for _ in range(owners.FORGOTTEN_MIN + MANY):
        floor.order(ANN, m.SIDE_BUY, 100)
        floor.say(m.CancelOrder(ANN, command_id_of(1, 1, floor.number)))
    assert len(floor.engine.owners.followed[ANN].came) <= owners.FORGOTTEN_MIN
    for _ in range(MANY):
        floor.order(ANN, m.SIDE_BUY, 100)
    floor.say(m.CancelOrders(ANN))
    assert len(floor.engine.owners.followed[ANN].came) == MORE
    floor.say(m.CancelOrders(ANN))
    assert floor.engine.owners.followed[ANN].came == []
    floor.order(BOB, m.SIDE_BUY, 100)
    floor.order(ANN, m.SIDE_BUY, 100)
    floor.say(m.ReplaceOrder(ANN, command_id_of(1, 1, floor.number), 101, 1))
    floor.restart()
    assert steps(floor.say(m.CancelOrders(ANN))) == 1
    assert [order.place.account_id for order in floor.engine.open_orders(1)] == [BOB]


def test_who_has_no_orders_is_not_followed_for_ever() -> None:
    floor = Floor()
    floor.order(ANN, m.SIDE_BUY, 100)
    floor.say(m.CancelOrders(ANN, 0, m.SIDE_SELL))
    for number in range(3 * owners.FOLLOWED_MIN):
        floor.say(m.OpenAccount(f"user {number}"))
        floor.say(m.CancelOrders(CAT + 1 + number))
    followed = floor.engine.owners.followed
    assert ANN in followed
    assert len(followed) <= owners.FOLLOWED_MIN
    floor.order(CAT + 1, m.SIDE_BUY, 100)
    assert steps(floor.say(m.CancelOrders(CAT + 1))) == 1
    assert steps(floor.say(m.CancelOrders(ANN))) == 1


def test_a_stop_that_a_cancel_releases_does_not_trade_with_what_is_over() -> None:
    for dead in (1, MANY):
        for canceled in (m.CancelOrders(BOB), m.CancelAfter(BOB, 0, 1)):
            floor = Floor()
            for _ in range(dead):
                floor.order(ANN, m.SIDE_SELL, 100, m.Terms(expires_ns=NS_PER_SECOND), m.TIME_IN_FORCE_GTD)
            floor.order(BOB, m.SIDE_SELL, 99)
            stop = m.Terms(trigger=m.TRIGGER_STOP, trigger_source=m.TRIGGER_SOURCE_QUOTE, trigger_ticks=100)
            floor.order(CAT, m.SIDE_BUY, 100, stop)
            said = [floor.say(canceled)] if isinstance(canceled, m.CancelAfter) else []
            floor.time_ns += NS_PER_SECOND
            said += [floor.say(m.AdvanceTime() if said else canceled), floor.say(m.AdvanceTime())]
            told = [step for body in said if isinstance(body, m.OrdersChanged) for step in body.steps]
            assert not [step for step in told if step.trades]
            causes = [step.order.cancel_cause for step in told if step.order.place.account_id == ANN]
            assert causes == [m.CANCEL_CAUSE_EXPIRED] * dead
            assert [order.place.account_id for order in floor.engine.open_orders(1)] == [CAT]
            floor.engine.validate()
