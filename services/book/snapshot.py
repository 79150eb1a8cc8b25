"""A book as plain JSON values, and back, withdrawals too, and what older snapshots lack. Pure.

The resting orders are rows, best price first, oldest first: putting them back in that order restores the queues.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from services.book.groups import Group
from services.book.matching import Book
from services.book.model import (
    SIDE_BUY,
    SIDE_SELL,
    Market,
    MarketRules,
    PlaceOrder,
    ReferencePriceSet,
    RequestWithdrawal,
    Terms,
    Withdrawal,
)
from services.book.side import Resting, Side
from services.units import ADJUSTMENTS_ACCOUNT

PLACED = (
    *("account_id", "type", "time_in_force", "post_only", "price_ticks", "quantity_lots", "budget"),
    *("client_order_id", "maker_fee_ppm", "taker_fee_ppm"),
)
"""What a row says of an order's PlaceOrder: the fields that its book and its terms do not."""
_placed: Callable[[PlaceOrder], tuple[Any, ...]] = attrgetter(*PLACED)


class Outdated(Exception):
    """A snapshot of an older format that lacks what cannot be known from it: the journal has it all."""


def of_today(data: Any) -> dict[str, Any]:
    """A snapshot's state in today's format. What is of no known format comes back as it is, what is no state empty.

    Format 1 knew no withdrawals, and had no account `adjustments`; format 2 knew no order with terms, and not what the
    last trades' prices were: where there was a trade its state is not enough to go on from. Format 3 knew one edition,
    format 4 no reference price, format 5 no exits, format 6 no signed orders, format 7 not what who left has taken,
    format 8 no rules of withdrawals.

    Raises:
        Outdated: it lacks what cannot be known from it.
        ValueError: a user has the name of that account.
    """
    state: dict[str, Any] = data if isinstance(data, dict) else {}
    if state.get("format") == 1:
        state = _from_1(state)
    if state.get("format") == 2:
        state = _from_2(state)
    if state.get("format") == 3:
        books = [book | {"ended": []} for book in state["books"]]
        state = state | {"format": 4, "edition": 0, "books": books}
    if state.get("format") == 4:
        state = state | {"format": 5, "books": [book | {"reference": None} for book in state["books"]]}
    if state.get("format") == 5:
        state = state | {"format": 6, "exits_through": 0, "leaving": []}
    if state.get("format") == 6:
        state = state | {"format": 7}
    if state.get("format") == 7:
        if state["leaving"] and state["claims_through"]:
            raise Outdated("it does not say what those who leave have taken by the contract")
        state = state | {"format": 8, "exited": [], "notes_through": 0, "debts": []}
    if state.get("format") == 8:
        waiting = [[*row, 0] for row in state["withdrawals"]]
        lacking: dict[str, Any] = {"withdrawal_rules": [], "withdrawn": [], "allow_lists": []}
        state = state | lacking | {"format": 9, "withdrawals": waiting}
    return state


def _from_1(state: dict[str, Any]) -> dict[str, Any]:
    if any(name == "adjustments" for _, name in state["accounts"]):
        raise ValueError("a user is called adjustments, which is the name of a system account")
    accounts = [*state["accounts"], (ADJUSTMENTS_ACCOUNT, "adjustments")]
    return state | {"format": 2, "accounts": accounts, "claims_through": 0, "withdrawals": []}


def _from_2(state: dict[str, Any]) -> dict[str, Any]:
    if any(book["last_trade_id"] > 0 for book in state["books"]):
        raise Outdated("it does not say at what price the last trades were")
    return state | {"format": 3, "books": [_book_from_2(book) for book in state["books"]], "switches": [], "left": []}


def _book_from_2(book: dict[str, Any]) -> dict[str, Any]:
    lacking: dict[str, Any] = {"last_price_ticks": 0, "waiting": [], "released": [], "groups": [], "auction_ticks": 0}
    sides = {side: [_row_from_2(*row) for row in book[side]] for side in ("bids", "asks")}
    return book | lacking | sides | {"market": [*book["market"], None]}


def _row_from_2(*row: Any) -> list[Any]:
    order_id, account_id, kind, time_in_force, post_only, price_ticks, quantity_lots, filled_lots, *rest = row
    client_order_id, maker_fee_ppm, taker_fee_ppm, arrival = rest
    asked = [account_id, kind, time_in_force, post_only, price_ticks, quantity_lots, 0]
    return [
        *(order_id, *asked, client_order_id, maker_fee_ppm, taker_fee_ppm),
        *(None, quantity_lots - filled_lots, 0, arrival),
    ]


def terms_state(terms: Terms | None) -> list[Any] | None:
    """An order's terms."""
    return None if terms is None else [getattr(terms, field) for field in Terms.__match_args__]


