"""Feeds played through the public API: our books become theirs, our tapes hold their trades; and the check can fail."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from clearbook.v1 import book_service_pb2 as book
from clearbook.v1 import order_service_pb2 as orders

from services.cli.clients import Clients
from services.cli.replay import MIRROR, Replay
from tests import generated_feed, processes
from tests.generated_feed import Recording
from tests.recordings import RECORDED
from tests.suite import Suite, fresh_symbol, user

GROUPS = 120
PAGE_TRADES = 1_000


def written(folder: Path, recording: Recording) -> Recording:
    """The recording in a file, with market names that nobody has used."""
    names = {name: f"{fresh_symbol()}-{fresh_symbol()}" for name in recording.books}
    lines = recording.lines
    for old, new in names.items():
        lines = [line.replace(old, new).replace(old.replace("-", "/"), new.replace("-", "/")) for line in lines]
    renamed = Recording(
        lines,
        {names[name]: truth for name, truth in recording.books.items()},
        {names[name]: tape for name, tape in recording.tapes.items()},
    )
    (folder / "feed.ws").write_text(renamed.text)
    return renamed


def command(suite: Suite, *files: Path) -> subprocess.CompletedProcess[str]:
    """`clearbook replay`, as its user runs it."""
    addresses = ["--gateway", suite.gateway, "--publisher", suite.publisher]
    return processes.run([*processes.COMMAND, "replay", *map(str, files), *addresses], os.environ, 280)


async def shown(suite: Suite, name: str) -> tuple[list[dict[str, str]], list[tuple[str, str, bool]]]:
    """Book and tape of a market, read here once more through public RPCs."""
    async with suite.clients() as clients:
        asked = book.GetOrderBookRequest(market=name, depth=5_000)
        found = await clients.book.GetOrderBook(asked, timeout=10)
        tape = await clients.book.ListTrades(book.ListTradesRequest(market=name, page_size=PAGE_TRADES), timeout=10)
    sides = [{level.price: level.quantity for level in side} for side in (found.bids, found.asks)]
    trades = [(t.price, t.quantity, t.taker_side == book.TAKER_SIDE_BUY) for t in reversed(tape.trades)]
    return sides, trades


def plain(number: str) -> str:
    """Without trailing zeros."""
    return number.rstrip("0").rstrip(".") if "." in number else number


@pytest.mark.parametrize("make", [generated_feed.coinbase, generated_feed.kraken])
async def test_a_made_up_feed(suite: Suite, tmp_path: Path, make: Callable[[int, int], Recording]) -> None:
    recording = written(tmp_path, make(7, GROUPS))
    done = command(suite, tmp_path / "feed.ws")
    assert done.returncode == 0, done.stdout + done.stderr
    trades = sum(map(len, recording.tapes.values()))
    assert re.search(rf"2 markets, \d+ levels, {trades} trades, \d+ orders:\s+0 differences", done.stdout)
    for name, sides in recording.books.items():
        found, tape = await shown(suite, name)
        plainly = [{plain(price): plain(quantity) for price, quantity in side.items()} for side in found]
        assert plainly == [{plain(p): plain(q) for p, q in side.items()} for side in sides]
        assert [(plain(p), plain(q), b) for p, q, b in tape] == [
            (plain(p), plain(q), b) for p, q, b in recording.tapes[name]
        ]
    assert trades or make is generated_feed.kraken


async def test_a_feed_can_be_played_twice(embedded: Suite, tmp_path: Path) -> None:
    written(tmp_path, generated_feed.coinbase(8, 20))
    for _ in range(2):
        done = command(embedded, tmp_path / "feed.ws")
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_no_feed_is_one_clear_line(embedded: Suite, tmp_path: Path) -> None:
    (tmp_path / "feed.ws").write_text("hello\n")
    done = command(embedded, tmp_path / "feed.ws")
    assert (done.returncode, done.stderr) == (1, "")
    assert "neither Coinbase level2, nor Kraken book, nor Binance depth" in done.stdout


def test_a_market_with_other_steps_is_one_clear_line(embedded: Suite, tmp_path: Path) -> None:
    feed = generated_feed.coinbase(9, 5, markets=1)
    (tmp_path / "feed.ws").write_text(feed.text.replace("COIN0-QUOTE0", "ETH-BTC"))
    done = command(embedded, tmp_path / "feed.ws")
    assert (done.returncode, done.stderr) == (1, "")
    assert "ALREADY_EXISTS" in done.stdout


@pytest.fixture
async def played(embedded: Suite, tmp_path: Path) -> AsyncIterator[Replay]:
    """A replay whose comparison is yet to come."""
    written(tmp_path, generated_feed.coinbase(10, 30, markets=1))
    async with Clients.to(embedded.gateway, embedded.publisher) as clients:
        replay = Replay([tmp_path / "feed.ws"], clients)
        await replay.prepare()
        await replay.play(lambda: None)
        yield replay


async def test_the_comparison_finds_a_missing_order(played: Replay, embedded: Suite) -> None:
    (market,) = played.markets
    async with embedded.clients() as clients:
        mine = orders.ListOrdersRequest(market=market, open_only=True, page_size=1)
        (order,) = (await clients.orders.ListOrders(mine, metadata=user(MIRROR), timeout=10)).orders
        cancel = orders.CancelOrderRequest(order_id=order.order_id)
        await clients.orders.CancelOrder(cancel, metadata=user(MIRROR), timeout=10)
    (difference,) = (await played.compare()).differences
    assert order.price in difference
    assert difference.endswith("we have None")


def resize_best(side: dict[int, int]) -> None:
    side[max(side)] += 1


def flip_last(tape: list[tuple[str, str, bool]]) -> None:
    price, quantity, taker_buys = tape.pop()
    tape.append((price, quantity, not taker_buys))


SPOILED: dict[str, Callable[[Replay], None]] = {
    "a level of another size": lambda replay: spoil_book(replay, resize_best),
    "a level too many": lambda replay: spoil_book(replay, lambda side: side.update({1: 1})),
    "a level too few": lambda replay: spoil_book(replay, lambda side: side.pop(min(side))),
    "a trade too many": lambda replay: spoil_tape(replay, lambda tape: tape.append(tape[-1])),
    "a trade too few": lambda replay: spoil_tape(replay, lambda tape: tape.pop()),
    "trades in another order": lambda replay: spoil_tape(replay, lambda tape: tape.reverse()),
    "a trade of the other side": lambda replay: spoil_tape(replay, flip_last),
}


def spoil_book(replay: Replay, spoil: Callable[[dict[int, int]], object]) -> None:
    (market,) = replay.markets.values()
    spoil(market.plan.wanted[True])


def spoil_tape(replay: Replay, spoil: Callable[[list[tuple[str, str, bool]]], object]) -> None:
    (market,) = replay.markets.values()
    spoil(market.trades)


async def test_the_comparison_finds_every_kind_of_difference(played: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.replay.CATCH_UP_SECONDS_MAX", 0.0)
    (market,) = played.markets.values()
    assert (await played.compare()).differences == []
    assert len({trade[:2] for trade in market.trades}) > 1
    true_bids, true_trades = dict(market.plan.wanted[True]), list(market.trades)
    for name, spoil in SPOILED.items():
        spoil(played)
        assert len((await played.compare()).differences) == 1, name
        market.plan.wanted[True], market.trades = dict(true_bids), list(true_trades)
        played.summary.differences.clear()


RECORDINGS = {
    "coinbase": (["coinbase-2021-04-17-level2-matches.ws.xz"], 10, 97),
    "kraken": (["kraken-2021-04-17-book1000.ws.xz"], 10, 0),
    "binance": (["binance-2021-10-12-depth100ms.ws.xz", "binance-2021-10-12-depth-snapshots.http.xz"], 4, 0),
}


@pytest.mark.recorded_feeds
@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_feeds(embedded: Suite, name: str) -> None:
    files, markets, trades = RECORDINGS[name]
    done = command(embedded, *(RECORDED / file for file in files))
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    assert re.search(rf"{markets} markets, \d+ levels, {trades} trades, \d+ orders:\s+0 differences", done.stdout)
