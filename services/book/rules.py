"""What a command must be for the engine to take it, and the reason by which it is refused otherwise. Pure.

An objection is the name of a services/errors.py reason, or "" for none. The checks stand in a fixed order: replaying a
journal must find the same reason.
"""

from typing import Final

from services.allow_list import DELAY_SECONDS_MAX, AllowListChange
from services.book.matching import Book, is_immediate, is_signed, is_trailing, waits
from services.book.model import (
    MARKET_STATE_CLOSED,
    MARKET_STATE_HALTED,
    MARKET_STATE_OPEN,
    MARKET_STATE_PRE_OPEN,
    MARKET_STATE_UNSPECIFIED,
    ORDER_TYPE_LIMIT,
    ORDER_TYPE_MARKET,
    SELF_TRADE_ALLOW,
    SELF_TRADE_CANCEL_NEWEST,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_DAY,
    TIME_IN_FORCE_FOK,
    TIME_IN_FORCE_GTC,
    TIME_IN_FORCE_GTD,
    TIME_IN_FORCE_IOC,
    TRIGGER_SOURCE_LAST,
    TRIGGER_SOURCE_QUOTE,
    TRIGGER_TRAILING,
    TRIGGER_UNSPECIFIED,
    Asset,
    ChangeAllowList,
    Market,
    MarketRules,
    PlaceGroup,
    PlaceOrder,
    RequestWithdrawal,
    SetReferencePrice,
    Terms,
    Transfer,
)
from services.errors import Reason
from services.fees import PPM
from services.reference import REFERENCE_AGE_SECONDS_MAX, REFERENCE_SOURCE_CHARACTERS_MAX, is_fresh
from services.units import OUTSIDE_ACCOUNT

AMOUNT_MAX: Final = 2**256 - 1
"""No amount asked for is larger: the chain could not hold it."""
INT64_VALUE_BITS: Final = 63
NAME_CHARACTERS_MAX: Final = 256
SYMBOL_CHARACTERS_MAX: Final = 16
ASSET_DECIMALS_MAX: Final = 36
GROUP_EXITS_MAX: Final = 2
TRAILING_ORDERS_MAX: Final = 1_000
"""Trailing stops of a market that one may come to: each trade looks at all of them."""
REASON_CHARACTERS_MAX: Final = 200
"""Of what an operator says for the record."""
ADDRESS_CHARACTERS: Final = 42
SYMBOL_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

# Looked up once: a name that is not in the table fails at import.
ACCOUNT_FROZEN: Final = Reason.ACCOUNT_FROZEN.name
ACCOUNT_NOT_FOUND: Final = Reason.ACCOUNT_NOT_FOUND.name
ALREADY_EXISTS: Final = Reason.ALREADY_EXISTS.name
ASSET_NOT_FOUND: Final = Reason.ASSET_NOT_FOUND.name
INSUFFICIENT_FUNDS: Final = Reason.INSUFFICIENT_FUNDS.name
INVALID_DISPLAY: Final = Reason.INVALID_DISPLAY.name
INVALID_EXPIRY: Final = Reason.INVALID_EXPIRY.name
INVALID_FIELD: Final = Reason.INVALID_FIELD.name
INVALID_GROUP: Final = Reason.INVALID_GROUP.name
INVALID_MARKET: Final = Reason.INVALID_MARKET.name
INVALID_MINIMUM: Final = Reason.INVALID_MINIMUM.name
INVALID_PRICE: Final = Reason.INVALID_PRICE.name
INVALID_QUANTITY: Final = Reason.INVALID_QUANTITY.name
INVALID_TRIGGER: Final = Reason.INVALID_TRIGGER.name
MARKET_CLOSED: Final = Reason.MARKET_CLOSED.name
MARKET_HALTED: Final = Reason.MARKET_HALTED.name
MARKET_IN_AUCTION: Final = Reason.MARKET_IN_AUCTION.name
MARKET_NOT_FOUND: Final = Reason.MARKET_NOT_FOUND.name
NOTIONAL_TOO_LARGE: Final = Reason.NOTIONAL_TOO_LARGE.name
NOTIONAL_TOO_SMALL: Final = Reason.NOTIONAL_TOO_SMALL.name
ORDER_LINKED: Final = Reason.ORDER_LINKED.name
ORDER_NOT_FOUND: Final = Reason.ORDER_NOT_FOUND.name
OUT_OF_SEQUENCE: Final = Reason.OUT_OF_SEQUENCE.name
PRICE_OUT_OF_BAND: Final = Reason.PRICE_OUT_OF_BAND.name
QUANTITY_TOO_LARGE: Final = Reason.QUANTITY_TOO_LARGE.name
QUANTITY_TOO_SMALL: Final = Reason.QUANTITY_TOO_SMALL.name
QUANTITY_TRADED: Final = Reason.QUANTITY_TRADED.name
REFERENCE_OUTDATED: Final = Reason.REFERENCE_OUTDATED.name
SIGNATURE_REQUIRED: Final = Reason.SIGNATURE_REQUIRED.name
TOO_MANY_ADDRESSES: Final = Reason.TOO_MANY_ADDRESSES.name
TOO_MANY_TRAILING_STOPS: Final = Reason.TOO_MANY_TRAILING_STOPS.name
WITHDRAWAL_NOT_FOUND: Final = Reason.WITHDRAWAL_NOT_FOUND.name
WOULD_TRADE: Final = Reason.WOULD_TRADE.name


