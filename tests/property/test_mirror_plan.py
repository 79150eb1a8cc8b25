"""The mirror's plan, executed by a naive matching book: its book becomes the feed's, its tape the recorded trades."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cli.mirror_plan import Cancel, Phase, Plan, Rest, Steps, Take
from services.cli.recorded import Step, Trade, steps
from tests import generated_feed
from tests.feed_book import FeedBook

PRICES = range(1, 13)
QUANTITIES = st.sampled_from((0, 0, 1, 2, 5, 9))


@dataclass
class Order:
    buys: bool
    price: int
    quantity: int
    owner: str


@dataclass
class NaiveBook:
    """Resting orders in one list, matched by searching it. It has no mercy: what is not as planned is an assertion."""

    orders: list[Order] = field(default_factory=list)
    tape: list[tuple[int, int, bool]] = field(default_factory=list)

    def run(self, phase: Phase) -> None:
        for item in phase:
            match item:
                case Cancel(buys, price):
                    mine = [order for order in self.orders if (order.buys, order.price) == (buys, price)]
                    assert len(mine) == 1, "one order a level"
                    self.orders.remove(mine[0])
                case Rest(buys, price, quantity):
                    assert not self.meets(buys, price), "it would trade"
                    assert not any((o.buys, o.price) == (buys, price) for o in self.orders), "one order a level"
                    assert quantity > 0
                    self.orders.append(Order(buys, price, quantity, "mirror"))
                case Take(buys, price, quantity):
                    self.take(buys, price, quantity)

    def meets(self, buys: bool, price: int) -> list[Order]:
        """Orders of the other side that this one would trade with, best first."""
        makers = [o for o in self.orders if o.buys != buys and (o.price <= price if buys else o.price >= price)]
        return sorted(makers, key=lambda order: order.price, reverse=not buys)

    def take(self, buys: bool, price: int, quantity: int) -> None:
        while quantity:
            maker = self.meets(buys, price)[0]
            traded = min(quantity, maker.quantity)
            self.tape.append((maker.price, traded, buys))
            maker.quantity -= traded
            quantity -= traded
            if not maker.quantity:
                self.orders.remove(maker)

    def levels(self, *, buys: bool) -> dict[int, int]:
        return {order.price: order.quantity for order in self.orders if order.buys == buys}


def play(recording: list[Step]) -> int:
    """Plays a recording of one market; checks after every step. Returns how many steps had a book to compare."""
    decimals = Steps()
    for step in recording:
        decimals.see(step)
    plan, book, compared = Plan(decimals), NaiveBook(), 0
    trades: list[tuple[int, int, bool]] = []
    feed = FeedBook(decimals)
    for step in recording:
        for phase in plan.phases(step):
            assert len({type(item) for item in phase}) == 1
            book.run(phase)
        trades += [(*decimals.level((trade.price, trade.quantity)), trade.taker_buys) for trade in step.trades]
        assert book.tape == trades
        feed.see(step)
        if not feed.crossed():
            assert {buys: book.levels(buys=buys) for buys in (True, False)} == feed.sides
            compared += 1
    return compared


@st.composite
def recordings(draw: st.DrawFn) -> list[Step]:
    """Any steps at all: trades through the book and at prices that nobody quoted, snapshots midway, crossed levels."""
    apart = draw(st.booleans())
    bid_prices, ask_prices = (PRICES[:6], PRICES[6:]) if apart else (PRICES[5:7], PRICES[5:7])

    def levels(prices: range) -> list[tuple[str, str]]:
        pairs = st.lists(st.tuples(st.sampled_from(prices), QUANTITIES), max_size=5)
        return [(str(price), str(quantity)) for price, quantity in draw(pairs)]

    made = []
    for number in range(draw(st.integers(1, 8))):
        drawn = draw(st.lists(st.tuples(st.sampled_from(PRICES), st.integers(1, 9), st.booleans()), max_size=3))
        made.append(
            Step(
                "A-B",
                [Trade(str(price), str(quantity), buys) for price, quantity, buys in drawn if number],
                levels(bid_prices) if draw(st.booleans()) else [],
                levels(ask_prices) if draw(st.booleans()) else [],
                snapshot=not number or draw(st.integers(0, 7)) == 0,
                depth_max=draw(st.sampled_from((None, None, 2))),
            )
        )
    return made


@given(recordings())
@settings(max_examples=400, deadline=None)
def test_any_steps(recording: list[Step]) -> None:
    play(recording)


@pytest.mark.parametrize("make", [generated_feed.coinbase, generated_feed.kraken])
def test_made_up_feeds(make) -> None:  # type: ignore[no-untyped-def]
    for seed in range(5):
        made = make(seed, 200, markets=1)
        assert play(list(steps(made.lines))) > 100


def test_the_naive_book_has_no_mercy() -> None:
    book = NaiveBook()
    book.run([Rest(True, 5, 1)])
    for phase in ([Rest(False, 5, 1)], [Rest(True, 5, 2)], [Cancel(False, 5)]):
        with pytest.raises(AssertionError):
            book.run(phase)
