"""Streams of an account: which one a channel asks for, and its messages as JSON with the names of the proto."""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import order_service_pb2 as order_pb
from clearbook.v1 import settlement_service_pb2 as settlement_pb
from google.protobuf.message import Message

from gateway_http.proto_json import json_value
from gateway_http.subscribing import Item
from services.errors import Reason, Rejected

STREAM_ACCOUNT: Final = "/clearbook.v1.AccountService/StreamAccount"
STREAM_ORDERS: Final = "/clearbook.v1.OrderService/StreamOrders"
STREAM_SETTLEMENTS: Final = "/clearbook.v1.SettlementService/StreamSettlements"


class Telling(Protocol):
    """One stream, for as long as it is asked for."""

    method: str
    """Whom it asks."""

    @property
    def request(self) -> Message:
        """What is asked when it begins, and when it has to begin again: the reader was too slow."""
        ...

    def words(self, response: bytes) -> str:
        """A serialized message as it is told; "" if it is not.

        Raises:
            Rejected: LAGGED: the stream is to begin again, for what it goes on with leaves something out.
        """
        ...


class Account:
    """All of an account. After it was too slow, its reader gets the state anew."""

    method = STREAM_ACCOUNT

    def __init__(self, after_index: int, words: Callable[[Message], str]) -> None:
        """`after_index`: what the reader has seen; `words`: a message as it is told."""
        self.request = account_pb.StreamAccountRequest(after_index=after_index)
        self._words = words

    def words(self, response: bytes) -> str:
        """See Telling. A heartbeat is not told."""
        self.request.after_index = 0
        message = account_pb.StreamAccountResponse.FromString(response)
        changed = message.balances or message.orders or message.executions or message.transfers
        return self._words(message) if message.snapshot or changed else ""


class Orders:
    """Orders, and what they trade. After it was too slow, its reader gets the state anew."""

    method = STREAM_ORDERS

    def __init__(self, market: str, words: Callable[[Message], str]) -> None:
        """`market`: its orders alone; "": of all."""
        self.request = order_pb.StreamOrdersRequest(market=market)
        self._words = words

    def words(self, response: bytes) -> str:
        """See Telling. A heartbeat is not told."""
        message = order_pb.StreamOrdersResponse.FromString(response)
        return self._words(message) if message.snapshot or message.orders or message.executions else ""


class Executions:
    """What an account trades, and nothing else. None is left out for a reader that was too slow.

    The snapshot that its stream goes on with tells nothing of what was traded before: the stream begins again where the
    reader stands.
    """

    method = STREAM_ACCOUNT

    def __init__(self, after_index: int, words: Callable[[Message], str]) -> None:
        """`after_index`: what the reader has seen; `words`: a message as it is told."""
        self.request = account_pb.StreamAccountRequest(after_index=after_index)
        self._words, self._owes_index = words, True

    def words(self, response: bytes) -> str:
        """See Telling. The first index is told in any case, and that of executions which came without: see parts."""
        message = account_pb.StreamAccountResponse.FromString(response)
        if message.lagged:
            raise Rejected(Reason.LAGGED)
        self.request.after_index = message.index or self.request.after_index
        if not (message.executions or message.snapshot or (message.index and self._owes_index)):
            return ""
        self._owes_index = not message.index
        told = account_pb.StreamAccountResponse(
            **{name: getattr(message, name) for name in ("snapshot", "index", "executions", "lagged", "account_id")}
        )
        return self._words(told)


class Settlements:
    """Every change of every settlement, everybody's. None is left out for a reader that was too slow."""

    method = STREAM_SETTLEMENTS

    def __init__(self, after_index: int, words: Callable[[Message], str]) -> None:
        """`after_index`: what the reader has seen; `words`: a message as it is told."""
        self.request = settlement_pb.StreamSettlementsRequest(after_index=after_index)
        self._words = words

    def words(self, response: bytes) -> str:
        """See Telling. A heartbeat is not told."""
        message = settlement_pb.StreamSettlementsResponse.FromString(response)
        self.request.after_index = message.index
        return self._words(message) if message.settlements else ""


def account_by_name() -> Telling:
    """The stream of who has subscribed the channel by its name."""
    return Account(0, lambda message: _said("account_update", "", message))


def telling(item: Item) -> Telling:
    """The stream of a private subscription."""

    def words(message: Message) -> str:
        return _said(item.channel, f'"id":{item.subscription},', message)

    match item.request:
        case order_pb.StreamOrdersRequest() as orders:
            return Orders(orders.market, words)
        case account_pb.StreamAccountRequest() as account:
            kind = Executions if item.channel == "executions" else Account
            return kind(account.after_index, words)
        case settlement_pb.StreamSettlementsRequest() as settlements:
            return Settlements(settlements.after_index, words)
    raise AssertionError(f"no stream for {item.channel}")


def _said(name: str, of: str, message: Message) -> str:
    return f'{{"type":"{name}",{of}"data":{msgspec.json.encode(json_value(message)).decode()}}}'
