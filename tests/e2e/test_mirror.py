"""`clearbook mirror` in the running exchange: its quotes follow the outside's book, and go when they should."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from clearbook.v1 import admin_service_pb2 as admin
from clearbook.v1 import order_service_pb2 as pb

from clearbook.client import Client
from services.cli.health import serving
from services.depth import Depth
from services.mirror.__main__ import NAME, Mirror, MirrorSettings
from services.mirror.messages import units
from services.mirror.quotes import Grid, Terms, wanted
from services.runtime.run import Closing
from tests import binance_server, processes
from tests.binance_server import SYMBOL, BinanceServer, Event
from tests.e2e.conftest import Traded
from tests.suite import ADMIN, Clients, Suite, free_ports, until

SECONDS_MAX = 30.0
SILENT_MS = 700
NOTIONAL = "90000"
GRID = Grid(units("0.01"), units("0.00001"))
TERMS = Terms(levels=5, share_ppm=100_000, spread_bps=10, notional_max=units(NOTIONAL))


class Quoted:
    """The outside's server, and what the mirror's account has open with us."""

    def __init__(self, server: BinanceServer, events: Iterator[Event], client: Client, market: Traded) -> None:
        self.server, self.client, self.market = server, client, market
        self._events = events

    async def play(self, count: int = 1) -> None:
        await self.server.play(*itertools.islice(self._events, count))

    async def open(self) -> dict[tuple[bool, int], int]:
        """Price in ticks and what is left, in lots."""
        found = await self.client.open_orders(self.market.pair)
        quotes: dict[tuple[bool, int], int] = {}
        for order in found:
            left = units(order.quantity) - units(order.filled_quantity)
            quotes[order.side == pb.SIDE_BUY, units(order.price) // GRID.tick] = left // GRID.lot
        assert len(quotes) == len(found), "two quotes of one price"
        return quotes

    def goal(self) -> dict[tuple[bool, int], int]:
        """What the quotes should be, by the server's book."""
        depth = Depth()
        for buys, side in ((True, self.server.sides["b"]), (False, self.server.sides["a"])):
            for price, quantity in side.items():
                depth.put(buys, units(price), units(quantity))
        found = wanted(depth, GRID, TERMS)
        assert {buys for buys, _ in found} == {True, False}
        return found

    def best(self) -> tuple[str, str]:
        """The server's best prices."""
        return max(self.server.sides["b"], key=float), min(self.server.sides["a"], key=float)

    async def quote(self) -> None:
        """The server says what its best prices are."""
        bid, ask = self.best()
        await self.server.send({"u": self.server.update, "s": SYMBOL, "b": bid, "B": "1", "a": ask, "A": "1"})

    async def follow(self) -> None:
        """Waits until the quotes are as the server's book has them; the server goes on saying that it is there."""

        async def do() -> bool:
            await self.quote()
            found, goal = await self.open(), self.goal()
            return found.keys() == goal.keys() and all(
                goal[key] / 2 <= left <= goal[key] for key, left in found.items()
            )

        await until(do, SECONDS_MAX, "the quotes follow")

    async def gone(self) -> None:
        async def are() -> bool:
            return not await self.open()

        await until(are, SECONDS_MAX, "the quotes are gone")


def settings(suite: Suite, server: BinanceServer, market: Traded, **more: Any) -> dict[str, Any]:
    return {
        "mirror_address": "127.0.0.1:0",
        "metrics_port": 0,
        "gateway_address": suite.gateway,
        "publisher_address": suite.publisher,
        "mirror_stream_url": server.url.replace("http", "ws", 1),
        "mirror_rest_url": server.url,
        "mirror_markets": f"{market.pair}={SYMBOL}:{NOTIONAL}",
        "mirror_user": market.seller,
        "mirror_silent_ms": SILENT_MS,
        **more,
    }


@pytest.fixture
async def quoted(suite: Suite, clients: Clients, market: Traded) -> AsyncIterator[Quoted]:
    given = {"user": market.seller, "asset": "USD", "amount": "1000000", "reason": "a test"}
    grant = admin.GrantFundsRequest(transfer_id=f"{market.base}-mirror", **given)
    await clients.admin.GrantFunds(grant, metadata=ADMIN, timeout=20)
    snapshot, events = binance_server.made(9)
    async with (
        binance_server.running(snapshot) as server,
        Client(suite.gateway, suite.publisher, user=market.seller) as client,
    ):
        made = Quoted(server, events, client, market)

        async def listed() -> bool:
            return market.pair in await client.markets()

        await until(listed, SECONDS_MAX, "the publisher knows the market")
        yield made


