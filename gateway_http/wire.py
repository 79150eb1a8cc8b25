"""JSON ↔ proto for the documented routes, byte for byte. Numbers never pass through float, in either direction."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec
from clearbook.v1 import order_service_pb2 as orders

from clearbook.book import Level
from gateway_http.decimals import NULL, NUMBER_BYTES_MAX, decimal
from gateway_http.json_proto import short_names
from gateway_http.parameters import texts_in
from services.errors import Reason, Rejected

T = TypeVar("T")

BODY_BYTES_MAX: Final = 16 * 1024
FLAGS: Final = frozenset({"post_only"})
SIGNING_FIELDS: Final = frozenset({"timestamp", "recvWindow", "signature"})

_MISSING = re.compile(r"missing required field `(\w+)`")
_UNKNOWN = re.compile(r"unknown field `(.*)`")
_AT = re.compile(r"at `\$\.(\w+)`")
UNSET: Final = msgspec.Raw(NULL)


class OrderBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/v1/order. A price or an amount stays the bytes that the client sent.

    Beyond the documented fields: what an order can ask for, by the names of PlaceOrderRequest. Enums lack what all of
    their names in the proto begin with.
    """

    order_id: str
    user_id: str
    pair: str
    order_type: str
    side: Literal["buy", "sell"]
    amount: msgspec.Raw
    price: msgspec.Raw = UNSET
    time_in_force: str | None = None
    post_only: bool = False
    post_only_mode: str | None = None
    self_trade_prevention: str | None = None
    trigger_source: str | None = None
    expire_time: str | None = None
    trigger_price: msgspec.Raw = UNSET
    trail: msgspec.Raw = UNSET
    display_quantity: msgspec.Raw = UNSET
    min_quantity: msgspec.Raw = UNSET
    quote_budget: msgspec.Raw = UNSET


class Kind(NamedTuple):
    """What an order_type means."""

    limit: bool
    trigger: orders.Trigger.ValueType = orders.TRIGGER_UNSPECIFIED
    post_only: bool = False


KINDS: Final = {
    "limit": Kind(limit=True),
    "market": Kind(limit=False),
    "limit_maker": Kind(limit=True, post_only=True),
    "stop_loss": Kind(limit=False, trigger=orders.TRIGGER_STOP),
    "stop_loss_limit": Kind(limit=True, trigger=orders.TRIGGER_STOP),
    "take_profit": Kind(limit=False, trigger=orders.TRIGGER_TAKE_PROFIT),
    "take_profit_limit": Kind(limit=True, trigger=orders.TRIGGER_TAKE_PROFIT),
    "trailing_stop": Kind(limit=False, trigger=orders.TRIGGER_TRAILING),
    "trailing_stop_limit": Kind(limit=True, trigger=orders.TRIGGER_TRAILING),
}
"""By order_type, as Binance calls them."""
ENUMS: Final = {
    "time_in_force": short_names(orders.TimeInForce.DESCRIPTOR),
    "post_only_mode": short_names(orders.PostOnlyMode.DESCRIPTOR),
    "self_trade_prevention": short_names(orders.SelfTradePrevention.DESCRIPTOR),
    "trigger_source": short_names(orders.TriggerSource.DESCRIPTOR),
}
"""By field, what it may be."""
NUMBERS: Final = ("trigger_price", "trail", "display_quantity", "min_quantity", "quote_budget")

_decoder = msgspec.json.Decoder(OrderBody)


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
    kind = _named(order.order_type, "order_type", KINDS)
    request = orders.PlaceOrderRequest(
        client_order_id=order.order_id,
        market=order.pair,
        side=orders.SIDE_BUY if order.side == "buy" else orders.SIDE_SELL,
        type=orders.ORDER_TYPE_LIMIT if kind.limit else orders.ORDER_TYPE_MARKET,
        price=decimal(bytes(order.price), "price") if kind.limit else "",
        quantity=decimal(bytes(order.amount), "amount"),
        post_only=order.post_only or kind.post_only,
        trigger=kind.trigger,
    )
    for field, values in ENUMS.items():
        if (name := getattr(order, field)) is not None:
            setattr(request, field, _named(name, field, values))
    for field in NUMBERS:
        if (raw := getattr(order, field)) is not UNSET and bytes(raw) != NULL:
            setattr(request, field, decimal(bytes(raw), field))
    if order.expire_time is not None:
        try:
            request.expire_time.FromJsonString(order.expire_time)
        except ValueError:
            raise Rejected(Reason.INVALID_FIELD, "expire_time is no time of RFC 3339", "expire_time") from None
    return request, order.user_id


def _named(name: str, field: str, values: Mapping[str, T]) -> T:
    value = values.get(name)
    if value is None:
        raise Rejected(Reason.INVALID_FIELD, f"{field} must be one of {', '.join(values)}", field)
    return value


def form_order(body: bytes) -> bytes:
    """The documented body out of a form: the same fields as text, without what belongs to a signature.

    Raises Rejected(MALFORMED_REQUEST): it is no form, or a field is there twice.
    """
    fields: dict[str, str] = {}
    for name, value in texts_in(body, "the body is not a form"):
        if name in fields:
            raise Rejected(Reason.MALFORMED_REQUEST, "a field is there twice", name[:NUMBER_BYTES_MAX])
        fields[name] = value
    flags = {name: fields.pop(name) == "true" for name in FLAGS if fields.get(name) in {"true", "false"}}
    return msgspec.json.encode({name: value for name, value in fields.items() if name not in SIGNING_FIELDS} | flags)


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
