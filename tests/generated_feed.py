"""A made-up exchange that records itself: files in Coinbase's and Kraken's formats, and what is true at their end.

The truth is kept here, apart from the code that reads such files. Seeded: the same seed is the same recording.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

KRAKEN_DEPTH = 10
START_PRICE = 50_000
LEVELS_AT_START = 12
SWEEP_LEVELS_MAX = 3

Level = tuple[str, str]
TapeEntry = tuple[str, str, bool]
"""Price, quantity, whether the taker bought."""


@dataclass
class MadeMarket:
    """One market of the made-up exchange: price and quantity as counts of its last decimals."""

    name: str
    price_decimals: int
    quantity_decimals: int
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    tape: list[tuple[int, int, bool]] = field(default_factory=list)

    def price(self, ticks: int) -> str:
        return _decimal(ticks, self.price_decimals)

    def quantity(self, lots: int) -> str:
        return _decimal(lots, self.quantity_decimals)

    def side(self, *, buys: bool) -> dict[int, int]:
        return self.bids if buys else self.asks

    def best(self, *, buys: bool) -> list[int]:
        """Prices, best first."""
        return sorted(self.side(buys=buys), reverse=buys)


@dataclass
class Recording:
    """The lines of a file, and what a reader must find at the end of it."""

    lines: list[str]
    books: dict[str, tuple[dict[str, str], dict[str, str]]]
    """Market to bids and asks, price to quantity."""
    tapes: dict[str, list[TapeEntry]]

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


def coinbase(seed: int, groups: int, markets: int = 2) -> Recording:
    """A level2 + matches recording with `groups` same-time groups after the snapshots."""
    rng = random.Random(seed)
    made = _markets(rng, markets, "COIN")
    lines = ["wss://feed <-> 1.0", 'wss://feed <- 1.1: {"type":"subscribe"}', '1.2: {"type":"subscriptions"}']
    for market in made:
        lines.append(_line({"type": "last_match", "product_id": market.name, "price": "1", "size": "1", "time": "0"}))
        lines.append(_line(_coinbase_snapshot(market)))
    for number in range(groups):
        market = rng.choice(made)
        time = f"2021-04-17T16:43:{number:09d}Z"
        messages = list(_coinbase_group(rng, market, time))
        lines += [_line({**message, "product_id": market.name, "time": time}) for message in messages]
    return _recording(lines, made)


def _coinbase_snapshot(market: MadeMarket) -> dict[str, object]:
    sides = {
        name: [[market.price(p), market.quantity(market.side(buys=buys)[p])] for p in market.best(buys=buys)]
        for name, buys in (("asks", False), ("bids", True))
    }
    return {"type": "snapshot", "product_id": market.name, **sides}


def _coinbase_group(rng: random.Random, market: MadeMarket, time: str) -> Iterator[dict[str, object]]:
    """Level-2 updates, each followed by the matches that caused it; all bear one time."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        changed: list[tuple[bool, int]] = []
        trades: list[tuple[int, int, bool]] = []
        if rng.random() < 0.4:
            changed, trades = _sweep(rng, market)
        else:
            changed = [_set_level(rng, market)]
        changes = [
            ["buy" if buys else "sell", market.price(price), market.quantity(market.side(buys=buys).get(price, 0))]
            for buys, price in changed
        ]
        yield {"type": "l2update", "changes": changes}
        for price, quantity, taker_buys in trades:
            maker = "sell" if taker_buys else "buy"
            # Coinbase writes matches with fewer zeros than levels.
            size = market.quantity(quantity)
            size = size.rstrip("0").rstrip(".") if "." in size else size
            yield {"type": "match", "side": maker, "price": market.price(price), "size": size}
        if rng.random() < 0.2:
            yield {"type": "ticker", "price": "1"}


def kraken(seed: int, changes: int, markets: int = 2) -> Recording:
    """A book recording of limited depth: what falls out is not said, what comes back in is."""
    rng = random.Random(seed)
    made = _markets(rng, markets, "KRAK")
    lines = ['1.2: {"event":"systemStatus"}', '1.3: {"event":"heartbeat"}']
    shown: dict[str, dict[bool, dict[int, int]]] = {}
    for market in made:
        shown[market.name] = _top(market)
        part = {key: _kraken_levels(market, shown[market.name][key == "bs"]) for key in ("as", "bs")}
        lines.append(_line([1, part, f"book-{KRAKEN_DEPTH}", market.name.replace("-", "/")]))
    for _ in range(changes):
        market = rng.choice(made)
        if rng.random() < 0.3:
            _sweep(rng, market)
            market.tape.clear()  # the book channel knows no trades
        else:
            _set_level(rng, market)
        before, after = shown[market.name], _top(market)
        shown[market.name] = after
        parts = [
            {key: diff} for key, buys in (("a", False), ("b", True)) if (diff := _diff(market, buys, before, after))
        ]
        if parts:
            lines.append(_line([1, *parts, f"book-{KRAKEN_DEPTH}", market.name.replace("-", "/")]))
    for market in made:
        market.bids, market.asks = shown[market.name][True], shown[market.name][False]
    return _recording(lines, made)