@asynccontextmanager
async def mirroring(given: dict[str, Any]) -> AsyncIterator[Mirror]:
    mirror, closing = Mirror(MirrorSettings.load(**given)), Closing()
    work = asyncio.create_task(mirror.run(closing))
    try:
        yield mirror
        assert not work.done(), work
    finally:
        closing.set()
        async with asyncio.timeout(SECONDS_MAX):
            await work


async def healthy(port: int, service: str, *, expected: bool = True) -> None:
    async def says() -> bool:
        return await serving(f"127.0.0.1:{port}", service) is expected

    await until(says, SECONDS_MAX, f"{service}: {expected}")


async def test_quotes_follow_the_outside_and_go_when_it_is_not_to_be_believed(
    suite: Suite, market: Traded, quoted: Quoted
) -> None:
    left_behind = await quoted.client.place_order(market.pair, "sell", quantity="1", price="90000")
    async with mirroring(settings(suite, quoted.server, market)) as mirror:
        await quoted.follow()
        old = await quoted.client.get_order(left_behind.order.client_order_id)
        assert old.order.state == pb.ORDER_STATE_CANCELED, "it begins with what one that was killed has left"
        await healthy(mirror.port, f"{NAME}/{market.pair}")
        for _ in range(5):
            await quoted.play(3)
            await quoted.follow()
        async with Client(suite.gateway, suite.publisher, user=market.buyer) as taker:
            assert (await taker.place_order(market.pair, "buy", quantity="0.5")).executions
        await quoted.follow()  # what was taken is there again
        await quoted.gone()  # nobody says anything any more
        await healthy(mirror.port, NAME, expected=False)
        await quoted.play()
        await quoted.follow()
        quoted.server.stale = [{"lastUpdateId": 1, "bids": [], "asks": []}] * 3
        lost = next(quoted._events)
        quoted.server.apply(lost)
        await quoted.play()  # a gap, and no snapshot that closes it
        await quoted.gone()
        await quoted.play()
        await quoted.follow()
    assert not await quoted.open(), "who ends in order leaves nothing"


async def test_quotes_go_with_a_mirror_that_is_killed(
    suite: Suite, market: Traded, quoted: Quoted, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    given = settings(suite, quoted.server, market, mirror_address=f"127.0.0.1:{port}", mirror_silent_ms=60_000)
    env = os.environ | {name.upper(): str(value) for name, value in given.items()}
    with (tmp_path / "mirror.log").open("wb") as log:
        child = processes.start([*processes.COMMAND, "mirror"], env, log)
    try:
        await quoted.follow()
        await healthy(port, NAME)
        ids = [order.client_order_id for order in await quoted.client.open_orders(market.pair)]
    finally:
        child.kill()
        await asyncio.to_thread(child.wait)
    await quoted.gone()
    ended = [(await quoted.client.get_order(name)).order.cancel_cause for name in ids]
    assert set(ended) <= {pb.CANCEL_CAUSE_DISCONNECT, pb.CANCEL_CAUSE_CANCEL_AFTER}


async def test_what_the_outside_says_is_the_reference_price(suite: Suite, market: Traded, quoted: Quoted) -> None:
    told = settings(suite, quoted.server, market, mirror_markets=f"{market.pair}={SYMBOL}", mirror_reference=True)
    async with mirroring({**told, "mirror_user": "admin"}):
        for _ in range(2):
            await quoted.play(3)
            bid, ask = quoted.best()
            ticks = (units(bid) + units(ask)) // (2 * GRID.tick)

            async def is_told(ticks: int = ticks) -> bool:
                await quoted.quote()
                ticker = (await quoted.client.tickers(market.pair))[market.pair]
                is_ours = ticker.reference_source == f"binance {SYMBOL}" and not ticker.reference_stale
                return is_ours and units(ticker.reference_price) // GRID.tick == ticks

            await until(is_told, SECONDS_MAX, "the middle is told")
    assert not await quoted.open(), "nothing is quoted"
