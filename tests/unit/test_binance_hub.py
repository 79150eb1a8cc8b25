"""Binance's market streams over a BookService that is made up: what is followed, from where, and what of it is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from clearbook.v1 import book_service_pb2 as pb

from gateway_http.binance import hub as hubs
from gateway_http.binance.hub import Hub
from gateway_http.binance.outbox import Outbox
from gateway_http.binance.stream_names import Stream, stream_of
from gateway_http.binance.symbols import Symbols
from gateway_http.turns import Turns
from services.errors import Reason, Rejected
from services.runtime.run import Closing

SYMBOLS = Symbols([pb.Market(market="BTC-USD"), pb.Market(market="ETH-USD")])
SECONDS_MAX = 10


class Markets:
    async def symbols(self) -> Symbols:
        return SYMBOLS


class Call:
    """What one call tells; then it stands, or breaks."""

    def __init__(self, messages: list[Any], *, breaks: bool = False) -> None:
        self._messages, self._breaks = messages, breaks

    async def __aiter__(self) -> AsyncIterator[Any]:
        for message in self._messages:
            yield message
        if self._breaks:
            raise OSError("gone")
        await asyncio.Event().wait()

    def cancel(self) -> None:
        pass


class BookService:
    """Answers each call with the next of those that were given; remembers what was asked."""

    def __init__(self, *calls: Call) -> None:
        self._calls = list(calls)
        self.asked: asyncio.Queue[Any] = asyncio.Queue()

    def StreamTrades(self, request: Any) -> Call:
        self.asked.put_nowait(request)
        return self._calls.pop(0)

    StreamTickers = StreamTrades


def hub_of(service: BookService, closing: Closing) -> Hub:
    return Hub(service, Markets(), None, closing, Turns())  # type: ignore[arg-type]


def named(name: str) -> Stream:
    stream = stream_of(name, SYMBOLS)
    assert stream is not None
    return stream


async def told(outbox: Outbox) -> Any:
    return json.loads(await asyncio.wait_for(outbox.next(), SECONDS_MAX))


def trades(*ids: int, last: int) -> pb.StreamTradesResponse:
    return pb.StreamTradesResponse(trades=[pb.Trade(trade_id=each) for each in ids], last_trade_id=last)


def tickers(*markets: str) -> pb.StreamTickersResponse:
    return pb.StreamTickersResponse(tickers=[pb.Ticker(market=each, last_price="5") for each in markets])


async def test_trades_go_on_after_the_last_one_that_came_and_not_after_the_market_s_last() -> None:
    """A connection that breaks while trades are made up for has not brought the market's last one yet."""
    service = BookService(Call([trades(last=6), trades(7, 8, last=90)], breaks=True), Call([trades(9, last=90)]))
    outbox = Outbox(combined=False)

    async def main(closing: Closing) -> None:
        hub = hub_of(service, closing)
        await hub.add(outbox, named("btcusd@trade"))
        assert [(await told(outbox))["t"] for _ in range(3)] == [7, 8, 9]
        assert not service.asked.get_nowait().HasField("after_trade_id")
        assert service.asked.get_nowait().after_trade_id == 8
        hub.drop(outbox, named("btcusd@trade"))

    await Closing()._together(main)


async def test_who_wants_trades_is_not_answered_before_they_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What trades between would be told to nobody."""
    monkeypatch.setattr(hubs, "BOOK_SECONDS_MAX", 0.05)
    service = BookService(Call([]), Call([trades(last=6)]))

    async def main(closing: Closing) -> None:
        hub = hub_of(service, closing)
        with pytest.raises(Rejected) as error:
            await hub.add(Outbox(combined=False), named("btcusd@aggTrade"))
        assert error.value.reason is Reason.UNAVAILABLE
        outbox = Outbox(combined=False)
        await hub.add(outbox, named("btcusd@aggTrade"))  # by a call of its own: nothing is left of the first
        assert service.asked.qsize() == 2

    await Closing()._together(main)


async def test_no_ticker_of_before_is_told_to_who_comes_after_nobody_read_them() -> None:
    service = BookService(Call([tickers("BTC-USD")]), Call([tickers("BTC-USD")]))
    one, late, other, again = (Outbox(combined=False) for _ in range(4))

    async def main(closing: Closing) -> None:
        hub = hub_of(service, closing)
        await hub.add(one, named("btcusd@ticker"))
        assert (await told(one))["c"] == "5.00000000"
        await hub.add(late, named("btcusd@miniTicker"))
        assert len(late._waiting) == 1, "what is true by now is told at once"
        await hub.add(other, named("ethusd@ticker"))
        assert len(other._waiting) == 0, "nothing is known of it yet"
        for outbox, name in ((one, "btcusd@ticker"), (late, "btcusd@miniTicker"), (other, "ethusd@ticker")):
            hub.drop(outbox, named(name))
        await hub.add(again, named("btcusd@ticker"))
        assert len(again._waiting) == 0, "nobody followed them: it would be of yesterday"
        assert (await told(again))["c"] == "5.00000000"

    await Closing()._together(main)