def _top(market: MadeMarket) -> dict[bool, dict[int, int]]:
    return {
        buys: {price: market.side(buys=buys)[price] for price in market.best(buys=buys)[:KRAKEN_DEPTH]}
        for buys in (True, False)
    }


def _diff(
    market: MadeMarket, buys: bool, before: dict[bool, dict[int, int]], after: dict[bool, dict[int, int]]
) -> list[list[str]]:
    """What Kraken sends: new and changed levels, and removed ones that were not merely pushed out."""
    old, new = before[buys], after[buys]
    levels = {price: quantity for price, quantity in new.items() if old.get(price) != quantity}
    gone = {price: 0 for price in old.keys() - new.keys() if price not in market.side(buys=buys)}
    return _kraken_levels(market, gone | levels)


def _kraken_levels(market: MadeMarket, levels: dict[int, int]) -> list[list[str]]:
    return [[market.price(price), market.quantity(quantity), "1.0"] for price, quantity in levels.items()]


def _markets(rng: random.Random, count: int, prefix: str) -> list[MadeMarket]:
    made = []
    for number in range(count):
        market = MadeMarket(f"{prefix}{number}-QUOTE{number}", rng.choice((0, 2, 5)), rng.choice((0, 3, 8)))
        for step in range(1, LEVELS_AT_START + 1):
            market.bids[START_PRICE - step * rng.randint(1, 3)] = rng.randint(1, 2_000)
            market.asks[START_PRICE + step * rng.randint(1, 3)] = rng.randint(1, 2_000)
        made.append(market)
    return made


def _set_level(rng: random.Random, market: MadeMarket) -> tuple[bool, int]:
    """Somebody places, changes or cancels: one level that does not cross."""
    buys = rng.random() < 0.5
    side, other = market.best(buys=buys), market.best(buys=not buys)
    if side and rng.random() < 0.4:
        price = rng.choice(side)
    else:
        anchor = other[0] if other else START_PRICE
        price = anchor - rng.randint(1, 25) if buys else anchor + rng.randint(1, 25)
    if price in market.side(buys=buys) and rng.random() < 0.5 and len(side) > 2:
        del market.side(buys=buys)[price]
    else:
        market.side(buys=buys)[price] = rng.randint(1, 2_000)
    return buys, price


def _sweep(rng: random.Random, market: MadeMarket) -> tuple[list[tuple[bool, int]], list[tuple[int, int, bool]]]:
    """A taker takes the best level, or a few, or a part; a level may hold several orders, hence several trades."""
    taker_buys = rng.random() < 0.5
    makers = market.side(buys=not taker_buys)
    changed: list[tuple[bool, int]] = []
    trades: list[tuple[int, int, bool]] = []
    for price in market.best(buys=not taker_buys)[: rng.randint(1, SWEEP_LEVELS_MAX)]:
        left = makers[price]
        taken = left if rng.random() < 0.6 else rng.randint(1, left)
        first = rng.randint(1, taken)
        trades += [(price, quantity, taker_buys) for quantity in (first, taken - first) if quantity]
        changed.append((not taker_buys, price))
        if taken == left:
            del makers[price]
        else:
            makers[price] = left - taken
            break
    market.tape += trades
    return changed, trades


def _recording(lines: list[str], made: list[MadeMarket]) -> Recording:
    def book(market: MadeMarket, side: dict[int, int]) -> dict[str, str]:
        return {market.price(price): market.quantity(quantity) for price, quantity in side.items()}

    return Recording(
        lines,
        {market.name: (book(market, market.bids), book(market, market.asks)) for market in made},
        {market.name: [(market.price(p), market.quantity(q), b) for p, q, b in market.tape] for market in made},
    )


def _line(message: object) -> str:
    return f"1618677817.1: {json.dumps(message, separators=(',', ':'))}"


def _decimal(value: int, decimals: int) -> str:
    if not decimals:
        return str(value)
    digits = str(value).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}"