def order_objection(place: PlaceOrder, book: Book, time_ns: int) -> str:
    """Why an order cannot be taken in its market."""
    if not SIDE_BUY <= place.side <= SIDE_SELL:
        return INVALID_FIELD
    if not 0 <= place.maker_fee_ppm <= PPM or not 0 <= place.taker_fee_ppm <= PPM:
        return INVALID_FIELD
    limit = place.type == ORDER_TYPE_LIMIT
    plain = limit and place.time_in_force == TIME_IN_FORCE_GTC and place.budget == 0
    if not plain and not _kind_fits(place):
        return INVALID_FIELD
    lots, ticks = place.quantity_lots, place.price_ticks
    if lots <= 0 or lots >> INT64_VALUE_BITS != 0:
        return INVALID_QUANTITY
    if limit and (book.notional_min > 0 or ticks <= 0 or ticks >> INT64_VALUE_BITS != 0):
        objection = _limit_objection(place, book)
        if objection:
            return objection
    market = book.market
    if market.rules is None and market.state == MARKET_STATE_OPEN and book.auction_ticks == 0:
        return ""
    return _market_objection(place, book, time_ns)


def replacement_objection(place: PlaceOrder, book: Book, time_ns: int) -> str:
    """Why an open order cannot become this one. What a wallet signed stays as it is."""
    if is_signed(place):
        return SIGNATURE_REQUIRED
    if not is_positive_int64(place.quantity_lots):
        return INVALID_QUANTITY
    if place.type == ORDER_TYPE_LIMIT:
        return _limit_objection(place, book) or _market_objection(place, book, time_ns)
    return INVALID_PRICE if place.price_ticks != 0 else _market_objection(place, book, time_ns)


def _market_objection(place: PlaceOrder, book: Book, time_ns: int) -> str:
    """Why the market does not take the order, or not now."""
    rules, state = book.market.rules, book.market.state
    if rules is not None:
        objection = _rules_objection(place, book, rules, time_ns)
        if objection:
            return objection
    if state == MARKET_STATE_OPEN and book.auction_ticks == 0:
        return ""
    if state == MARKET_STATE_HALTED:
        return MARKET_HALTED
    if state == MARKET_STATE_CLOSED:
        return MARKET_CLOSED
    if state == MARKET_STATE_PRE_OPEN and (waits(place) or _can_be_collected(place)):
        return ""
    return MARKET_IN_AUCTION


def _can_be_collected(place: PlaceOrder) -> bool:
    """Whether the order may rest without having tried to trade."""
    if place.type != ORDER_TYPE_LIMIT or is_immediate(place) or place.post_only:
        return False
    return place.terms is None or place.terms.minimum_lots == 0


def _rules_objection(place: PlaceOrder, book: Book, rules: MarketRules, time_ns: int) -> str:
    if rules.signed_orders and not is_signed(place):
        return SIGNATURE_REQUIRED
    if place.quantity_lots < rules.quantity_min_lots:
        return QUANTITY_TOO_SMALL
    if 0 < rules.quantity_max_lots < place.quantity_lots:
        return QUANTITY_TOO_LARGE
    worth = place.budget
    if place.type == ORDER_TYPE_LIMIT:
        worth = book.notional(place.price_ticks, place.quantity_lots)
        low, high = book.band_edge(False, time_ns), book.band_edge(True, time_ns)
        if high > 0 and not low <= place.price_ticks <= high and not waits(place):
            return PRICE_OUT_OF_BAND
    return NOTIONAL_TOO_LARGE if 0 < rules.notional_max < worth else ""


