"""The mirror's plan, executed by a naive matching book: its book becomes the feed's, its tape the recorded trades."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cli.mirror_plan import Cancel, Phase, Plan, Rest, Steps, Take
from services.cli.recorded import Step, Trade, steps
from tests import generated_feed

PRICES = st.integers(1, 12)
QUANTITIES = st.integers(0, 9)


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


def play(recording: list[Step]) -> None:
    """Plays a recording of one market; checks after every step."""
    decimals = Steps()
    for step in recording:
        decimals.see(step)
    plan, book = Plan(decimals), NaiveBook()
    trades: list[tuple[int, int, bool]] = []
    for step in recording:
        for phase in plan.phases(step):
            assert len({type(item) for item in phase}) == 1
            book.run(phase)
        trades += [(*decimals.level((trade.price, trade.quantity)), trade.taker_buys) for trade in step.trades]
        assert book.tape == trades
        for buys in (True, False):
            assert book.levels(buys=buys) == plan.resting[buys]
        bids, asks = plan.wanted[True], plan.wanted[False]
        if not bids or not asks or max(bids) < min(asks):
            assert book.levels(buys=True) == bids
            assert book.levels(buys=False) == asks


@st.composite
def recordings(draw: st.DrawFn) -> list[Step]:
    """Any steps at all: levels that cross, trades through the book, at prices that nobody quoted, snapshots midway."""

    def levels() -> list[tuple[str, str]]:
        return [(str(p), str(q)) for p, q in draw(st.lists(st.tuples(PRICES, QUANTITIES), max_size=4))]

    made = []
    for _ in range(draw(st.integers(1, 12))):
        trades = [
            Trade(str(price), str(quantity), buys)
            for price, quantity, buys in draw(st.lists(st.tuples(PRICES, st.integers(1, 9), st.booleans()), max_size=3))
        ]
        depth = draw(st.sampled_from((None, None, 2)))
        made.append(Step("A-B", trades, levels(), levels(), snapshot=draw(st.integers(0, 5)) == 0, depth_max=depth))
    return made


@given(recordings())
@settings(max_examples=300, deadline=None)
def test_any_steps(recording: list[Step]) -> None:
    play(recording)


@pytest.mark.parametrize("make", [generated_feed.coinbase, generated_feed.kraken])
def test_made_up_feeds(make) -> None:  # type: ignore[no-untyped-def]
    for seed in range(5):
        made = make(seed, 200, markets=1)
        play(list(steps(made.lines)))


def test_the_naive_book_has_no_mercy() -> None:
    book = NaiveBook()
    book.run([Rest(True, 5, 1)])
    for phase in ([Rest(False, 5, 1)], [Rest(True, 5, 2)], [Cancel(False, 5)]):
        with pytest.raises(AssertionError):
            book.run(phase)
