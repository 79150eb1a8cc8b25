"""`clearbook demo`: a market maker and a few takers, so that the book is alive. Through the public gRPC API.

The maker keeps a ladder of quotes in each market and moves it at random; takers buy and sell at the market; somebody
shows every kind of order, one after the other. At the end the quotes are canceled. A demo that was killed leaves quotes
behind; the next one takes them over.
"""

import asyncio
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from clearbook.v1 import order_service_pb2 as orders

from services.cli.clients import CallFailed, Clients, user
from services.cli.health import serving
from services.cli.ladder import Ladder, Quote, moves
from services.cli.order_kinds import kinds
from services.errors import Reason
from services.runtime.config import Tls
from services.runtime.run import Closed, Closing, StartError
from services.units import Asset, Market, market_of

MAKER: Final = "demo-maker"
TAKERS: Final = ("demo-taker-1", "demo-taker-2", "demo-taker-3")
SHOWMAN: Final = "demo-types"
SHOW_SECONDS: Final = 0.5
"""From one kind of order to the next."""
SHOW_SWITCH_SECONDS: Final = 30
"""A show that was killed leaves its orders for so long."""
ROUND_SECONDS: Final = 0.5
"""How often the maker looks at its quotes."""
TAKER_SECONDS_MIN, TAKER_SECONDS_MAX = 0.1, 0.8
TAKER_LOTS_SHARE: Final = 2
"""A taker takes at most that many times the lots of the best quote."""
PAGE_ORDERS: Final = 500

LADDERS: Final = (
    Ladder("BTC-USD", middle_ticks=3_000_000, gap_ticks=500, lots=1_000),
    Ladder("ETH-USD", middle_ticks=200_000, gap_ticks=50, lots=1_000),
)
CROSS: Final = Ladder("ETH-BTC", middle_ticks=0, gap_ticks=20, lots=1_000)
"""Its middle is the quotient of the two others': the three prices fit together."""
CROSS_TICKS: Final = 10**6
"""Ticks of CROSS in one."""
CLEAN_UPS_MAX: Final = 5

_EXPECTED: Final = (Reason.INSUFFICIENT_FUNDS, Reason.EMPTY_BOOK, Reason.MARKET_HALTED)
"""Refusals that a trader lives with."""


@dataclass
class Tally:
    """What happened since the start."""

    orders: int = 0
    trades: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    quotes: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Best bid and ask of the maker, by market."""

    def line(self, seconds: int) -> str:
        """One line for a person."""
        quotes = "   ".join(f"{market} {bid} / {ask}" for market, (bid, ask) in self.quotes.items())
        why = ", ".join(f"{number} {reason.name}" for reason, number in self.refused.most_common())
        refused = f"{self.refused.total()} refused" + (f" ({why})" if why else "")
        return f"{seconds:>4} s   {quotes}   {self.orders} orders   {self.trades} trades   {refused}\n"


class Trader:
    """Somebody who places orders."""

    def __init__(self, name: str, clients: Clients, tally: Tally, run: str) -> None:
        """`run` makes this demo's client order ids its own."""
        self._who, self._clients, self._tally = user(name), clients, tally
        self._ids = (f"{run}-{number}" for number in count(1))

    async def place(self, market: Market, *, buys: bool, lots: int, ticks: int = 0) -> None:
        """A post-only limit order at `ticks`, or a market order. A refusal that a trader lives with is counted."""
        request = orders.PlaceOrderRequest(
            client_order_id=next(self._ids),
            market=market.symbol,
            side=orders.SIDE_BUY if buys else orders.SIDE_SELL,
            type=orders.ORDER_TYPE_LIMIT if ticks else orders.ORDER_TYPE_MARKET,
            price=market.format_price(ticks) if ticks else "",
            quantity=market.format_quantity(lots),
            post_only=bool(ticks),
        )
        self._tally.orders += 1
        try:
            answer = await self._clients.call(self._clients.orders.PlaceOrder, request, self._who)
        except CallFailed as failed:
            if failed.reason is None or failed.reason not in _EXPECTED:
                raise
            self._tally.refused[failed.reason] += 1
        else:
            self._tally.trades += len(answer.executions)

    async def cancel(self, ids: Iterable[str]) -> None:
        """Cancels orders; one that was filled meanwhile is fine."""
        await self._clients.cancel([orders.CancelOrderRequest(order_id=order_id) for order_id in ids], self._who)

    async def open_orders(self, market: str = "") -> list[Any]:
        """Its resting orders."""
        found: list[Any] = []
        request = orders.ListOrdersRequest(market=market, open_only=True, page_size=PAGE_ORDERS)
        while True:
            page = await self._clients.call(self._clients.orders.ListOrders, request, self._who)
            found += page.orders
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


