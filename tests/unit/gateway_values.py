"""Values that the gateway's unit tests share: two assets, a market, and orders in it."""

from __future__ import annotations

from typing import Any

from services.order_gateway.ledger import Ledger, Snapshot
from services.order_gateway.model import (
    AccountOpened,
    CancelCause,
    Event,
    EventBody,
    MarketCreated,
    Order,
    OrderState,
    TimeInForce,
    Trade,
)
from services.units import Asset, market_of

BTC, USD = Asset(1, "BTC", 8), Asset(2, "USD", 6)
MARKET = market_of(1, "BTC-USD", BTC, USD, "0.01", "0.0001", 5 * 10**6)
"""One lot is 10^4 base units of BTC, one tick x lot is 1 base unit of USD; orders of at least 5 USD."""
CREATED = MarketCreated(1, "BTC-USD", 1, 2, "0.01", "0.0001", 5 * 10**6)
ALICE, BOB = 1001, 1002


def order(**fields: Any) -> Order:
    """Alice's open limit buy of 100 lots at 30,000.00, but for `fields`."""
    defaults: dict[str, Any] = {
        "order_id": 1,
        "account_id": ALICE,
        "market_id": 1,
        "buys": True,
        "limit": True,
        "time_in_force": TimeInForce.GTC,
        "post_only": False,
        "price_ticks": 3_000_000,
        "quantity_lots": 100,
        "budget": 0,
        "client_order_id": "c1",
        "maker_fee_ppm": 1_000,
        "taker_fee_ppm": 2_000,
        "filled_lots": 0,
        "filled_quote": 0,
        "state": OrderState.OPEN,
        "cause": CancelCause.NONE,
        "lock": 300_000_000,
        "create_sequence": 10,
        "create_ns": 1,
        "event_sequence": 10,
        "event_ns": 1,
    }
    return Order(**defaults | fields)


def trade(**fields: Any) -> Trade:
    """40 lots of a maker with order 1, Alice's above, by a seller."""
    defaults: dict[str, Any] = {
        "trade_id": 1,
        "settlement_sequence": 1,
        "price_ticks": 3_000_000,
        "quantity_lots": 40,
        "base_amount": 400_000,
        "quote_amount": 120_000_000,
        "maker_order_id": 1,
        "maker_account_id": ALICE,
        "maker_fee": 400,
        "taker_fee": 240_000,
        "maker_remaining_lots": 60,
        "maker_lock": 180_000_000,
    }
    return Trade(**defaults | fields)


def ledger(**balances: int) -> Ledger:
    """A ledger with the market, Alice and Bob, and what `alice_btc=…` and so on say."""
    accounts, assets = {"alice": ALICE, "bob": BOB, "faucet": 2}, {"btc": 1, "usd": 2}
    rows = []
    for name, amount in balances.items():
        who, _, what = name.partition("_")
        rows.append((accounts[who], assets[what], amount, 0))
    outside: dict[int, int] = {}
    for _, asset_id, amount, _ in rows:
        outside[asset_id] = outside.get(asset_id, 0) - amount
    rows += [(4, asset_id, amount, 0) for asset_id, amount in outside.items()]
    return Ledger(
        Snapshot(
            sequence=9,
            time_ns=1,
            incarnation="test",
            assets=(BTC, USD),
            markets=(CREATED,),
            accounts=(AccountOpened(ALICE, "alice"), AccountOpened(BOB, "bob")),
            balances=tuple(rows),
        )
    )


class Journal:
    """Makes contiguous events for a ledger."""

    def __init__(self, into: Ledger) -> None:
        self.ledger = into

    def say(self, body: EventBody, command_id: int = 0, time_ns: int = 1) -> Any:
        return self.ledger.apply(Event(self.ledger.sequence + 1, command_id, body), time_ns)
