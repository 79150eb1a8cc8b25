"""The desk for orders that are not plain: it does what is due, enters them, and says what came of it. Pure."""

from services.book.auction import auction_ticks, uncross
from services.book.groups import Group
from services.book.matching import Book, is_over, notional_min_of, reshaped, resized, waits
from services.book.model import (
    CANCEL_CAUSE_DAY_END,
    CANCEL_CAUSE_EXPIRED,
    CANCEL_CAUSE_LINKED,
    CANCEL_CAUSE_MARKET,
    CANCEL_CAUSE_MINIMUM,
    CANCEL_CAUSE_UNSPECIFIED,
    MARKET_STATE_CLOSED,
    MARKET_STATE_OPEN,
    ORDER_STATE_OPEN,
    SIDE_BUY,
    BookChanged,
    LevelChanged,
    Market,
    Order,
    OrderChanged,
    PlaceGroup,
    PlaceOrder,
    ReplaceOrder,
    Trade,
)
from services.book.rules import INSUFFICIENT_FUNDS, ORDER_LINKED, QUANTITY_TRADED, WOULD_TRADE, replacement_objection
from services.book.side import Resting
from services.book.turn import TURN_STEPS_MAX, Turn


def do_due(book: Book, turn: Turn) -> None:
    """Before a command has its turn in a book: what is due by then, if anything is, within the room."""
    if is_due(book, turn.time_ns):
        go_on(book, turn)


def go_on(book: Book, turn: Turn) -> None:
    """Ends what has expired, goes on with the auction, and releases what was left."""
    end_expired(book, turn)
    while book.market.state == MARKET_STATE_CLOSED and turn.room > 0:
        resting = book.days.pop(1, book.orders)
        if resting is None:
            break
        book.end(resting, CANCEL_CAUSE_DAY_END, turn)
    if book.auction_ticks > 0 and book.market.state == MARKET_STATE_OPEN:
        uncross(book, turn)
    settle(book, turn)
    turn.room = TURN_STEPS_MAX


def end_expired(book: Book, turn: Turn) -> None:
    """Ends what has expired, within the room; what is left is not traded with meanwhile."""
    while turn.room > 0:
        resting = book.expiries.pop(turn.time_ns, book.orders)
        if resting is None:
            return
        book.end(resting, CANCEL_CAUSE_EXPIRED, turn)
    turn.overdue = book.edition > 0


def change_market(book: Book, turn: Turn, market: Market) -> None:
    """A market has another state or other rules: what that brings about, as far as one command does it."""
    book.market, book.notional_min = market, notional_min_of(market)
    book.cold = True
    end_expired(book, turn)
    book.auction_ticks = auction_ticks(book) if market.state == MARKET_STATE_OPEN else 0
    go_on(book, turn)


def is_due(book: Book, time_ns: int) -> bool:
    """Whether there is anything to do in a book at that time, whoever asks for what."""
    if not book.cold:
        return False
    first = book.expiries.first(book.orders)
    if 0 < first <= time_ns:
        return True
    if book.market.state == MARKET_STATE_CLOSED:
        return book.days.first(book.orders) > 0
    return book.market.state == MARKET_STATE_OPEN and (bool(book.released) or book.auction_ticks > 0)


def settle(book: Book, turn: Turn) -> None:
    """After orders have changed: begins the exits whose turn it is, releases every order whose price is there now, and
    those that these set off, within the room; what is left is due. A market that is not open releases none.
    """
    if not book.cold:  # it keeps none of these
        return
    begin_exits(book, turn)
    set_aside(book, turn)
    collect(book)
    while book.released and turn.room > 0 and book.market.state == MARKET_STATE_OPEN and book.auction_ticks == 0:
        turn.room -= 1
        order_id = book.released.pop(0)
        book.part(order_id, turn)
        waiting = book.orders.pop(order_id)
        enter(book, turn, order_id, waiting.place)
        begin_exits(book, turn)
        set_aside(book, turn)
        collect(book)
    book.cold = book.keeps_something()


def begin_exits(book: Book, turn: Turn) -> None:
    """The exits whose entry has ended begin, sized to what it received; with nothing, or no open market, they end.

    While an auction goes on none begins: it would rest untraded, or end for want of somebody to trade with.
    """
    if book.edition > 0 and book.auction_ticks > 0:
        return
    while book.ended:
        group = book.ended.pop(0)
        group.entry_id = 0
        held = [book.orders[order_id] for order_id in group.exits if order_id in book.orders]
        begun: list[tuple[int, PlaceOrder]] = []
        for resting in held:
            place = book.sized(resting.place, group.received)
            book.groups.pop(resting.order_id, None)
            if place.quantity_lots == 0:
                book.end(resting, CANCEL_CAUSE_LINKED, turn)
            elif book.market.state != MARKET_STATE_OPEN:
                book.end(resting, CANCEL_CAUSE_MARKET, turn)
            else:
                del book.orders[resting.order_id]
                book.held_trails.discard(resting.order_id)
                begun.append((resting.order_id, place))
        begin(book, turn, begun)


def set_aside(book: Book, turn: Turn) -> None:
    """An entry has received something and its exits do not begin yet: they set it aside, or it could be spent."""
    while book.credited:
        group = book.credited.pop(0)
        if group.entry_id == 0 or book.groups.get(group.exits[0]) is not group:
            continue
        held = [book.orders[order_id] for order_id in group.exits]
        locks = [(book.lock_received(each.place, group.received), -each.order_id) for each in held]
        group.holder_id = -max(locks)[1]
        for each in held:
            turn.consequence(book.order_now(each))


