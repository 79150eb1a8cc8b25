"""The commonest command and events as protobuf writes them: fields in order, what is zero or empty left out. Pure.

To fill in or to read a protobuf message takes longer than to match the order. What these are can be read in
journal.proto; `wire` has all the others, and tests hold both to the same bytes.
"""

from collections.abc import Sequence
from typing import Final

from services.book.model import (
    ORDER_TYPE_LIMIT,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_DAY,
    TIME_IN_FORCE_GTC,
    Command,
    Event,
    Order,
    OrderCanceled,
    OrderPlaced,
    PlaceOrder,
    Trade,
)
from services.protobuf import INT64_MAX, SHORT, element, read, varint

BY_HAND: Final = not __file__.endswith(".py")
"""Whether this is compiled: then it takes half as long as protobuf; if not, it takes longer."""
TEXT_CHARACTERS_MAX: Final = 256


def plain_orders(commands: Sequence[bytes]) -> list[Command | None]:
    """Limit orders that ask for nothing special, from elements of a CommandBatch as protobuf writes them.

    None for anything else, and for whatever may have to be refused.
    """
    return [_plain_order(command) for command in commands]


def _plain_order(command: bytes) -> Command | None:
    _, place = read(command, 1)  # its length
    if command[place] != 0x08:
        return None
    command_id, place = read(command, place + 1)
    if place == len(command) or command[place] != 0x12:
        return None
    _, place = read(command, place + 1)
    found = [0] * 13
    text = ""
    while place < len(command):
        tag = command[place]
        value, place = read(command, place + 1)
        if tag == 0x52:
            text = command[place : place + value].decode()
            place += value
        elif tag & 0x07 or tag > 0x60 or value > INT64_MAX:
            return None
        else:
            found[tag >> 3] = value
    side, in_force = found[3], found[5]
    if (
        (side != SIDE_BUY and side != SIDE_SELL)  # noqa: PLR1714 - no tuple is made each time
        or found[4] != ORDER_TYPE_LIMIT
        or not TIME_IN_FORCE_GTC <= in_force <= TIME_IN_FORCE_DAY
        or len(text) > TEXT_CHARACTERS_MAX
    ):
        return None
    return Command(
        command_id,
        PlaceOrder(
            found[1],
            found[2],
            side,
            ORDER_TYPE_LIMIT,
            in_force,
            found[6] != 0,
            found[7],
            found[8],
            client_order_id=text,
            maker_fee_ppm=found[11],
            taker_fee_ppm=found[12],
        ),
    )


def event(told: Event) -> bytes | None:
    """An order without terms that was placed or canceled, as an element of an EventBatch; None for anything else."""
    body = told.body
    if isinstance(body, OrderPlaced):
        if body.order.place.terms is not None:
            return None
        parts = [element(_order(body.order))]
        for trade in body.trades:
            written = _trade(trade)
            parts += (b"\x12", varint(len(written)), written)
        kind, content = b"\x22", b"".join(parts)
    elif isinstance(body, OrderCanceled):
        if body.order.place.terms is not None:
            return None
        kind, content = b"\x2a", element(_order(body.order))
    else:
        return None
    head = [b"\x08", varint(told.journal_sequence)]
    if told.command_id:
        head += (b"\x10", varint(told.command_id))
    if told.market_sequence:
        head += (b"\x18", varint(told.market_sequence))
    head += (kind, varint(len(content)), content)
    return element(b"".join(head))


def _order(order: Order) -> bytes:
    place = order.place
    text, lock = place.client_order_id.encode(), b"%d" % order.lock_remaining
    parts = [b"\x08", varint(order.order_id), b"\x10", varint(place.account_id), b"\x18", varint(place.market_id)]
    parts += (b"\x20", SHORT[place.side], b"\x28", SHORT[place.type], b"\x30", SHORT[place.time_in_force])
    if place.post_only:
        parts.append(b"\x38\x01")
    if place.price_ticks:
        parts += (b"\x40", varint(place.price_ticks))
    parts += (b"\x48", varint(place.quantity_lots))
    if order.filled_lots:
        parts += (b"\x50", varint(order.filled_lots))
    if place.budget:
        budget = b"%d" % place.budget
        parts += (b"\x5a", SHORT[len(budget)], budget)
    if text:
        parts += (b"\x62", SHORT[len(text)], text)
    if place.maker_fee_ppm:
        parts += (b"\x68", varint(place.maker_fee_ppm))
    if place.taker_fee_ppm:
        parts += (b"\x70", varint(place.taker_fee_ppm))
    parts += (b"\x78", SHORT[order.state])
    if order.cancel_cause:
        parts += (b"\x80\x01", SHORT[order.cancel_cause])
    parts += (b"\x8a\x01", SHORT[len(lock)], lock)
    return b"".join(parts)


def _trade(trade: Trade) -> bytes:
    base, quote = b"%d" % trade.base_amount, b"%d" % trade.quote_amount
    maker_fee, taker_fee = b"%d" % trade.maker_fee, b"%d" % trade.taker_fee
    lock = b"%d" % trade.maker_lock_remaining
    parts = [b"\x08", varint(trade.trade_id), b"\x10", varint(trade.settlement_sequence)]
    parts += (b"\x18", varint(trade.price_ticks), b"\x20", varint(trade.quantity_lots))
    parts += (b"\x2a", SHORT[len(base)], base, b"\x32", SHORT[len(quote)], quote)
    parts += (b"\x38", varint(trade.maker_order_id), b"\x40", varint(trade.maker_account_id))
    parts += (b"\x4a", SHORT[len(maker_fee)], maker_fee, b"\x52", SHORT[len(taker_fee)], taker_fee)
    if trade.maker_remaining_lots:
        parts += (b"\x58", varint(trade.maker_remaining_lots))
    parts += (b"\x62", SHORT[len(lock)], lock)
    if trade.maker_signed:
        signed = trade.maker_signed.encode()
        parts += (b"\x6a", varint(len(signed)), signed)
    return b"".join(parts)
