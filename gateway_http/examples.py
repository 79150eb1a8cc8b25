"""What is asked of each method, and what it may answer, as the JSON of its messages. OpenAPI shows it."""

from typing import Any, Final, NamedTuple

Fields = dict[str, Any]

_TIME: Final = "2026-11-23T01:14:20.206557649Z"
_LIMIT: Final[Fields] = {
    "client_order_id": "mine-1",
    "market": "BTC-USD",
    "side": "buy",
    "type": "limit",
    "price": "10000.00",
    "quantity": "0.001",
}
_STOP: Final[Fields] = {
    "client_order_id": "mine-2",
    "market": "BTC-USD",
    "side": "sell",
    "type": "market",
    "quantity": "0.001",
    "trigger": "stop",
    "trigger_price": "9000.00",
}
_TAKE_PROFIT: Final[Fields] = {
    "client_order_id": "mine-3",
    "market": "BTC-USD",
    "side": "sell",
    "type": "limit",
    "price": "90000.00",
    "quantity": "0.001",
}
_ORDER: Final[Fields] = {
    "order_id": "72057662757404692",
    "client_order_id": "mine-1",
    "market": "BTC-USD",
    "side": "SIDE_BUY",
    "type": "ORDER_TYPE_LIMIT",
    "time_in_force": "TIME_IN_FORCE_GTC",
    "price": "10000.00",
    "quantity": "0.001",
    "filled_quantity": "0",
    "filled_quote": "0",
    "locked": "10.01",
    "state": "ORDER_STATE_OPEN",
    "create_time": _TIME,
    "event_time": _TIME,
}
_CANCELED: Final = _ORDER | {"locked": "0", "state": "ORDER_STATE_CANCELED", "cancel_cause": "CANCEL_CAUSE_USER"}
_REFUSAL: Final[Fields] = {
    "code": 3,
    "reason": "INVALID_PRICE",
    "message": "price 0.001 is not a positive multiple of the tick size 0.01",
    "field": "price",
}
_EXECUTION: Final[Fields] = {
    "trade_id": "3",
    "market": "BTC-USD",
    "order_id": "72057662757404692",
    "client_order_id": "mine-1",
    "side": "SIDE_BUY",
    "price": "10000.00",
    "quantity": "0.001",
    "fee": "0.000002",
    "fee_asset": "BTC",
    "is_maker": True,
    "settlement_sequence": "21",
    "event_time": _TIME,
}
_TRANSFER: Final[Fields] = {
    "transfer_id": "gift-1",
    "kind": "TRANSFER_KIND_SENT",
    "state": "TRANSFER_STATE_PENDING",
    "asset": "BTC",
    "amount": "0.5",
    "counterparty": "emil",
    "settlement_sequence": "22",
    "create_time": _TIME,
    "event_time": _TIME,
    "outgoing": True,
}
_WITHDRAWAL: Final[Fields] = {
    "transfer_id": "out-1",
    "kind": "TRANSFER_KIND_WITHDRAWAL",
    "state": "TRANSFER_STATE_REQUESTED",
    "asset": "BTC",
    "amount": "0.25",
    "address": "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
    "create_time": _TIME,
    "event_time": _TIME,
    "outgoing": True,
}
_ADDRESSES: Final[Fields] = {
    "addresses": [{"address": _WITHDRAWAL["address"], "usable_time": _TIME}],
    "only": True,
}
_TICKER: Final[Fields] = {
    "market": "BTC-USD",
    "sequence": "5",
    "last_price": "31000.50",
    "last_quantity": "0.004",
    "ask_price": "31000.50",
    "ask_quantity": "0.006",
    "open_price": "31000.50",
    "high_price": "31000.50",
    "low_price": "31000.50",
    "volume": "0.004",
    "quote_volume": "124.002",
    "trade_count": "1",
    "price_change": "0.00",
    "price_change_percent": "0.000",
    "first_trade_id": "3",
    "last_trade_id": "3",
    "open_time": "2026-11-22T01:14:00Z",
    "close_time": _TIME,
    "last_trade_time": _TIME,
    "reference_price": "31002.00",
    "reference_source": "binance BTCUSDT",
    "reference_time": _TIME,
    "state": "MARKET_STATE_OPEN",
}
_MARKET: Final[Fields] = {
    "market": "BTC-USD",
    "base_asset": "BTC",
    "quote_asset": "USD",
    "tick_size": "0.01",
    "lot_size": "0.00001",
    "notional_min": "0",
    "state": "MARKET_STATE_OPEN",
}
_PAGE: Final = "eyJhIjoxfQ"


class Example(NamedTuple):
    """Fields of a method's request, and of its response."""

    asked: Fields
    answered: Fields


