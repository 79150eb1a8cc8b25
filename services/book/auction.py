"""The call auction of a market that opens: one price for all, the one at which most can trade. Pure.

While a market collects orders they rest as they come, and the book may be crossed. When it opens, orders trade at the
auction's price by price, then time, until nobody is left who would.
"""

from typing import Final

from services.book.matching import Book, is_over, self_trade_of
from services.book.model import (
    CANCEL_CAUSE_EXPIRED,
    CANCEL_CAUSE_SELF_TRADE,
    SELF_TRADE_ALLOW,
    SELF_TRADE_CANCEL_BOTH,
    SELF_TRADE_CANCEL_NEWEST,
    SELF_TRADE_CANCEL_OLDEST,
    SIDE_BUY,
    OrderChanged,
)
from services.book.side import Resting, Side
from services.book.turn import Turn
from services.crossing import crossing

AUCTION_TRADES_MAX: Final = 1_024
"""Of one command; what is left is due."""
AUCTION_WALKS_MAX: Final = 16
"""How often one command looks for the price anew, because self-trades left a crossed book: it reads all that is."""


def auction_ticks(book: Book) -> int:
    """The price at which a crossed book would trade; 0 if nobody would."""
    if book.bids.best is None or book.asks.best is None or book.bids.best.price_ticks < book.asks.best.price_ticks:
        return 0
    bid_ticks, ask_ticks = book.bids.best.price_ticks, book.asks.best.price_ticks
    return crossing(_depth(book, book.bids, ask_ticks), _depth(book, book.asks, bid_ticks), book.last_price_ticks)[0]


def uncross(book: Book, turn: Turn) -> None:
    """Trades at the auction's price, as much as one command does; it is over once `book.auction_ticks` is 0."""
    ticks, walks = book.auction_ticks, 0
    for _ in range(AUCTION_TRADES_MAX):
        bid, ask = book.bids.best, book.asks.best
        if bid is None or ask is None or bid.price_ticks < ticks or ask.price_ticks > ticks:
            book.auction_ticks = ticks = auction_ticks(book)  # 0, unless self-trades left a crossed book
            walks += 1
            if ticks == 0 or (walks == AUCTION_WALKS_MAX and book.edition > 0):
                return
            continue
        buyer, seller = bid.oldest, ask.oldest
        assert buyer is not None, "an empty level"
        assert seller is not None, "an empty level"
        older, newer = buyer, seller
        if (buyer.arrival, buyer.order_id) > (seller.arrival, seller.order_id):
            older, newer = seller, buyer
        over = [each for each in (older, newer) if turn.overdue and is_over(each.place, turn.time_ns)]
        if over:
            book.end(over[0], CANCEL_CAUSE_EXPIRED, turn)
        elif older.place.account_id == newer.place.account_id and self_trade_of(newer.place) != SELF_TRADE_ALLOW:
            _meet_own(book, turn, older, newer)
        else:
            _cross(book, turn, older, newer)


def _meet_own(book: Book, turn: Turn, older: Resting, newer: Resting) -> None:
    """Two of one owner's would trade: the newer one says what happens instead."""
    mode = self_trade_of(newer.place) if book.edition > 0 else SELF_TRADE_CANCEL_NEWEST
    if mode == SELF_TRADE_CANCEL_NEWEST:
        book.end(newer, CANCEL_CAUSE_SELF_TRADE, turn)
        return
    kept = [book.left(each) - min(book.left(older), book.left(newer)) for each in (older, newer)]
    for each, lots in zip((older, newer), kept, strict=True):
        if mode in {SELF_TRADE_CANCEL_OLDEST, SELF_TRADE_CANCEL_BOTH}:
            if each is older or mode == SELF_TRADE_CANCEL_BOTH:
                book.end(each, CANCEL_CAUSE_SELF_TRADE, turn)
        elif lots == 0:
            book.end(each, CANCEL_CAUSE_SELF_TRADE, turn)
        else:
            book.decrement(each, book.left(each) - lots, turn)


def _cross(book: Book, turn: Turn, maker: Resting, taker: Resting) -> None:
    """The older of two is the maker."""
    lots = min(maker.remaining_lots, taker.remaining_lots)
    for resting in (maker, taker):
        place = resting.place
        turn.touch(place.market_id, place.side, place.price_ticks)
        book.take(book.bids if place.side == SIDE_BUY else book.asks, resting, lots, turn)
        book.part(resting.order_id, turn)
    turn.settlement_sequence += 1
    trade = book.trade_of(maker, book.auction_ticks, lots, taker.place.taker_fee_ppm, turn.settlement_sequence)
    turn.steps.append(OrderChanged(book.order_now(taker), [trade]))
    for resting, fee in ((maker, trade.maker_fee), (taker, trade.taker_fee)):
        received = trade.base_amount if resting.place.side == SIDE_BUY else trade.quote_amount
        book.credit_entry(resting.order_id, received - fee, resting.remaining_lots == 0)


def _depth(book: Book, side: Side, worst_ticks: int) -> dict[int, int]:
    """All lots by price, shown or not, down to a price: beyond the other side's best nobody can trade."""
    depth: dict[int, int] = {}
    for level in side.levels_best_first():
        if level.key < side.key(worst_ticks):
            break
        depth[level.price_ticks] = sum([book.left(each) for each in level.orders()])
    return depth
