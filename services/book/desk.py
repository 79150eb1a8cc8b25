"""The desk for orders that are not plain: it does what is due, enters them, and says what came of it. Pure."""

from services.book.matching import Book, reshaped, resized
from services.book.model import (
    CANCEL_CAUSE_EXPIRED,
    CANCEL_CAUSE_MINIMUM,
    ORDER_STATE_OPEN,
    SIDE_BUY,
    BookChanged,
    LevelChanged,
    PlaceOrder,
    ReplaceOrder,
    Trade,
)
from services.book.rules import QUANTITY_TRADED, WOULD_TRADE, replacement_objection
from services.book.side import Resting
from services.book.turn import TURN_STEPS_MAX, Turn


def do_due(book: Book, turn: Turn) -> None:
    """Before a command has its turn in a book: ends what has expired, as much as there is room for."""
    while turn.room > 0:
        resting = book.expiries.pop(turn.time_ns, book.orders)
        if resting is None:
            break
        book.end(resting, CANCEL_CAUSE_EXPIRED, turn)
    book.cold = book.expiries.first(book.orders) > 0


def is_due(book: Book, time_ns: int) -> bool:
    """Whether `do_due` would do anything at that time."""
    first = book.expiries.first(book.orders) if book.cold else 0
    return 0 < first <= time_ns


def enter(book: Book, turn: Turn, order_id: int, place: PlaceOrder, filled_lots: int = 0, anew: bool = False) -> None:
    """An order goes to market: it trades, and what remains of it rests or ends. Its step comes after what it caused.

    `filled_lots` of it were traded before; an order that comes `anew` has had its minimum quantity.
    """
    turn.room = TURN_STEPS_MAX
    turn.decremented_lots = 0
    trades: list[Trade] = []
    place = repriced(book, place)
    lots = place.quantity_lots - filled_lots
    minimum_lots = 0 if place.terms is None or anew else place.terms.minimum_lots
    if minimum_lots > 0 and not book.fills(place, lots, minimum_lots, turn):
        remaining, cause = lots, CANCEL_CAUSE_MINIMUM
    else:
        remaining, cause = book.trade(place, lots, turn.settlement_sequence + 1, trades, turn)
    turn.settlement_sequence += len(trades)
    if turn.decremented_lots > 0:
        place = resized(place, place.quantity_lots - turn.decremented_lots)
    order = book.placed(order_id, place, remaining, cause)
    if order.state == ORDER_STATE_OPEN:
        book.rest(order_id, place, remaining, turn.arrival)
        turn.touch(place.market_id, place.side, place.price_ticks)
    turn.add(order, trades)


def replace(book: Book, turn: Turn, resting: Resting, asked: ReplaceOrder) -> str:
    """Gives a resting order another price or quantity. Fewer at the same price keep their place, anything else is as
    if it came now. Returns an objection, and then nothing has changed.
    """
    old = resting.place
    price_ticks = asked.price_ticks or old.price_ticks
    place = reshaped(old, price_ticks, asked.quantity_lots or old.quantity_lots, asked.client_order_id)
    filled_lots = old.quantity_lots - resting.remaining_lots
    objection = replacement_objection(place, book)
    if objection:
        return objection
    if place.quantity_lots <= filled_lots:
        return QUANTITY_TRADED
    if price_ticks == old.price_ticks and place.quantity_lots <= old.quantity_lots:
        book.shrink(resting, place)
        turn.touch(place.market_id, place.side, price_ticks)
        turn.consequence(book.order_now(resting))
        return ""
    if place.post_only and repriced(book, place) is place and book.would_trade(place):
        return WOULD_TRADE
    book.withdraw(resting)
    turn.touch(place.market_id, place.side, old.price_ticks)
    enter(book, turn, resting.order_id, place, filled_lots, anew=True)
    return ""


def repriced(book: Book, place: PlaceOrder) -> PlaceOrder:
    """A post-only order that would trade and may be repriced: one tick short of the best price against it, if any."""
    if place.terms is None or not place.terms.reprice:
        return place
    if place.side == SIDE_BUY:
        best = book.asks.best
        if best is None or best.price_ticks > place.price_ticks or best.price_ticks == 1:
            return place
        return reshaped(place, best.price_ticks - 1, place.quantity_lots)
    best = book.bids.best
    if best is None or best.price_ticks < place.price_ticks:
        return place
    return reshaped(place, best.price_ticks + 1, place.quantity_lots)


def books_changed(turn: Turn, books: dict[int, Book]) -> list[BookChanged]:
    """Every book that a turn changed, each numbered, with what is shown now at each price where something happened."""
    levels: dict[int, list[LevelChanged]] = {}
    for market_id, side, price_ticks in sorted(turn.touched):
        book = books[market_id]
        lots = (book.bids if side == SIDE_BUY else book.asks).lots_at(price_ticks)
        levels.setdefault(market_id, []).append(LevelChanged(side, price_ticks, lots))
    return [BookChanged(market_id, books[market_id].changed(), changed) for market_id, changed in levels.items()]
