"""What Binance's spot streams and snapshots say, read exactly. Pure: text in, values out.

Prices and quantities become ints: counts of 10^-UNIT_DECIMALS. Only what the mirror needs is read; kinds of messages
that it does not know are None, as Binance adds kinds, but what is malformed is Garbage, and ends the connection.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from services.errors import Rejected
from services.units import FixedPoint

UNIT_DECIMALS: Final = 18
"""Of prices and quantities in here. Binance writes 8."""
LEVELS_MAX: Final = 5_000
"""Of one side in one message: what a snapshot can have."""

Level = tuple[int, int]
"""Price and absolute quantity, both in units; quantity zero removes."""


class Garbage(ValueError):
    """The feed sent what it never should."""


@dataclass(frozen=True)
class Change:
    """A depth update: levels that changed from update `first` to update `last`."""

    symbol: str
    time_ms: int
    first: int
    last: int
    bids: list[Level]
    asks: list[Level]


@dataclass(frozen=True)
class Quote:
    """A bookTicker: the best prices as of an update, None where a side is empty."""

    symbol: str
    update: int
    bid: int | None
    ask: int | None


@dataclass(frozen=True)
class Trade:
    """A trade."""

    symbol: str
    time_ms: int
    price: int
    quantity: int


@dataclass(frozen=True)
class Ending:
    """The server says that it will close this connection soon."""


@dataclass(frozen=True)
class Snapshot:
    """A whole book as of an update."""

    update: int
    bids: list[Level]
    asks: list[Level]


Message = Change | Quote | Trade | Ending

Texts = tuple[str, str]


class _Envelope(msgspec.Struct):
    data: msgspec.Raw


class _Kind(msgspec.Struct):
    e: str = ""


class _Depth(msgspec.Struct):
    E: int
    s: str
    U: int
    u: int
    b: list[Texts]
    a: list[Texts]


class _Ticker(msgspec.Struct):
    u: int
    s: str
    b: str
    B: str
    a: str
    A: str


class _Trade(msgspec.Struct):
    E: int
    s: str
    p: str
    q: str


class _Snapshot(msgspec.Struct, rename={"update": "lastUpdateId"}):
    update: int
    bids: list[Texts]
    asks: list[Texts]


_envelope = msgspec.json.Decoder(_Envelope)
_kind = msgspec.json.Decoder(_Kind)
_depth = msgspec.json.Decoder(_Depth)
_ticker = msgspec.json.Decoder(_Ticker)
_trade = msgspec.json.Decoder(_Trade)
_snapshot = msgspec.json.Decoder(_Snapshot)


def read(text: str | bytes) -> Message | None:
    """One message of a combined stream; None for a kind that is not known here. Raises Garbage."""
    try:
        data = _envelope.decode(text).data
        kind = _kind.decode(data).e
        if kind == "depthUpdate":
            return _change(_depth.decode(data))
        if kind == "trade":
            trade = _trade.decode(data)
            return Trade(trade.s, trade.E, units(trade.p), units(trade.q))
        if kind == "serverShutdown":
            return Ending()
        return None if kind else _quote(_ticker.decode(data))  # a bookTicker is the one that does not name its kind
    except msgspec.MsgspecError as wrong:
        raise Garbage(f"not a stream's message: {wrong}") from None


def read_snapshot(text: bytes) -> Snapshot:
    """The answer of `/api/v3/depth`. Raises Garbage."""
    try:
        read_one = _snapshot.decode(text)
    except msgspec.MsgspecError as wrong:
        raise Garbage(f"not a snapshot: {wrong}") from None
    if read_one.update <= 0:
        raise Garbage(f"a snapshot as of update {read_one.update}")
    return Snapshot(read_one.update, _levels(read_one.bids), _levels(read_one.asks))


def units(text: str) -> int:
    """A decimal string in units. Raises Garbage."""
    try:
        found = FixedPoint.parse(text, "number").scaled(UNIT_DECIMALS)
    except Rejected as wrong:
        raise Garbage(wrong.message) from None
    if found is None:
        raise Garbage(f"{text} has more than {UNIT_DECIMALS} decimals")
    return found


def _change(depth: _Depth) -> Change:
    if not 0 < depth.U <= depth.u:
        raise Garbage(f"{depth.s}: updates from {depth.U} to {depth.u}")
    return Change(depth.s, depth.E, depth.U, depth.u, _levels(depth.b), _levels(depth.a))


def _quote(ticker: _Ticker) -> Quote:
    if ticker.u <= 0:
        raise Garbage(f"{ticker.s}: a quote as of update {ticker.u}")
    bid = units(ticker.b) if units(ticker.B) else None
    ask = units(ticker.a) if units(ticker.A) else None
    return Quote(ticker.s, ticker.u, bid, ask)


def _levels(texts: list[Texts]) -> list[Level]:
    if len(texts) > LEVELS_MAX:
        raise Garbage(f"{len(texts)} levels in one message")
    levels = [(units(price), units(quantity)) for price, quantity in texts]
    if any(price == 0 for price, _ in levels):
        raise Garbage("a level without a price")
    return levels
