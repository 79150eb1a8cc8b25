"""The mirror's quoter beside an exchange that ends streams and refuses: what it asks for then."""

# ruff: noqa: ARG002 (gRPC's methods take a context)

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from clearbook.v1 import order_service_pb2 as pb
from clearbook.v1 import order_service_pb2_grpc as orders_grpc

from clearbook.client import Client
from services.mirror import quoter
from services.mirror.messages import units
from services.mirror.quoter import Quoter
from services.mirror.quotes import Terms
from services.runtime.run import Closing, StartError
from tests.suite import until
from tests.unit.mirror_exchange import MARKET, SECONDS_MAX, Markets, Outside, working

TERMS = Terms(levels=2, share_ppm=10**6, spread_bps=0, notional_max=units("1000000"))


class Exchange(orders_grpc.OrderServiceServicer, Markets):
    """Takes everything, except what `refuse` says; `ends` ends its streams after so many answers."""

    def __init__(self) -> None:
        self.open: dict[str, pb.Order] = {}
        self.asked: list[pb.TradeRequest] = []
        self.switches: list[int] = []
        self.streams = self.canceled_all = 0
        self.ends = 10**6
        self.refuse: dict[str, str] = {}
        """Reason by what is asked: "replace", "place", "all"."""

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Any) -> pb.ListOrdersResponse:
        assert (request.market, request.open_only) == (MARKET, True)
        return pb.ListOrdersResponse(orders=self.open.values())

    async def CancelAfter(self, request: pb.CancelAfterRequest, context: Any) -> pb.CancelAfterResponse:
        self.switches.append(request.seconds)
        return pb.CancelAfterResponse()

    async def CancelAllOrders(self, request: pb.CancelAllOrdersRequest, context: Any) -> pb.CancelAllOrdersResponse:
        assert request.market == MARKET
        self.canceled_all += 1
        self.open.clear()
        return pb.CancelAllOrdersResponse()

    async def Trade(self, requests: Any, context: Any) -> AsyncIterator[pb.TradeResponse]:
        self.streams += 1
        answered = 0
        async for request in requests:
            assert request.cancel_on_disconnect
            self.asked.append(request)
            yield pb.TradeResponse(answers=[self._do(request)])
            answered += 1
            if answered == self.ends:
                return

    def _do(self, request: pb.TradeRequest) -> pb.TradeAnswer:
        answer = pb.TradeAnswer(request_id=request.request_id)
        if "all" in self.refuse:
            answer.refusal.reason = self.refuse["all"]
            return answer
        if request.HasField("cancel_all"):
            self.open.clear()
            answer.cancel_all.canceled_count = 1
        for cancel in request.cancels:
            del self.open[cancel.order_id]
            answer.cancels.add()
        for replace in request.replaces:
            outcome = answer.replaces.add()
            if "replace" in self.refuse:
                outcome.refusal.reason = self.refuse["replace"]
            else:
                order = self.open[replace.order_id]
                order.price, order.quantity = replace.price, replace.quantity
        for place in request.orders:
            outcome = answer.orders.add()
            assert place.post_only
            if "place" in self.refuse:
                outcome.refusal.reason = self.refuse["place"]
                continue
            order = pb.Order(order_id=str(len(self.asked) * 100 + len(self.open)), filled_quantity="0")
            order.market, order.side, order.price, order.quantity = (
                place.market,
                place.side,
                place.price,
                place.quantity,
            )
            order.state = pb.ORDER_STATE_OPEN
            self.open[order.order_id] = order
        return answer

    def quotes(self) -> dict[str, str]:
        """Quantity by side and price."""
        names = {pb.SIDE_BUY: "buy", pb.SIDE_SELL: "sell"}
        return {f"{names[order.side]} {order.price}": order.quantity for order in self.open.values()}


