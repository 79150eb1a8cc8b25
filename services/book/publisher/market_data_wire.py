"""The messages of StreamMarketData: what the single streams send, each with the id of its subscription before it."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, TypeAlias

from clearbook.v1 import book_service_pb2 as pb

from services.book.publisher.wire import timestamp
from services.errors import Reason, Rejected

FIELDS = {"order_book": 3, "trades": 4, "tickers": 5, "candles": 6}
"""Each channel's field in StreamMarketDataResponse."""
State: TypeAlias = pb.SubscriptionState.ValueType
ACCEPTED, REFUSED = pb.SUBSCRIPTION_STATE_ACCEPTED, pb.SUBSCRIPTION_STATE_REFUSED
ENDED = pb.SUBSCRIPTION_STATE_ENDED
_ID_TAG = b"\x08"
_VARINT_BITS = 7

Request = pb.StreamOrderBookRequest | pb.StreamTradesRequest | pb.StreamTickersRequest | pb.StreamCandlesRequest


class Item(NamedTuple):
    """One subscription that is asked for."""

    subscription_id: int
    channel: str
    request: Request | None
    """None: it names no channel."""


class Wanted(NamedTuple):
    """What one message of the client asks for."""

    subscribe: Sequence[Item]
    unsubscribe: Sequence[int]
    heartbeat_milliseconds: int


async def wanted(requests: AsyncIterator[pb.StreamMarketDataRequest]) -> AsyncIterator[Wanted]:
    """The client's messages."""
    async for request in requests:
        items = [Item(item.id, *_asked(item)) for item in request.subscribe]
        yield Wanted(items, list(request.unsubscribe), request.heartbeat_milliseconds)


def _asked(item: pb.MarketDataSubscription) -> tuple[str, Request | None]:
    match channel := item.WhichOneof("channel"):
        case "order_book":
            return channel, item.order_book
        case "trades":
            return channel, item.trades
        case "tickers":
            return channel, item.tickers
        case "candles":
            return channel, item.candles
        case _:
            return "", None


def no_channel() -> Rejected:
    """The answer to a subscription without one."""
    return Rejected(Reason.INVALID_FIELD, f"it names no channel: one of {', '.join(FIELDS)} must be there", "channel")


def head(subscription_id: int) -> bytes:
    """How each message of a subscription begins."""
    return _ID_TAG + _varint(subscription_id)


def framed(beginning: bytes, channel: str, data: bytes) -> bytes:
    """A serialized message of a stream as one of a subscription: copied, and not serialized again."""
    return b"".join((beginning, bytes((FIELDS[channel] << 3 | 2,)), _varint(len(data)), data))


def acknowledged(subscription_id: int, state: pb.SubscriptionState.ValueType, why: Rejected | None = None) -> bytes:
    """What became of a subscribe or unsubscribe."""
    acknowledgement = pb.SubscriptionAcknowledgement(state=state)
    if why is not None:
        acknowledgement.reason, acknowledgement.message = why.reason.name, str(why)
        acknowledgement.field = why.field or ""
    return pb.StreamMarketDataResponse(id=subscription_id, acknowledgement=acknowledgement).SerializeToString()


def heartbeat(time_ns: int) -> bytes:
    """A sign of life."""
    beat = pb.MarketDataHeartbeat(event_time=timestamp(time_ns))
    return pb.StreamMarketDataResponse(heartbeat=beat).SerializeToString()


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number >> _VARINT_BITS:
        parts.append(number & 0x7F | 0x80)
        number >>= _VARINT_BITS
    parts.append(number)
    return bytes(parts)