def terms_of_state(state: list[Any] | None) -> Terms | None:
    """And back."""
    return None if state is None else Terms(*state)


def withdrawal_state(withdrawal: Withdrawal) -> list[Any]:
    """A withdrawal that waits."""
    asked = withdrawal.request
    asks = [getattr(asked, field) for field in RequestWithdrawal.__match_args__]
    return [withdrawal.withdrawal_id, *asks, withdrawal.release_ns]


def withdrawal_of_state(state: list[Any]) -> Withdrawal:
    """And back."""
    withdrawal_id, *asks, release_ns = state
    return Withdrawal(withdrawal_id, RequestWithdrawal(*asks), release_ns)


def book_state(book: Book) -> dict[str, Any]:
    """Everything of a book that its restored copy needs."""
    return {
        "market": _market_state(book.market),
        "auction_ticks": book.auction_ticks,
        "market_sequence": book.market_sequence,
        "last_trade_id": book.last_trade_id,
        "last_price_ticks": book.last_price_ticks,
        "reference": _reference_state(book.reference),
        "waiting": [_waiting_row(book, resting) for resting in book.waiting()],
        "released": book.released,
        "ended": [group.exits[0] for group in book.ended if book.groups.get(group.exits[0]) is group],
        "groups": [[g.entry_id, g.exits, g.holder_id, g.received] for g in book.all_groups()],
        "bids": _side_rows(book, book.bids),
        "asks": _side_rows(book, book.asks),
    }


def market_of_state(state: dict[str, Any]) -> Market:
    """The market that a saved book is of."""
    *fields, rules = state["market"]
    market = Market(*fields)
    market.rules = None if rules is None else MarketRules(*rules)
    return market


def _market_state(market: Market) -> list[Any]:
    *fields, rules = (getattr(market, field) for field in Market.__match_args__)
    return [*fields, None if rules is None else [getattr(rules, field) for field in MarketRules.__match_args__]]


def _reference_state(reference: ReferencePriceSet | None) -> list[Any] | None:
    return None if reference is None else [reference.price_ticks, reference.source, reference.observed_ns]


def restore_book(book: Book, state: dict[str, Any]) -> None:
    """Fills an empty book from its state."""
    book.market_sequence = state["market_sequence"]
    book.last_trade_id = state["last_trade_id"]
    book.last_price_ticks = state["last_price_ticks"]
    if state["reference"] is not None:
        book.reference = ReferencePriceSet(book.market.market_id, *state["reference"])
    for side, rows in ((SIDE_BUY, state["bids"]), (SIDE_SELL, state["asks"])):
        for row in rows:
            _restore_order(book, side, row)
    for entry_id, exits, holder_id, received in state["groups"]:
        book.link(Group(entry_id, exits, holder_id, received))
    for first_id in state["ended"]:
        group = book.groups[first_id]
        del book.groups[group.entry_id]
        book.ended.append(group)
    for side, best_ticks, row in state["waiting"]:
        order_id, place, _, _, arrival = _order_of_row(book, side, row)
        its = book.groups.get(order_id)
        if its is not None and its.entry_id not in (0, order_id):
            book.hold(order_id, place, arrival)
        else:
            book.wait(order_id, place, arrival, best_ticks)
    book.released = state["released"]
    for order_id in book.released:
        book.triggers.remove(order_id)
    book.auction_ticks = state["auction_ticks"]
    book.cold = book.keeps_something()


def _side_rows(book: Book, side: Side) -> list[list[Any]]:
    return [_row(book, resting) for level in side.levels_best_first() for resting in level.orders()]


def _row(book: Book, resting: Resting) -> list[Any]:
    place = resting.place
    hidden_lots = book.hidden.get(resting.order_id, 0)
    asked = _placed(place)
    return [resting.order_id, *asked, terms_state(place.terms), resting.remaining_lots, hidden_lots, resting.arrival]


def _waiting_row(book: Book, waiting: Resting) -> list[Any]:
    trail = book.triggers.trails.get(waiting.order_id)
    return [waiting.place.side, 0 if trail is None else trail[0], _row(book, waiting)]


def _restore_order(book: Book, side: int, row: list[Any]) -> None:
    book.put(*_order_of_row(book, side, row))


def _order_of_row(book: Book, side: int, row: list[Any]) -> tuple[int, PlaceOrder, int, int, int]:
    order_id, *asked, terms, shown_lots, hidden_lots, arrival = row
    fields = dict(zip(PLACED, asked, strict=True))
    place = PlaceOrder(market_id=book.market.market_id, side=side, terms=terms_of_state(terms), **fields)
    return order_id, place, shown_lots, hidden_lots, arrival
