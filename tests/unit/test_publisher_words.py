"""What somebody is told who asks BookService for what there is not: what there would be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clearbook.v1 import book_service_pb2 as pb

from services.book.publisher import asked_wire, figures_wire, market_data_wire
from services.book.publisher.board import Board
from services.errors import Rejected
from tests.unit.gateway_values import MARKET

RESUMED = pb.StreamOrderBookRequest(detail=pb.BOOK_DETAIL_L1, resume_from_sequence=7)
TOLD: list[tuple[Callable[[], object], str]] = [
    (lambda: Board().topic("btc-usd"), "no such market: btc-usd"),
    (lambda: asked_wire.book_stream(RESUMED, MARKET), "no detail, depth, price_group, conflation"),
    (lambda: figures_wire.interval_of(99), "one of 1_second, 1_minute, 3_minutes"),
]


@pytest.mark.parametrize(("ask", "words"), TOLD)
def test_a_refusal_says_what_there_is(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(Rejected) as caught:
        ask()
    assert words in caught.value.message
    assert len(caught.value.message) < 300


def test_a_subscription_without_a_channel_is_told_all_channels() -> None:
    assert "order_book, trades, tickers, candles" in market_data_wire.no_channel().message
