"""Recorded exchange feeds as one kind of steps: levels to set, and trades. Pure: lines in, steps out.

Formats: Coinbase Pro level2 + matches, Kraken v1 book, Binance combined depth streams with their REST snapshots. A line
is `time: {JSON}` (what the exchange sent), `URL -> time: {JSON}` (what it answered) or something else (ignored).
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

KRAKEN_DEPTH_DEFAULT: Final = 1_000
BINANCE_QUOTES: Final = ("USDT", "USDC", "BUSD", "TUSD", "FDUSD", "EUR", "GBP", "TRY", "BTC", "ETH", "BNB")
"""Binance joins base and quote without a mark; a symbol ends with one of these."""

_LINE = re.compile(r"(?:(?P<url>https?://\S+) -> )?[0-9.]+: (?P<json>[\[{].*)")
_SYMBOL = re.compile(r"[?&]symbol=([A-Z0-9]+)")

Level = tuple[str, str]
"""Price and absolute quantity, as sent; quantity zero removes."""


@dataclass(frozen=True)
class Trade:
    """A recorded trade."""

    price: str
    quantity: str
    taker_buys: bool


@dataclass
class Step:
    """What one message, or messages of one product and time, did: the trades first, then the levels."""

    market: str
    trades: list[Trade] = field(default_factory=list)
    bids: list[Level] = field(default_factory=list)
    asks: list[Level] = field(default_factory=list)
    snapshot: bool = False
    """`bids` and `asks` are the whole book."""
    depth_max: int | None = None
    """The feed shows that many levels a side; what falls out is gone (Kraken)."""


class FeedError(ValueError):
    """The file is none of the formats, or its messages do not follow each other."""


def steps(lines: Iterable[str]) -> Iterator[Step]:
    """The steps of a recording, in order. Raises FeedError."""
    messages = _messages(lines)
    first = next((message for message in messages if _format(message[1])), None)
    if first is None:
        raise FeedError("neither Coinbase level2, nor Kraken book, nor Binance depth")
    reader = {"coinbase": _coinbase, "kraken": _kraken, "binance": _binance}[_format(first[1])]
    return reader(_chain(first, messages))


Message = tuple[str, Any]


def _messages(lines: Iterable[str]) -> Iterator[Message]:
    for line in lines:
        if match := _LINE.fullmatch(line.rstrip("\n")):
            yield match["url"] or "", json.loads(match["json"])


def _chain(first: Message, rest: Iterator[Message]) -> Iterator[Message]:
    yield first
    yield from rest


def _format(message: Any) -> str:
    """Which exchange says that; "" for what all of them could say."""
    if isinstance(message, list) and len(message) >= 4 and str(message[-2]).startswith("book-"):
        return "kraken"
    if not isinstance(message, dict):
        return ""
    if message.get("type") in {"snapshot", "l2update"}:
        return "coinbase"
    return "binance" if "lastUpdateId" in message or "@depth" in str(message.get("stream")) else ""


def _coinbase(messages: Iterator[Message]) -> Iterator[Step]:
    """Messages of one product and time are one step: Coinbase sends a match after the level-2 update that it caused."""
    waiting: dict[str, tuple[str, Step]] = {}
    for _, message in messages:
        kind, market = message.get("type"), message.get("product_id", "")
        if kind == "snapshot":
            if market in waiting:
                yield waiting.pop(market)[1]
            bids, asks = ([(level[0], level[1]) for level in message[side]] for side in ("bids", "asks"))
            yield Step(market, bids=bids, asks=asks, snapshot=True)
        elif kind in {"l2update", "match"}:
            time, step = waiting.get(market, ("", None))
            if step is None or time != message["time"]:
                if step is not None:
                    yield step
                step = Step(market)
                waiting[market] = (message["time"], step)
            _add_coinbase(step, message)
    for _, step in waiting.values():
        yield step


def _add_coinbase(step: Step, message: Any) -> None:
    if message["type"] == "match":
        # `side` is the maker's.
        step.trades.append(Trade(message["price"], message["size"], message["side"] == "sell"))
        return
    for side, price, quantity in message["changes"]:
        (step.bids if side == "buy" else step.asks).append((price, quantity))


def _kraken(messages: Iterator[Message]) -> Iterator[Step]:
    for _, message in messages:
        if _format(message) != "kraken":
            continue
        _, *parts, channel, pair = message
        step = Step(pair.replace("/", "-"), depth_max=int(channel.removeprefix("book-") or KRAKEN_DEPTH_DEFAULT))
        for part in parts:
            step.snapshot = step.snapshot or "as" in part or "bs" in part
            step.bids += [(level[0], level[1]) for level in part.get("bs", part.get("b", []))]
            step.asks += [(level[0], level[1]) for level in part.get("as", part.get("a", []))]
        yield step


def _binance(messages: Iterator[Message]) -> Iterator[Step]:
    """Binance's published procedure: buffer, snapshot, drop what is older, then U must follow u."""
    last: dict[str, int] = {}
    fresh: set[str] = set()
    buffered: dict[str, list[Any]] = {}
    for url, message in messages:
        if "lastUpdateId" in message:
            symbol = match[1] if (match := _SYMBOL.search(url)) else ""
            last[symbol] = message["lastUpdateId"]
            fresh.add(symbol)
            yield _binance_step(symbol, message["bids"], message["asks"], snapshot=True)
            ready = buffered.pop(symbol, [])
        elif "@depth" in message.get("stream", ""):
            symbol, ready = message["data"]["s"], [message["data"]]
            if symbol not in last:
                buffered.setdefault(symbol, []).extend(ready)
                continue
        else:
            continue
        for change in ready:
            if change["u"] <= last[symbol]:
                continue
            follows = change["U"] <= last[symbol] + 1 if symbol in fresh else change["U"] == last[symbol] + 1
            if not follows:
                raise FeedError(f"{symbol}: update {change['U']} does not follow {last[symbol]}")
            fresh.discard(symbol)
            last[symbol] = change["u"]
            yield _binance_step(symbol, change["b"], change["a"], snapshot=False)


def _binance_step(symbol: str, bids: list[Any], asks: list[Any], *, snapshot: bool) -> Step:
    quote = next((quote for quote in BINANCE_QUOTES if symbol.endswith(quote) and symbol != quote), None)
    if quote is None:
        raise FeedError(f"{symbol}: which part of it is the quote asset?")
    market = f"{symbol.removesuffix(quote)}-{quote}"
    return Step(market, bids=[(b[0], b[1]) for b in bids], asks=[(a[0], a[1]) for a in asks], snapshot=snapshot)