def rules_fit(rules: MarketRules | None) -> bool:
    """Whether a market may have such rules, or none."""
    if rules is None:
        return True
    for lots in (rules.quantity_min_lots, rules.quantity_max_lots):
        if lots != 0 and not is_positive_int64(lots):
            return False
    if not 0 <= rules.notional_max <= AMOUNT_MAX or not 0 <= rules.notional_min <= AMOUNT_MAX:
        return False
    if not 0 <= rules.reference_age_max_seconds <= REFERENCE_AGE_SECONDS_MAX:
        return False
    return 0 <= rules.band_ppm < PPM and rules.open_orders_max >= 0


def reference_objection(asked: SetReferencePrice, book: Book, time_ns: int) -> str:
    """Why what was seen elsewhere cannot be the market's reference price."""
    if not is_positive_int64(asked.price_ticks):
        return INVALID_PRICE
    if not 0 < len(asked.source) <= REFERENCE_SOURCE_CHARACTERS_MAX or not is_positive_int64(asked.observed_ns):
        return INVALID_FIELD
    rules, stands = book.market.rules, book.reference
    if not is_fresh(asked.observed_ns, 0 if rules is None else rules.reference_age_max_seconds, time_ns):
        return REFERENCE_OUTDATED
    return REFERENCE_OUTDATED if stands is not None and asked.observed_ns < stands.observed_ns else ""


def _limit_objection(place: PlaceOrder, book: Book) -> str:
    if not is_positive_int64(place.price_ticks):
        return INVALID_PRICE
    if book.notional_min > 0 and book.notional(place.price_ticks, place.quantity_lots) < book.notional_min:
        return NOTIONAL_TOO_SMALL
    return ""


def group_objection(asked: PlaceGroup) -> str:
    """Why orders cannot belong together, each for itself apart."""
    orders = asked.orders()
    first = asked.exits[0]
    for place in orders:
        if place.account_id != first.account_id or place.market_id != first.market_id:
            return INVALID_GROUP
    for place in asked.exits:
        if place.side != first.side or (asked.entry is not None and place.side == asked.entry.side):
            return INVALID_GROUP
    if len(asked.exits) == 1:
        return ""
    resting = [place for place in asked.exits if not waits(place)]
    if len(resting) > 1:
        return INVALID_GROUP
    return INVALID_GROUP if any(place.type != ORDER_TYPE_LIMIT or is_immediate(place) for place in resting) else ""


def terms_objection(place: PlaceOrder, book: Book, time_ns: int, trailing: int = 0) -> str:
    """Why an order cannot be taken with its terms; so many `trailing` stops come with it."""
    terms = place.terms
    if terms is None:
        return ""
    if not SELF_TRADE_CANCEL_NEWEST <= terms.self_trade <= SELF_TRADE_ALLOW or (terms.reprice and not place.post_only):
        return INVALID_FIELD
    if place.time_in_force == TIME_IN_FORCE_GTD:
        if not is_positive_int64(terms.expires_ns) or terms.expires_ns <= time_ns:
            return INVALID_EXPIRY
    elif terms.expires_ns != 0:
        return INVALID_EXPIRY
    objection = _trigger_objection(terms)
    if objection:
        return objection
    if terms.display_lots != 0 and (place.type != ORDER_TYPE_LIMIT or is_immediate(place)):
        return INVALID_DISPLAY
    if not 0 <= terms.display_lots < place.quantity_lots:
        return INVALID_DISPLAY
    if terms.minimum_lots != 0:
        if not 0 < terms.minimum_lots <= place.quantity_lots:
            return INVALID_MINIMUM
        if place.post_only or place.time_in_force == TIME_IN_FORCE_FOK:
            return INVALID_MINIMUM
    if not is_trailing(place):
        return ""
    if book.edition > 0:
        trailing += len(book.held_trails)
    else:
        trailing = 0
    return TOO_MANY_TRAILING_STOPS if len(book.triggers.trails) + trailing >= TRAILING_ORDERS_MAX else ""


