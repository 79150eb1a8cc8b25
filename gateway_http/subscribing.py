"""What a socket asks to subscribe: items of an id, a channel, and the fields of that channel's request."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import order_service_pb2 as order_pb
from clearbook.v1 import settlement_service_pb2 as settlement_pb
from google.protobuf.message import Message

from gateway_http.json_proto import fill, read_as
from gateway_http.market_messages import CHANNELS
from gateway_http.proto_json import json_value
from services.errors import Reason, Rejected

ID_MAX: Final = 2**32 - 1
NO_ID: Final = 0
ITEMS_MAX: Final = 256
"""Of one request."""
DIGITS_MAX: Final = len(str(ID_MAX))
"""Of a whole number; of more than some thousand digits Python makes none."""
NAME_CHARS_SHOWN_MAX: Final = 32

PRIVATE: Final[Mapping[str, type[Message]]] = {
    "account": account_pb.StreamAccountRequest,
    "orders": order_pb.StreamOrdersRequest,
    "executions": account_pb.StreamAccountRequest,
    "settlements": settlement_pb.StreamSettlementsRequest,
}
"""Channels of who is logged on, and what is asked for each."""

Params = dict[str, msgspec.Raw]


class Item(NamedTuple):
    """One subscription that is asked for.

    Attributes:
        subscription: its id, which the client chose; NO_ID: it has none that can be used, so it is refused.
        channel: its name.
        request: what is asked: of a private channel its stream's request, else a MarketDataSubscription.
        refusal: why it cannot be asked.
    """

    subscription: int
    channel: str
    request: Message | None = None
    refusal: Rejected | None = None


def items_in(params: Params) -> list[Item]:
    """The items of `subscriptions`.

    Raises:
        Rejected: INVALID_FIELD: it is no list, of too many, or of something else than objects.
    """
    given = _list(params)
    return [_item(fields, f"subscriptions[{place}]") for place, fields in enumerate(given)]


def ids_in(params: Params) -> list[int]:
    """The ids of `subscriptions`. Raises Rejected(INVALID_FIELD)."""
    return [_id(raw, f"subscriptions[{place}]") for place, raw in enumerate(_list(params))]


def heartbeat_ms(params: Params) -> int:
    """After how much silence there is a heartbeat, as it is asked for; 0: it is not. Raises Rejected(INVALID_FIELD)."""
    found = _whole(bytes(params.get("heartbeat_milliseconds", b"0")))
    if found is None:
        field = "heartbeat_milliseconds"
        raise Rejected(Reason.INVALID_FIELD, f"{field} must be a whole number", field)
    return found


def check_only(params: Params, *names: str) -> None:
    """Raises Rejected(INVALID_FIELD) for what is there beyond these."""
    for name in params.keys() - set(names):
        shown = name[:NAME_CHARS_SHOWN_MAX]
        raise Rejected(Reason.INVALID_FIELD, f"{shown} is no field here; there are {', '.join(names)}", shown)


def acknowledged(subscription: int, answer: book_pb.SubscriptionAcknowledgement) -> dict[str, Any]:
    """What became of an item, as the client is told it."""
    return {"id": subscription} | json_value(answer)


def refused(why: Rejected) -> book_pb.SubscriptionAcknowledgement:
    """The acknowledgement of an item that is refused."""
    return book_pb.SubscriptionAcknowledgement(
        state=book_pb.SUBSCRIPTION_STATE_REFUSED, reason=why.reason.name, message=why.message, field=why.field or ""
    )


def _list(params: Params) -> list[msgspec.Raw]:
    given = read_as(list[msgspec.Raw], params["subscriptions"]) or []
    if not 0 < len(given) <= ITEMS_MAX:
        raise Rejected(Reason.INVALID_FIELD, f"subscriptions must be 1 to {ITEMS_MAX} items", "subscriptions")
    return given


def _id(raw: msgspec.Raw, place: str) -> int:
    found = _whole(bytes(raw))
    if not found:
        raise Rejected(Reason.INVALID_FIELD, f"{place} must be a whole number from 1 to {ID_MAX}", place)
    return found


def _whole(text: bytes) -> int | None:
    """A whole number up to ID_MAX."""
    if not text.isdigit() or len(text) > DIGITS_MAX:
        return None
    return found if (found := int(text)) <= ID_MAX else None


def _item(raw: msgspec.Raw, place: str) -> Item:
    fields = read_as(dict[str, msgspec.Raw], raw)
    if fields is None:
        raise Rejected(Reason.INVALID_FIELD, f"{place} must be an object", place)
    subscription = NO_ID
    try:
        subscription = _id(fields.pop("id", msgspec.Raw(b"")), "id")
        channel = _channel(fields.pop("channel", msgspec.Raw(b'""')))
        return Item(subscription, channel, _request(subscription, channel, fields))
    except Rejected as why:
        return Item(subscription, "", refusal=why)


def _channel(raw: msgspec.Raw) -> str:
    channel = read_as(str, raw)
    if channel is None:
        raise Rejected(Reason.INVALID_FIELD, "channel must be a string", "channel")
    return channel


def _request(subscription: int, channel: str, fields: Params) -> Message:
    if channel in PRIVATE:
        request = PRIVATE[channel]()
        fill(request, fields)
        return request
    if channel not in CHANNELS:
        known = ", ".join([*CHANNELS, *PRIVATE])
        raise Rejected(Reason.INVALID_FIELD, f"channel must be one of {known}", "channel")
    wanted = book_pb.MarketDataSubscription(id=subscription)
    asked: Message = getattr(wanted, CHANNELS[channel])
    asked.SetInParent()
    fill(asked, fields)
    return wanted