@asynccontextmanager
async def quoting(market: str = MARKET) -> AsyncIterator[tuple[Exchange, Outside]]:
    exchange = Exchange()  # type: ignore[abstract]  # what it does not do is UNIMPLEMENTED
    outside = Outside()

    async def quote(client: Client, closing: Closing) -> None:
        await Quoter(client, market, TERMS, outside.follower, outside.news).run(closing)

    async with working(exchange, orders_grpc.add_OrderServiceServicer_to_server, quote):
        yield exchange, outside


async def shows(exchange: Exchange, **expected: str) -> None:
    wanted = {f"{side} {price}": "1" for side, price in expected.items()}

    async def does() -> bool:
        return exchange.quotes() == wanted

    await until(does, SECONDS_MAX, f"{wanted}, not {exchange.quotes()}")


async def test_quotes_move_with_the_outside_and_go_without_it() -> None:
    async with quoting() as (exchange, outside):
        outside.show("99.00", "101.00")
        await shows(exchange, buy="99.00", sell="101.00")
        ids = set(exchange.open)
        outside.show("102.00", "103.00")
        await shows(exchange, buy="102.00", sell="103.00")
        assert set(exchange.open) == ids, "they were moved"
        assert [item.price for item in exchange.asked[-1].replaces] == ["103.00", "102.00"], "the ask makes way"
        outside.lose()
        await shows(exchange)
        assert exchange.asked[-1].HasField("cancel_all")
        outside.show("99.00", "101.00")
        await shows(exchange, buy="99.00", sell="101.00")
        assert exchange.switches == [quoter.SWITCH_SECONDS]
    assert (exchange.quotes(), exchange.canceled_all) == ({}, 1)
    assert exchange.switches[-1] == 0, "no switch is left"


async def test_a_stream_that_ends_is_opened_again_and_begins_with_nothing() -> None:
    async with quoting() as (exchange, outside):
        exchange.ends = 2  # the withdrawal, and the first quotes: then it has ended when the next is written
        outside.show("99.00", "101.00")
        await shows(exchange, buy="99.00", sell="101.00")
        outside.show("98.00", "101.00")
        await shows(exchange, buy="98.00", sell="101.00")
        assert exchange.streams == 2
        assert [request.HasField("cancel_all") for request in exchange.asked] == [True, False] * 2


async def test_an_order_that_cannot_be_moved_is_canceled_and_new_ones_wait_a_second() -> None:
    async with quoting() as (exchange, outside):
        outside.show("99.00", "101.00")
        await shows(exchange, buy="99.00", sell="101.00")
        exchange.refuse = {"replace": "PRICE_OUT_OF_BAND"}
        outside.show("98.00", "101.00")
        await shows(exchange, sell="101.00")
        refused_at = time.monotonic()
        await shows(exchange, buy="98.00", sell="101.00")
        assert time.monotonic() - refused_at > quoter.REFUSED_SECONDS / 2
        exchange.refuse = {"place": "INSUFFICIENT_FUNDS", "replace": "X"}
        before = len(exchange.asked)
        outside.show("97.00", "101.00")
        await shows(exchange, sell="101.00")
        await asyncio.sleep(quoter.REFUSED_SECONDS * 1.5)
        assert len(exchange.asked) - before <= 4, "a refusal is not asked for all the time"


async def test_a_withdrawal_that_is_refused_ends_the_stream() -> None:
    async with quoting() as (exchange, outside):
        outside.show("99.00", "101.00")
        await shows(exchange, buy="99.00", sell="101.00")
        exchange.refuse = {"all": "OVERLOADED"}
        outside.lose()

        async def again() -> bool:
            return exchange.streams >= 3

        await until(again, SECONDS_MAX)
        exchange.refuse = {}
        await shows(exchange)


async def test_a_market_that_there_is_not_is_said_at_the_start() -> None:
    with pytest.raises(StartError, match="NONE-USD is no market"):
        async with quoting("NONE-USD"):
            await asyncio.sleep(0.5)
