"""A book as plain JSON values, and back. Pure.

The resting orders are rows, best price first, oldest first: putting them back in that order restores the queues.
"""

from typing import Any

from services.book.matching import Book
from services.book.model import (
    CANCEL_CAUSE_UNSPECIFIED,
    ORDER_STATE_OPEN,
    SIDE_BUY,
    SIDE_SELL,
    Market,
    Order,
)
from services.book.side import Resting, Side


def book_state(book: Book) -> dict[str, Any]:
    """Everything of a book that its restored copy needs."""
    return {
        "market": [getattr(book.market, field) for field in Market.__match_args__],
        "market_sequence": book.market_sequence,
        "last_trade_id": book.last_trade_id,
        "bids": _side_rows(book.bids),
        "asks": _side_rows(book.asks),
    }


def market_of_state(state: dict[str, Any]) -> Market:
    """The market that a saved book is of."""
    return Market(*state["market"])


def restore_book(book: Book, state: dict[str, Any]) -> None:
    """Fills an empty book from its state."""
    book.market_sequence = state["market_sequence"]
    book.last_trade_id = state["last_trade_id"]
    for side, rows in ((SIDE_BUY, state["bids"]), (SIDE_SELL, state["asks"])):
        for row in rows:
            _restore_order(book, side, row)


def _side_rows(side: Side) -> list[tuple[Any, ...]]:
    return [_row(resting) for level in side.levels_best_first() for resting in level.orders()]


def _row(resting: Resting) -> tuple[Any, ...]:
    order = resting.order
    return (
        order.order_id,
        order.account_id,
        order.type,
        order.time_in_force,
        order.post_only,
        order.price_ticks,
        order.quantity_lots,
        order.quantity_lots - resting.remaining_lots,
        order.client_order_id,
        order.maker_fee_ppm,
        order.taker_fee_ppm,
        resting.arrival,
    )


def _restore_order(book: Book, side: int, row: list[Any]) -> None:
    order_id, account_id, kind, time_in_force, post_only, price_ticks, quantity_lots, filled_lots, *rest = row
    client_order_id, maker_fee_ppm, taker_fee_ppm, arrival = rest
    order = Order(
        order_id,
        account_id,
        book.market.market_id,
        side,
        kind,
        time_in_force,
        post_only,
        price_ticks,
        quantity_lots,
        filled_lots,
        0,
        client_order_id,
        maker_fee_ppm,
        taker_fee_ppm,
        ORDER_STATE_OPEN,
        CANCEL_CAUSE_UNSPECIFIED,
        book.lock(side, price_ticks, quantity_lots - filled_lots),
    )
    book.rest(order, arrival)
