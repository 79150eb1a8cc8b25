"""Snapshot at s plus the changes after it is the book, at every s, at every depth, whatever happens in the market.

Clients are real ones: clearbook.book.LocalBook checks the chain and the checksum of every message.
"""

from __future__ import annotations

from clearbook.v1 import book_service_pb2 as pb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clearbook.book import LocalBook
from services.book.publisher import wire
from services.book.publisher.asked import Asked
from services.book.publisher.batch import Batch
from services.book.publisher.board import Board
from services.book.publisher.subscriber import Subscriber
from services.book.publisher.topic import Topic
from tests.book_flow import Flow, Levels

DEPTHS = (0, 1, 2, 5, 10, 50)


class Client:
    """A subscriber that takes whatever is there at once."""

    def __init__(self, topic: Topic, depth: int) -> None:
        self.topic, self.depth = topic, depth
        self.book = LocalBook(wire.market(topic.market, topic.event), depth)
        self._kept = topic.subscribed(Asked(depth))
        self._subscriber = Subscriber(topic, self._kept.__enter__(), "flow")
        self.sequences: list[int] = []

    def drain(self) -> None:
        while told := self._subscriber.ready():
            for data in told:
                message = pb.StreamOrderBookResponse.FromString(data)
                assert self.book.apply(message) == (message.WhichOneof("kind") != "heartbeat")  # of the market's state
                if message.WhichOneof("kind") == "delta":
                    self.sequences.append(message.delta.sequence)

    def leave(self) -> None:
        self._kept.__exit__(None, None, None)

    def expect(self, flow: Flow) -> None:
        market_id = self.topic.market.market_id
        assert self.book.bids == self._printed(flow.levels(market_id, buys=True))
        assert self.book.asks == self._printed(flow.levels(market_id, buys=False))

    def _printed(self, levels: Levels) -> list[tuple[str, str]]:
        market = self.topic.market
        shown = levels[: self.depth] if self.depth else levels
        return [(market.format_price(ticks), market.format_quantity(lots)) for ticks, lots in shown]


@given(seed=st.integers(0, 2**32), rows=st.lists(st.sampled_from([1, 1, 1, 2, 5, 20]), min_size=1, max_size=60))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_snapshot_and_changes_are_the_book_at_every_step(seed: int, rows: list[int]) -> None:
    flow, board, batch = Flow(seed, special=bool(seed % 2)), Board(), Batch()
    for row in flow.rows:
        board.apply(wire.row(row), batch)
    topic = board.topics[1]
    clients = [Client(topic, depth) for depth in DEPTHS]
    for number, commands in enumerate(rows):
        before, messages = topic.fold.sequence, len(clients[0].sequences)
        board.apply(wire.row(flow.some(commands)), batch)
        if number % 7 == 3:  # somebody comes in the middle, of each depth
            clients += [Client(topic, depth) for depth in DEPTHS]
        for client in clients:
            client.drain()
            client.expect(flow)
        told = [topic.fold.sequence] if topic.fold.sequence > before else []  # all that a row changed in one message
        assert clients[0].sequences[messages:] == told
    for client in clients:
        client.leave()


@given(seed=st.integers(0, 2**32), commands=st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_the_stored_levels_are_the_depth_and_trades_have_no_gaps(seed: int, commands: int) -> None:
    flow, board, batch = Flow(seed, special=bool(seed % 2)), Board(), Batch()
    flow.some(commands)
    for row in flow.rows:
        board.apply(wire.row(row), batch)
    for market_id in board.topics:
        for buys in (True, False):
            stored = {price: lots for price, lots in batch.levels[market_id, buys].items() if lots}
            assert stored == dict(flow.levels(market_id, buys))
        ids = [trade.trade_id for where, trade in batch.trades if where == market_id]
        assert ids == list(range(1, len(ids) + 1))
        changes = [change for where, change in batch.changes if where == market_id]
        followed = [change.previous_sequence for change in changes] + [board.topics[market_id].fold.sequence]
        assert followed == [0] + [change.sequence for change in changes]
    assert batch.journal_sequence == flow.engine.journal_sequence == batch.events
