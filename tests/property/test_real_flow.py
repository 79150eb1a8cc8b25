"""Real order flow through the engine: after every message its book is the feed's, and its tape the recorded trades."""

from __future__ import annotations

from collections import Counter

import pytest

from services.book import model as m
from services.book.engine import Engine
from services.book.matching import Book
from services.cli.recorded import Step, steps
from tests import generated_feed
from tests.feed_book import FeedBook
from tests.real_flow import MIRROR, RealFlow
from tests.recordings import recorded

MADE = {
    "coinbase": lambda: generated_feed.coinbase(1, 400, markets=3),
    "kraken": lambda: generated_feed.kraken(1, 400, markets=3),
}
RECORDED_COMMANDS = {
    "coinbase": {m.PlaceOrder: 11_090, m.ReplaceOrder: 4_284, m.CancelOrder: 2_597},
    "kraken": {m.PlaceOrder: 9_067, m.ReplaceOrder: 1_063, m.CancelOrder: 1_615},
    "binance": {m.PlaceOrder: 4_679, m.ReplaceOrder: 335, m.CancelOrder: 33},
}
"""Commands of each kind that the recordings come to."""

Tape = list[tuple[int, int, bool]]
"""Price, quantity, and whether the taker bought."""


def play(feed: list[Step]) -> Counter[type]:
    """Plays a recording of any number of markets; compares after every step. Returns the commands by their kind."""
    flow, engine = RealFlow(feed), Engine()
    for command in flow.opening():
        assert not isinstance(engine.apply(command, 0).body, m.Refused)
    feeds = {name: FeedBook(decimals) for name, decimals in flow.decimals.items()}
    kinds: Counter[type] = Counter()
    for step in feed:
        tape: Tape = []
        for command in flow.commands(step):
            kinds[type(command.body)] += 1
            tape += trades_of(engine.apply(command, 0))
        level = flow.decimals[step.market].level
        assert tape == [(*level((trade.price, trade.quantity)), trade.taker_buys) for trade in step.trades]
        feeds[step.market].see(step)
        assert_equal(engine.books[flow.market_ids[step.market]], feeds[step.market])
    engine.validate()
    for name, market_id in flow.market_ids.items():
        assert_equal(engine.books[market_id], feeds[name])
    return kinds


def trades_of(event: m.Event) -> Tape:
    """An order of the flow does what the feed says at once: a maker's rests, a taker's trades wholly in one trade."""
    match event.body:
        case m.OrderPlaced(order, []) if order.place.account_id == MIRROR:
            assert order.state == m.ORDER_STATE_OPEN
            return []
        case m.OrderPlaced(order, [trade]):
            assert order.state == m.ORDER_STATE_FILLED
            return [(trade.price_ticks, trade.quantity_lots, order.place.side == m.SIDE_BUY)]
        case m.OrdersChanged([m.OrderChanged(order, [])], [m.BookChanged(_, _, [_])], None):
            assert order.state == m.ORDER_STATE_OPEN
            return []
        case m.OrderCanceled(order):
            assert order.place.account_id == MIRROR
            return []
    raise AssertionError(f"the feed does not say so: {event.body}")


def assert_equal(book: Book, feed: FeedBook) -> None:
    """Level by level, and the best of them is the best."""
    for buys, side in ((True, book.bids), (False, book.asks)):
        assert {level.price_ticks: level.total_lots for level in side.levels.values()} == feed.sides[buys]
        assert (side.best and side.best.price_ticks) == feed.best(buys=buys)


@pytest.mark.parametrize("exchange", MADE)
def test_made_up_flow(exchange: str) -> None:
    made = MADE[exchange]()
    kinds = play(list(steps(made.lines)))
    assert kinds.keys() == {m.PlaceOrder, m.ReplaceOrder, m.CancelOrder}


@pytest.mark.recorded_feeds
@pytest.mark.parametrize("exchange", RECORDED_COMMANDS)
def test_recorded_flow(exchange: str) -> None:
    assert play(recorded(exchange)) == RECORDED_COMMANDS[exchange]