class Maker(Trader):
    """Keeps ladders."""

    async def keep(self, ladder: Ladder, market: Market, rung: int) -> None:
        """Makes what rests in a market the ladder around a rung."""
        resting: dict[Quote, int] = {}
        ids: dict[Quote, str] = {}
        twice: list[str] = []
        for order in await self.open_orders(market.symbol):
            quote = (order.side == orders.SIDE_BUY, market.price_ticks(order.price))
            left = market.quantity_lots(order.quantity)
            if order.filled_quantity != "0":
                left -= market.quantity_lots(order.filled_quantity)
            if quote in resting:
                twice.append(order.order_id)  # of a demo beside or before this one
            else:
                resting[quote], ids[quote] = left, order.order_id
        wanted = ladder.around(rung)
        cancel, place = moves(wanted, resting)
        await self.cancel([*twice, *(ids[quote] for quote in cancel)])
        async with asyncio.TaskGroup() as group:
            for buys, ticks in place:
                group.create_task(self.place(market, buys=buys, lots=wanted[buys, ticks], ticks=ticks))
        inside = [market.format_price(ladder.ticks(rung + step)) for step in (-1, 1)]
        self._tally.quotes[market.symbol] = (inside[0], inside[1])


class Showman(Trader):
    """Shows every kind of order, and says what became of each."""

    async def show(self, market: Market, middle_ticks: int) -> None:
        """One of each; at the end one is replaced, and all are canceled."""
        call, rpcs = self._clients.call, self._clients.orders
        await call(rpcs.CancelAfter, orders.CancelAfterRequest(seconds=SHOW_SWITCH_SECONDS), self._who)
        found: dict[str, orders.Order] = {}
        for name, request in kinds(market, middle_ticks, time.time_ns, self._ids):
            if isinstance(request, orders.PlaceGroupRequest):
                placed = [item.order for item in (await call(rpcs.PlaceGroup, request, self._who)).orders]
            else:
                placed = [(await call(rpcs.PlaceOrder, request, self._who)).order]
            self._tally.orders += len(placed)
            found[name] = placed[0]
            states = ", ".join(orders.OrderState.Name(each.state).removeprefix("ORDER_STATE_") for each in placed)
            sys.stdout.write(f"         {name}: {states}\n")
            await asyncio.sleep(SHOW_SECONDS)
        half = market.format_quantity(market.quantity_lots(found["iceberg"].quantity) // 2)
        changes = {"quantity": half, "new_client_order_id": next(self._ids)}
        replace = orders.ReplaceOrderRequest(order_id=found["iceberg"].order_id, **changes)
        try:
            after = (await call(rpcs.ReplaceOrder, replace, self._who)).order
            sys.stdout.write(f"         replaced: {after.quantity} of it\n")
        except CallFailed as failed:
            if failed.reason is not Reason.ORDER_ENDED:  # somebody sold as low as that
                raise
        await call(rpcs.CancelAllOrders, orders.CancelAllOrdersRequest(), self._who)


async def _show(showman: Showman, market: Market) -> None:
    """Round after round, for ever."""
    while True:
        try:
            await showman.show(market, LADDERS[0].middle_ticks)
        except CallFailed as failed:
            if failed.reason not in _EXPECTED:
                raise
            await asyncio.sleep(SHOW_SECONDS)


async def _walk(maker: Maker, markets: dict[str, Market]) -> None:
    """The maker's rounds, for ever."""
    rungs = {ladder: ladder.rung(ladder.middle_ticks) for ladder in LADDERS}
    while True:
        for ladder in LADDERS:
            rungs[ladder] = max(rungs[ladder] + random.choice((-1, 0, 0, 1)), ladder.levels)
        btc, eth = (ladder.ticks(rungs[ladder]) for ladder in LADDERS)
        cross = CROSS.rung(eth * CROSS_TICKS // btc)
        for ladder, rung in [*rungs.items(), (CROSS, cross)]:
            await maker.keep(ladder, markets[ladder.market], rung)
        await asyncio.sleep(ROUND_SECONDS)


async def _take(taker: Trader, markets: dict[str, Market]) -> None:
    """A taker's orders, for ever."""
    while True:
        ladder = random.choice((*LADDERS, CROSS))
        lots = random.randint(1, ladder.lots * TAKER_LOTS_SHARE)
        await taker.place(markets[ladder.market], buys=random.random() < 0.5, lots=lots)
        await asyncio.sleep(random.uniform(TAKER_SECONDS_MIN, TAKER_SECONDS_MAX))


async def _report(tally: Tally) -> None:
    """One line a second, for ever."""
    for seconds in count(1):
        await asyncio.sleep(1)
        sys.stdout.write(tally.line(seconds))
        sys.stdout.flush()


async def _markets(clients: Clients) -> dict[str, Market]:
    """The markets of the demo. Raises StartError if one is missing: another markets.toml was used."""
    known, found = await clients.markets(), {}
    for ladder in (*LADDERS, CROSS):
        if ladder.market not in known:
            raise StartError(f"the demo trades in {ladder.market}, which this exchange does not have")
        entry = known[ladder.market]
        # The conversions of amounts are not needed here: any decimals that are enough will do.
        base, quote = Asset(1, entry.base_asset, 36), Asset(2, entry.quote_asset, 36)
        found[ladder.market] = market_of(1, entry.market, base, quote, entry.tick_size, entry.lot_size)
    return found


async def demo(gateway: str, publisher: str, seconds: float, closing: Closing, tls: Tls | None = None) -> None:
    """Trades until `closing`, or for so many seconds (0: no limit); then cancels the maker's quotes.

    Raises StartError (perhaps in a group) if the exchange does not answer, lacks a market, asks for credentials, or
    refuses later what no trader lives with.
    """
    async with Clients.to(gateway, publisher, tls) as clients:
        try:
            markets = await _markets(clients)
        except CallFailed as failed:
            raise StartError(f"{failed}: is the exchange up?") from None
        if not await serving(gateway, tls=tls):
            raise StartError(f"the gateway at {gateway} does not serve: is the exchange up?")
        try:
            await _trade(clients, markets, seconds, closing)
        except* CallFailed as failures:
            raise StartError(_why(failures)) from None


def _why(failures: BaseExceptionGroup[CallFailed]) -> str:
    failed: BaseException = failures
    while isinstance(failed, BaseExceptionGroup):
        failed = failed.exceptions[0]
    if isinstance(failed, CallFailed) and failed.reason is Reason.UNAUTHENTICATED:
        return "the exchange asks for credentials (CLEARBOOK_AUTH=required); the demo's users have none: open mode only"
    return f"the demo cannot go on: {failed}"


async def _trade(clients: Clients, markets: dict[str, Market], seconds: float, closing: Closing) -> None:
    """The demo itself. Raises CallFailed, perhaps in a group."""
    run, tally = secrets.token_hex(4), Tally()
    maker = Maker(MAKER, clients, tally, f"{run}-m")
    showman = Showman(SHOWMAN, clients, tally, f"{run}-s")
    await maker.open_orders()  # who is not let in learns it before there is anything to clean up
    try:
        async with closing.guard(), asyncio.timeout(seconds or None), asyncio.TaskGroup() as group:
            group.create_task(_walk(maker, markets), name="maker")
            group.create_task(_report(tally), name="report")
            group.create_task(_show(showman, markets[LADDERS[0].market]), name="every kind of order")
            for number, name in enumerate(TAKERS):
                group.create_task(_take(Trader(name, clients, tally, f"{run}-{number}"), markets), name=name)
    except (Closed, TimeoutError):
        sys.stdout.write("canceling the quotes\n")
    finally:
        for trader in (maker, showman):
            for _ in range(CLEAN_UPS_MAX):  # an order that was cut off on its way may still arrive
                if not (left := await trader.open_orders()):
                    break
                await trader.cancel([order.order_id for order in left])
