"""Routes of an account: its balances, its money, the proof of it, what it pays, who asks."""

from functools import partial
from typing import Final

from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import settlement_service_pb2 as settlement_pb

from gateway_http.orders import route_to

_route: Final = partial(route_to, account_pb.DESCRIPTOR.services_by_name["AccountService"])
_settlement: Final = partial(route_to, settlement_pb.DESCRIPTOR.services_by_name["SettlementService"])

ROUTES: Final = {
    route.path: route
    for route in (
        _route("/api/v1/balances/query", "ListBalances", "Read the balances", repeatable=True),
        _route("/api/v1/fees/query", "GetFees", "Read what orders pay", repeatable=True),
        _route("/api/v1/transfers", "CreateTransfer", "Move funds to another user", repeatable=True),
        _route("/api/v1/transfers/query", "ListTransfers", "List what came and went, newest first", repeatable=True),
        _route("/api/v1/withdrawals", "CreateWithdrawal", "Ask for funds to leave", repeatable=True),
        _route("/api/v1/withdrawals/cancel", "CancelWithdrawal", "Take that back", repeatable=False),
        _route(
            "/api/v1/withdrawals/rules/query", "ListWithdrawalRules", "Read what withdrawals keep to", repeatable=True
        ),
        _route(
            "/api/v1/withdrawals/addresses/query", "GetWithdrawalAddresses", "Read where funds may go", repeatable=True
        ),
        _route("/api/v1/withdrawals/addresses/add", "AddWithdrawalAddress", "Let funds go there", repeatable=False),
        _route(
            "/api/v1/withdrawals/addresses/remove",
            "RemoveWithdrawalAddress",
            "Let no more go there",
            repeatable=False,
        ),
        _route(
            "/api/v1/withdrawals/addresses/only",
            "SetWithdrawalAddressesOnly",
            "Let funds go to listed addresses only, or to any",
            repeatable=False,
        ),
        _route("/api/v1/ledger/query", "ListLedgerEntries", "List all postings, newest first", repeatable=True),
        _settlement("/api/v1/liabilities/query", "GetLiabilityProof", "Prove what the vault owes you", repeatable=True),
        _route("/api/v1/session/query", "GetSession", "Tell who asks, and what the credential may", repeatable=True),
    )
}
