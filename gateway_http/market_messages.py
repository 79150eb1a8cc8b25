"""Messages of StreamMarketData as JSON, made once for all sockets that are sent the same."""

from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from clearbook.v1 import book_service_pb2 as pb

from gateway_http.proto_json import json_value, long_json
from gateway_http.turns import Turns

CACHED_MAX: Final = 256
CACHED_BYTES_MAX: Final = 16 * 1024
"""Of one message: longer ones are snapshots, which each socket has of another moment."""
CHANNELS: Final = {"book": "order_book", "trades": "trades", "tickers": "tickers", "candles": "candles"}
"""What sockets call the channels of MarketDataSubscription."""
HEARTBEAT: Final = "heartbeat"

_NAMES: Final = {field: name for name, field in CHANNELS.items()}
_ID_TAG: Final = 0x08
_ACKNOWLEDGEMENT_TAG: Final = 0x12
_VARINT_BITS: Final = 7
_MORE: Final = 0x80


class Message(NamedTuple):
    """A serialized StreamMarketDataResponse in two.

    Attributes:
        subscription: its id; 0: it is of none.
        rest: all that follows the id, which is the same for everybody.
    """

    subscription: int
    rest: bytes

    @property
    def acknowledgement(self) -> pb.SubscriptionAcknowledgement | None:
        """What became of a subscribe or unsubscribe; None: it is another kind of message."""
        if not self.rest or self.rest[0] != _ACKNOWLEDGEMENT_TAG:
            return None
        return pb.StreamMarketDataResponse.FromString(self.rest).acknowledgement

    async def words(self, turns: Turns) -> str:
        """As it is sent. A long one is made by parts, in turn."""
        name, data = _cached(self.rest) if len(self.rest) <= CACHED_BYTES_MAX else await _long_words(self.rest, turns)
        of = f'"id":{self.subscription},' if self.subscription else ""
        return f'{{"type":"{name}",{of}"data":{data}}}'


def message_in(data: bytes) -> Message:
    """The id comes first, as the publisher writes it; if it does not, there is none."""
    if not data or data[0] != _ID_TAG:
        return Message(0, data)
    number, shift, at = 0, 0, 1
    while data[at] & _MORE:
        number |= (data[at] & ~_MORE) << shift
        shift, at = shift + _VARINT_BITS, at + 1
    return Message(number | data[at] << shift, data[at + 1 :])


def _named(rest: bytes) -> tuple[str, Any]:
    """The channel and what is said; None: by a publisher that is newer than we are."""
    message = pb.StreamMarketDataResponse.FromString(rest)
    kind = message.WhichOneof("kind")
    return ("unknown", None) if kind is None else (_NAMES.get(kind, kind), getattr(message, kind))


async def _long_words(rest: bytes, turns: Turns) -> tuple[str, str]:
    name, said = _named(rest)
    return name, "{}" if said is None else (await long_json(said, turns)).decode()


@lru_cache(maxsize=CACHED_MAX)
def _cached(rest: bytes) -> tuple[str, str]:
    name, said = _named(rest)
    return name, "{}" if said is None else msgspec.json.encode(json_value(said)).decode()
