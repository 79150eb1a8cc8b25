"""The orders of a book, as the publisher folds and tells them, are the engine's own: each, and in its line.

And whatever is told now and then only, or by groups, comes to the same book in the end.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from clearbook.v1 import book_service_pb2 as pb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clearbook.book import LocalBook
from clearbook.orders_book import LocalOrders
from services.book import model as m
from services.book.publisher import wire
from services.book.publisher.asked import Asked
from services.book.publisher.batch import Batch
from services.book.publisher.board import Board
from services.book.publisher.grouped import grouped
from services.book.publisher.pace import Pace
from services.book.publisher.page_token import page_token
from services.book.publisher.subscriber import Subscriber
from services.book.publisher.topic import Topic
from services.errors import Reason, Rejected
from tests.book_flow import Flow

PACES = (Pace.EACH, Pace.TENTH, Pace.SECOND)
GROUPS = (2, 7, 1_000)
L2 = [Asked(depth, False, 1, pace) for depth in (0, 1, 5) for pace in PACES[1:]]
GROUPED = [Asked(depth, False, group, pace) for group in GROUPS for depth in (0, 3) for pace in PACES]


def lines(flow: Flow, market_id: int, buys: bool) -> list[tuple[str, int, int]]:
    """(order_id, price, what it shows) of all orders in the engine's book, best price first, each line in its order."""
    book = flow.engine.books[market_id]
    return [
        (str(resting.order_id), level.price_ticks, resting.remaining_lots)
        for level in (book.bids if buys else book.asks).levels_best_first()
        for resting in level.orders()
    ]


class Reader:
    """A subscriber that takes what is there at once."""

    def __init__(self, topic: Topic, asked: Asked) -> None:
        self.topic, self.asked = topic, asked
        listed = wire.market(topic.market, topic.event)
        self.levels = LocalBook(listed, asked.depth)
        self.orders = LocalOrders(listed)
        self._kept = topic.subscribed(asked)
        self._subscriber = Subscriber(topic, self._kept.__enter__(), "flow")

    def drain(self) -> None:
        while self.told():
            pass

    def told(self) -> list[pb.StreamOrderBookResponse]:
        """The next messages, which are applied."""
        messages = [pb.StreamOrderBookResponse.FromString(data) for data in self._subscriber.ready()]
        for message in messages:
            (self.orders if self.asked.orders else self.levels).apply(message)
        return messages

    def leave(self) -> None:
        self._kept.__exit__(None, None, None)

    def expect_orders(self, flow: Flow) -> None:
        market = self.topic.market
        for buys, told in ((True, self.orders.bids), (False, self.orders.asks)):
            truth = [
                (order_id, market.format_price(price), market.format_quantity(lots))
                for order_id, price, lots in lines(flow, market.market_id, buys)
            ]
            assert [(order.order_id, order.price, order.quantity) for order in told] == truth

    def expect_levels(self, flow: Flow) -> None:
        market, group = self.topic.market, self.asked.group_ticks
        for buys, told in ((True, self.levels.bids), (False, self.levels.asks)):
            sums: dict[int, int] = {}
            for price, lots in flow.levels(market.market_id, buys):
                wide = price - price % group if buys else price + -price % group
                sums[wide] = sums.get(wide, 0) + lots
            truth = [(market.format_price(price), market.format_quantity(lots)) for price, lots in sums.items()]
            assert told == truth[: self.asked.depth or None]


@given(seed=st.integers(0, 2**32), rows=st.lists(st.sampled_from([1, 1, 2, 5, 20]), min_size=1, max_size=50))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_view_comes_to_the_engines_book(seed: int, rows: list[int]) -> None:
    flow, board, batch, pick = Flow(seed, special=bool(seed % 4)), Board(), Batch(), random.Random(seed)
    for row in flow.rows:
        board.apply(wire.row(row), batch)
    topic = board.topics[1]
    orders = [Reader(topic, Asked(0, True, 1, pace)) for pace in PACES]
    levels = [Reader(topic, asked) for asked in [*L2, *GROUPED]]
    for commands in rows:
        board.apply(wire.row(flow.some(commands)), batch)
        for _ in range(pick.choice([0, 0, 1, 10])):
            board.pulse()
        if pick.random() < 0.1:  # somebody comes between two pulses
            orders.append(Reader(topic, Asked(0, True, 1, pick.choice(PACES))))
            levels.append(Reader(topic, pick.choice([*L2, *GROUPED])))
        for reader in (*orders, *levels):
            reader.drain()
            if reader.asked.pace is Pace.EACH:
                (reader.expect_orders if reader.asked.orders else reader.expect_levels)(flow)
    for _ in range(10):
        board.pulse()
    for reader in (*orders, *levels):
        reader.drain()
        (reader.expect_orders if reader.asked.orders else reader.expect_levels)(flow)
        reader.leave()
    assert topic.fold.orders.fit(topic.fold.depth)
    whole = grouped(topic.fold.depth, 7, 3)
    shown = Reader(topic, Asked(3, False, 7))
    shown.drain()
    for buys, told in ((True, shown.levels.bids), (False, shown.levels.asks)):
        market = topic.market
        assert told == [(market.format_price(p), market.format_quantity(q)) for p, q in whole.top(buys, 3)]


