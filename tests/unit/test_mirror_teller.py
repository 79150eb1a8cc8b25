"""What the mirror tells as a reference price, and when: a table, then the teller beside an exchange that may refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from clearbook.v1 import admin_service_pb2 as pb
from clearbook.v1 import admin_service_pb2_grpc as admin_grpc

from clearbook.client import Client
from services.depth import Depth
from services.mirror import telling
from services.mirror.messages import units
from services.mirror.quotes import Grid
from services.mirror.teller import Teller
from services.mirror.telling import REPEAT_SECONDS, TELL_SECONDS_MIN, Telling, middle_ticks
from services.runtime.run import Closing, StartError
from tests.suite import until
from tests.unit.mirror_exchange import MARKET, SECONDS_MAX, Markets, Outside, working

NS = telling.NS_PER_SECOND


@pytest.mark.parametrize(
    ("bid", "ask", "tick", "ticks"),
    [
        ("99", "101", "0.01", 10_000),
        ("99.01", "99.02", "0.01", 9_901),  # rounded down
        ("99.01", "99.02", "0.0001", 990_150),
        ("99", "101", "7", 14),
        ("1", "2", "5", None),  # less than a tick
        ("", "101", "0.01", None),
        ("99", "", "0.01", None),
    ],
)
def test_the_middle_is_in_whole_ticks(bid: str, ask: str, tick: str, ticks: int | None) -> None:
    depth = Depth()
    for buys, price in ((True, bid), (False, ask)):
        if price:
            depth.put(buys, units(price), units("1"))
    assert middle_ticks(depth, Grid(units(tick), units("1"))) == ticks


def test_a_price_is_told_when_it_changes_and_again_while_it_is_true() -> None:
    telling, last = Telling(), 0
    for tenths, ticks, heard_tenths, due in (
        # when; the price; when the outside was heard last; whether it is told
        (0, 100, 0, True),
        (9, 101, 9, False),  # sooner than a second after the last
        (10, 101, 9, True),
        (25, 101, 24, False),  # it is the same
        (25, 102, 24, True),
        (74, 102, 74, False),
        (75, 102, 75, True),  # five seconds later, or it would grow old
        (200, 103, 75, False),  # nothing was heard since
        (201, 102, 76, True),
    ):
        assert telling.due(ticks, heard_tenths * NS // 10, tenths * NS // 10) is due, tenths
        if due:
            assert tenths - last >= 10 * TELL_SECONDS_MIN or not last
            telling.told(ticks, heard_tenths * NS // 10, tenths * NS // 10)
            last = tenths


class Exchange(admin_grpc.AdminServiceServicer, Markets):
    """Takes reference prices, unless it is to refuse."""

    def __init__(self) -> None:
        self.told: list[pb.SetReferencePriceRequest] = []
        self.refusals = 0
        self.refuse = False

    async def SetReferencePrice(
        self, request: pb.SetReferencePriceRequest, context: Any
    ) -> pb.SetReferencePriceResponse:
        if self.refuse:
            self.refusals += 1
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "REFERENCE_OUTDATED")
        self.told.append(request)
        return pb.SetReferencePriceResponse()


@asynccontextmanager
async def mirrored(market: str = MARKET) -> AsyncIterator[tuple[Exchange, Outside]]:
    exchange = Exchange()  # type: ignore[abstract]  # what it does not do is UNIMPLEMENTED
    outside = Outside()

    async def tell(client: Client, closing: Closing) -> None:
        await Teller(client, market, "there X", outside.follower).run(closing)

    async with working(exchange, admin_grpc.add_AdminServiceServicer_to_server, tell):
        yield exchange, outside


async def tells(exchange: Exchange, price: str) -> pb.SetReferencePriceRequest:
    async def does() -> bool:
        return bool(exchange.told) and exchange.told[-1].price == price

    await until(does, SECONDS_MAX, f"{price} is told")
    return exchange.told[-1]


async def test_the_middle_is_told_while_the_outside_may_be_believed() -> None:
    async with mirrored() as (exchange, outside):
        began_ns = time.time_ns()
        outside.show("99.00", "101.00")
        first = await tells(exchange, "100.00")
        assert (first.market, first.source) == (MARKET, "there X")
        assert began_ns <= first.observed_time.ToNanoseconds() <= time.time_ns()
        outside.show("99.00", "102.00")
        await tells(exchange, "100.50")
        outside.lose()
        await asyncio.sleep(TELL_SECONDS_MIN * 1.5)
        assert [each.price for each in exchange.told] == ["100.00", "100.50"]
        assert REPEAT_SECONDS > 2 * TELL_SECONDS_MIN
        exchange.refuse = True
        outside.show("99.00", "103.00")

        async def again() -> bool:
            return exchange.refusals > 1

        await until(again, SECONDS_MAX, "what was refused is told again")
        exchange.refuse = False
        await tells(exchange, "101.00")


async def test_a_market_that_there_is_not_is_said_at_the_start() -> None:
    with pytest.raises(StartError, match="NONE-USD is no market"):
        async with mirrored("NONE-USD"):
            await asyncio.sleep(0.5)
