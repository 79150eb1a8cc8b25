"""Signed orders between the wallet and the chain: what the book makes of them, what is stored, how they are batched."""

from __future__ import annotations

from typing import Any

import pytest
from clearbook.internal.v1 import settlement_pb2

from services.book import encoding, settlements, wire
from services.book import model as m
from services.book.engine import Engine
from services.book.journal import Row
from services.command_ids import command_id_of
from services.market_rules import MarketRules, of_stored, stored
from services.order_gateway import rows
from services.order_gateway.model import SelfTradeMode, Terms
from services.settler.batch import Entry, NewAsset, Trade, cut, signed_run
from services.settler.wire import Malformed, message_of
from services.signed_orders import Authorization, text_of

SIGNED = text_of(Authorization(10**18, 3 * 10**22, 2_000, 99, "mine", bytes(65)))
OTHER = text_of(Authorization(10**18, 3 * 10**22, 2_000, 99, "yours", bytes(65)))
TOKENS = {"BTC": "0x" + "11" * 20, "USD": "0x" + "22" * 20}


def place(side: int, signed: str = "", *, price_ticks: int = 100, **more: Any) -> m.PlaceOrder:
    terms = m.Terms(signed=signed) if signed else None
    account = 1001 if side == m.SIDE_SELL else 1002
    kind: dict[str, Any] = {"type": m.ORDER_TYPE_LIMIT, "time_in_force": m.TIME_IN_FORCE_GTC, "quantity_lots": 5} | more
    return m.PlaceOrder(account, 1, side, price_ticks=price_ticks, terms=terms, **kind)


class Session:
    """An engine with a market, and a gateway that speaks to it."""

    def __init__(self, *, signed: bool) -> None:
        self.engine, self._number = Engine(), 0
        market = m.Market(1, "BTC-USD", 1, 2, "0.01", "0.00001", rules=m.MarketRules(signed_orders=signed))
        for body in (
            m.LeaderStarted(1, "journal"),
            m.OpenSession(1),
            m.CreateAsset(m.Asset(1, "BTC", 8)),
            m.CreateAsset(m.Asset(2, "USD", 18)),
            m.CreateMarket(market),
            m.OpenAccount("ann"),
            m.OpenAccount("bob"),
        ):
            self.engine.apply(m.Command(0, body), 10)

    def do(self, body: m.CommandBody) -> m.Event:
        self._number += 1
        return self.engine.apply(m.Command(command_id_of(1, 1, self._number), body), 20)

    def reason(self, body: m.CommandBody) -> str:
        event = self.do(body).body
        return event.reason if isinstance(event, m.Refused) else ""


def trade_of(event: m.Event) -> m.Trade:
    assert isinstance(event.body, m.OrderPlaced), event
    (trade,) = event.body.trades
    return trade


def test_a_market_of_signed_orders_takes_no_others() -> None:
    session = Session(signed=True)
    market_order: dict[str, Any] = {"type": m.ORDER_TYPE_MARKET, "time_in_force": m.TIME_IN_FORCE_IOC}
    assert session.reason(place(m.SIDE_SELL)) == "SIGNATURE_REQUIRED"
    assert session.reason(place(m.SIDE_SELL, price_ticks=0, **market_order)) == "SIGNATURE_REQUIRED"
    resting = session.do(place(m.SIDE_SELL, SIGNED)).command_id
    for change in (m.ReplaceOrder(1001, resting, 101), m.ReplaceOrder(1001, resting, 0, 4)):
        assert session.reason(change) == "SIGNATURE_REQUIRED", "it stays as it was signed"
    trade = trade_of(session.do(place(m.SIDE_BUY, OTHER)))
    assert (trade.maker_signed, trade.maker_remaining_lots) == (SIGNED, 0)


ROWS = [
    # what rests, who takes, and what the chain is told of the buy and of the sell
    (m.SIDE_SELL, SIGNED, OTHER, (OTHER, SIGNED)),
    (m.SIDE_BUY, SIGNED, OTHER, (SIGNED, OTHER)),
    (m.SIDE_SELL, SIGNED, "", ("", "")),
    (m.SIDE_SELL, "", OTHER, ("", "")),
    (m.SIDE_SELL, "", "", ("", "")),
]


