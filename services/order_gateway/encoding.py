"""The commonest that the gateway reads and writes, straight from and to the bytes of protobuf. Pure, and compiled.

To fill in or to read a protobuf message takes longer than all that is done with the order. What these are can be read
in order_service.proto and journal.proto; `wire` has all the others, and tests hold both to the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, final

from mypy_extensions import i64

from services.errors import Rejected
from services.order_gateway.model import (
    CancelCause,
    CommandBody,
    Event,
    Order,
    OrderCanceled,
    OrderPlaced,
    OrderState,
    Placed,
    Placement,
    PlaceOrder,
    TimeInForce,
    Trade,
    Wanted,
)
from services.protobuf import INT64_MAX, MORE, SHORT, element_at, fields, read, varint
from services.units import Market

BY_HAND: Final = not __file__.endswith(".py")
"""Whether this is compiled: then it takes less than half as long as protobuf; if not, it takes longer."""

_CLIENT_ORDER_ID_CHARS_MAX: Final = 64
_DIGITS_MAX: Final = 18
"""Of a price or quantity: as many as always fit into a machine word."""
_TEN: Final = [10**exponent for exponent in range(_DIGITS_MAX + 1)]

# Without what would be looked up in an Enum once for every order; None: not read here.
_TIMES: Final = [TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, None, TimeInForce.DAY]
"""Of a limit order that was asked for, by the public number."""
_TIMES_TOLD: Final = list(TimeInForce)  # from 1 on
_KINDS: Final = [side + kind + b"\x28" for side in (b"\x18\x02", b"\x18\x01") for kind in (b"\x20\x02", b"\x20\x01")]
"""Of a market sell, a limit sell, and the buys: side, type, and the tag of what comes next."""
_STATES: Final = list(OrderState)  # from 1 on
_CAUSES: Final = list(CancelCause)  # from 0 on


# What clients ask for.


def plain_wanted(
    requests: Sequence[bytes], made_ids: Sequence[str], markets: Mapping[str, Market]
) -> list[Wanted | None]:
    """Limit orders that ask for nothing special, from PlaceOrderRequests as protobuf writes them.

    None for anything else, fields unknown here among it, and for whatever may have to be refused. `made_ids`: theirs,
    unless they have their own.
    """
    return [_plain_wanted(request, made_ids[place], markets) for place, request in enumerate(requests)]


def _plain_wanted(request: bytes, made_id: str, markets: Mapping[str, Market]) -> Wanted | None:
    client_order_id, market = made_id, None
    side, kind, time_in_force, post_only = 0, 0, 0, 0
    price_ticks, quantity_lots = 0, 0
    place, end = 0, len(request)
    while place < end:
        tag = request[place]
        if tag & 0x05:  # neither a number nor a length: no varint need be behind it
            return None
        value, place = read(request, place + 1)
        if tag == 0x0A:
            if not _is_client_order_id(request, place, value):
                return None
            client_order_id = request[place : place + value].decode("ascii")
        elif tag == 0x12:
            market = markets.get(request[place : place + value].decode())
        elif tag == 0x18:
            side = value
        elif tag == 0x20:
            kind = value
        elif tag == 0x28:
            time_in_force = value
        elif tag == 0x32:
            if market is None:
                return None
            step = market.tick
            price_ticks = _steps(request, place, value, step.coefficient, step.decimals)
        elif tag == 0x3A:
            if market is None:
                return None
            step = market.lot
            quantity_lots = _steps(request, place, value, step.coefficient, step.decimals)
        elif tag == 0x40:
            post_only = value
        else:
            return None
        if tag & 0x07:
            place += value
    if market is None or not 1 <= side <= 2 or kind != 1 or time_in_force > 5 or not (price_ticks and quantity_lots):
        return None
    lives = _TIMES[time_in_force]
    if lives is None or (post_only and time_in_force in (2, 3)):
        return None
    if market.notional_min and price_ticks * quantity_lots * market.quote_per_tick_lot < market.notional_min:
        return None
    placement = Placement(market, side == 1, True, lives, post_only != 0, price_ticks, quantity_lots, None, None)
    return Wanted(placement, client_order_id)


def _is_client_order_id(data: bytes, place: int, length: int) -> bool:
    """Whether it is one that is not refused; an empty one is not written."""
    if not 0 < length <= _CLIENT_ORDER_ID_CHARS_MAX:
        return False
    index: i64 = place
    end: i64 = place + length
    while index < end:
        byte: i64 = data[index]
        if byte < 0x21 or byte > 0x7E:
            return False
        index += 1
    return True


def _steps(data: bytes, place: int, length: int, size: int, size_decimals: int) -> int:
    """How many steps of a grid a short decimal number is; 0 if it is none, or not on the grid."""
    if length > _DIGITS_MAX:
        return 0
    number: i64 = 0
    decimals: i64 = -1
    digits: i64 = 0
    index: i64 = place
    end: i64 = place + length
    while index < end:
        byte: i64 = data[index]
        index += 1
        if byte == 0x2E and decimals < 0 and digits > 0:
            decimals = 0
            continue
        if byte < 0x30 or byte > 0x39:
            return 0
        number = number * 10 + (byte - 0x30)
        digits += 1
        if decimals >= 0:
            decimals += 1
    if not digits or decimals == 0:
        return 0
    shift = size_decimals - (int(decimals) if decimals > 0 else 0)
    if not -_DIGITS_MAX <= shift <= _DIGITS_MAX:
        return 0
    coefficient = int(number)
    if shift > 0:
        coefficient *= _TEN[shift]
    elif shift < 0:
        size *= _TEN[-shift]
    if size != 1:
        if coefficient % size:
            return 0
        coefficient //= size
    return coefficient if coefficient <= INT64_MAX else 0


# What clients are told.


def accepted(outcomes: Sequence[Placed | Rejected]) -> list[bytes | Rejected]:
    """Each as one of TradeAnswer.orders that says no more than that it was taken; a refusal stays what it is."""
    return [outcome if isinstance(outcome, Rejected) else _accepted(outcome) for outcome in outcomes]


def _accepted(placed: Placed) -> bytes:
    order = placed.order
    order_id, client_order_id = b"%d" % order.order_id, order.client_order_id.encode()
    parts = [b"\x12", SHORT[len(order_id)], order_id]
    if client_order_id:
        parts += (b"\x1a", varint(len(client_order_id)), client_order_id)
    body = b"".join(parts)
    return b"\x1a" + varint(len(body)) + body


# What the book is asked for.


def commands(asked: Iterable[tuple[int, CommandBody]]) -> list[bytes | None]:
    """Of (command_id, what is asked) each order without terms as one of SubmitRequest.commands; None for the others."""
    plain = Commands()
    return [plain.place_order(number, body) if isinstance(body, PlaceOrder) else None for number, body in asked]


@final
class Commands:
    """Orders without terms. What many of them share is written once."""

    def __init__(self) -> None:
        self._account_id, self._market_id, self._head = -1, -1, b""
        self._maker_ppm, self._taker_ppm, self._tail = 0, 0, b""
        self._high, self._id_tail = -1, b""

    def place_order(self, command_id: int, asked: PlaceOrder) -> bytes | None:
        """None for an order with terms."""
        placement = asked.placement
        if placement.terms is not None:
            return None
        account_id, market_id = asked.account_id, placement.market.market_id
        if account_id != self._account_id or market_id != self._market_id:
            self._account_id, self._market_id = account_id, market_id
            self._head = b"".join((b"\x08", varint(account_id), b"\x10", varint(market_id)))
        kind = 2 if placement.buys else 0
        parts = [self._head, _KINDS[kind + 1 if placement.limit else kind], SHORT[placement.time_in_force]]
        if placement.post_only:
            parts.append(b"\x30\x01")
        price_ticks, budget = placement.price_ticks, asked.budget
        if price_ticks:
            parts += (b"\x38", varint(price_ticks))
        parts += (b"\x40", varint(placement.quantity_lots))
        if budget:
            text = b"%d" % budget
            parts += (b"\x4a", SHORT[len(text)], text)
        client_order_id = asked.client_order_id.encode()
        if client_order_id:
            parts += (b"\x52", varint(len(client_order_id)), client_order_id)
        if asked.maker_fee_ppm != self._maker_ppm or asked.taker_fee_ppm != self._taker_ppm:
            self._maker_ppm, self._taker_ppm = asked.maker_fee_ppm, asked.taker_fee_ppm
            self._tail = _rates(asked)
        parts.append(self._tail)
        order = b"".join(parts)
        named = self._id(command_id)
        length = varint(len(order))
        body = len(named) + 1 + len(length) + len(order)
        return b"".join((b"\x0a", varint(body), named, b"\x12", length, order))

    def _id(self, command_id: int) -> bytes:
        """Field 1: all but the last bits are those of the session."""
        high = command_id >> 28
        if not high:
            return b"\x08" + varint(command_id)
        if high != self._high:
            self._high, self._id_tail = high, varint(high)
        return b"".join((b"\x08", MORE[command_id & 0x3FFF], MORE[command_id >> 14 & 0x3FFF], self._id_tail))


def _rates(asked: PlaceOrder) -> bytes:
    maker = b"\x58" + varint(asked.maker_fee_ppm) if asked.maker_fee_ppm else b""
    return maker + (b"\x60" + varint(asked.taker_fee_ppm) if asked.taker_fee_ppm else b"")


# What the book tells.


def events(batch: bytes, time_ns: int) -> list[Event | bytes]:
    """Of an EventBatch each order without terms that was placed or canceled; all else as an EventBatch of its own.

    Raises:
        ValueError, IndexError: it is not made of whole elements, and of nothing else.
    """
    found = list[Event | bytes]()
    start, end = 0, len(batch)
    while start < end:
        place, behind = element_at(batch, start)
        plain = _event(batch, place, behind, time_ns)
        found.append(batch[start:behind] if plain is None else plain)
        start = behind
    return found


def _event(told: bytes, place: int, end: int, time_ns: int) -> Event | None:
    sequence, command_id = 0, 0
    while place < end:
        tag = told[place]
        value, place = read(told, place + 1)
        if tag == 0x08:
            sequence = value
        elif tag == 0x10:
            command_id = value
        elif tag == 0x22:
            placed = _placed(told, place, end, sequence, time_ns) if place + value == end else None
            return None if placed is None else Event(sequence, command_id, placed)
        elif tag == 0x2A:
            canceled = _canceled(told, place, end) if place + value == end else None
            return None if canceled is None else Event(sequence, command_id, canceled)
        elif tag != 0x18:
            return None
    return None


def _placed(told: bytes, place: int, end: int, sequence: int, time_ns: int) -> OrderPlaced | None:
    if place == end or told[place] != 0x0A:
        return None
    length, start = read(told, place + 1)
    place = behind = start + length
    trades: list[Trade] = []
    filled_quote = 0
    while place < end:
        if told[place] != 0x12:
            return None
        length, place = read(told, place + 1)
        trade = _trade(told, place, place + length)
        if trade is None:
            return None
        trades.append(trade)
        filled_quote += trade.quote_amount
        place += length
    order = _order(told, start, behind, filled_quote, sequence, time_ns)
    return None if order is None else OrderPlaced(order, tuple(trades))


def _order(told: bytes, start: int, end: int, filled_quote: int, sequence: int, time_ns: int) -> Order | None:
    numbers, texts = [0] * 18, [b""] * 18  # one with terms has a field 18
    if not fields(told, start, end, numbers, texts):
        return None
    lives, state, cause = numbers[6], numbers[15], numbers[16]
    if not 0 < lives <= len(_TIMES_TOLD) or not 0 < state <= len(_STATES) or cause >= len(_CAUSES):
        return None
    budget, lock = texts[11], texts[17]
    return Order(
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4] == 1,
        numbers[5] == 1,
        _TIMES_TOLD[lives - 1],
        numbers[7] != 0,
        numbers[8],
        numbers[9],
        int(budget) if budget else 0,
        texts[12].decode(),
        numbers[13],
        numbers[14],
        numbers[10],
        filled_quote,
        _STATES[state - 1],
        _CAUSES[cause],
        int(lock) if lock else 0,
        sequence,
        time_ns,
        sequence,
        time_ns,
    )


def _trade(told: bytes, start: int, end: int) -> Trade | None:
    numbers, texts = [0] * 13, [b""] * 13
    if not fields(told, start, end, numbers, texts) or not (texts[5] and texts[6]):
        return None
    return Trade(
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4],
        int(texts[5]),
        int(texts[6]),
        numbers[7],
        numbers[8],
        int(texts[9] or 0),
        int(texts[10] or 0),
        numbers[11],
        int(texts[12] or 0),
    )


def _canceled(told: bytes, place: int, end: int) -> OrderCanceled | None:
    if place == end or told[place] != 0x0A:
        return None
    length, place = read(told, place + 1)
    numbers, texts = [0] * 18, [b""] * 18
    if place + length != end or not fields(told, place, end, numbers, texts) or numbers[16] >= len(_CAUSES):
        return None
    return OrderCanceled(numbers[1], numbers[10], _CAUSES[numbers[16]])