_SETTLEMENT: Final[Fields] = {
    "settlement_sequence": "21",
    "kind": "SETTLEMENT_KIND_TRADE",
    "market": "BTC-USD",
    "trade_id": "3",
    "state": "SETTLEMENT_STATE_FINAL",
    "batch_id": "4",
    "transaction_hash": "0x4dd35af7858579b2fea4db16694eafaeabcfda72c33e31e0870bdd07b64a07a8",
    "block_number": "20",
    "event_time": _TIME,
    "nonce": "19",
}
_RECONCILIATION: Final[Fields] = {
    "index": "2",
    "previous": "b4" * 32,
    "digest": "e9" * 32,
    "chain_id": "31337",
    "contract": "0x5FbDB2315678afecb367f032d93F642f64180aa3",
    "block_number": "20",
    "block_hash": "0x" + "3a" * 32,
    "settlement_sequence": "21",
    "deposit_index": "3",
    "leaves": "2",
    "root": "c1" * 32,
    "reserves": [
        {
            "asset": "BTC",
            "token": "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512",
            "liabilities": "1000000000",
            "reserves": "1000000000",
        }
    ],
    "time_ns": "1795396583604967326",
    "event_time": _TIME,
}

EXAMPLES: Final = {
    "PlaceOrder": Example(_LIMIT, {"order": _ORDER}),
    "CancelOrder": Example({"client_order_id": "mine-1"}, {"order": _CANCELED}),
    "ReplaceOrder": Example({"client_order_id": "mine-1", "price": "9990.00"}, {"order": _ORDER}),
    "GetOrder": Example({"client_order_id": "mine-1"}, {"order": _ORDER, "executions": [_EXECUTION]}),
    "PreviewOrder": Example(
        {"order": _LIMIT},
        {"state": "ORDER_STATE_OPEN", "needed": "10.01", "locked": "10.01", "locked_asset": "USD"},
    ),
    "PlaceOrders": Example(
        {"orders": [_LIMIT, _LIMIT | {"client_order_id": "mine-4", "price": "0.001"}]},
        {"outcomes": [{"placed": {"order": _ORDER}}, {"refusal": _REFUSAL}]},
    ),
    "CancelOrders": Example(
        {"orders": [{"client_order_id": "mine-1"}]}, {"outcomes": [{"canceled": {"order": _CANCELED}}]}
    ),
    "ReplaceOrders": Example(
        {"orders": [{"client_order_id": "mine-1", "quantity": "0.002"}]},
        {"outcomes": [{"replaced": {"order": _ORDER | {"quantity": "0.002"}}}]},
    ),
    "PlaceGroup": Example(
        {"entry": _LIMIT, "exits": [_TAKE_PROFIT, _STOP]},
        {"orders": [{"order": _ORDER}]},
    ),
    "CancelAllOrders": Example({"market": "BTC-USD", "side": "buy"}, {"orders": [_CANCELED], "canceled_count": 1}),
    "CancelAfter": Example({"seconds": 60, "market": "BTC-USD"}, {"expire_time": _TIME}),
    "ListOrders": Example(
        {"market": "BTC-USD", "open_only": True, "page_size": 2}, {"orders": [_ORDER], "next_page_token": _PAGE}
    ),
    "SetTradingDefaults": Example(
        {"self_trade_prevention": "cancel_oldest"}, {"self_trade_prevention": "SELF_TRADE_PREVENTION_CANCEL_OLDEST"}
    ),
    "GetTradingDefaults": Example({}, {"self_trade_prevention": "SELF_TRADE_PREVENTION_CANCEL_OLDEST"}),
    "ListExecutions": Example({"market": "BTC-USD", "page_size": 2}, {"executions": [_EXECUTION]}),
    "ListBalances": Example(
        {},
        {
            "account_id": "1004",
            "balances": [{"asset": "BTC", "total": "100", "available": "99.99", "held": "0.01", "unsettled": "0"}],
            "journal_sequence": "49",
        },
    ),
    "GetFees": Example(
        {},
        {"tier": "base", "maker_fee_ppm": 1000, "taker_fee_ppm": 2000, "volume": "124.002", "volume_asset": "USD"},
    ),
    "CreateTransfer": Example(
        {"transfer_id": "gift-1", "to_user": "emil", "asset": "BTC", "amount": "0.5"}, {"transfer": _TRANSFER}
    ),
    "CreateWithdrawal": Example(
        {"transfer_id": "out-1", "asset": "BTC", "amount": "0.25", "address": _WITHDRAWAL["address"]},
        {"transfer": _WITHDRAWAL},
    ),
    "CancelWithdrawal": Example(
        {"transfer_id": "out-1"}, {"transfer": _WITHDRAWAL | {"state": "TRANSFER_STATE_CANCELED"}}
    ),
    "ListWithdrawalRules": Example(
        {},
        {
            "rules": [
                {
                    "asset": "BTC",
                    "amount_min": "0.001",
                    "amount_max": "5",
                    "day_max": "10",
                    "unapproved_max": "0.5",
                    "cooling_seconds": 3600,
                }
            ]
        },
    ),
    "GetWithdrawalAddresses": Example({}, {"addresses": _ADDRESSES}),
    "AddWithdrawalAddress": Example({"address": _WITHDRAWAL["address"]}, {"addresses": _ADDRESSES}),
    "RemoveWithdrawalAddress": Example({"address": _WITHDRAWAL["address"]}, {"addresses": {"only": True}}),
    "SetWithdrawalAddressesOnly": Example({"only": True}, {"addresses": _ADDRESSES}),
    "ListTransfers": Example({"asset": "BTC", "page_size": 2}, {"transfers": [_TRANSFER], "next_page_token": _PAGE}),
    "ListLedgerEntries": Example(
        {"kind": "trade", "page_size": 1},
        {
            "entries": [
                {
                    "journal_sequence": "49",
                    "line": 1,
                    "asset": "BTC",
                    "amount": "0.001",
                    "kind": "LEDGER_ENTRY_KIND_TRADE",
                    "event_time": _TIME,
                }
            ],
            "next_page_token": _PAGE,
        },
    ),
    "GetSession": Example({}, {"user": "emil", "account_id": "1005", "scopes": ["SCOPE_READ", "SCOPE_TRADE"]}),
    "ListMarkets": Example({}, {"markets": [_MARKET]}),
    "GetOrderBook": Example(
        {"market": "BTC-USD", "depth": 5, "detail": "l2", "price_group": "10"},
        {
            "market": "BTC-USD",
            "sequence": "5",
            "asks": [{"price": "31010.00", "quantity": "0.006"}],
            "checksum": 809706612,
            "event_time": _TIME,
        },
    ),
    "ListTrades": Example(
        {"market": "BTC-USD", "page_size": 2, "oldest_first": True, "from_trade_id": 3},
        {
            "trades": [
                {
                    "trade_id": "3",
                    "market": "BTC-USD",
                    "price": "31000.50",
                    "quantity": "0.004",
                    "taker_side": "TAKER_SIDE_BUY",
                    "settlement_sequence": "21",
                    "event_time": _TIME,
                }
            ],
            "next_page_token": _PAGE,
        },
    ),
    "ListCandles": Example(
        {"market": "BTC-USD", "interval": "1_minute", "page_size": 2},
        {
            "candles": [
                {
                    "market": "BTC-USD",
                    "interval": "CANDLE_INTERVAL_1_MINUTE",
                    "start_time": "2026-11-23T01:14:00Z",
                    "end_time": "2026-11-23T01:15:00Z",
                    "open": "31000.50",
                    "high": "31000.50",
                    "low": "31000.50",
                    "close": "31000.50",
                    "volume": "0.004",
                    "quote_volume": "124.002",
                    "trade_count": "1",
                    "taker_buy_volume": "0.004",
                    "taker_buy_quote_volume": "124.002",
                    "first_trade_id": "3",
                    "last_trade_id": "3",
                    "closed": True,
                }
            ]
        },
    ),
    "GetTicker": Example({"market": "BTC-USD"}, {"ticker": _TICKER}),
    "ListTickers": Example({"markets": ["BTC-USD"]}, {"tickers": [_TICKER]}),
    "GetSettlement": Example({"market": "BTC-USD", "trade_id": 3}, {"settlement": _SETTLEMENT}),
    "ListSettlements": Example(
        {"market": "BTC-USD", "page_size": 1}, {"settlements": [_SETTLEMENT], "next_page_token": _PAGE}
    ),
    "GetContract": Example({}, {"chain_id": "31337", "contract": "0x5FbDB2315678afecb367f032d93F642f64180aa3"}),
    "GetReconciliation": Example({"index": 2}, {"reconciliation": _RECONCILIATION}),
    "GetLiabilityProof": Example(
        {},
        {
            "reconciliation": _RECONCILIATION,
            "proof": {
                "holder": "1005",
                "salt": "0f" * 32,
                "amounts": ["100000000"],
                "leaf_index": "1",
                "path": [{"digest": "7d" * 32, "sums": ["900000000"]}],
            },
        },
    ),
}
"""By method. tests/unit/test_http_described.py sees to it that each route has one, and that it is what it says."""
