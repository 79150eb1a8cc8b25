"""`clearbook replay FILE`: a recorded exchange feed, played into the running exchange through its public gRPC API.

Afterwards our order book equals the feed's, level by level, and our tape holds every recorded trade, in order; read
through public RPCs, or the command says what differs and exits 1.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from clearbook.v1 import admin_service_pb2 as admin
from clearbook.v1 import book_service_pb2 as book
from clearbook.v1 import order_service_pb2 as orders
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.clients import ADMIN, Clients, user
from services.cli.feed_files import lines_of
from services.cli.mirror_plan import Cancel, Phase, Plan, Rest, Steps, Take
from services.cli.recorded import Step, steps
from services.errors import Reason
from services.runtime.config import Tls
from services.runtime.streams import Backoff
from services.units import format_fixed, format_plain

CATCH_UP_SECONDS_MAX: Final = 10.0
PAGE_TRADES: Final = 1_000
ASSET_DECIMALS: Final = 18
GRANT: Final = "10000000000"
"""Whole units of each asset for each of the two accounts: more than any recorded book asks for."""
WAIT_FOR: Final = (Reason.FAUCET_EMPTY, Reason.INSUFFICIENT_FUNDS)
"""Refusals of a grant that end when the settler has funded the faucet on chain."""

MIRROR: Final = "replay-mirror"
TAKER: Final = "replay-taker"


@dataclass
class Summary:
    """What was played, and what differs afterwards."""

    orders: int = 0
    trades: int = 0
    levels: int = 0
    markets: int = 0
    differences: list[str] = field(default_factory=list)


class MarketReplay:
    """One market of the feed: its plan, and the mirror's orders by level."""

    def __init__(self, name: str, decimals: Steps, clients: Clients, run: str, summary: Summary) -> None:
        """`run` makes this replay's client order ids its own."""
        self.name, self.plan = name, Plan(decimals)
        self._decimals, self._clients, self._run, self._summary = decimals, clients, run, summary
        self._ids: dict[tuple[bool, int], str] = {}
        """The mirror's last order at a level; whether it still rests, the plan knows."""
        self._numbers = count(1)
        self.trades: list[tuple[str, str, bool]] = []
        self.first_trade_id = 0

    async def prepare(self) -> None:
        """Creates the market, cancels what an earlier replay left, and remembers where the tape stands."""
        step = [format_fixed(1, self._decimals.price), format_fixed(1, self._decimals.quantity)]
        request = admin.CreateMarketRequest(market=self.name, tick_size=step[0], lot_size=step[1])
        await self._clients.call(self._clients.admin.CreateMarket, request, ADMIN)
        await self._clients.call(
            self._clients.orders.CancelAllOrders, orders.CancelAllOrdersRequest(market=self.name), user(MIRROR)
        )
        self.first_trade_id = max((trade.trade_id for trade in await self._tape(1)), default=0)

    async def play(self, step: Step) -> None:
        """One step, phase by phase."""
        for phase in self.plan.phases(step):
            await self._phase(phase)
        for trade in step.trades:
            price, quantity = self._decimals.level((trade.price, trade.quantity))
            self.trades.append((self._price(price), self._quantity(quantity), trade.taker_buys))
            self._summary.trades += 1

    async def _phase(self, phase: Phase) -> None:
        """Orders that do not depend on each other: in one call, if one call takes as many."""
        cancels = [self._cancel(item) for item in phase if isinstance(item, Cancel)]
        if cancels:
            await self._clients.cancel(cancels, user(MIRROR))
        rests = [item for item in phase if isinstance(item, Rest)]
        answers = await self._clients.place([self._rest(item) for item in rests], user(MIRROR))
        for item, answer in zip(rests, answers, strict=True):
            if answer.order.state != orders.ORDER_STATE_OPEN or answer.executions:
                self._differs(f"{item} did not rest")
        takes = [item for item in phase if isinstance(item, Take)]
        answers = await self._clients.place([self._take(item) for item in takes], user(TAKER))
        for taken, answer in zip(takes, answers, strict=True):
            if answer.order.state != orders.ORDER_STATE_FILLED or len(answer.executions) != 1:
                self._differs(f"{taken} did not trade at once and whole")
        self._summary.orders += len(phase)

    def _cancel(self, item: Cancel) -> orders.CancelOrderRequest:
        return orders.CancelOrderRequest(client_order_id=self._ids.pop((item.buys, item.price)))

    def _rest(self, item: Rest) -> orders.PlaceOrderRequest:
        order = self._order(item, orders.TIME_IN_FORCE_GTC)
        self._ids[item.buys, item.price] = order.client_order_id
        return order

    def _take(self, item: Take) -> orders.PlaceOrderRequest:
        return self._order(item, orders.TIME_IN_FORCE_IOC)

    def _order(self, item: Rest | Take, time_in_force: Any) -> orders.PlaceOrderRequest:
        return orders.PlaceOrderRequest(
            client_order_id=self._identity(),
            market=self.name,
            side=orders.SIDE_BUY if item.buys else orders.SIDE_SELL,
            type=orders.ORDER_TYPE_LIMIT,
            time_in_force=time_in_force,
            price=self._price(item.price),
            quantity=self._quantity(item.quantity),
        )

    def _identity(self) -> str:
        return f"{self._run}-{self.name}-{next(self._numbers)}"

    def _price(self, price: int) -> str:
        return format_fixed(price, self._decimals.price)

    def _quantity(self, quantity: int) -> str:
        return format_plain(quantity, self._decimals.quantity)

    def _differs(self, text: str) -> None:
        self._summary.differences.append(f"{self.name}: {text}")

    async def compare(self) -> int:
        """Compares once the publisher, a projection, has caught up: bounded, and the last comparison counts.

        Returns the number of levels compared.
        """
        backoff = Backoff()
        deadline = asyncio.get_running_loop().time() + CATCH_UP_SECONDS_MAX
        while True:
            differences = await self._differences()
            if not differences or asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(backoff.next_seconds())
        for text in differences:
            self._differs(text)
        return sum(map(len, self.plan.wanted.values()))

    async def _differences(self) -> list[str]:
        """Our book and tape, as the public API shows them, against the feed's."""
        found: list[str] = []
        for buys, ours in zip((True, False), await self._our_book(), strict=True):
            side = "bid" if buys else "ask"
            wanted = {
                self._price(price): self._quantity(quantity) for price, quantity in self.plan.wanted[buys].items()
            }
            found += [
                f"{side} {price}: the feed has {wanted.get(price)}, we have {ours.get(price)}"
                for price in sorted(wanted.keys() | ours.keys())
                if wanted.get(price) != ours.get(price)
            ]
        tape = [(t.price, t.quantity, t.taker_side == book.TAKER_SIDE_BUY) for t in await self._tape()]
        if tape != self.trades:
            found.append(f"the feed has {len(self.trades)} trades, we have {len(tape)}, and they are not the same")
        return found

    async def _our_book(self) -> tuple[dict[str, str], dict[str, str]]:
        """The snapshot that opens the stream: all levels. It is as of the last change that the publisher has seen."""
        stream = self._clients.book.StreamOrderBook(book.StreamOrderBookRequest(market=self.name))
        async for message in stream:
            stream.cancel()
            bids, asks = (
                {level.price: level.quantity for level in side}
                for side in (message.snapshot.bids, message.snapshot.asks)
            )
            return bids, asks
        raise ConnectionError("the publisher ended the stream")

    async def _tape(self, limit: int | None = None) -> list[book.Trade]:
        """Trades since this replay began, oldest first; or the newest `limit` of all."""
        newest: list[book.Trade] = []
        token = ""
        while True:
            request = book.ListTradesRequest(market=self.name, page_size=limit or PAGE_TRADES, page_token=token)
            page = await self._clients.call(self._clients.book.ListTrades, request)
            newest += page.trades
            token = page.next_page_token
            if limit or not token or newest[-1].trade_id <= self.first_trade_id:
                return [trade for trade in reversed(newest) if trade.trade_id > self.first_trade_id]


