"""Binance's streams without a server: names, changes told together, an account's events, what waits for a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clearbook.v1 import account_service_pb2 as accounts
from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import order_service_pb2 as pb

from gateway_http.binance.account_events import AccountEvents
from gateway_http.binance.changes import Changes
from gateway_http.binance.market_streams import names_in
from gateway_http.binance.outbox import CHARS_WAITING_MAX, WAITING_MAX, Frame, Outbox
from gateway_http.binance.stream_names import Kind, Stream, stream_of
from gateway_http.binance.symbols import Symbols
from services.errors import Reason, Rejected

SYMBOLS = Symbols([book_pb.Market(market="BTC-USD")])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("btcusd@depth", Stream("btcusd@depth", Kind.DEPTH, "BTCUSD", 1000)),
        ("btcusd@depth@100ms", Stream("btcusd@depth@100ms", Kind.DEPTH, "BTCUSD", 100)),
        ("btcusd@depth@1000ms", Stream("btcusd@depth@1000ms", Kind.DEPTH, "BTCUSD", 1000)),
        ("btcusd@depth20", Stream("btcusd@depth20", Kind.PARTIAL, "BTCUSD", 1000, 20)),
        ("btcusd@depth5@100ms", Stream("btcusd@depth5@100ms", Kind.PARTIAL, "BTCUSD", 100, 5)),
        ("btcusd@trade", Stream("btcusd@trade", Kind.TRADE, "BTCUSD")),
        ("btcusd@aggTrade", Stream("btcusd@aggTrade", Kind.AGGREGATE, "BTCUSD")),
        ("btcusd@bookTicker", Stream("btcusd@bookTicker", Kind.QUOTE, "BTCUSD")),
        ("btcusd@ticker", Stream("btcusd@ticker", Kind.TICKER, "BTCUSD")),
        ("btcusd@miniTicker", Stream("btcusd@miniTicker", Kind.MINI, "BTCUSD")),
        ("btcusd@kline_1m", Stream("btcusd@kline_1m", Kind.CANDLE, "BTCUSD", interval="1m")),
        ("btcusd@kline_1M", Stream("btcusd@kline_1M", Kind.CANDLE, "BTCUSD", interval="1M")),
        ("!ticker@arr", Stream("!ticker@arr", Kind.TICKER)),
        ("!miniTicker@arr", Stream("!miniTicker@arr", Kind.MINI)),
        *[
            (name, None)
            for name in (
                *("", "btcusd", "BTCUSD@trade", "btc-usd@trade", "ethusd@trade", "btcusd@depth7", "btcusd@depth@50ms"),
                *("btcusd@kline_7m", "btcusd@kline", "btcusd@trade ", "btcusd@partial", "!bookTicker", "x" * 500),
            )
        ],
    ],
)
def test_names(name: str, expected: Stream | None) -> None:
    assert stream_of(name, SYMBOLS) == expected


@pytest.mark.parametrize(
    ("path", "query", "names"),
    [
        ("/ws", b"", []),
        ("/ws/0", b"", []),
        ("/ws/btcusd@trade", b"", ["btcusd@trade"]),
        ("/ws/btcusd@trade/btcusd@depth", b"timeUnit=MILLISECOND", ["btcusd@trade", "btcusd@depth"]),
        (f"/ws/{'k' * 64}", b"", ["k" * 64]),
        (f"/ws/{'k' * 63}", b"", ["k" * 63]),
        (f"/ws/{'k' * 15}", b"", []),
        ("/stream", b"streams=btcusd@trade/btcusd@depth", ["btcusd@trade", "btcusd@depth"]),
        ("/stream", b"streams=btcusd%40trade", ["btcusd@trade"]),
        ("/stream", b"", []),
    ],
)
def test_names_in_addresses(path: str, query: bytes, names: list[str]) -> None:
    assert names_in(path, query) == names


def delta(previous: int, sequence: int, **sides: list[tuple[str, str]]) -> book_pb.StreamOrderBookResponse:
    levels: dict[str, Any] = {
        side: [book_pb.Level(price=price, quantity=size) for price, size in of] for side, of in sides.items()
    }
    made = book_pb.BookDelta(sequence=sequence, previous_sequence=previous, **levels)
    return book_pb.StreamOrderBookResponse(delta=made)


def test_changes_are_told_together() -> None:
    changes = Changes(4)
    assert not changes.waits
    changes.add(delta(4, 5, bids=[("1.00", "2"), ("2.00", "3")]))
    changes.add(delta(5, 8, bids=[("1.00", "0")], asks=[("9.00", "1")]))
    assert changes.take() == (5, 8, {"1.00": "0", "2.00": "3"}, {"9.00": "1"})
    assert not changes.waits
    changes.add(delta(8, 9, asks=[("9.00", "0")]))
    assert changes.take() == (9, 9, {}, {"9.00": "0"})


def snapshot(sequence: int) -> book_pb.StreamOrderBookResponse:
    return book_pb.StreamOrderBookResponse(snapshot=book_pb.BookSnapshot(sequence=sequence))


def test_a_snapshot_shows_as_a_gap() -> None:
    changes = Changes(4)
    changes.add(delta(4, 5, bids=[("1.00", "2")]))
    changes.add(snapshot(70))
    first, last, bids, asks = changes.take()
    assert (first, last) == (70, 70)
    assert not bids
    assert not asks
    changes.add(delta(70, 71, bids=[("1.00", "2")]))
    assert changes.take()[:2] == (71, 71)


@pytest.mark.parametrize("waiting", [[], [delta(4, 5, bids=[("1.00", "2")])], [delta(4, 5), delta(5, 8)]])
def test_a_snapshot_of_the_next_number_shows_as_a_gap_to_whoever_is_at_any_number_before(waiting: list[Any]) -> None:
    """One change alone was missed: an event of its number would seem to follow, with nothing in it."""
    changes, numbers = Changes(4), {4}
    for message in waiting:
        changes.add(message)
        numbers.add(message.delta.sequence)
    missed = max(numbers) + 1
    changes.add(snapshot(missed))
    assert not changes.waits
    changes.add(delta(missed, missed + 1, asks=[("9.00", "1")]))
    first, last, bids, asks = changes.take()
    assert (first, last, bids, asks) == (missed + 1, missed + 1, {}, {"9.00": "1"})
    assert all(number + 1 < first for number in numbers)


def order(number: int = 1, **fields: Any) -> pb.Order:
    made = {"market": "BTC-USD", "side": pb.SIDE_BUY, "type": pb.ORDER_TYPE_LIMIT, "state": pb.ORDER_STATE_OPEN}
    amounts = {"quantity": "1", "filled_quantity": "0", "filled_quote": "0", "client_order_id": f"c{number}"}
    return pb.Order(order_id=str(number), time_in_force=pb.TIME_IN_FORCE_GTC, **{**made, **amounts, **fields})


def trade(trade_id: int, quantity: str, price: str = "10", number: int = 1) -> pb.Execution:
    return pb.Execution(trade_id=trade_id, order_id=str(number), quantity=quantity, price=price, fee="0.1")


def told(events: AccountEvents, **fields: Any) -> list[dict[str, Any]]:
    message = accounts.StreamAccountResponse(**{"index": 9, **fields})
    return events.of(message, SYMBOLS, 1_000)


def steps(events: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(event["x"], event["X"], event["z"].rstrip("0").rstrip(".")) for event in events if "x" in event]


FILLED: dict[str, Any] = {"state": pb.ORDER_STATE_FILLED}
CANCELED = {"state": pb.ORDER_STATE_CANCELED, "cancel_cause": pb.CANCEL_CAUSE_USER}
STP = {"state": pb.ORDER_STATE_CANCELED, "cancel_cause": pb.CANCEL_CAUSE_SELF_TRADE}
IOC = {"state": pb.ORDER_STATE_CANCELED, "cancel_cause": pb.CANCEL_CAUSE_IOC}
WAITING = {"state": pb.ORDER_STATE_WAITING, "trigger": pb.TRIGGER_STOP}
HALF: dict[str, Any] = {"filled_quantity": "0.5", "filled_quote": "5"}


@pytest.mark.parametrize(
    ("before", "after", "trades", "expected"),
    [
        (None, {}, [], [("NEW", "NEW", "0")]),
        (None, HALF, [trade(7, "0.5")], [("NEW", "NEW", "0"), ("TRADE", "PARTIALLY_FILLED", "0.5")]),
        (
            None, FILLED, [trade(8, "0.75"), trade(7, "0.25")],
            [("NEW", "NEW", "0"), ("TRADE", "PARTIALLY_FILLED", "0.25"), ("TRADE", "FILLED", "1")],
        ),
        (
            None, HALF | IOC, [trade(7, "0.5")],
            [("NEW", "NEW", "0"), ("TRADE", "PARTIALLY_FILLED", "0.5"), ("EXPIRED", "EXPIRED", "0.5")],
        ),
        (None, STP, [], [("NEW", "NEW", "0"), ("TRADE_PREVENTION", "EXPIRED_IN_MATCH", "0")]),
        ({}, CANCELED, [], [("CANCELED", "CANCELED", "0")]),
        (HALF, CANCELED | HALF, [], [("CANCELED", "CANCELED", "0.5")]),
        (HALF, FILLED, [trade(9, "0.5")], [("TRADE", "FILLED", "1")]),
        ({}, {"price": "5"}, [], [("REPLACED", "NEW", "0")]),
        (WAITING, {}, [], [("NEW", "NEW", "0")]),
        (WAITING, CANCELED | WAITING | {"state": pb.ORDER_STATE_CANCELED}, [], [("CANCELED", "CANCELED", "0")]),
    ],
)  # fmt: skip
def test_what_becomes_of_an_order(
    before: dict[str, Any] | None,
    after: dict[str, Any],
    trades: list[pb.Execution],
    expected: list[tuple[str, str, str]],
) -> None:
    events = AccountEvents()
    assert told(events, snapshot=True, orders=[] if before is None else [order(**before)]) == []
    found = told(events, orders=[order(**after)], executions=[*trades, trade(99, "5", number=2)])
    assert steps(found) == expected
    assert {event["i"] for event in found} == {1}


def test_the_sums_of_a_trade() -> None:
    events = AccountEvents()
    told(events, snapshot=True, orders=[order(filled_quantity="0.1", filled_quote="1.1")])
    (event,) = told(events, orders=[order(**HALF)], executions=[trade(3, "0.4", "10.5")])
    assert (event["z"], event["Z"], event["l"], event["L"], event["Y"], event["t"], event["n"]) == (
        "0.50000000", "5.30000000", "0.40000000", "10.50000000", "4.20000000", 3, "0.10000000",
    )  # fmt: skip


def test_what_comes_in_parts_is_told_once_it_is_whole() -> None:
    events = AccountEvents()
    told(events, snapshot=True)
    assert told(events, index=0, orders=[order()]) == []
    assert steps(told(events, executions=[trade(1, "0.5")], orders=[order(2)])) == [
        ("NEW", "NEW", "0"), ("TRADE", "PARTIALLY_FILLED", "0.5"), ("NEW", "NEW", "0"),
    ]  # fmt: skip


def test_balances_and_transfers() -> None:
    events = AccountEvents()
    told(events, snapshot=True, balances=[accounts.Balance(asset="BTC")])
    sent, done = accounts.TRANSFER_KIND_SENT, accounts.TRANSFER_STATE_PENDING
    moved = accounts.Transfer(kind=sent, state=done, asset="BTC", amount="2", outgoing=True)
    settled = accounts.Transfer(
        kind=sent, state=accounts.TRANSFER_STATE_SETTLED, asset="BTC", amount="2", outgoing=True
    )
    balance = accounts.Balance(asset="BTC", available="1", held="0.5", total="1.5")
    position, update = told(events, balances=[balance], transfers=[moved, settled])
    assert position["B"] == [{"a": "BTC", "f": "1.00000000", "l": "0.50000000"}]
    assert (update["e"], update["d"]) == ("balanceUpdate", "-2.00000000")


async def test_frames_are_made_once_and_named_where_asked() -> None:
    raw, combined, frame = Outbox(combined=False), Outbox(combined=True), Frame("btcusd@trade", {"e": "trade"})
    for outbox in (raw, combined):
        outbox.put(frame)
    assert await raw.next() is frame.raw
    assert json.loads(await combined.next()) == {"stream": "btcusd@trade", "data": {"e": "trade"}}


@pytest.mark.parametrize(("text", "count"), [("x", WAITING_MAX), ("x" * 65_536, CHARS_WAITING_MAX // 65_536)])
async def test_who_is_too_slow_is_cut_off(text: str, count: int) -> None:
    outbox = Outbox(combined=False)
    for _ in range(count):
        outbox.say(text)
    assert await outbox.next() == text
    for _ in range(3):
        outbox.say(text)
    with pytest.raises(Rejected) as caught:
        await outbox.next()
    assert caught.value.reason is Reason.LAGGED
