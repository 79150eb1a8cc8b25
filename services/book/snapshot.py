"""A book as plain JSON values, and back, withdrawals too, and what older snapshots lack. Pure.

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
    RequestWithdrawal,
    Withdrawal,
)
from services.book.side import Resting, Side
from services.units import ADJUSTMENTS_ACCOUNT


def of_today(state: Any) -> dict[str, Any]:
    """A snapshot's state in today's format. What is of no known format comes back as it is, what is no state empty.

    Format 1 knew no withdrawals, and had no account `adjustments`.

    Raises:
        ValueError: a user has the name of that account.
    """
    if not isinstance(state, dict):
        return {}
    if state.get("format") != 1:
        return state
    if any(name == "adjustments" for _, name in state["accounts"]):
        raise ValueError("a user is called adjustments, which is the name of a system account")
    accounts = [*state["accounts"], (ADJUSTMENTS_ACCOUNT, "adjustments")]
    return state | {"format": 2, "accounts": accounts, "claims_through": 0, "withdrawals": []}


def withdrawal_state(withdrawal: Withdrawal) -> list[Any]:
    """A withdrawal that waits."""
    asked = withdrawal.request
    return [withdrawal.withdrawal_id, *(getattr(asked, field) for field in RequestWithdrawal.__match_args__)]


def withdrawal_of_state(state: list[Any]) -> Withdrawal:
    """And back."""
    return Withdrawal(state[0], RequestWithdrawal(*state[1:]))


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