class Replay:
    """A recording and its markets."""

    def __init__(self, files: list[Path], clients: Clients) -> None:
        """Reads recordings that belong together: a stream, and its snapshots. Raises FeedError."""
        self.feed = list(steps(lines_of(files)))
        self.summary = Summary()
        self._clients, self._run = clients, secrets.token_hex(4)
        decimals: dict[str, Steps] = defaultdict(Steps)
        for step in self.feed:
            decimals[step.market].see(step)
        self.markets = {
            name: MarketReplay(name, found, clients, self._run, self.summary) for name, found in decimals.items()
        }

    async def prepare(self) -> None:
        """Makes assets, funds and markets. Raises CallFailed."""
        await self._clients.markets()
        await _fund(self._clients, sorted({asset for name in self.markets for asset in name.split("-")}), self._run)
        for market in self.markets.values():
            await market.prepare()

    async def play(self, advance: Callable[[], object]) -> None:
        """Markets side by side, the steps of each in order; `advance` is called after each. Raises CallFailed."""
        queues: dict[str, list[Step]] = defaultdict(list)
        for step in self.feed:
            queues[step.market].append(step)

        async def play(market: MarketReplay, own: list[Step]) -> None:
            for step in own:
                await market.play(step)
                advance()

        async with asyncio.TaskGroup() as group:
            for name, own in queues.items():
                group.create_task(play(self.markets[name], own))

    async def compare(self) -> Summary:
        """Compares every market. Raises CallFailed."""
        found = await asyncio.gather(*(market.compare() for market in self.markets.values()))
        self.summary.markets, self.summary.levels = len(self.markets), sum(found)
        return self.summary


async def replay(files: list[Path], gateway: str, publisher: str, console: Console, tls: Tls | None = None) -> Summary:
    """Plays recordings that belong together and compares. Raises FeedError, or CallFailed in an exception group."""
    async with Clients.to(gateway, publisher, tls) as clients:
        played = Replay(files, clients)
        console.print(f"{len(played.feed)} steps in {len(played.markets)} markets: {' '.join(played.markets)}")
        await played.prepare()
        with _progress(console) as progress:
            bar = progress.add_task("replaying", total=len(played.feed))
            await played.play(lambda: progress.advance(bar))
        return await played.compare()


async def _fund(clients: Clients, assets: list[str], run: str) -> None:
    """Creates the assets and gives both accounts enough of each."""
    for asset in assets:
        create = admin.CreateAssetRequest(symbol=asset, decimals=ASSET_DECIMALS)
        await clients.call(clients.admin.CreateAsset, create, ADMIN)
    async with asyncio.TaskGroup() as group:
        for asset in assets:
            for name in (MIRROR, TAKER):
                identity = f"{run}-{name}-{asset}"
                given = {"user": name, "asset": asset, "amount": GRANT, "reason": "replay"}
                grant = admin.GrantFundsRequest(transfer_id=identity, **given)
                group.create_task(clients.call(clients.admin.GrantFunds, grant, ADMIN, WAIT_FOR))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