def test_many_orders_come_in_several_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, board, batch = Flow(seed=3, special=True), Board(), Batch()
    for _ in range(40):
        flow.some(20)
    for number in range(60):
        flow.place(1, m.SIDE_BUY, 2_000_000 + number % 40, 100)
    for row in flow.rows:
        board.apply(wire.row(row), batch)
    monkeypatch.setattr(wire, "ORDERS_MAX", 7)
    topic, reader = board.topics[1], Reader(board.topics[1], Asked(0, True))
    messages = reader.told()
    assert len(messages) > 5
    assert {message.WhichOneof("kind") for message in messages[1:]} == {"delta"}
    reader.expect_orders(flow)
    told = {True: list[pb.BookOrder](), False: list[pb.BookOrder]()}
    for page in pages(topic, 20):
        assert len(page.bid_orders) + len(page.ask_orders) == 7 or not page.next_page_token
        told[True] += page.bid_orders
        told[False] += page.ask_orders
    monkeypatch.setattr(wire, "ORDERS_MAX", 10**6)
    (whole,) = pages(topic, 20)
    assert (told[True], told[False]) == (list(whole.bid_orders), list(whole.ask_orders))
    engine = [order_id for order_id, *_ in lines(flow, 1, True)]
    assert [order.order_id for order in told[True]] == engine[: len(told[True])]
    board.apply(wire.row(flow.some(30)), batch)
    reader.drain()
    reader.expect_orders(flow)


def pages(topic: Topic, depth: int) -> Iterator[pb.GetOrderBookResponse]:
    """All pages of a book's orders, as they are asked for."""
    token = ""
    while True:
        page = wire.book_of_orders(topic.fold, depth, 0, token)
        yield page
        token = page.next_page_token
        if not token:
            return


def test_a_page_goes_on_where_the_last_one_ended_whatever_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ORDERS_MAX", 2)
    flow, board, batch = Flow(), Board(), Batch()
    for price in (2_000, 2_000, 2_000, 1_900):
        flow.place(1, m.SIDE_BUY, price, 100_000)
    for price in (2_100, 2_100, 2_200):
        flow.place(1, m.SIDE_SELL, price, 100_000)
    for row in flow.rows:
        board.apply(wire.row(row), batch)
    topic = board.topic("BTC-USD")
    bids, asks = ([order_id for order_id, *_ in lines(flow, 1, buys)] for buys in (True, False))
    reading = pages(topic, 20)
    assert [order.order_id for order in next(reading).bid_orders] == bids[:2]
    order_id = int(bids[1])  # where the page ended
    board.apply(wire.row(flow.do(m.CancelOrder(1004, order_id))), batch)
    assert [order.order_id for order in next(reading).bid_orders] == bids[2:]
    assert [order.order_id for order in next(reading).ask_orders] == asks[:2]
    (last,) = reading
    assert ([order.order_id for order in last.ask_orders], last.next_page_token) == (asks[2:], "")
    first = wire.book_of_orders(topic.fold, 20, 0, "")
    for token in ("x", page_token(1, 20, 0, 1), page_token(2, 20, 0, 1, 1)):
        with pytest.raises(Rejected) as caught:
            wire.book_of_orders(topic.fold, 20, 0, token)
        assert (caught.value.reason, caught.value.field) == (Reason.INVALID_FIELD, "page_token")
    with pytest.raises(Rejected):
        wire.book_of_orders(topic.fold, 19, 0, first.next_page_token)


def test_an_iceberg_that_shows_more_goes_behind_the_others() -> None:
    flow, board, batch = Flow(), Board(), Batch()
    iceberg = m.Terms(display_lots=10)
    ann, bob = 1001, 1002
    order = (ann, 1, m.SIDE_SELL, m.ORDER_TYPE_LIMIT, m.TIME_IN_FORCE_GTC, False, 3_000_000, 300_000)
    flow.do(m.PlaceOrder(*order, terms=iceberg))
    flow.place(1, m.SIDE_SELL, 3_000_000, 100_000, bob)
    flow.place(1, m.SIDE_BUY, 3_000_000, 10)
    for row in flow.rows:
        board.apply(wire.row(row), batch)
    reader = Reader(board.topics[1], Asked(0, True))
    reader.drain()
    reader.expect_orders(flow)
    assert [order.quantity for order in reader.orders.asks] == ["1", "0.0001"]