@pytest.mark.parametrize(("rests", "maker", "taker", "told"), ROWS)
def test_what_the_chain_is_told(rests: int, maker: str, taker: str, told: tuple[str, str]) -> None:
    """Both signatures, or neither."""
    session = Session(signed=False)
    session.do(place(rests, maker))
    event = session.do(place(m.SIDE_BUY + m.SIDE_SELL - rests, taker))
    assert trade_of(event).maker_signed == maker
    written = wire.encode_event(event)
    assert encoding.event(event) in {written, None}, "written by hand it is the same"
    row = Row(0, 8, 9, 1, 20, b"", written, 3, b"", b"")
    *_, entry = settlements.entries(row, session.engine, 0)
    assert (entry.trade.buy_order, entry.trade.sell_order) == told


def test_a_snapshot_keeps_what_was_signed() -> None:
    session = Session(signed=True)
    session.do(place(m.SIDE_SELL, SIGNED))
    restored = Engine.restore(session.engine.snapshot())
    assert restored.snapshot() == session.engine.snapshot()
    session.engine = restored
    assert trade_of(session.do(place(m.SIDE_BUY, OTHER))).maker_signed == SIGNED


def test_a_command_is_read_as_it_was_written() -> None:
    command = m.Command(command_id_of(1, 1, 1), place(m.SIDE_SELL, SIGNED))
    (read,) = wire.decode_commands(wire.encode_command(command))
    assert read == command


@pytest.mark.parametrize("signed", ["", SIGNED])
@pytest.mark.parametrize("terms", [Terms(), Terms(SelfTradeMode.ALLOW, 7, 1, True, display_lots=3)])
def test_a_gateways_row_keeps_what_was_signed(terms: Terms, signed: str) -> None:
    terms = terms._replace(signed=signed)
    assert rows._terms(rows._text_of(terms)) == terms


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (None, ""),
        (MarketRules(1), "[1, 0, 0, 0, 0, 0]"),
        (MarketRules(1, reference_age_max_seconds=9), "[1, 0, 0, 0, 0, 0, 9]"),
        (MarketRules(signed_orders=True), "[0, 0, 0, 0, 0, 0, 0, true]"),
    ],
)
def test_rules_are_stored_as_they_were_before_there_were_these(rules: MarketRules | None, text: str) -> None:
    assert stored(rules) == text
    assert of_stored(text) == rules


# Batches.


def trade(signed: bool, asset: str = "BTC") -> Trade:
    orders = (SIGNED, OTHER) if signed else ("", "")
    return Trade("BTC-USD", 1, asset, "USD", 1001, 1002, 5, 7, 0, 0, *orders)


S, N = trade(signed=True), trade(signed=False)
CUTS = [
    # entries; how many of them the first batch settles one by one, and how many it nets
    ([N, N, S, N], 0, 2),
    ([S, S, N, S], 2, 0),
    ([S] * 30, 25, 0),
    ([N] * 30, 0, 30),
    ([S, trade(signed=True, asset="ETH")], 1, 0),
    ([trade(signed=True, asset="ETH"), S], 0, 0),
    ([NewAsset("BTC", 8), S], 0, 1),
]


@pytest.mark.parametrize(("bodies", "signed", "netted"), CUTS)
def test_a_batch_is_of_one_kind(bodies: list[Trade | NewAsset], signed: int, netted: int) -> None:
    entries = [Entry(number, body) for number, body in enumerate(bodies, 1)]
    assert len(signed_run(entries, TOKENS)) == signed
    batch = cut(entries, TOKENS, entries_max=100)
    assert (batch.last if batch else 0) == netted
    together = cut(entries, TOKENS, entries_max=100, signed_apart=False)
    known = next((n for n, body in enumerate(bodies) if isinstance(body, Trade) and body.base == "ETH"), len(bodies))
    assert (together.last if together else 0) == known, "netted all the same, if it must be"


def test_what_is_no_signed_order_is_malformed() -> None:
    told = settlement_pb2.SettlementTrade(
        market="BTC-USD", trade_id=1, base_asset="BTC", quote_asset="USD", buyer_account_id=1, seller_account_id=2
    )
    for text, good in ((SIGNED, True), ("1 2 3", False)):
        told.buy_order = told.sell_order = text
        entry = settlement_pb2.SettlementEntry(settlement_sequence=1, trade=told)
        message = settlement_pb2.SettlementMessage(entries=[entry])
        if good:
            body = message_of(message).received[0].entry.body
            assert isinstance(body, Trade)
            assert body.is_signed
        else:
            with pytest.raises(Malformed, match="not a signed order"):
                message_of(message)