def begin(book: Book, turn: Turn, exits: list[tuple[int, PlaceOrder]]) -> None:
    """Exits begin: those with a trigger wait, then the other goes to market."""
    if len(exits) > 1:
        locks = [(book.lock(place, place.quantity_lots), -order_id) for order_id, place in exits]
        book.link(Group(0, [order_id for order_id, _ in exits], -max(locks)[1]))
    for order_id, place in exits:
        if waits(place):
            place_order(book, turn, order_id, place)
    for order_id, place in exits:
        if not waits(place):
            place_order(book, turn, order_id, place)


def place_group(book: Book, turn: Turn, first_id: int, asked: PlaceGroup) -> None:
    """Orders that belong together: without an entry the exits begin, else they wait for it."""
    if asked.entry is None:
        begin(book, turn, [(first_id + number, place) for number, place in enumerate(asked.exits)])
        return
    ids = [first_id + 1 + number for number in range(len(asked.exits))]
    book.link(Group(first_id, ids, 0))
    for order_id, place in zip(ids, asked.exits, strict=True):
        turn.steps.append(OrderChanged(book.order_now(book.hold(order_id, place, turn.arrival)), []))
    place_order(book, turn, first_id, asked.entry)


def collect(book: Book) -> None:
    """Notes whose price is there now, in their order."""
    triggers, ask, bid = book.triggers, book.asks.best, book.bids.best
    triggers.follow(book.last_price_ticks)
    while True:
        order_id = triggers.hit(
            book.last_price_ticks, 0 if ask is None else ask.price_ticks, 0 if bid is None else bid.price_ticks
        )
        if order_id == 0:
            return
        book.released.append(order_id)


def place_order(book: Book, turn: Turn, order_id: int, place: PlaceOrder) -> None:
    """A new order: it goes to market, or waits for its trigger."""
    if not waits(place):
        enter(book, turn, order_id, place)
        return
    waiting = book.wait(order_id, place, turn.arrival, book.last_price_ticks)
    turn.steps.append(OrderChanged(book.order_now(waiting), []))


def enter(book: Book, turn: Turn, order_id: int, place: PlaceOrder, filled_lots: int = 0, anew: bool = False) -> None:
    """An order goes to market: it trades, and what remains of it rests or ends. Its step comes after what it caused.

    `filled_lots` of it were traded before; an order that comes `anew` has had its minimum quantity.
    """
    turn.decremented_lots = 0
    trades: list[Trade] = []
    if turn.overdue and not book.collects():
        book.clear_overdue(book.asks if place.side == SIDE_BUY else book.bids, turn)
    place = repriced(book, place)
    lots = place.quantity_lots - filled_lots
    minimum_lots = 0 if place.terms is None or anew else place.terms.minimum_lots
    if turn.overdue and is_over(place, turn.time_ns):
        remaining, cause = lots, CANCEL_CAUSE_EXPIRED
    elif book.collects():
        remaining, cause = lots, CANCEL_CAUSE_UNSPECIFIED
    elif minimum_lots > 0 and not book.fills(place, lots, minimum_lots, turn, turn.time_ns):
        remaining, cause = lots, CANCEL_CAUSE_MINIMUM
    else:
        remaining, cause = book.trade(place, lots, turn.settlement_sequence + 1, trades, turn, turn.time_ns)
    turn.settlement_sequence += len(trades)
    if turn.decremented_lots > 0:
        place = resized(place, place.quantity_lots - turn.decremented_lots)
    if trades and book.groups:
        book.part(order_id, turn)  # before its step, which states a lock of its own then
    order = book.placed(order_id, place, remaining, cause)
    if order.state == ORDER_STATE_OPEN:
        book.rest(order_id, place, remaining, turn.arrival)
        turn.hides = turn.hides or order_id in book.hidden
        turn.touch(place.market_id, place.side, place.price_ticks)
    turn.add(order, trades)
    if book.groups:
        link_entered(book, turn, order, trades)


def link_entered(book: Book, turn: Turn, order: Order, trades: list[Trade]) -> None:
    """What an order that has gone to market means for its group."""
    received = 0
    for trade in trades:
        received += (trade.base_amount if order.place.side == SIDE_BUY else trade.quote_amount) - trade.taker_fee
    ended = order.state != ORDER_STATE_OPEN
    book.credit_entry(order.order_id, received, ended)
    if ended:
        book.part(order.order_id, turn)


def replace(book: Book, turn: Turn, resting: Resting, asked: ReplaceOrder) -> str:
    """Gives an open order another price or quantity. One that waits goes on waiting; fewer at the same price keep their
    place; anything else is as if it came now. Returns an objection, and then nothing has changed.
    """
    if resting.order_id in book.groups:
        return ORDER_LINKED
    old = resting.place
    price_ticks = asked.price_ticks or old.price_ticks
    place = reshaped(old, price_ticks, asked.quantity_lots or old.quantity_lots, asked.client_order_id)
    filled_lots = old.quantity_lots - book.left(resting)
    objection = replacement_objection(place, book, turn.time_ns)
    if objection:
        return objection
    if place.quantity_lots <= filled_lots:
        return QUANTITY_TRADED
    growth = book.lock(place, place.quantity_lots - filled_lots) - book.lock_of(resting)
    if asked.growth_max is not None and growth > asked.growth_max:
        return INSUFFICIENT_FUNDS
    if resting.level is None:
        resting.place, resting.remaining_lots = place, place.quantity_lots
        turn.consequence(book.order_now(resting))
        return ""
    place = repriced(book, place)  # first: it may come to where it is, and who follows the events sees only that
    if place.price_ticks == old.price_ticks and place.quantity_lots <= old.quantity_lots:
        book.shrink(resting, place)
        turn.touch(place.market_id, place.side, place.price_ticks)
        turn.consequence(book.order_now(resting))
        return ""
    if place.post_only and book.would_trade(place):
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
