"""JSON ↔ proto for the documented routes. Numbers never pass through float, in either direction."""

import re
from collections.abc import Sequence
from typing import Final, Literal
from urllib.parse import parse_qsl

import msgspec
from clearbook.v1 import order_service_pb2 as orders

from clearbook.book import Level
from services.errors import Reason, Rejected

BODY_BYTES_MAX: Final = 16 * 1024
NUMBER_BYTES_MAX: Final = 64
EXPONENT_MAX: Final = 40
FORM_FIELDS_MAX: Final = 100
SIGNING_FIELDS: Final = frozenset({"timestamp", "recvWindow", "signature"})

_NUMBER = re.compile(rb"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,4}))?")
_MISSING = re.compile(r"missing required field `(\w+)`")
_UNKNOWN = re.compile(r"unknown field `(.*)`")
_AT = re.compile(r"at `\$\.(\w+)`")


class OrderBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/v1/order. A price or an amount stays the bytes that the client sent."""

    order_id: str
    user_id: str
    pair: str
    order_type: Literal["limit", "market"]
    side: Literal["buy", "sell"]
    amount: msgspec.Raw
    price: msgspec.Raw = msgspec.Raw(b"null")


_decoder = msgspec.json.Decoder(OrderBody)
_strings = msgspec.json.Decoder(str)


def order_from(body: bytes) -> tuple[orders.PlaceOrderRequest, str]:
    """The documented body as a request, and its user_id.

    Raises Rejected: MALFORMED_REQUEST if it is no JSON object, INVALID_FIELD naming the field otherwise. What the
    numbers mean on a market's grid is order_gateway's to check.
    """
    try:
        order = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(Reason.MALFORMED_REQUEST, f"the body is not JSON: {error}") from None
    for field, value in (("order_id", order.order_id), ("user_id", order.user_id), ("pair", order.pair)):
        if not value:
            raise Rejected(Reason.INVALID_FIELD, f"{field} is missing", field)
    limit = order.order_type == "limit"
    request = orders.PlaceOrderRequest(
        client_order_id=order.order_id,
        market=order.pair,
        side=orders.SIDE_BUY if order.side == "buy" else orders.SIDE_SELL,
        type=orders.ORDER_TYPE_LIMIT if limit else orders.ORDER_TYPE_MARKET,
        price=decimal(bytes(order.price), "price") if limit else "",
        quantity=decimal(bytes(order.amount), "amount"),
    )
    return request, order.user_id


def form_order(body: bytes) -> bytes:
    """The documented body out of a form: the same fields as text, without what belongs to a signature.

    Raises Rejected(MALFORMED_REQUEST): it is no form, or a field is there twice.
    """
    try:
        found = parse_qsl(body.decode("ascii"), True, errors="strict", max_num_fields=FORM_FIELDS_MAX)
    except ValueError:
        raise Rejected(Reason.MALFORMED_REQUEST, "the body is not a form") from None
    fields: dict[str, str] = {}
    for name, value in found:
        if name in fields:
            raise Rejected(Reason.MALFORMED_REQUEST, "a field is there twice", name[:NUMBER_BYTES_MAX])
        fields[name] = value
    return msgspec.json.encode({name: value for name, value in fields.items() if name not in SIGNING_FIELDS})


def decimal(raw: bytes, field: str) -> str:
    """A JSON number as an exact plain decimal string; a JSON string is taken as it is.

    Exponents are written out (Python's json prints 0.00001 as 1e-05), at most 10^±40. Raises Rejected(INVALID_FIELD).
    """
    if raw == b"null":
        raise Rejected(Reason.INVALID_FIELD, f"{field} is missing", field)
    if raw.startswith(b'"') and len(raw) <= NUMBER_BYTES_MAX:
        return _strings.decode(raw)
    match = _NUMBER.fullmatch(raw) if len(raw) <= NUMBER_BYTES_MAX else None
    exponent = int(match[4] or 0) if match else 0
    if match is None or abs(exponent) > EXPONENT_MAX:
        raise Rejected(Reason.INVALID_FIELD, f"{field} is not a number that can be an amount", field)
    sign, whole, fraction = match[1].decode(), match[2].decode(), (match[3] or b"").decode()
    return sign + _shifted(whole, fraction, exponent)


def _shifted(whole: str, fraction: str, exponent: int) -> str:
    """The decimal point moved to the right by `exponent` places."""
    if exponent >= 0:
        fraction = fraction.ljust(exponent, "0")
        whole, fraction = whole + fraction[:exponent], fraction[exponent:]
    else:
        whole = whole.rjust(1 - exponent, "0")
        whole, fraction = whole[:exponent], whole[exponent:] + fraction
    return f"{whole}.{fraction}" if fraction else whole


def _invalid(message: str) -> Rejected:
    """Msgspec's complaint with the field that it is about."""
    if message.startswith("Expected `object`"):
        return Rejected(Reason.MALFORMED_REQUEST, "the body is not a JSON object")
    for pattern, text in ((_MISSING, "{} is missing"), (_UNKNOWN, "{} is no field of an order")):
        if match := pattern.search(message):
            field = match[1][:NUMBER_BYTES_MAX]
            return Rejected(Reason.INVALID_FIELD, text.format(field), field)
    at = _AT.search(message)
    field = at[1] if at else ""
    return Rejected(
        Reason.INVALID_FIELD, f"{field}: {message.split(' - at ', maxsplit=1)[0]}" if field else message, field
    )


def accepted(order_id: str) -> bytes:
    """The documented answer to an order."""
    return b'{"message":"Order submitted successfully","order_id":' + msgspec.json.encode(order_id) + b"}"


def levels(side: Sequence[Level]) -> str:
    """Levels as JSON; the strings are decimal numbers and go out as JSON numbers, digit by digit."""
    return "[" + ",".join(f'{{"price":{price},"amount":{quantity}}}' for price, quantity in side) + "]"


def order_book(bids: Sequence[Level], asks: Sequence[Level]) -> str:
    """The documented order book."""
    return f'{{"bids":{levels(bids)},"asks":{levels(asks)}}}'


def order_book_update(bids: Sequence[Level], asks: Sequence[Level]) -> str:
    """The documented WebSocket message."""
    return f'{{"type":"orderbook_update","data":{order_book(bids, asks)}}}'