def _trigger_objection(terms: Terms) -> str:
    if not TRIGGER_UNSPECIFIED <= terms.trigger <= TRIGGER_TRAILING:
        return INVALID_TRIGGER
    if not TRIGGER_SOURCE_LAST <= terms.trigger_source <= TRIGGER_SOURCE_QUOTE:
        return INVALID_TRIGGER
    trails, waits = terms.trigger == TRIGGER_TRAILING, terms.trigger != TRIGGER_UNSPECIFIED
    if (trails or not waits) and terms.trigger_source != TRIGGER_SOURCE_LAST:
        return INVALID_TRIGGER
    if trails != (terms.trail_ticks != 0) or (waits and not trails) != (terms.trigger_ticks != 0):
        return INVALID_TRIGGER
    for ticks in (terms.trigger_ticks, terms.trail_ticks):
        if ticks != 0 and not is_positive_int64(ticks):
            return INVALID_TRIGGER
    return ""


def is_positive_int64(number: int) -> bool:
    """Whether it is 1 to 2^63 - 1. By a shift: mypyc compares slowly with numbers beyond 62 bits."""
    return number > 0 and number >> INT64_VALUE_BITS == 0


def _kind_fits(place: PlaceOrder) -> bool:
    """Whether type, time in force, price and budget go together."""
    if place.type == ORDER_TYPE_LIMIT:
        if place.budget != 0:
            return False
        if place.time_in_force in (TIME_IN_FORCE_GTC, TIME_IN_FORCE_DAY):
            return True
        if place.time_in_force == TIME_IN_FORCE_GTD:
            return place.terms is not None
        return not place.post_only and TIME_IN_FORCE_IOC <= place.time_in_force <= TIME_IN_FORCE_FOK
    if place.type != ORDER_TYPE_MARKET or place.price_ticks != 0 or place.post_only:
        return False
    if not TIME_IN_FORCE_IOC <= place.time_in_force <= TIME_IN_FORCE_FOK:
        return False
    return 0 < place.budget <= AMOUNT_MAX if place.side == SIDE_BUY else place.budget == 0


def asset_objection(asset: Asset) -> str:
    """Why an asset cannot be created, whatever others there are."""
    if not 0 < len(asset.symbol) <= SYMBOL_CHARACTERS_MAX or asset.symbol.strip(SYMBOL_ALPHABET):
        return INVALID_FIELD
    return "" if 0 <= asset.decimals <= ASSET_DECIMALS_MAX else INVALID_FIELD


def market_objection(market: Market, base: Asset, quote: Asset) -> str:
    """Why a market of two assets cannot be created, whatever others there are, its steps apart."""
    if base.asset_id == quote.asset_id:
        return INVALID_MARKET
    if market.symbol != f"{base.symbol}-{quote.symbol}" or not 0 <= market.notional_min <= AMOUNT_MAX:
        return INVALID_FIELD
    return "" if is_market_state(market.state) and rules_fit(market.rules) else INVALID_FIELD


def transfer_objection(transfer: Transfer) -> str:
    """Why a transfer cannot be made, whoever has whatever. Nothing moves to or from the world but on chain."""
    giver, receiver = transfer.from_account_id, transfer.to_account_id
    if not transfer.transfer_id or giver == receiver or OUTSIDE_ACCOUNT in (giver, receiver):
        return INVALID_FIELD
    if not 0 < transfer.amount <= AMOUNT_MAX or len(transfer.reason) > REASON_CHARACTERS_MAX:
        return INVALID_FIELD
    return ""


def withdrawal_objection(asked: RequestWithdrawal) -> str:
    """Why a withdrawal cannot be requested, whoever has whatever."""
    if not asked.transfer_id or asked.account_id == OUTSIDE_ACCOUNT or not 0 < asked.amount <= AMOUNT_MAX:
        return INVALID_FIELD
    return "" if is_address(asked.address) else INVALID_FIELD


def allow_list_objection(asked: ChangeAllowList) -> str:
    """Why nobody's list of addresses can change like that."""
    if not 0 <= asked.delay_seconds <= DELAY_SECONDS_MAX:
        return INVALID_FIELD
    if asked.change in (AllowListChange.ADD, AllowListChange.REMOVE):
        return "" if is_address(asked.address) else INVALID_FIELD
    if asked.change in (AllowListChange.ON, AllowListChange.OFF):
        return "" if not asked.address else INVALID_FIELD
    return INVALID_FIELD


def is_address(text: str) -> bool:
    """Whether it is 0x and 40 lower-case hexadecimal digits, and not the zero address, which nobody has."""
    if len(text) != ADDRESS_CHARACTERS or not text.startswith("0x"):
        return False
    digits = text[2:]
    return not digits.strip("0123456789abcdef") and bool(digits.strip("0"))


def is_market_state(state: int) -> bool:
    """Whether it is one of the enum's values."""
    return MARKET_STATE_UNSPECIFIED <= state <= MARKET_STATE_CLOSED
