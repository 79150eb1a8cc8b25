"""docs/orders.md, walked through on the running exchange: every type by the public API, the book before and after."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from clearbook.v1 import admin_service_pb2 as admin
from clearbook.v1 import book_service_pb2 as books
from clearbook.v1 import order_service_pb2 as pb

from tests.e2e.conftest import Traded
from tests.suite import ADMIN, Clients, until, user

ORDER = re.compile(r"(BUY|SELL) ([0-9.]+) (?:@ ([0-9.]+)|at market)")
SHOWN_SECONDS_MAX = 20.0
STOP = {"trigger": pb.TRIGGER_STOP}


def numbers(levels: Any) -> str:
    return ", ".join(f"{level.price.removesuffix('.00')} × {level.quantity}" for level in levels)


class Floor:
    """A market with three people in it, each of whom has both assets."""

    def __init__(self, clients: Clients, market: Traded) -> None:
        self.clients, self.market = clients, market
        self.sent = 0

    async def open(self) -> None:
        """Gives everybody funds."""
        for name in ("me", "ann", "bob"):
            for asset, amount in ((self.market.base, "100"), ("USD", "10000000")):
                who = self.who(name)
                given = {"transfer_id": f"{who}-{asset}", "user": who, "asset": asset, "amount": amount}
                grant = admin.GrantFundsRequest(reason="a test", **given)
                await self.clients.admin.GrantFunds(grant, metadata=ADMIN, timeout=20)

    def who(self, name: str) -> str:
        return f"{name}-{self.market.base}"

    async def ask(self, name: str, rpc: str, request: Any) -> Any:
        """One call of OrderService."""
        return await getattr(self.clients.orders, rpc)(request, metadata=user(self.who(name)), timeout=20)

    def order(self, text: str, **more: Any) -> pb.PlaceOrderRequest:
        """An order in the words of the page."""
        match = ORDER.fullmatch(text)
        assert match is not None, f"unreadable: {text}"
        side, quantity, price = match.groups()
        self.sent += 1
        return pb.PlaceOrderRequest(
            client_order_id=f"{self.market.base}-{self.sent}",
            market=self.market.pair,
            side=pb.Side.Value(f"SIDE_{side}"),
            type=pb.ORDER_TYPE_LIMIT if price else pb.ORDER_TYPE_MARKET,
            price=price or "",
            quantity=quantity,
            **more,
        )

    async def place(self, name: str, text: str, **more: Any) -> str:
        """Places an order; its client_order_id."""
        request = self.order(text, **more)
        await self.ask(name, "PlaceOrder", request)
        return request.client_order_id

    async def told(self, name: str, client_order_id: str) -> str:
        """Where an order stands, or why it ended; what of it has traded."""
        order = (await self.ask(name, "GetOrder", pb.GetOrderRequest(client_order_id=client_order_id))).order
        ended = order.state == pb.ORDER_STATE_CANCELED
        state = pb.CancelCause.Name(order.cancel_cause) if ended else pb.OrderState.Name(order.state)
        return f"{state.removeprefix('CANCEL_CAUSE_').removeprefix('ORDER_STATE_')} {order.filled_quantity}"

    async def shows(self, asks: str, bids: str) -> None:
        """The book comes to be like this."""
        seen = ("", "")

        async def same() -> bool:
            nonlocal seen
            request = books.GetOrderBookRequest(market=self.market.pair, depth=100)
            book = await self.clients.book.GetOrderBook(request, timeout=20)
            seen = numbers(book.asks), numbers(book.bids)
            return seen == (asks, bids)

        try:
            await until(same, SHOWN_SECONDS_MAX)
        except TimeoutError:
            raise AssertionError(f"the book is {seen}, not {(asks, bids)}") from None

    async def clear(self) -> None:
        """Nobody has anything open; the last price is 30000."""
        for name in ("me", "ann", "bob"):
            await self.ask(name, "CancelAllOrders", pb.CancelAllOrdersRequest(market=self.market.pair))
        await self.place("ann", "SELL 0.001 @ 30000")
        await self.place("bob", "BUY 0.001 @ 30000")
        await self.shows("", "")

    async def state(self, state: Any) -> None:
        """An operator opens or closes the market."""
        request = admin.SetMarketStateRequest(market=self.market.pair, state=state, reason="a test")
        await self.clients.admin.SetMarketState(request, metadata=ADMIN, timeout=20)


async def limit_orders(floor: Floor) -> None:
    await floor.place("bob", "SELL 1 @ 29990")
    await floor.place("bob", "SELL 1 @ 30000")
    await floor.place("ann", "BUY 5 @ 29980")
    mine = await floor.place("me", "BUY 3 @ 30000")
    await floor.shows("", "30000 × 1, 29980 × 5")
    assert await floor.told("me", mine) == "OPEN 2"


async def those_that_never_take(floor: Floor) -> None:
    await floor.place("bob", "SELL 1 @ 29990")
    await floor.place("ann", "BUY 5 @ 29980")
    for more, ends in (
        ({"post_only": True}, "POST_ONLY 0"),
        ({"time_in_force": pb.TIME_IN_FORCE_FOK}, "FOK 0"),
        ({"min_quantity": "2"}, "MINIMUM 0"),
    ):
        assert await floor.told("me", await floor.place("me", "BUY 2 @ 30000", **more)) == ends
    await floor.place("me", "BUY 1 @ 30000", post_only=True, post_only_mode=pb.POST_ONLY_MODE_REPRICE)
    await floor.shows("29990 × 1", "29989.99 × 1, 29980 × 5")
    ioc = await floor.place("me", "BUY 2 @ 29990", time_in_force=pb.TIME_IN_FORCE_IOC)
    assert await floor.told("me", ioc) == "IOC 1"
    await floor.shows("", "29989.99 × 1, 29980 × 5")


async def orders_that_expire(floor: Floor) -> None:
    until_then = pb.PlaceOrderRequest(time_in_force=pb.TIME_IN_FORCE_GTD)
    until_then.expire_time.FromNanoseconds(time.time_ns() + 1_500_000_000)
    terms = {"time_in_force": until_then.time_in_force, "expire_time": until_then.expire_time}
    dated = await floor.place("me", "BUY 1 @ 29000", **terms)
    today = await floor.place("me", "BUY 2 @ 28000", time_in_force=pb.TIME_IN_FORCE_DAY)
    await floor.shows("", "28000 × 2")
    await floor.state(books.MARKET_STATE_CLOSED)
    await floor.shows("", "")
    assert [await floor.told("me", each) for each in (dated, today)] == ["EXPIRED 0", "DAY_END 0"]
    await floor.state(books.MARKET_STATE_OPEN)


async def market_orders_and_their_preview(floor: Floor) -> None:
    await floor.place("ann", "BUY 3 @ 29980")
    await floor.place("ann", "BUY 5 @ 29970")
    preview = await floor.ask("me", "PreviewOrder", pb.PreviewOrderRequest(order=floor.order("SELL 4 at market")))
    assert [(fill.price, fill.quantity) for fill in preview.fills] == [("29980.00", "3"), ("29970.00", "1")]
    assert (preview.average_price, preview.needed, preview.locked) == ("29977.5", "4", "0")
    mine = await floor.place("me", "SELL 4 at market")
    assert await floor.told("me", mine) == "FILLED 4"
    await floor.shows("", "29970 × 4")


async def stops(floor: Floor) -> None:
    await floor.place("bob", "BUY 0.1 @ 29900")
    await floor.place("bob", "BUY 1 @ 29850")
    mine = await floor.place("me", "SELL 2 @ 29800", trigger_price="29900", **STOP)
    await floor.shows("", "29900 × 0.1, 29850 × 1")
    assert await floor.told("me", mine) == "WAITING 0"
    await floor.place("ann", "SELL 0.1 @ 29900")
    await floor.shows("29800 × 1", "")
    assert await floor.told("me", mine) == "OPEN 1"


async def take_profits_and_trailing_stops(floor: Floor) -> None:
    await floor.place("bob", "BUY 5 @ 29000")
    profit = await floor.place("me", "SELL 1 at market", trigger=pb.TRIGGER_TAKE_PROFIT, trigger_price="31000")
    trailing = await floor.place("me", "SELL 2 at market", trigger=pb.TRIGGER_TRAILING, trail="100")
    for price, states in (("30500", ["WAITING 0", "WAITING 0"]), ("30401", ["WAITING 0", "WAITING 0"])):
        await floor.place("ann", f"SELL 0.1 @ {price}")
        await floor.place("bob", f"BUY 0.1 @ {price}")
        assert [await floor.told("me", each) for each in (profit, trailing)] == states
    await floor.place("ann", "SELL 0.1 @ 30400")
    await floor.place("bob", "BUY 0.1 @ 30400")
    assert await floor.told("me", trailing) == "FILLED 2"
    await floor.shows("", "29000 × 3")
    await floor.place("ann", "SELL 0.1 @ 31000")
    await floor.place("bob", "BUY 0.1 @ 31000")
    assert await floor.told("me", profit) == "FILLED 1"
    await floor.shows("", "29000 × 2")


async def icebergs(floor: Floor) -> None:
    mine = await floor.place("me", "SELL 3 @ 30000", display_quantity="1")
    other = await floor.place("bob", "SELL 2 @ 30000")
    await floor.shows("30000 × 3", "")
    await floor.place("ann", "BUY 1 @ 30000")
    await floor.shows("30000 × 3", "")
    await floor.place("ann", "BUY 2 @ 30000")
    assert [await floor.told("bob", other), await floor.told("me", mine)] == ["FILLED 2", "OPEN 1"]


async def ones_own(floor: Floor) -> None:
    await floor.place("me", "SELL 1 @ 30000")
    new = await floor.place("me", "BUY 0.4 @ 30000", self_trade_prevention=pb.SELF_TRADE_PREVENTION_DECREMENT)
    await floor.shows("30000 × 0.6", "")
    assert await floor.told("me", new) == "SELF_TRADE 0"
    mode = pb.SetTradingDefaultsRequest(self_trade_prevention=pb.SELF_TRADE_PREVENTION_CANCEL_OLDEST)
    await floor.ask("me", "SetTradingDefaults", mode)
    await floor.place("me", "BUY 1 @ 30000")
    await floor.shows("", "30000 × 1")


async def replaces(floor: Floor) -> None:
    mine = await floor.place("me", "SELL 2 @ 30000")
    other = await floor.place("bob", "SELL 1 @ 30000")
    renamed = f"{mine}-b"
    for name, quantity, new, shown in ((mine, "1", renamed, "30000 × 2"), (renamed, "3", "", "30000 × 4")):
        request = pb.ReplaceOrderRequest(client_order_id=name, quantity=quantity, new_client_order_id=new)
        await floor.ask("me", "ReplaceOrder", request)
        await floor.shows(shown, "")
    await floor.place("ann", "BUY 1 @ 30000")
    assert [await floor.told("bob", other), await floor.told("me", mine)] == ["FILLED 1", "OPEN 0"]


async def a_dead_mans_switch(floor: Floor) -> None:
    mine = await floor.place("me", "BUY 5 @ 29980")
    await floor.shows("", "29980 × 5")
    await floor.ask("me", "CancelAfter", pb.CancelAfterRequest(seconds=1))
    await floor.shows("", "")
    assert await floor.told("me", mine) == "CANCEL_AFTER 0"


async def one_cancels_the_other(floor: Floor) -> None:
    await floor.place("bob", "BUY 5 @ 30000")
    exits = [floor.order("SELL 1 @ 31000"), floor.order("SELL 1 at market", trigger_price="29000", **STOP)]
    placed = await floor.ask("me", "PlaceGroup", pb.PlaceGroupRequest(exits=exits))
    assert [each.order.locked for each in placed.orders] == ["1", "0"]
    await floor.shows("31000 × 1", "30000 × 5")
    await floor.place("ann", "BUY 0.4 @ 31000")
    await floor.shows("31000 × 0.6", "30000 × 5")
    assert await floor.told("me", exits[1].client_order_id) == "LINKED 0"


async def exits_behind_an_entry(floor: Floor) -> None:
    exits = [floor.order("SELL 1 @ 31000"), floor.order("SELL 1 at market", trigger_price="29000", **STOP)]
    group = pb.PlaceGroupRequest(entry=floor.order("BUY 1 @ 30000"), exits=exits)
    placed = await floor.ask("me", "PlaceGroup", group)
    assert [each.order.locked for each in placed.orders] == ["30000", "0", "0"]
    await floor.shows("", "30000 × 1")
    await floor.place("ann", "SELL 1 @ 30000")
    await floor.shows("31000 × 0.999", "")
    assert await floor.told("me", exits[1].client_order_id) == "WAITING 0"


async def an_auction(floor: Floor) -> None:
    await floor.state(books.MARKET_STATE_PRE_OPEN)
    await floor.place("bob", "SELL 2 @ 29900")
    await floor.place("ann", "BUY 1 @ 30100")
    await floor.shows("29900 × 2", "30100 × 1")
    await floor.state(books.MARKET_STATE_OPEN)
    await floor.shows("29900 × 1", "")


SCENES = (
    *(limit_orders, those_that_never_take, orders_that_expire, market_orders_and_their_preview, stops),
    *(take_profits_and_trailing_stops, icebergs, ones_own, replaces, a_dead_mans_switch, one_cancels_the_other),
    *(exits_behind_an_entry, an_auction),
)


@pytest.mark.parametrize("suite", ["embedded"], indirect=True)
async def test_every_type_of_order_does_what_its_page_says(clients: Clients, market: Traded) -> None:
    floor = Floor(clients, market)
    await floor.open()
    for scene in SCENES:
        await floor.clear()
        try:
            await scene(floor)
        except AssertionError as error:
            raise AssertionError(f"{scene.__name__}: {error}") from error
